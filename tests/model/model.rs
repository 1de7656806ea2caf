//! The machine as one would write it if memory and time cost nothing: every past state is kept whole, every table is a
//! plain list, every rule is spelt out. It shares with the machine only the shapes of commands, outcomes and events.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use quorate::machine::command::{
    Action, Author, Command, Compare, CompareTarget, ConfigCondition, ConfigDocument, ConfigId, KeyCondition,
    KeyOperation, MemberRecord, Relation, Transaction,
};
use quorate::machine::config::{ConfigOwner, ConfigRecord};
use quorate::machine::event::{Change, Event};
use quorate::machine::outcome::{Answer, Effect, KeyMeta, Measured, OperationResult, Origin, Outcome, Rejection};
use quorate::types::{
    ClusterId, IdempotencyKey, Key, Leadership, LogIndex, MemberId, Revision, Term, Timestamp, Version,
};
use sha2::{Digest, Sha256};

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
pub type Moment = BTreeMap<Key, (KeyMeta, Bytes)>;

struct Request {
    number: u64,
    key: IdempotencyKey,
    action: Action,
    answer: Answer,
}

pub struct Model {
    bounds: Bounds,
    pub revision: Revision,
    pub cluster: Option<ClusterId>,
    pub leadership: Option<(Leadership, MemberId, Term, Timestamp)>,
    pub members: BTreeMap<MemberId, MemberRecord>,
    pub keys: Moment,
    /// The keys at every revision that can still be read.
    pub moments: BTreeMap<Revision, Moment>,
    /// Revisions in the window that changed a key.
    key_changes: Vec<Revision>,
    pub compacted: Revision,
    /// Every kept version of each config, the oldest first.
    pub configs: BTreeMap<ConfigId, Vec<Arc<ConfigRecord>>>,
    requests: Vec<Request>,
    pub next_request: u64,
    pub forgotten_early: u64,
}

/// What a command does if it is allowed to: its effect, and the changes in order.
type Draft = Result<(Effect, Vec<Change>), Rejection>;

