//! Pure: what is declared and what the cluster holds become the commands that make them equal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::machine::command::{
    Action, ConfigCondition, ConfigDocument, ConfigId, ContestId, ContestKind, ElectionSpec,
};
use crate::machine::config::{ConfigOwner, ConfigRecord};
use crate::machine::contest::Contests;
use crate::machine::{Configs, Machine};

/// Everything that is declared for this cluster.
#[derive(Debug, Clone)]
pub struct Desired<'a> {
    pub configs: BTreeMap<&'a ConfigId, &'a ConfigDocument>,
    pub elections: BTreeMap<&'a ContestId, &'a ElectionSpec>,
    /// What cannot be read now, and may declare more.
    pub unclear: &'a Unclear,
}

/// What part of the declarations cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unclear {
    /// Something could not be read at all, so it may be about anything.
    pub anything: bool,
    /// The texts of documents that are wrong.
    pub texts: Vec<String>,
    /// Resources that are there, and wrong.
    pub resources: BTreeSet<ResourceId>,
}

impl Unclear {
    /// Whether a resource may be declared in what cannot be read: in a text, its name stands there as a word. A member that
    /// has just begun to lead knows no more than this of an earlier content, and so every member decides alike.
    pub fn may_be_about(&self, resource: &ResourceId) -> bool {
        let name = resource.name();
        let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.');
        let names = |text: &String| text.split(|character| !is_name(character)).any(|word| word == name);
        self.anything || self.resources.contains(resource) || self.texts.iter().any(names)
    }
}

/// What a resource is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceId {
    Config(ConfigId),
    Election(ContestId),
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(config) => write!(f, "config {config}"),
            Self::Election(election) => election.fmt(f),
        }
    }
}

impl ResourceId {
    fn name(&self) -> &str {
        match self {
            Self::Config(config) => config.name.as_str(),
            Self::Election(election) => election.name.as_str(),
        }
    }
}

/// What has to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub puts: BTreeMap<ResourceId, Action>,
    pub deletes: BTreeMap<ResourceId, Action>,
}

/// The difference between what is desired and what there is. Configs that no resource owns are left alone until a resource
/// of that name appears.
pub fn plan(desired: &Desired<'_>, present: &Machine) -> Plan {
    let mut plan = Plan::default();
    plan.configs(desired, present.configs());
    plan.elections(desired, present.contests());
    plan
}

impl Plan {
    fn configs(&mut self, desired: &Desired<'_>, present: &Configs) {
        let missing = desired.configs.iter().filter(|(config, document)| !is_met(config, document, present));
        self.puts.extend(missing.map(|(&config, &document)| {
            let (config, document) = (config.clone(), document.clone());
            let resource = ResourceId::Config(config.clone());
            (resource, Action::PutConfig { config, document, only_if: ConfigCondition::Always })
        }));
        let owned = present
            .list(None)
            .filter(|(config, record)| record.owner == ConfigOwner::Resource && !desired.configs.contains_key(config));
        let excess = owned.map(|(config, _)| (ResourceId::Config(config.clone()), config.clone()));
        let excess = excess.filter(|(resource, _)| !desired.unclear.may_be_about(resource));
        self.deletes.extend(
            excess.map(|(resource, config)| {
                (resource, Action::DeleteConfig { config, only_if: ConfigCondition::Always })
            }),
        );
    }

    fn elections(&mut self, desired: &Desired<'_>, present: &Contests) {
        let set = |ContestId { namespace, name, .. }: &ContestId, spec| Action::SetElection {
            namespace: namespace.clone(),
            name: name.clone(),
            spec,
        };
        let spec = |election: &ContestId| present.get(election).and_then(|record| record.spec);
        let missing = desired.elections.iter().filter(|(election, wanted)| spec(election) != Some(***wanted));
        self.puts.extend(
            missing.map(|(&election, &wanted)| (ResourceId::Election(election.clone()), set(election, Some(*wanted)))),
        );
        let declared = present
            .list(ContestKind::Election, None)
            .filter(|(election, record)| record.spec.is_some() && !desired.elections.contains_key(election));
        let excess = declared.map(|(election, _)| (ResourceId::Election(election.clone()), set(election, None)));
        self.deletes.extend(excess.filter(|(resource, _)| !desired.unclear.may_be_about(resource)));
    }
}

