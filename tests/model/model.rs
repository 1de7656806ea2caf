//! The machine as one would write it if memory and time cost nothing: every past state is kept whole, every table is a
//! plain list, every rule is spelt out. It shares with the machine only the shapes of commands, outcomes and events.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate::machine::command::{
    Action, Author, ClusterSize, Command, ConfigId, ContestId, ContestKind, KeyCondition, MemberRecord, Steering,
};
use quorate::machine::config::ConfigRecord;
use quorate::machine::event::{Change, Event};
use quorate::machine::keys::KeyRecord;
use quorate::machine::outcome::{Answer, Effect, Measured, Origin, Outcome, Rejection};
use quorate::types::{ClusterId, IdempotencyKey, Key, Leadership, Life, LogIndex, MemberId, Revision, Term, Timestamp};

use super::configs::owner;
use super::holdings::{Doing, Holdings};
use super::transactions::{put, session_of};

/// What the model knows of limits; bounds in bytes are tested beside the code.
pub struct Bounds {
    pub value_bytes: u64,
    pub config_bytes: u64,
    pub config_versions: u64,
    pub operations: u64,
    pub full_at: u64,
    pub history_revisions: usize,
    pub requests: usize,
}

/// All keys at one revision.
pub type Moment = BTreeMap<Key, KeyRecord>;

struct Request {
    number: u64,
    key: IdempotencyKey,
    action: Action,
    answer: Answer,
}

pub struct Model {
    pub bounds: Bounds,
    pub revision: Revision,
    pub cluster: Option<ClusterId>,
    pub leadership: Option<(Leadership, MemberId, Term, Timestamp)>,
    pub members: BTreeMap<MemberId, MemberRecord>,
    pub newest_member: MemberId,
    pub size: Option<ClusterSize>,
    pub steering: Steering,
    pub keys: Moment,
    /// The keys at every revision that can still be read.
    pub moments: BTreeMap<Revision, Moment>,
    /// Revisions in the window that changed a key.
    key_changes: Vec<Revision>,
    pub compacted: Revision,
    /// Every kept version of each config, the oldest first.
    pub configs: BTreeMap<ConfigId, Vec<Arc<ConfigRecord>>>,
    pub holdings: Holdings,
    requests: Vec<Request>,
    pub next_request: u64,
    pub forgotten_early: u64,
}

/// What a command does if it is allowed to: its effect, and the changes in order.
pub type Draft = Result<(Effect, Vec<Change>), Rejection>;

/// The same, and what sessions hold then.
type Held = Result<(Effect, Vec<Change>, Holdings), Rejection>;