impl Model {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            revision: Revision::ZERO,
            cluster: None,
            leadership: None,
            members: BTreeMap::new(),
            keys: BTreeMap::new(),
            moments: BTreeMap::from([(Revision::ZERO, BTreeMap::new())]),
            key_changes: Vec::new(),
            compacted: Revision::ZERO,
            configs: BTreeMap::new(),
            requests: Vec::new(),
            next_request: 0,
            forgotten_early: 0,
        }
    }

    pub fn remembered(&self) -> usize {
        self.requests.len()
    }

    /// Applies a command to a state whose machine says that it holds `used` bytes.
    pub fn apply(&mut self, index: LogIndex, command: &Command, used: u64) -> (Answer, Option<Event>) {
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
            return (answer, None);
        }
        let (outcome, event) = self.run(index, command, used);
        let answer = Answer { revision: self.revision, origin: Origin::Fresh, outcome };
        if let Some(key) = key
            && !matches!(answer.outcome, Err(Rejection::StateFull { .. }))
        {
            let (key, action) = (key.clone(), command.action.clone());
            self.requests.push(Request { number: self.next_request, key, action, answer: answer.clone() });
            self.next_request += 1;
            if self.requests.len() > self.bounds.requests {
                self.requests.remove(0);
                self.forgotten_early += 1;
            }
        }
        (answer, event)
    }

    fn run(&mut self, index: LogIndex, command: &Command, used: u64) -> (Outcome, Option<Event>) {
        let current = self.leadership.map_or(Leadership::ZERO, |(leadership, ..)| leadership);
        if let Author::Duty(named) = command.author
            && named != current
        {
            return (Err(Rejection::Superseded { named, current }), None);
        }
        match self.draft(index, command, used) {
            Err(rejection) => (Err(rejection), None),
            Ok((effect, changes)) if changes.is_empty() => {
                if let Action::ForgetRequests { through } = command.action {
                    self.requests.retain(|request| request.number > through);
                }
                (Ok(effect), None)
            }
            Ok((effect, changes)) => {
                self.revision = self.revision.next();
                changes.iter().for_each(|change| self.enact(change, command));
                self.keep_window(&changes);
                (Ok(effect), Some(Event { revision: self.revision, at: command.at, changes }))
            }
        }
    }

    /// Brings the state to where the event says that it is: an event tells everything that changed.
    fn enact(&mut self, change: &Change, command: &Command) {
        match change.clone() {
            Change::KeyPut { key, meta, value } => drop(self.keys.insert(key, (meta, value))),
            Change::KeyDeleted { key } => drop(self.keys.remove(&key)),
            Change::ConfigPut { config, record } => {
                let Action::PutConfig { document, .. } = &command.action else { panic!("{command:?} put a config") };
                let versions = self.configs.entry(config).or_default();
                versions.push(record);
                let excess = versions.len().saturating_sub(document.history_limit.max(1) as usize);
                versions.drain(..excess);
            }
            Change::ConfigDeleted { config } => drop(self.configs.remove(&config)),
            Change::LeadershipBegun { leadership, member, term } => {
                self.leadership = Some((leadership, member, term, command.at));
            }
            Change::MemberAnnounced { member, record } => drop(self.members.insert(member, record)),
            Change::ClusterFounded => {
                let Action::FoundCluster { cluster } = &command.action else { panic!("{command:?} founded a cluster") };
                self.cluster = Some(cluster.clone());
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
            Action::FoundCluster { cluster } => match &self.cluster {
                None => Ok((Effect::ClusterFounded, vec![Change::ClusterFounded])),
                Some(present) if present == cluster => Ok((Effect::ClusterFounded, vec![])),
                Some(present) => Err(Rejection::AlreadyFounded { cluster: present.clone() }),
            },
            Action::AnnounceMember { member, record } => {
                let known = self.members.get(member) == Some(record);
                let change = Change::MemberAnnounced { member: *member, record: record.clone() };
                Ok((Effect::MemberAnnounced, if known { vec![] } else { vec![change] }))
            }
            Action::BeginLeadership { member, term } => {
                let leadership = Leadership::new(index.get());
                let change = Change::LeadershipBegun { leadership, member: *member, term: *term };
                Ok((Effect::LeadershipBegun(leadership), vec![change]))
            }
            Action::PutKey { key, value, only_if } => self.draft_put(key, value, *only_if, used),
            Action::DeleteKey { key, only_if } => {
                self.check_key(key, *only_if)?;
                let before = self.keys.get(key).map(|(meta, _)| *meta);
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
            Action::Compact { through } => {
                let change = Change::Compacted { through: *through };
                let changes = if *through == self.compacted { vec![] } else { vec![change] };
                Ok((Effect::Compacted { through: *through }, changes))
            }
        }
    }

    fn draft_put(&self, key: &Key, value: &Bytes, only_if: KeyCondition, used: u64) -> Draft {
        at_most(Measured::ValueBytes, value.len() as u64, self.bounds.value_bytes)?;
        self.check_key(key, only_if)?;
        self.room(used)?;
        let meta = put(&self.keys, key, self.revision.next());
        Ok((Effect::KeyPut(meta), vec![Change::KeyPut { key: key.clone(), meta, value: value.clone() }]))
    }

    fn draft_transaction(&self, transaction: &Transaction, used: u64) -> Draft {
        let Transaction { compare, success, failure } = transaction;
        let count = compare.len() + success.len() + failure.len();
        at_most(Measured::Operations, count as u64, self.bounds.operations)?;
        for branch in [success, failure] {
            self.check_branch(branch)?;
        }
        let succeeded = compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { success } else { failure };
        if branch.iter().any(|operation| matches!(operation, KeyOperation::Put { .. })) {
            self.room(used)?;
        }
        let (mut keys, mut changes, mut results) = (self.keys.clone(), Vec::new(), Vec::new());
        for operation in branch {
            results.push(match operation {
                KeyOperation::Get(key) => OperationResult::Got(keys.get(key).cloned()),
                KeyOperation::Put { key, value } => {
                    let meta = put(&keys, key, self.revision.next());
                    keys.insert(key.clone(), (meta, value.clone()));
                    changes.push(Change::KeyPut { key: key.clone(), meta, value: value.clone() });
                    OperationResult::Put(meta)
                }
                KeyOperation::Delete(key) => {
                    let before = keys.remove(key).map(|(meta, _)| meta);
                    changes.extend(before.map(|_| Change::KeyDeleted { key: key.clone() }));
                    OperationResult::Deleted(before)
                }
            });
        }
        Ok((Effect::Transacted { succeeded, results }, changes))
    }

    fn check_branch(&self, branch: &[KeyOperation]) -> Result<(), Rejection> {
        let mut written: Vec<&Key> = Vec::new();
        for operation in branch {
            let key = match operation {
                KeyOperation::Get(_) => continue,
                KeyOperation::Put { key, value } => {
                    at_most(Measured::ValueBytes, value.len() as u64, self.bounds.value_bytes)?;
                    key
                }
                KeyOperation::Delete(key) => key,
            };
            if written.contains(&key) {
                return Err(Rejection::WrittenTwice { key: key.clone() });
            }
            written.push(key);
        }
        Ok(())
    }

    fn holds(&self, Compare { key, relation, target }: &Compare) -> bool {
        let present = self.keys.get(key);
        let meta = present.map(|(meta, _)| *meta);
        let ordering = match target {
            CompareTarget::Version(version) => meta.map_or(0, |m| m.version.get()).cmp(&version.get()),
            CompareTarget::CreateRevision(revision) => meta.map_or(0, |m| m.create_revision.get()).cmp(&revision.get()),
            CompareTarget::ModRevision(revision) => meta.map_or(0, |m| m.mod_revision.get()).cmp(&revision.get()),
            CompareTarget::Value(value) => match present {
                None => return false,
                Some((_, there)) => there.as_ref().cmp(value.as_ref()),
            },
        };
        match relation {
            Relation::Equal => ordering.is_eq(),
            Relation::NotEqual => !ordering.is_eq(),
            Relation::Less => ordering.is_lt(),
            Relation::Greater => ordering.is_gt(),
        }
    }

    fn draft_config(
        &self,
        config: &ConfigId,
        document: &ConfigDocument,
        only_if: ConfigCondition,
        command: &Command,
        used: u64,
    ) -> Draft {
        let size: usize = document.data.iter().map(|(key, text)| key.as_str().len() + text.len()).sum();
        at_most(Measured::ConfigBytes, size as u64, self.bounds.config_bytes)?;
        at_most(Measured::HistoryLimit, u64::from(document.history_limit), self.bounds.config_versions)?;
        let owner = owner(command);
        self.check_config(config, only_if, owner)?;
        let versions = self.configs.get(config).map_or(&[][..], Vec::as_slice);
        let present = versions.last();
        let data = match document.rollback_to {
            None => &document.data,
            Some(wanted) => {
                let done = present.filter(|record| record.rollback_of == Some(wanted));
                match done.or_else(|| versions.iter().find(|record| record.version == wanted)) {
                    Some(record) => &record.data,
                    None => {
                        let version = |record: Option<&Arc<ConfigRecord>>| record.map_or(Version::ZERO, |r| r.version);
                        let (oldest, newest) = (version(versions.first()), version(present));
                        return Err(Rejection::NoSuchVersion {
                            config: config.clone(),
                            version: wanted,
                            oldest,
                            newest,
                        });
                    }
                }
            }
        };
        if let Some(record) = present.filter(|record| record.data == *data && record.owner == owner) {
            let (version, revision) = (record.version, record.revision);
            return Ok((Effect::ConfigPut { version, revision, changed: false }, vec![]));
        }
        self.room(used)?;
        let record = ConfigRecord {
            data: data.clone(),
            version: present.map_or(Version::new(1), |record| Version::new(record.version.get() + 1)),
            revision: self.revision.next(),
            content_hash: content_hash(data),
            updated_at: command.at,
            rollback_of: document.rollback_to,
            owner,
        };
        let effect = Effect::ConfigPut { version: record.version, revision: record.revision, changed: true };
        Ok((effect, vec![Change::ConfigPut { config: config.clone(), record: Arc::new(record) }]))
    }

    fn check_key(&self, key: &Key, only_if: KeyCondition) -> Result<(), Rejection> {
        let current = self.keys.get(key).map(|(meta, _)| *meta);
        let holds = match only_if {
            KeyCondition::Always => true,
            KeyCondition::Absent => current.is_none(),
            KeyCondition::Present => current.is_some(),
            KeyCondition::ModifiedAt(revision) => current.map(|meta| meta.mod_revision) == Some(revision),
        };
        if holds { Ok(()) } else { Err(Rejection::KeyMismatch { key: key.clone(), current }) }
    }

    fn check_config(&self, config: &ConfigId, only_if: ConfigCondition, author: ConfigOwner) -> Result<(), Rejection> {
        let present = self.configs.get(config).and_then(|versions| versions.last());
        let managed = present.is_some_and(|record| record.owner == ConfigOwner::Resource);
        if managed && author == ConfigOwner::Clients {
            return Err(Rejection::Managed { config: config.clone() });
        }
        let current = present.map(|record| record.version);
        let holds = match only_if {
            ConfigCondition::Always => true,
            ConfigCondition::Absent => current.is_none(),
            ConfigCondition::Present => current.is_some(),
            ConfigCondition::VersionIs(version) => current == Some(version),
        };
        if holds { Ok(()) } else { Err(Rejection::ConfigMismatch { config: config.clone(), current }) }
    }

    fn room(&self, used: u64) -> Result<(), Rejection> {
        let limit = self.bounds.full_at;
        if used >= limit { Err(Rejection::StateFull { used, limit }) } else { Ok(()) }
    }
}

fn owner(command: &Command) -> ConfigOwner {
    match command.author {
        Author::Duty(_) => ConfigOwner::Resource,
        Author::Client(_) | Author::Member => ConfigOwner::Clients,
    }
}

fn put(keys: &Moment, key: &Key, revision: Revision) -> KeyMeta {
    match keys.get(key) {
        None => KeyMeta { create_revision: revision, mod_revision: revision, version: Version::new(1) },
        Some((meta, _)) => {
            let version = Version::new(meta.version.get() + 1);
            KeyMeta { create_revision: meta.create_revision, mod_revision: revision, version }
        }
    }
}

fn at_most(what: Measured, actual: u64, limit: u64) -> Result<(), Rejection> {
    if actual > limit { Err(Rejection::TooLarge { what, actual, limit }) } else { Ok(()) }
}

/// SHA-256 over each key and text, each behind its length as eight big-endian bytes.
fn content_hash(data: &BTreeMap<quorate::types::DocumentKey, String>) -> String {
    let mut bytes = Vec::new();
    for (key, text) in data {
        for part in [key.as_str(), text.as_str()] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
    }
    Sha256::digest(&bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}
