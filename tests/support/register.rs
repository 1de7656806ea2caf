//! How one key behaves when nothing goes wrong: the sequential model that a history is compared with.

use std::collections::BTreeMap;

use super::history::{Call, Condition, Operation, Reply, Seen, SeenRevision, ValueId};

/// A key between two operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register {
    content: Option<Content>,
    /// The newest revision that is known to have changed the key; later changes have greater ones.
    floor: SeenRevision,
}

/// A present key. Its revision is unknown when the only put that could have written it was never answered and its value was
/// never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    value: ValueId,
    revision: Option<SeenRevision>,
}

/// Which revision belongs to which value, from everything that any client was told.
#[derive(Debug, Default)]
pub struct Knowledge {
    revision_of: BTreeMap<ValueId, SeenRevision>,
    value_at: BTreeMap<SeenRevision, ValueId>,
}

impl Knowledge {
    /// Gathers it.
    ///
    /// # Errors
    /// With a sentence, when clients were told things that contradict each other.
    pub fn of(operations: &[&Operation]) -> Result<Self, String> {
        let mut knowledge = Self::default();
        for operation in operations {
            match (operation.call, operation.reply) {
                (Call::Put { value, .. }, Reply::Put { revision })
                | (_, Reply::Got(Some(Seen { value, revision }))) => knowledge.learn(value, revision)?,
                _ => {}
            }
        }
        Ok(knowledge)
    }

    /// Whether any client was told of the value.
    pub fn has(&self, value: ValueId) -> bool {
        self.revision_of.contains_key(&value)
    }

    fn learn(&mut self, value: ValueId, revision: SeenRevision) -> Result<(), String> {
        let other = *self.revision_of.entry(value).or_insert(revision);
        if other != revision {
            return Err(format!("value {value} was seen with the revisions {other} and {revision}"));
        }
        let other = *self.value_at.entry(revision).or_insert(value);
        if other != value {
            return Err(format!("revision {revision} was seen with the values {other} and {value}"));
        }
        Ok(())
    }
}

impl Register {
    /// The register after `operation`, if it may happen now and be answered as it was. An unknown operation that would
    /// change nothing may as well not happen, and is refused.
    pub fn after(self, operation: &Operation, knowledge: &Knowledge) -> Option<Self> {
        match (operation.call, operation.reply) {
            (Call::Get, Reply::Got(None)) => self.content.is_none().then_some(self),
            (Call::Get, Reply::Got(Some(seen))) => {
                self.content.is_some_and(|content| content.value == seen.value).then(|| self.pinned(seen.revision))
            }
            (Call::Put { value, only_if }, Reply::Put { revision }) => {
                self.may_hold(only_if, knowledge).then_some(self)?.written(value, Some(revision))
            }
            (Call::Put { value, only_if }, Reply::Unknown) => {
                let revision = knowledge.revision_of.get(&value).copied();
                self.may_hold(only_if, knowledge).then_some(self)?.written(value, revision)
            }
            (Call::Delete { only_if }, Reply::Deleted { existed, revision }) => match (existed, self.content) {
                (true, Some(_)) => self.may_hold(only_if, knowledge).then_some(self)?.deleted(Some(revision)),
                (false, None) => (only_if == Condition::Always).then_some(self),
                (true, None) | (false, Some(_)) => None,
            },
            (Call::Delete { only_if }, Reply::Unknown) => {
                (self.content.is_some() && self.may_hold(only_if, knowledge)).then_some(self)?.deleted(None)
            }
            (Call::Put { only_if, .. } | Call::Delete { only_if }, Reply::Mismatch { current }) => {
                self.mismatching(only_if, current, knowledge)
            }
            (Call::Get, _) | (Call::Put { .. }, _) | (Call::Delete { .. }, _) => None,
        }
    }

    /// Whether the condition holds, as far as anybody knows.
    fn may_hold(self, condition: Condition, knowledge: &Knowledge) -> bool {
        match (condition, self.content) {
            (Condition::Always, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
            (Condition::Absent, Some(_)) | (Condition::Present | Condition::ModifiedAt(_), None) => false,
            (Condition::ModifiedAt(wanted), Some(content)) => content.may_have(wanted, knowledge),
        }
    }

    /// The register when somebody was refused because `current` was there.
    fn mismatching(self, only_if: Condition, current: Option<SeenRevision>, knowledge: &Knowledge) -> Option<Self> {
        match (current, self.content) {
            (None, None) => matches!(only_if, Condition::Present | Condition::ModifiedAt(_)).then_some(self),
            (Some(revision), Some(content)) => {
                let refuses = match only_if {
                    Condition::Absent => true,
                    Condition::ModifiedAt(wanted) => wanted != revision,
                    Condition::Always | Condition::Present => false,
                };
                (refuses && content.may_have(revision, knowledge)).then(|| self.pinned(revision))
            }
            (None, Some(_)) | (Some(_), None) => None,
        }
    }

    fn pinned(self, revision: SeenRevision) -> Self {
        let content = self.content.map(|content| Content { revision: Some(revision), ..content });
        Self { content, floor: self.floor.max(revision) }
    }

    fn written(self, value: ValueId, revision: Option<SeenRevision>) -> Option<Self> {
        self.changed(Some(Content { value, revision }), revision)
    }

    fn deleted(self, revision: Option<SeenRevision>) -> Option<Self> {
        self.changed(None, revision)
    }

    /// Revisions never go back.
    fn changed(self, content: Option<Content>, revision: Option<SeenRevision>) -> Option<Self> {
        match revision {
            Some(revision) if revision <= self.floor => None,
            Some(revision) => Some(Self { content, floor: revision }),
            None => Some(Self { content, floor: self.floor }),
        }
    }
}

impl Content {
    fn may_have(self, revision: SeenRevision, knowledge: &Knowledge) -> bool {
        match self.revision {
            Some(own) => own == revision,
            None => knowledge.value_at.get(&revision).is_none_or(|value| *value == self.value),
        }
    }
}
