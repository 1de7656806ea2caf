//! Pure: what is declared and what the cluster holds become the commands that make them equal.

use std::collections::BTreeMap;
use std::fmt;

use super::documents::{Declared, DeclaredConfig, DeclaredElection, Place};
use crate::machine::command::{Action, ConfigCondition, ConfigDocument, ConfigId, ContestId, ContestKind};
use crate::machine::config::{ConfigOwner, ConfigRecord};
use crate::machine::contest::Contests;
use crate::machine::{Configs, Machine};

/// Everything that is declared for this cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    pub configs: BTreeMap<ConfigId, DeclaredConfig>,
    pub elections: BTreeMap<ContestId, DeclaredElection>,
    /// What cannot be read now, and may declare more.
    pub unclear: Unclear,
}

/// What part of the declarations cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unclear {
    /// Something could not be read at all, so it may be about anything.
    pub anything: bool,
    /// The texts of documents that are wrong.
    pub texts: Vec<String>,
}

impl Unclear {
    /// Whether something of that name may be declared in what cannot be read: the name stands there as a word. A member that
    /// has just begun to lead knows no more than this of an earlier content, and so every member decides alike.
    pub fn may_be_about(&self, name: &str) -> bool {
        let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.');
        let names = |text: &String| text.split(|character| !is_name(character)).any(|word| word == name);
        self.anything || self.texts.iter().any(names)
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

impl Desired {
    /// Where it is declared.
    pub fn place(&self, resource: &ResourceId) -> Option<&Place> {
        match resource {
            ResourceId::Config(config) => self.configs.get(config).map(|declared| &declared.place),
            ResourceId::Election(election) => self.elections.get(election).map(|declared| &declared.place),
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
pub fn plan(desired: &Desired, present: &Machine) -> Plan {
    let mut plan = Plan::default();
    plan.configs(desired, present.configs());
    plan.elections(desired, present.contests());
    plan
}

impl Plan {
    fn configs(&mut self, desired: &Desired, present: &Configs) {
        let missing = desired.configs.values().filter(|declared| !is_met(&declared.id, &declared.wanted, present));
        self.puts.extend(missing.map(|Declared { id, wanted, .. }| {
            let (config, document) = (id.clone(), wanted.clone());
            (ResourceId::Config(id.clone()), Action::PutConfig { config, document, only_if: ConfigCondition::Always })
        }));
        let excess = present.list(None).filter(|(config, record)| {
            record.owner == ConfigOwner::Resource
                && !desired.configs.contains_key(config)
                && !desired.unclear.may_be_about(config.name.as_str())
        });
        self.deletes.extend(excess.map(|(config, _)| {
            let delete = Action::DeleteConfig { config: config.clone(), only_if: ConfigCondition::Always };
            (ResourceId::Config(config.clone()), delete)
        }));
    }

    fn elections(&mut self, desired: &Desired, present: &Contests) {
        let set = |ContestId { namespace, name, .. }: &ContestId, spec| Action::SetElection {
            namespace: namespace.clone(),
            name: name.clone(),
            spec,
        };
        let spec = |election: &ContestId| present.get(election).and_then(|record| record.spec);
        let missing = desired.elections.values().filter(|declared| spec(&declared.id) != Some(declared.wanted));
        self.puts.extend(
            missing.map(|Declared { id, wanted, .. }| (ResourceId::Election(id.clone()), set(id, Some(*wanted)))),
        );
        let excess = present.list(ContestKind::Election, None).filter(|(election, record)| {
            record.spec.is_some()
                && !desired.elections.contains_key(election)
                && !desired.unclear.may_be_about(election.name.as_str())
        });
        self.deletes.extend(excess.map(|(election, _)| (ResourceId::Election(election.clone()), set(election, None))));
    }
}

/// Whether a put of `document` would change nothing.
fn is_met(config: &ConfigId, document: &ConfigDocument, present: &Configs) -> bool {
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

    fn place() -> Place {
        Place { file: "a.yaml".into(), document: 1, line: 1 }
    }

    fn document(text: &str) -> ConfigDocument {
        let data = BTreeMap::from([(DocumentKey::new("a").expect("a key"), text.to_owned())]);
        ConfigDocument { data, history_limit: 20, rollback_to: None }
    }

    fn desired(documents: &[(&str, ConfigDocument)]) -> Desired {
        let configs = documents.iter().map(|(name, document)| {
            let place = place();
            let cluster = "default".to_owned();
            (id(name), Declared { cluster, id: id(name), wanted: document.clone(), place })
        });
        Desired { configs: configs.collect(), ..Desired::default() }
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

    fn settle(machine: &mut Machine, desired: &Desired) {
        let todo = plan(desired, machine);
        carry_out(machine, todo);
    }

    fn names(actions: &BTreeMap<ResourceId, Action>) -> Vec<&str> {
        let names = actions.keys().map(|resource| match resource {
            ResourceId::Config(config) => config.name.as_str(),
            ResourceId::Election(election) => election.name.as_str(),
        });
        names.collect()
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
        let unclear = Desired { unclear: Unclear { anything: false, texts }, ..Desired::default() };
        assert_eq!(names(&plan(&unclear, &machine).deletes), ["two"]);
        let anything = Desired { unclear: Unclear { anything: true, texts: Vec::new() }, ..Desired::default() };
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
        let (cluster, wanted) = ("default".to_owned(), ElectionSpec { seats: 2, session_ttl: None });
        let declared = Declared { cluster, id: id.clone(), wanted, place: place() };
        let two_seats = Desired { elections: BTreeMap::from([(id.clone(), declared)]), ..Desired::default() };
        settle(&mut machine, &two_seats);
        assert_eq!(machine.contests().get(&id).map(|record| record.capacity), Some(2));
        assert_eq!(plan(&two_seats, &machine), Plan::default());

        let texts = vec!["kind: LeaderElection, metadata: {name: main".to_owned()];
        let unclear = Desired { unclear: Unclear { anything: false, texts }, ..Desired::default() };
        assert_eq!(plan(&unclear, &machine), Plan::default());
        assert_eq!(names(&plan(&Desired::default(), &machine).deletes), ["main"]);
        settle(&mut machine, &Desired::default());
        assert_eq!(plan(&Desired::default(), &machine), Plan::default());
    }
}