/// Whether a put of `document` would change nothing.
pub(super) fn is_met(config: &ConfigId, document: &ConfigDocument, present: &Configs) -> bool {
    let Some(record) = present.get(config).filter(|record| record.owner == ConfigOwner::Resource) else { return false };
    match document.rollback_to {
        None => record.data == document.data,
        Some(version) => {
            let same = |past: &ConfigRecord| past.data == record.data;
            record.rollback_of == Some(version) || present.version(config, version).is_some_and(|past| same(past))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Limits;
    use crate::machine::command::{Author, Command, ElectionSpec};
    use crate::types::{
        ConfigName, ContestName, DocumentKey, Leadership, LogIndex, MemberId, Namespace, Term, Timestamp, Version,
    };

    fn id(name: &str) -> ConfigId {
        let namespace = Namespace::new("default").expect("a label");
        ConfigId { namespace, name: ConfigName::new(name).expect("a name") }
    }

    fn document(text: &str) -> ConfigDocument {
        let data = BTreeMap::from([(DocumentKey::new("a").expect("a key"), text.to_owned())]);
        ConfigDocument { data, history_limit: 20, rollback_to: None }
    }

    /// What is declared, as a resource's owner keeps it.
    #[derive(Default)]
    struct Declared {
        configs: BTreeMap<ConfigId, ConfigDocument>,
        elections: BTreeMap<ContestId, ElectionSpec>,
        unclear: Unclear,
    }

    fn desired(documents: &[(&str, ConfigDocument)]) -> Declared {
        let configs = documents.iter().map(|(name, document)| (id(name), document.clone()));
        Declared { configs: configs.collect(), ..Declared::default() }
    }

    fn plan(declared: &Declared, present: &Machine) -> Plan {
        let Declared { configs, elections, unclear } = declared;
        let desired = Desired { configs: configs.iter().collect(), elections: elections.iter().collect(), unclear };
        super::plan(&desired, present)
    }

    /// A machine on which this member leads since its first entry.
    fn machine() -> Machine {
        let mut machine = Machine::new(Limits::default());
        let begin = Action::BeginLeadership { member: MemberId::new(1), term: Term::new(1) };
        apply(&mut machine, Author::Member, begin);
        machine
    }

    fn apply(machine: &mut Machine, author: Author, action: Action) {
        let index = machine.applied().map_or(LogIndex::new(7), LogIndex::next);
        let applied = machine.apply(index, &Command { at: Timestamp::default(), author, action });
        assert!(applied.answer.outcome.is_ok(), "{applied:?}");
    }

    fn carry_out(machine: &mut Machine, plan: Plan) {
        for action in plan.puts.into_values().chain(plan.deletes.into_values()) {
            apply(machine, Author::Duty(Leadership::new(7)), action);
        }
    }

    fn settle(machine: &mut Machine, desired: &Declared) {
        let todo = plan(desired, machine);
        carry_out(machine, todo);
    }

    fn names(actions: &BTreeMap<ResourceId, Action>) -> Vec<&str> {
        actions.keys().map(ResourceId::name).collect()
    }

    #[test]
    fn what_is_declared_is_put_once_and_what_is_gone_is_deleted_once() {
        let mut machine = machine();
        let both = desired(&[("one", document("1")), ("two", document("2"))]);
        settle(&mut machine, &both);
        assert_eq!(machine.configs().len(), 2);
        assert_eq!(plan(&both, &machine), Plan::default());

        let one = desired(&[("one", document("changed"))]);
        let todo = plan(&one, &machine);
        assert_eq!((names(&todo.puts), names(&todo.deletes)), (vec!["one"], vec!["two"]));
        carry_out(&mut machine, todo);
        assert_eq!(plan(&one, &machine), Plan::default());
    }

    #[test]
    fn what_clients_wrote_is_never_deleted_but_a_resource_takes_it_over() {
        let mut machine = machine();
        let put = Action::PutConfig { config: id("one"), document: document("1"), only_if: ConfigCondition::Always };
        apply(&mut machine, Author::Client(None), put);
        assert_eq!(plan(&desired(&[]), &machine), Plan::default());
        let todo = plan(&desired(&[("one", document("1"))]), &machine);
        assert_eq!(names(&todo.puts), ["one"]);
        carry_out(&mut machine, todo);
        assert_eq!(names(&plan(&desired(&[]), &machine).deletes), ["one"]);
    }

    #[test]
    fn a_document_that_cannot_be_read_keeps_what_it_may_be_about() {
        let mut machine = machine();
        let both = desired(&[("one", document("1")), ("two", document("2"))]);
        settle(&mut machine, &both);
        let texts = vec!["metadata: {name: one, x: [".to_owned(), "name: two-and-more".to_owned()];
        let unclear = Declared { unclear: Unclear { texts, ..Unclear::default() }, ..Declared::default() };
        assert_eq!(names(&plan(&unclear, &machine).deletes), ["two"]);
        let resources = BTreeSet::from([ResourceId::Config(id("two"))]);
        let unclear = Declared { unclear: Unclear { resources, ..Unclear::default() }, ..Declared::default() };
        assert_eq!(names(&plan(&unclear, &machine).deletes), ["one"]);
        let anything = Declared { unclear: Unclear { anything: true, ..Unclear::default() }, ..Declared::default() };
        assert_eq!(plan(&anything, &machine), Plan::default());
    }

    #[test]
    fn a_rollback_is_put_once() {
        let mut machine = machine();
        for text in ["1", "2"] {
            settle(&mut machine, &desired(&[("one", document(text))]));
        }
        let back = desired(&[("one", ConfigDocument { rollback_to: Some(Version::new(1)), ..document("3") })]);
        let todo = plan(&back, &machine);
        assert_eq!(names(&todo.puts), ["one"]);
        carry_out(&mut machine, todo);
        assert_eq!(plan(&back, &machine), Plan::default());
        // To roll back to what is served anyway changes nothing either.
        let same = desired(&[("one", ConfigDocument { rollback_to: Some(Version::new(3)), ..document("3") })]);
        assert_eq!(plan(&same, &machine), Plan::default());
    }

    #[test]
    fn an_election_is_set_once_and_unset_once() {
        let mut machine = machine();
        let namespace = Namespace::new("default").expect("a label");
        let id = ContestId { kind: ContestKind::Election, namespace, name: ContestName::new("main").expect("a name") };
        let wanted = ElectionSpec { seats: 2, session_ttl: None };
        let two_seats = Declared { elections: BTreeMap::from([(id.clone(), wanted)]), ..Declared::default() };
        settle(&mut machine, &two_seats);
        assert_eq!(machine.contests().get(&id).map(|record| record.capacity), Some(2));
        assert_eq!(plan(&two_seats, &machine), Plan::default());

        let texts = vec!["kind: LeaderElection, metadata: {name: main".to_owned()];
        let unclear = Declared { unclear: Unclear { texts, ..Unclear::default() }, ..Declared::default() };
        assert_eq!(plan(&unclear, &machine), Plan::default());
        assert_eq!(names(&plan(&Declared::default(), &machine).deletes), ["main"]);
        settle(&mut machine, &Declared::default());
        assert_eq!(plan(&Declared::default(), &machine), Plan::default());
    }
}
