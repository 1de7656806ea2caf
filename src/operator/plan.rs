//! Pure: what is declared and what the cluster holds become the commands that make them equal.

use std::collections::BTreeMap;

use super::documents::Declared;
use crate::machine::Configs;
use crate::machine::command::{Action, ConfigCondition, ConfigDocument, ConfigId};
use crate::machine::config::{ConfigOwner, ConfigRecord};

/// Everything that is declared for this cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    pub configs: BTreeMap<ConfigId, Declared>,
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
    /// Whether `config` may be declared in what cannot be read: its name stands there as a word. A member that has just
    /// begun to lead knows no more than this of an earlier content, and so every member decides alike.
    pub fn may_be_about(&self, config: &ConfigId) -> bool {
        let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.');
        let names =
            |text: &String| text.split(|character| !is_name(character)).any(|word| word == config.name.as_str());
        self.anything || self.texts.iter().any(names)
    }
}

/// What has to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub puts: BTreeMap<ConfigId, Action>,
    pub deletes: BTreeMap<ConfigId, Action>,
}

/// The difference between what is desired and what there is. Configs that no resource owns are left alone until a resource
/// of that name appears.
pub fn plan(desired: &Desired, present: &Configs) -> Plan {
    let missing = desired.configs.values().filter(|declared| !is_met(&declared.config, &declared.document, present));
    let puts = missing.map(|declared| {
        let (config, document) = (declared.config.clone(), declared.document.clone());
        (config.clone(), Action::PutConfig { config, document, only_if: ConfigCondition::Always })
    });
    let excess = present.list(None).filter(|(config, record)| {
        record.owner == ConfigOwner::Resource
            && !desired.configs.contains_key(config)
            && !desired.unclear.may_be_about(config)
    });
    let deletes = excess.map(|(config, _)| {
        (config.clone(), Action::DeleteConfig { config: config.clone(), only_if: ConfigCondition::Always })
    });
    Plan { puts: puts.collect(), deletes: deletes.collect() }
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
    use crate::machine::command::{Author, Command, ConfigDocument};
    use crate::machine::{Limits, Machine};
    use crate::operator::documents::Place;
    use crate::types::{ConfigName, DocumentKey, Leadership, LogIndex, MemberId, Namespace, Term, Timestamp, Version};

    fn id(name: &str) -> ConfigId {
        let namespace = Namespace::new("default").expect("a label");
        ConfigId { namespace, name: ConfigName::new(name).expect("a name") }
    }

    fn document(text: &str) -> ConfigDocument {
        let data = BTreeMap::from([(DocumentKey::new("a").expect("a key"), text.to_owned())]);
        ConfigDocument { data, history_limit: 20, rollback_to: None }
    }

    fn desired(documents: &[(&str, ConfigDocument)]) -> Desired {
        let configs = documents.iter().map(|(name, document)| {
            let place = Place { file: "a.yaml".into(), document: 1, line: 1 };
            let cluster = "default".to_owned();
            (id(name), Declared { cluster, config: id(name), document: document.clone(), place })
        });
        Desired { configs: configs.collect(), unclear: Unclear::default() }
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
        let todo = plan(desired, machine.configs());
        carry_out(machine, todo);
    }

    fn names(actions: &BTreeMap<ConfigId, Action>) -> Vec<&str> {
        actions.keys().map(|config| config.name.as_str()).collect()
    }

    #[test]
    fn what_is_declared_is_put_once_and_what_is_gone_is_deleted_once() {
        let mut machine = machine();
        let both = desired(&[("one", document("1")), ("two", document("2"))]);
        settle(&mut machine, &both);
        assert_eq!(machine.configs().len(), 2);
        assert_eq!(plan(&both, machine.configs()), Plan::default());

        let one = desired(&[("one", document("changed"))]);
        let todo = plan(&one, machine.configs());
        assert_eq!((names(&todo.puts), names(&todo.deletes)), (vec!["one"], vec!["two"]));
        carry_out(&mut machine, todo);
        assert_eq!(plan(&one, machine.configs()), Plan::default());
    }

    #[test]
    fn what_clients_wrote_is_never_deleted_but_a_resource_takes_it_over() {
        let mut machine = machine();
        let put = Action::PutConfig { config: id("one"), document: document("1"), only_if: ConfigCondition::Always };
        apply(&mut machine, Author::Client(None), put);
        assert_eq!(plan(&desired(&[]), machine.configs()), Plan::default());
        let todo = plan(&desired(&[("one", document("1"))]), machine.configs());
        assert_eq!(names(&todo.puts), ["one"]);
        carry_out(&mut machine, todo);
        assert_eq!(names(&plan(&desired(&[]), machine.configs()).deletes), ["one"]);
    }

    #[test]
    fn a_document_that_cannot_be_read_keeps_what_it_may_be_about() {
        let mut machine = machine();
        let both = desired(&[("one", document("1")), ("two", document("2"))]);
        settle(&mut machine, &both);
        let texts = vec!["metadata: {name: one, x: [".to_owned(), "name: two-and-more".to_owned()];
        let unclear = Desired { unclear: Unclear { anything: false, texts }, ..Desired::default() };
        assert_eq!(names(&plan(&unclear, machine.configs()).deletes), ["two"]);
        let anything = Desired { unclear: Unclear { anything: true, texts: Vec::new() }, ..Desired::default() };
        assert_eq!(plan(&anything, machine.configs()), Plan::default());
    }

    #[test]
    fn a_rollback_is_put_once() {
        let mut machine = machine();
        for text in ["1", "2"] {
            settle(&mut machine, &desired(&[("one", document(text))]));
        }
        let back = desired(&[("one", ConfigDocument { rollback_to: Some(Version::new(1)), ..document("3") })]);
        let todo = plan(&back, machine.configs());
        assert_eq!(names(&todo.puts), ["one"]);
        carry_out(&mut machine, todo);
        assert_eq!(plan(&back, machine.configs()), Plan::default());
        // To roll back to what is served anyway changes nothing either.
        let same = desired(&[("one", ConfigDocument { rollback_to: Some(Version::new(3)), ..document("3") })]);
        assert_eq!(plan(&same, machine.configs()), Plan::default());
    }
}
