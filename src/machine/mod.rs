//! The replicated state machine: what every member computes from the same log.
//!
//! [`Machine::apply`] takes one committed command and gives an answer for the caller and an event for everybody. It is
//! total, deterministic and synchronous: no I/O, no clock, no randomness, ordered maps only. A refusal is an outcome.
//!
//! A copy of a machine is cheap and never changes, so each applied batch is published as a whole: readers take no lock, and
//! whatever they read belongs to exactly one revision.
//!
//! Read next: `command.rs` (what can be asked), `outcome.rs` (what became of it), `event.rs` (what happened).

mod by_session;
mod cluster;
mod codec;
pub mod command;
pub mod config;
pub mod consumers;
pub mod contest;
mod digest;
pub mod event;
mod granting;
mod history;
mod holdings;
mod idempotency;
mod invariants;
pub mod keys;
mod limits;
pub mod outcome;
pub mod session;
mod snapshot;
mod table;
mod turn;
mod txn;

use std::sync::Arc;

pub use cluster::LeadershipRecord;
pub use config::Configs;
pub use consumers::Consumers;
pub use contest::Contests;
pub use digest::Digest;
pub use history::OutsideHistory;
pub use idempotency::Requests;
pub use invariants::Violation;
pub use keys::Keys;
pub use limits::Limits;
pub use session::Sessions;

use bytes::Bytes;
use cluster::Cluster;
use command::{
    Action, Author, ClusterSize, Command, ConfigCondition, ConfigDocument, ConfigId, KeyCondition, MemberRecord,
    Steering, Transaction,
};
use config::{ConfigOwner, ConfigPlan};
use event::{Change, Event};
use idempotency::{Recall, fingerprint};
use outcome::{Answer, Effect, Origin, Outcome, Rejection};
use turn::Turn;

use crate::types::{ClusterId, FeatureLevel, Key, Leadership, LogIndex, MemberId, Revision, SessionId, Term};

/// The level of this release's state machine.
pub const FEATURE_LEVEL: FeatureLevel = FeatureLevel::new(2);

/// The level from which on [`Action::Steer`] may be proposed.
pub const STEERING_LEVEL: FeatureLevel = FeatureLevel::new(2);

/// What one command did, for its caller and for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub answer: Answer,
    /// One for each revision that the command took, in order.
    pub events: Vec<Arc<Event>>,
}

/// The whole replicated state.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    limits: Limits,
    applied: Option<LogIndex>,
    cluster: Cluster,
    keys: Keys,
    configs: Configs,
    consumers: Consumers,
    sessions: Sessions,
    contests: Contests,
    requests: Requests,
}

impl Machine {
    /// The empty state, before the first entry of the log.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Applies the committed command at `index`.
    ///
    /// # Panics
    /// When `index` does not follow the last one: the log would have been applied out of order.
    pub fn apply(&mut self, index: LogIndex, command: &Command) -> Applied {
        self.advance(index);
        let Author::Client(Some(key)) = &command.author else {
            return self.take_turn(index, command);
        };
        let fingerprint = fingerprint(&command.action);
        match self.requests.recall(key, fingerprint) {
            Recall::Retry(answer) => Applied { answer, events: Vec::new() },
            Recall::Reused => self.refused(Rejection::RequestReused { key: key.clone() }),
            Recall::New => {
                let applied = self.take_turn(index, command);
                let wants_room = applied.answer.outcome.as_ref().is_err_and(Rejection::wants_room);
                if !wants_room {
                    self.requests.remember(key, fingerprint, &applied.answer);
                    self.requests.trim(self.limits.requests, self.limits.request_bytes);
                }
                applied
            }
        }
    }

    /// Notes a log entry that is no command.
    ///
    /// # Panics
    /// As [`Machine::apply`].
    pub fn advance(&mut self, index: LogIndex) {
        assert!(self.applied < Some(index), "entry {index} comes after {:?} was applied", self.applied);
        self.applied = Some(index);
    }

    fn take_turn(&mut self, index: LogIndex, command: &Command) -> Applied {
        let mut turn = Turn::new(index, command.at, self.revision());
        let outcome = self.admit(&command.author).and_then(|()| self.perform(command, &mut turn));
        let events = turn.finish();
        if let Some(last) = events.last() {
            self.keys.present = last.revision;
            self.keys.history.trim(self.limits.history_revisions, self.limits.history_bytes);
        }
        Applied { answer: self.answer(outcome), events }
    }

    fn answer(&self, outcome: Outcome) -> Answer {
        Answer { revision: self.revision(), origin: Origin::Fresh, outcome }
    }

    fn refused(&self, rejection: Rejection) -> Applied {
        Applied { answer: self.answer(Err(rejection)), events: Vec::new() }
    }

    /// A duty's command is refused once a newer leadership has begun.
    fn admit(&self, author: &Author) -> Result<(), Rejection> {
        let current = self.cluster.leadership.map_or(Leadership::ZERO, |record| record.leadership);
        match author {
            Author::Duty(named) if *named != current => Err(Rejection::Superseded { named: *named, current }),
            Author::Duty(_) | Author::Client(_) | Author::Member => Ok(()),
        }
    }