impl Model {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            revision: Revision::ZERO,
            cluster: None,
            leadership: None,
            members: BTreeMap::new(),
            newest_member: MemberId::ZERO,
            size: None,
            steering: Steering::default(),
            keys: BTreeMap::new(),
            moments: BTreeMap::from([(Revision::ZERO, BTreeMap::new())]),
            key_changes: Vec::new(),
            compacted: Revision::ZERO,
            configs: BTreeMap::new(),
            holdings: Holdings::default(),
            requests: Vec::new(),
            next_request: 0,
            forgotten_early: 0,
        }
    }

    pub fn remembered(&self) -> usize {
        self.requests.len()
    }

    /// Applies a command to a state whose machine says that it holds `used` bytes.
    pub fn apply(&mut self, index: LogIndex, command: &Command, used: u64) -> (Answer, Vec<Event>) {
        let key = match &command.author {
            Author::Client(key) => key.as_ref(),
            Author::Duty(_) | Author::Member => None,
        };
        if let Some(request) = self.requests.iter().find(|request| Some(&request.key) == key) {
            let retry = request.action == command.action;
            let reused = Err(Rejection::RequestReused { key: request.key.clone() });
            let answer = if retry {
                Answer { origin: Origin::Remembered, ..request.answer.clone() }
            } else {
                Answer { revision: self.revision, origin: Origin::Fresh, outcome: reused }
            };
            return (answer, vec![]);
        }
        let (outcome, events) = self.run(index, command, used);
        let answer = Answer { revision: self.revision, origin: Origin::Fresh, outcome };
        if let Some(key) = key
            && !is_for_want_of_room(&answer.outcome)
        {
            let (key, action) = (key.clone(), command.action.clone());
            self.requests.push(Request { number: self.next_request, key, action, answer: answer.clone() });
            self.next_request += 1;
            if self.requests.len() > self.bounds.requests {
                self.requests.remove(0);
                self.forgotten_early += 1;
            }
        }
        (answer, events)
    }

    fn run(&mut self, index: LogIndex, command: &Command, used: u64) -> (Outcome, Vec<Event>) {
        let current = self.leadership.map_or(Leadership::ZERO, |(leadership, ..)| leadership);
        if let Author::Duty(named) = command.author
            && named != current
        {
            return (Err(Rejection::Superseded { named, current }), vec![]);
        }
        let held = self.draft_holding(command);
        let draft = match held {
            None => self.draft(index, command, used),
            Some(held) => held.map(|(effect, changes, holdings)| {
                self.holdings = holdings;
                (effect, changes)
            }),
        };
        match draft {
            Err(rejection) => (Err(rejection), vec![]),
            Ok((effect, changes)) => {
                if let Action::ForgetRequests { through } = command.action {
                    self.requests.retain(|request| request.number > through);
                }
                let events = by_revision(changes).into_iter().map(|changes| {
                    self.revision = self.revision.next();
                    changes.iter().for_each(|change| self.enact(change, command, &effect));
                    self.keep_window(&changes);
                    Event { revision: self.revision, at: command.at, changes }
                });
                let events = events.collect();
                (Ok(effect), events)
            }
        }
    }

    /// Brings the state to where the event says that it is: an event tells everything that changed.
    fn enact(&mut self, change: &Change, command: &Command, effect: &Effect) {
        match change.clone() {
            Change::KeyPut { key, meta, value } => {
                let session = session_of(&key, command, effect);
                self.keys.insert(key, KeyRecord { meta, value, session });
            }
            Change::KeyDeleted { key } => drop(self.keys.remove(&key)),
            Change::ConfigPut { config, record } => {
                let Action::PutConfig { document, .. } = &command.action else { panic!("{command:?} put a config") };
                let versions = self.configs.entry(config).or_default();
                versions.push(record);
                let excess = versions.len().saturating_sub(document.history_limit.max(1) as usize);
                versions.drain(..excess);
            }
            Change::ConfigDeleted { config } => {
                self.configs.remove(&config);
                self.holdings.consumers.retain(|(consumed, _), _| *consumed != config);
            }
            // What sessions hold was drafted as a whole.
            Change::SessionCreated { .. }
            | Change::SessionEnded { .. }
            | Change::Waiting { .. }
            | Change::Granted { .. }
            | Change::Lost { .. }
            | Change::Withdrawn { .. }
            | Change::ElectionSet { .. }
            | Change::ConsumerReported { .. } => {}
            Change::LeadershipBegun { leadership, member, term } => {
                self.leadership = Some((leadership, member, term, command.at));
            }
            Change::MemberAnnounced { member, record } => {
                self.newest_member = self.newest_member.max(member);
                self.members.insert(member, record);
            }
            Change::MemberForgotten { member } => drop(self.members.remove(&member)),
            Change::SizeSet(size) => self.size = Some(size),
            Change::Steered(steering) => self.steering = steering,
            Change::ClusterFounded => {
                let Action::FoundCluster { cluster, newest_member } = &command.action else {
                    panic!("{command:?} founded a cluster")
                };
                self.cluster = Some(cluster.clone());
                self.newest_member = self.newest_member.max(*newest_member);
            }
            Change::Compacted { through } => self.compacted = through,
        }
    }

    fn keep_window(&mut self, changes: &[Change]) {
        self.moments.insert(self.revision, self.keys.clone());
        if changes.iter().any(|change| matches!(change, Change::KeyPut { .. } | Change::KeyDeleted { .. })) {
            self.key_changes.push(self.revision);
        }
        self.key_changes.retain(|revision| *revision > self.compacted);
        while self.key_changes.len() > self.bounds.history_revisions {
            self.compacted = self.key_changes.remove(0);
        }
        self.moments.retain(|revision, _| *revision >= self.compacted);
    }

    fn draft(&self, index: LogIndex, command: &Command, used: u64) -> Draft {
        match &command.action {
            Action::FoundCluster { cluster, .. } => match &self.cluster {
                None => Ok((Effect::ClusterFounded, vec![Change::ClusterFounded])),
                Some(present) if present == cluster => Ok((Effect::ClusterFounded, vec![])),
                Some(present) => Err(Rejection::AlreadyFounded { cluster: present.clone() }),
            },
            Action::AnnounceMember { member, record, before } => {
                self.check_life(*member, record, before)?;
                let known = self.members.get(member) == Some(record);
                let change = Change::MemberAnnounced { member: *member, record: record.clone() };
                Ok((Effect::MemberAnnounced, if known { vec![] } else { vec![change] }))
            }
            Action::AllocateMember { record } => self.draft_allocation(record),
            Action::ForgetMember { member } => {
                let existed = self.members.contains_key(member);
                let change = Change::MemberForgotten { member: *member };
                Ok((Effect::MemberForgotten { existed }, if existed { vec![change] } else { vec![] }))
            }
            Action::SetSize(size) => {
                let changed = self.size != Some(*size);
                Ok((Effect::SizeSet { changed }, if changed { vec![Change::SizeSet(*size)] } else { vec![] }))
            }
            Action::Steer(steering) => {
                let changed = self.steering != *steering;
                let changes = if changed { vec![Change::Steered(steering.clone())] } else { vec![] };
                Ok((Effect::Steered { changed }, changes))
            }
            Action::BeginLeadership { member, term } => {
                let leadership = Leadership::new(index.get());
                let change = Change::LeadershipBegun { leadership, member: *member, term: *term };
                Ok((Effect::LeadershipBegun(leadership), vec![change]))
            }
            Action::PutKey { key, value, session, only_if } => {
                at_most(Measured::ValueBytes, value.len() as u64, self.bounds.value_bytes)?;
                session.map_or(Ok(()), |session| self.holdings.alive(session))?;
                self.check_key(key, *only_if)?;
                self.room(used)?;
                let meta = put(&self.keys, key, self.revision.next());
                Ok((Effect::KeyPut(meta), vec![Change::KeyPut { key: key.clone(), meta, value: value.clone() }]))
            }
            Action::DeleteKey { key, only_if } => {
                self.check_key(key, *only_if)?;
                let before = self.keys.get(key).map(|record| record.meta);
                let changes = before.map(|_| Change::KeyDeleted { key: key.clone() });
                Ok((Effect::KeyDeleted(before), changes.into_iter().collect()))
            }
            Action::Transact(transaction) => self.draft_transaction(transaction, used),
            Action::PutConfig { config, document, only_if } => {
                self.draft_config(config, document, *only_if, command, used)
            }
            Action::DeleteConfig { config, only_if } => {
                self.check_config(config, *only_if, owner(command))?;
                let existed = self.configs.contains_key(config);
                let change = Change::ConfigDeleted { config: config.clone() };
                Ok((Effect::ConfigDeleted { existed }, if existed { vec![change] } else { vec![] }))
            }
            // Remembered requests are no part of what a revision shows, so there is no change.
            Action::ForgetRequests { through } => {
                let count = self.requests.iter().filter(|request| request.number <= *through).count() as u64;
                Ok((Effect::RequestsForgotten { count }, vec![]))
            }
            Action::Compact { through } if *through < self.compacted || *through > self.revision => {
                let (revision, compacted, present) = (*through, self.compacted, self.revision);
                Err(Rejection::CannotCompact { revision, compacted, present })
            }
            Action::CreateSession { .. }
            | Action::EndSession { .. }
            | Action::ExpireSessions(_)
            | Action::Claim { .. }
            | Action::Release { .. }
            | Action::Revoke { .. }
            | Action::SetElection { .. }
            | Action::ReportConsumer { .. } => unreachable!("it is drafted with what sessions hold"),
            Action::Compact { through } => {
                let change = Change::Compacted { through: *through };
                let changes = if *through == self.compacted { vec![] } else { vec![change] };
                Ok((Effect::Compacted { through: *through }, changes))
            }
        }
    }

    /// As [`Self::draft`], for what sessions and their holdings are about.
    fn draft_holding(&self, command: &Command) -> Option<Held> {
        let mut doing = Doing::new(&self.holdings, &self.keys, command.at, self.revision);
        let effect = match &command.action {
            Action::CreateSession { session, limit } => doing.create(session, *limit),
            Action::EndSession { session, cause } => doing.end(*session, *cause),
            Action::ExpireSessions(silent) => Ok(doing.expire(silent)),
            Action::Claim { contest, session, claim, limits } => doing.claim(contest, *session, claim, *limits),
            Action::Release { contest, session, token, cause } => doing.release(contest, *session, *token, *cause),
            Action::Revoke { contest, token } => Ok(doing.revoke(contest, *token)),
            Action::SetElection { namespace, name, spec } => {
                let (kind, namespace, name) = (ContestKind::Election, namespace.clone(), name.clone());
                Ok(doing.set_election(&ContestId { kind, namespace, name }, *spec))
            }
            Action::ReportConsumer { config, session, report } => {
                self.check_report(config, *session, report).map(|()| doing.report(config, *session, report))
            }
            Action::FoundCluster { .. }
            | Action::AnnounceMember { .. }
            | Action::AllocateMember { .. }
            | Action::ForgetMember { .. }
            | Action::SetSize(_)
            | Action::Steer(_)
            | Action::BeginLeadership { .. }
            | Action::PutKey { .. }
            | Action::DeleteKey { .. }
            | Action::Transact(_)
            | Action::PutConfig { .. }
            | Action::DeleteConfig { .. }
            | Action::ForgetRequests { .. }
            | Action::Compact { .. } => return None,
        };
        Some(effect.map(|effect| (effect, doing.changes, doing.holdings)))
    }

    /// A volume goes on from its newest recorded life, or that one is from before all that it remembers.
    fn check_life(&self, member: MemberId, record: &MemberRecord, before: &[Life]) -> Result<(), Rejection> {
        let Some(known) = self.members.get(&member) else { return Ok(()) };
        let (Some(recorded), Some(present)) = (known.life, record.life) else { return Ok(()) };
        let own: Vec<_> = before.iter().copied().chain([present]).collect();
        if known.incarnation != record.incarnation || own.contains(&recorded) || recorded.number < own[0].number {
            return Ok(());
        }
        Err(Rejection::OlderVolume { member, recorded: recorded.number, present: present.number })
    }

    fn draft_allocation(&self, record: &MemberRecord) -> Draft {
        if self.cluster.is_none() {
            return Err(Rejection::NotFounded);
        }
        let has_come_before = |(_, known): &(&MemberId, &MemberRecord)| known.incarnation == record.incarnation;
        let member = match self.members.iter().rev().find(has_come_before) {
            Some((member, _)) => *member,
            None => MemberId::new(self.newest_member.get() + 1),
        };
        let known = self.members.get(&member) == Some(record);
        let change = Change::MemberAnnounced { member, record: record.clone() };
        Ok((Effect::MemberAllocated(member), if known { vec![] } else { vec![change] }))
    }

    fn check_key(&self, key: &Key, only_if: KeyCondition) -> Result<(), Rejection> {
        let current = self.keys.get(key).map(|record| record.meta);
        let holds = match only_if {
            KeyCondition::Always => true,
            KeyCondition::Absent => current.is_none(),
            KeyCondition::Present => current.is_some(),
            KeyCondition::ModifiedAt(revision) => current.map(|meta| meta.mod_revision) == Some(revision),
        };
        if holds { Ok(()) } else { Err(Rejection::KeyMismatch { key: key.clone(), current }) }
    }

    pub fn room(&self, used: u64) -> Result<(), Rejection> {
        let limit = self.bounds.full_at;
        if used >= limit { Err(Rejection::StateFull { used, limit }) } else { Ok(()) }
    }
}

/// Everything is in one revision, but no revision has more than one grant.
fn by_revision(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let is_grant = |change: &Change| matches!(change, Change::Granted { .. });
    let mut revisions: Vec<Vec<Change>> = Vec::new();
    for change in changes {
        match revisions.last_mut() {
            Some(revision) if !(is_grant(&change) && revision.iter().any(is_grant)) => revision.push(change),
            Some(_) | None => revisions.push(vec![change]),
        }
    }
    revisions
}

fn is_for_want_of_room(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Err(Rejection::StateFull { .. }
            | Rejection::TooManySessions { .. }
            | Rejection::TooManyWaiting { .. }
            | Rejection::TooManyClaims { .. })
    )
}

pub fn at_most(what: Measured, actual: u64, limit: u64) -> Result<(), Rejection> {
    if actual > limit { Err(Rejection::TooLarge { what, actual, limit }) } else { Ok(()) }
}