    fn perform(&mut self, command: &Command, turn: &mut Turn) -> Outcome {
        let owner = match command.author {
            Author::Duty(_) => ConfigOwner::Resource,
            Author::Client(_) | Author::Member => ConfigOwner::Clients,
        };
        match &command.action {
            Action::FoundCluster { cluster, newest_member } => self.cluster.found(cluster, *newest_member, turn),
            Action::AnnounceMember { member, record, before } => self.cluster.announce(*member, record, before, turn),
            Action::AllocateMember { record } => self.cluster.allocate(record, turn),
            Action::ForgetMember { member } => self.cluster.forget(*member, turn),
            Action::SetSize(size) => self.cluster.set_size(*size, turn),
            Action::Steer(steering) => self.cluster.steer(steering, turn),
            Action::BeginLeadership { member, term } => self.begin_leadership(*member, *term, turn),
            Action::PutKey { key, value, session, only_if } => self.put_key(key, value, *session, *only_if, turn),
            Action::DeleteKey { key, only_if } => self.delete_key(key, *only_if, turn),
            Action::Transact(transaction) => self.transact(transaction, turn),
            Action::PutConfig { config, document, only_if } => self.put_config(config, document, *only_if, owner, turn),
            Action::DeleteConfig { config, only_if } => self.delete_config(config, *only_if, owner, turn),
            Action::ReportConsumer { config, session, report } => self.report_consumer(config, *session, report, turn),
            Action::CreateSession { session, limit } => self.create_session(session, *limit, turn),
            Action::EndSession { session, cause } => self.end_session(*session, *cause, turn),
            Action::ExpireSessions(silent) => self.expire_sessions(silent, turn),
            Action::Claim { contest, session, claim, limits } => self.claim(contest, *session, claim, *limits, turn),
            Action::Release { contest, session, token, cause } => self.release(contest, *session, *token, *cause, turn),
            Action::Revoke { contest, token } => self.revoke(contest, *token, turn),
            Action::SetElection { namespace, name, spec } => self.set_election(namespace, name, *spec, turn),
            Action::ForgetRequests { through } => {
                Ok(Effect::RequestsForgotten { count: self.requests.forget(*through) })
            }
            Action::Compact { through } => self.compact(*through, turn),
        }
    }

    fn begin_leadership(&mut self, member: MemberId, term: Term, turn: &mut Turn) -> Outcome {
        let leadership = Leadership::new(turn.index.get());
        self.cluster.leadership = Some(LeadershipRecord { leadership, member, term, since: turn.at });
        turn.changes.push(Change::LeadershipBegun { leadership, member, term });
        Ok(Effect::LeadershipBegun(leadership))
    }

    fn put_key(
        &mut self,
        key: &Key,
        value: &Bytes,
        session: Option<SessionId>,
        only_if: KeyCondition,
        turn: &mut Turn,
    ) -> Outcome {
        self.limits.check_value(value.len() as u64)?;
        session.map_or(Ok(()), |session| self.sessions.alive(session).map(drop))?;
        self.check_key(key, only_if)?;
        self.limits.check_growth(self.state_bytes())?;
        Ok(Effect::KeyPut(txn::put(key, value, session, &mut self.keys, turn)))
    }

    fn delete_key(&mut self, key: &Key, only_if: KeyCondition, turn: &mut Turn) -> Outcome {
        self.check_key(key, only_if)?;
        Ok(Effect::KeyDeleted(txn::delete(key, &mut self.keys, turn)))
    }

    fn check_key(&self, key: &Key, only_if: KeyCondition) -> Result<(), Rejection> {
        self.keys.check(key, only_if).map_err(|current| Rejection::KeyMismatch { key: key.clone(), current })
    }

    fn transact(&mut self, transaction: &Transaction, turn: &mut Turn) -> Outcome {
        txn::validate(transaction, &self.limits)?;
        let (succeeded, operations) = txn::choose(transaction, &self.keys, &self.contests);
        txn::sessions(operations).try_for_each(|session| self.sessions.alive(session).map(drop))?;
        if txn::grows(operations) {
            self.limits.check_growth(self.state_bytes())?;
        }
        txn::execute(succeeded, operations, &mut self.keys, turn)
    }

    fn put_config(
        &mut self,
        config: &ConfigId,
        document: &ConfigDocument,
        only_if: ConfigCondition,
        owner: ConfigOwner,
        turn: &mut Turn,
    ) -> Outcome {
        self.limits.check_config(document.bytes(), u64::from(document.history_limit))?;
        self.configs.check(config, owner, only_if)?;
        let record = match self.configs.plan(config, document, owner, turn.revision, turn.at)? {
            ConfigPlan::Unchanged(record) => {
                let (version, revision) = (record.version, record.revision);
                return Ok(Effect::ConfigPut { version, revision, changed: false });
            }
            ConfigPlan::Replace(record) => record,
        };
        self.limits.check_growth(self.state_bytes())?;
        let (version, revision) = (record.version, record.revision);
        self.configs.replace(config, Arc::clone(&record), document.history_limit);
        turn.changes.push(Change::ConfigPut { config: config.clone(), record });
        Ok(Effect::ConfigPut { version, revision, changed: true })
    }

    fn delete_config(
        &mut self,
        config: &ConfigId,
        only_if: ConfigCondition,
        owner: ConfigOwner,
        turn: &mut Turn,
    ) -> Outcome {
        self.configs.check(config, owner, only_if)?;
        let existed = self.configs.delete(config);
        if existed {
            self.consumers.forget_config(config);
            turn.changes.push(Change::ConfigDeleted { config: config.clone() });
        }
        Ok(Effect::ConfigDeleted { existed })
    }

    fn compact(&mut self, through: Revision, turn: &mut Turn) -> Outcome {
        let (compacted, present) = (self.compacted(), self.revision());
        if through < compacted || through > present {
            return Err(Rejection::CannotCompact { revision: through, compacted, present });
        }
        if through > compacted {
            self.keys.history.compact(through);
            turn.changes.push(Change::Compacted { through });
        }
        Ok(Effect::Compacted { through })
    }
}

/// Reading.
impl Machine {
    /// The last log entry that was applied.
    pub fn applied(&self) -> Option<LogIndex> {
        self.applied
    }

    /// How many commands have changed something.
    pub fn revision(&self) -> Revision {
        self.keys.present
    }

    /// The cluster's identity, once it is founded.
    pub fn cluster(&self) -> Option<&ClusterId> {
        self.cluster.id.as_ref()
    }

    /// Whose leadership has begun last.
    pub fn leadership(&self) -> Option<&LeadershipRecord> {
        self.cluster.leadership.as_ref()
    }

    /// What each member says of itself.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &MemberRecord)> {
        self.cluster.members.iter().map(|(member, record)| (*member, record))
    }

    /// What one member says of itself.
    pub fn member(&self, member: MemberId) -> Option<&MemberRecord> {
        self.cluster.members.get(&member)
    }

    /// The greatest id that a member has, or had.
    pub fn newest_member(&self) -> MemberId {
        self.cluster.newest_member
    }

    /// How large the cluster should be; `None` until somebody has said so.
    pub fn size(&self) -> Option<ClusterSize> {
        self.cluster.size
    }

    /// What is declared of the members beside their number.
    pub fn steering(&self) -> &Steering {
        &self.cluster.steering
    }

    /// Whether a member was in the cluster and is forgotten by now. Whoever founded it counts as such until it has spoken of
    /// itself, so this says that a member was removed only of one that is in no membership either.
    pub fn has_forgotten(&self, member: MemberId) -> bool {
        self.cluster.has_forgotten(member)
    }

    /// The level that every announced member understands.
    pub fn feature_level(&self) -> FeatureLevel {
        self.cluster.feature_level()
    }

    /// Small metadata.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Configuration documents.
    pub fn configs(&self) -> &Configs {
        &self.configs
    }

    /// Who runs which version of a config.
    pub fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    /// The liveness of clients.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Elections and locks.
    pub fn contests(&self) -> &Contests {
        &self.contests
    }

    /// Remembered requests.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The oldest revision at which keys can still be read.
    pub fn compacted(&self) -> Revision {
        self.keys.history.oldest()
    }

    /// What decides outcomes by size.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Timestamp;

    fn put(value: &'static str) -> Command {
        let action = Action::PutKey {
            key: "a".parse().unwrap(),
            value: value.into(),
            session: None,
            only_if: KeyCondition::Always,
        };
        Command { at: Timestamp::default(), author: Author::Client(None), action }
    }

    #[test]
    fn a_copy_stays_as_it_was() {
        let mut machine = Machine::default();
        machine.apply(LogIndex::new(1), &put("1"));
        let copy = machine.clone();
        machine.apply(LogIndex::new(2), &put("2"));
        let key = "a".parse().unwrap();
        assert_eq!((copy.revision(), copy.keys().get(&key).unwrap().value.as_ref()), (Revision::new(1), &b"1"[..]));
        assert_ne!(copy.digest(), machine.digest());
        copy.check().unwrap();
    }

    #[test]
    fn an_entry_that_changes_nothing_still_counts_as_applied() {
        let mut machine = Machine::default();
        machine.advance(LogIndex::ZERO);
        let before = machine.digest();
        machine.advance(LogIndex::new(7));
        assert_eq!((machine.applied(), machine.revision()), (Some(LogIndex::new(7)), Revision::ZERO));
        assert_ne!(machine.digest(), before);
    }

    #[test]
    #[should_panic(expected = "entry 3 comes after Some(LogIndex(3)) was applied")]
    fn an_entry_cannot_be_applied_twice() {
        let mut machine = Machine::default();
        machine.apply(LogIndex::new(3), &put("1"));
        machine.apply(LogIndex::new(3), &put("1"));
    }
}
