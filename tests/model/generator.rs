//! Random commands from small alphabets, so that they meet: the same few keys, configs, members and idempotency keys come
//! again and again, and conditions often name what is really there.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::machine::command::{
    Action, Author, Care, ClaimLimits, ClusterSize, Command, Compare, CompareTarget, ConfigCondition, ConfigDocument,
    ConfigId, ConsumerReport, ContestId, ContestKind, ElectionSpec, EndCause, Fence, KeyCondition, KeyOperation,
    MemberRecord, Metadata, NewClaim, NewSession, Otherwise, Permits, Relation, SilentSession, Steering, Transaction,
};
use quorate::machine::keys::KeyRange;
use quorate::types::{
    ClusterId, DocumentKey, FeatureLevel, FencingToken, IdempotencyKey, Incarnation, Key, Leadership, Life, MemberId,
    Revision, SessionId, Term, Timestamp, Ttl, Version,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::model::{Bounds, Model};

const KEYS: [&str; 9] = ["a", "a/1", "a/2", "a/2/x", "b", "b0", "c/ä", "c/ö", "z"];

pub struct Generator {
    random: StdRng,
    /// The last commands with an idempotency key, to be sent again.
    sent: Vec<Command>,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), sent: Vec::new() }
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.random.random_range(0..n)
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())].clone()
    }

    pub fn command(&mut self, model: &Model, bounds: &Bounds) -> Command {
        if !self.sent.is_empty() && self.one_in(8) {
            return self.again();
        }
        let at = Timestamp::from_millis(self.below(1 << 41));
        let command = Command { at, author: self.author(model), action: self.action(model, bounds) };
        if matches!(command.author, Author::Client(Some(_))) {
            if self.sent.len() == 50 {
                self.sent.remove(0);
            }
            self.sent.push(command.clone());
        }
        command
    }

    /// A retry, or another request by the same name.
    fn again(&mut self) -> Command {
        let sent = self.sent.clone();
        let mut command = self.pick(&sent);
        if self.one_in(4) {
            command.action = self.pick(&sent).action;
        }
        command
    }

    fn author(&mut self, model: &Model) -> Author {
        match self.below(10) {
            0..3 => Author::Client(None),
            3..6 => Author::Client(Some(IdempotencyKey::new(format!("request-{}", self.below(500))).unwrap())),
            6..9 => {
                let current = model.leadership.map_or(Leadership::ZERO, |(leadership, ..)| leadership);
                let named = if self.one_in(6) { self.below(current.get() + 2) } else { current.get() };
                Author::Duty(Leadership::new(named))
            }
            _ => Author::Member,
        }
    }

    fn action(&mut self, model: &Model, bounds: &Bounds) -> Action {
        if self.one_in(2) {
            return self.holding(model);
        }
        match self.below(100) {
            0 => {
                let cluster = ClusterId::from_random(u128::from(self.below(3)));
                Action::FoundCluster { cluster, newest_member: MemberId::new(1 + self.below(3)) }
            }
            1..4 => {
                let (member, record) = (MemberId::new(1 + self.below(3)), self.member_record());
                let before = (0..self.below(3)).map(|_| self.life()).collect();
                Action::AnnounceMember { member, record, before }
            }
            4..7 => {
                let (member, term) = (MemberId::new(1 + self.below(3)), Term::new(self.below(100)));
                Action::BeginLeadership { member, term }
            }
            7..9 => Action::AllocateMember { record: self.member_record() },
            9 => Action::ForgetMember { member: MemberId::new(1 + self.below(model.newest_member.get() + 1)) },
            10 => {
                let (voters, learners) = (self.pick(&[1, 3]), self.pick(&[0, 1]));
                Action::SetSize(ClusterSize { voters, learners })
            }
            11 => {
                let preferred_leader = self.pick(&[None, Some("quorate-0".parse().unwrap())]);
                Action::Steer(Steering { preferred_leader, care: self.pick(&[Care::Active, Care::Paused]) })
            }
            12..32 => {
                let key = self.key();
                let (session, only_if) = (self.binding(model), self.key_condition(&key, model));
                Action::PutKey { value: self.value(bounds), session, only_if, key }
            }
            32..47 => {
                let key = self.key();
                Action::DeleteKey { only_if: self.key_condition(&key, model), key }
            }
            47..70 => Action::Transact(self.transaction(model, bounds)),
            70..85 => {
                let config = self.config();
                let document = self.document(&config, model, bounds);
                Action::PutConfig { only_if: self.config_condition(&config, model), document, config }
            }
            85..92 => {
                let config = self.config();
                Action::DeleteConfig { only_if: self.config_condition(&config, model), config }
            }
            92 => {
                let oldest = model.next_request - model.remembered() as u64;
                Action::ForgetRequests { through: (oldest + self.below(30)).saturating_sub(2) }
            }
            93..95 => Action::Compact { through: self.revision(model) },
            _ => Action::DeleteKey { key: self.key(), only_if: KeyCondition::Always },
        }
    }

    /// What sessions are asked for: few names and small limits, so that queues form and are full.
    fn holding(&mut self, model: &Model) -> Action {
        let session = self.session(model);
        match self.below(100) {
            0..14 => Action::CreateSession { session: self.new_session(), limit: self.pick(&[5, 8]) },
            14..18 => Action::EndSession { session, cause: self.end_cause() },
            18..24 => {
                let silent = 0..self.below(4);
                let silent =
                    silent.map(|_| SilentSession { session: self.session(model), overdue_ms: self.below(500) });
                Action::ExpireSessions(silent.collect())
            }
            24..64 => {
                let limits = ClaimLimits { waiting: self.pick(&[0, 2, 4]), claims: self.pick(&[1, 3, 6]) };
                Action::Claim { contest: self.contest(), session, claim: self.claim(), limits }
            }
            64..78 => {
                let Fence { contest, token } = self.fence(model);
                let token = self.one_in(2).then_some(token);
                // Often by the one that holds it.
                let holders = model.holdings.contests.get(&contest).map_or(&[][..], |contest| &contest.holders);
                let holder = holders.iter().find(|(grant, _)| token.is_none_or(|token| grant.token == token));
                let session = holder.filter(|_| self.one_in(2)).map_or(session, |(grant, _)| grant.session);
                Action::Release { contest, session, token, cause: self.end_cause() }
            }
            78..82 => {
                let Fence { contest, token } = self.fence(model);
                Action::Revoke { contest, token: self.one_in(2).then_some(token) }
            }
            82..90 => {
                let ContestId { namespace, name, .. } = self.contest();
                let session_ttl = self.one_in(2).then_some(Ttl::USUAL);
                let spec = ElectionSpec { seats: self.pick(&[0, 1, 2, 3]), session_ttl };
                Action::SetElection { namespace, name, spec: if self.one_in(3) { None } else { Some(spec) } }
            }
            _ => {
                let (config, ok) = (self.config(), !self.one_in(4));
                let version = Version::new(1 + self.below(2) + if self.one_in(4) { 3 } else { 0 });
                let message = if ok { String::new() } else { "no such color".to_owned() };
                let report = ConsumerReport { version, ok, message };
                Action::ReportConsumer { config, session, report }
            }
        }
    }

    /// Mostly one that lives, now and then one that has ended or never was.
    pub fn session(&mut self, model: &Model) -> SessionId {
        let living: Vec<_> = model.holdings.sessions.keys().copied().collect();
        if living.is_empty() || self.one_in(8) {
            return SessionId::new(self.below(model.holdings.fates.len() as u64 + 3));
        }
        self.pick(&living)
    }

    /// The session that a key is to end with, if any.
    fn binding(&mut self, model: &Model) -> Option<SessionId> {
        if self.one_in(3) { Some(self.session(model)) } else { None }
    }

    fn contest(&mut self) -> ContestId {
        let kind = self.pick(&[ContestKind::Election, ContestKind::Lock]);
        let (namespace, name) = self.pick(&[("a", "x"), ("a", "y"), ("b", "x")]);
        ContestId { kind, namespace: namespace.parse().unwrap(), name: name.parse().unwrap() }
    }

    /// Often one that is current.
    pub fn fence(&mut self, model: &Model) -> Fence {
        let contest = self.contest();
        let holders = model.holdings.contests.get(&contest).map_or(&[][..], |contest| &contest.holders);
        let token = if holders.is_empty() || self.one_in(3) {
            FencingToken::new(self.below(model.revision.get() + 2))
        } else {
            self.pick(holders).0.token
        };
        Fence { contest, token }
    }

    fn claim(&mut self) -> NewClaim {
        let permits = match self.below(4) {
            0 => Permits::All,
            _ => Permits::Some(self.pick(&[0, 1, 1, 1, 2, 4])),
        };
        NewClaim {
            candidate: if self.one_in(3) { None } else { Some(self.pick(&["pod-a", "pod-b"]).parse().unwrap()) },
            priority: self.pick(&[0, 0, 0, 1, -1, i32::MIN, i32::MAX]),
            permits,
            capacity: self.pick(&[None, None, None, Some(0), Some(3), Some(3)]),
            otherwise: if self.one_in(4) { Otherwise::Refuse } else { Otherwise::Wait },
            metadata: self.metadata(),
        }
    }

    fn new_session(&mut self) -> NewSession {
        let client = if self.one_in(2) { Some("pod-a".parse().unwrap()) } else { None };
        NewSession { ttl: self.pick(&[Ttl::LEAST, Ttl::USUAL, Ttl::GREATEST]), client, metadata: self.metadata() }
    }

    fn metadata(&mut self) -> Metadata {
        let is_there = self.one_in(4);
        is_there.then(|| ("zone".to_owned(), self.pick(&["a", "b"]).to_owned())).into_iter().collect()
    }

    fn end_cause(&mut self) -> EndCause {
        self.pick(&[EndCause::GivenUp, EndCause::ClientExited])
    }

    /// Around the window that can be read, now and then outside of it.
    pub fn revision(&mut self, model: &Model) -> Revision {
        let (oldest, present) = (model.compacted.get(), model.revision.get());
        let first = oldest.saturating_sub(3);
        Revision::new(first + self.below(present + 3 - first))
    }

    pub fn key(&mut self) -> Key {
        Key::new(self.pick(&KEYS)).unwrap()
    }

    pub fn key_range(&mut self) -> KeyRange {
        if self.one_in(2) {
            return KeyRange::Prefix(self.pick(&["", "a", "a/", "c/", "b", "x", "zz"]).to_owned());
        }
        KeyRange::Between { start: self.key(), end: if self.one_in(3) { None } else { Some(self.key()) } }
    }

    fn value(&mut self, bounds: &Bounds) -> Bytes {
        let most = bounds.value_bytes + u64::from(self.one_in(10));
        let length = if self.one_in(4) { most } else { self.below(most) };
        Bytes::from(vec![u8::try_from(self.below(4)).unwrap(); usize::try_from(length).unwrap()])
    }

    fn key_condition(&mut self, key: &Key, model: &Model) -> KeyCondition {
        match self.below(8) {
            0..4 => KeyCondition::Always,
            4 => KeyCondition::Absent,
            5 => KeyCondition::Present,
            6 => KeyCondition::ModifiedAt(Revision::new(self.below(model.revision.get() + 1))),
            _ => {
                KeyCondition::ModifiedAt(model.keys.get(key).map_or(Revision::ZERO, |record| record.meta.mod_revision))
            }
        }
    }

    fn transaction(&mut self, model: &Model, bounds: &Bounds) -> Transaction {
        let most = if self.one_in(12) { bounds.operations } else { 2 };
        let mut list = |most: u64| 0..self.below(most + 1);
        let (compare, success, failure) = (list(most), list(3), list(3));
        Transaction {
            compare: compare.map(|_| self.compare(model)).collect(),
            success: success.map(|_| self.operation(model, bounds)).collect(),
            failure: failure.map(|_| self.operation(model, bounds)).collect(),
        }
    }

    fn compare(&mut self, model: &Model) -> Compare {
        if self.one_in(5) {
            return Compare::Fence(self.fence(model));
        }
        let key = self.key();
        let there = model.keys.get(&key);
        let meta = there.map(|record| record.meta);
        let near = |number: Option<u64>, off: u64| (number.unwrap_or(0) + off).saturating_sub(1);
        let off = self.below(3);
        let target = match self.below(4) {
            0 => CompareTarget::Version(Version::new(near(meta.map(|m| m.version.get()), off))),
            1 => CompareTarget::CreateRevision(Revision::new(near(meta.map(|m| m.create_revision.get()), off))),
            2 => CompareTarget::ModRevision(Revision::new(near(meta.map(|m| m.mod_revision.get()), off))),
            _ => match there {
                Some(record) if off > 0 => CompareTarget::Value(record.value.clone()),
                Some(_) | None => CompareTarget::Value(Bytes::from(vec![1; usize::try_from(off).unwrap()])),
            },
        };
        let relation = self.pick(&[Relation::Equal, Relation::NotEqual, Relation::Less, Relation::Greater]);
        Compare::Key { key, relation, target }
    }

    fn operation(&mut self, model: &Model, bounds: &Bounds) -> KeyOperation {
        let key = self.key();
        match self.below(5) {
            0..2 => KeyOperation::Get(key),
            2..4 => KeyOperation::Put { key, value: self.value(bounds), session: self.binding(model) },
            _ => KeyOperation::Delete(key),
        }
    }

    pub fn config(&mut self) -> ConfigId {
        let id = [("a", "x"), ("a", "y"), ("a-b", "x"), ("b", "x.y")];
        let (namespace, name) = self.pick(&id);
        ConfigId { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() }
    }

    fn document(&mut self, config: &ConfigId, model: &Model, bounds: &Bounds) -> ConfigDocument {
        let length = if self.one_in(12) { bounds.config_bytes } else { 6 };
        let mut data = BTreeMap::new();
        for name in ["app.yaml", "b"] {
            if self.one_in(2) {
                let letter = self.pick(&["x", "y"]);
                data.insert(DocumentKey::new(name).unwrap(), letter.repeat(usize::try_from(length).unwrap()));
            }
        }
        let history_limit = u32::try_from(self.below(bounds.config_versions + 1)).unwrap() + u32::from(self.one_in(9));
        let versions = model.configs.get(config).map_or(&[][..], Vec::as_slice);
        let rollback_to = match self.below(6) {
            0 => Some(Version::new(self.below(9))),
            1 if !versions.is_empty() => Some(self.pick(versions).version),
            2 => versions.last().and_then(|record| record.rollback_of),
            _ => None,
        };
        ConfigDocument { data, history_limit, rollback_to }
    }

    fn config_condition(&mut self, config: &ConfigId, model: &Model) -> ConfigCondition {
        let present = model.configs.get(config).and_then(|versions| versions.last());
        match self.below(8) {
            0..4 => ConfigCondition::Always,
            4 => ConfigCondition::Absent,
            5 => ConfigCondition::Present,
            6 => ConfigCondition::VersionIs(Version::new(self.below(6))),
            _ => ConfigCondition::VersionIs(present.map_or(Version::ZERO, |record| record.version)),
        }
    }

    fn member_record(&mut self) -> MemberRecord {
        MemberRecord {
            name: self.pick(&["quorate-0", "quorate-1"]).parse().unwrap(),
            incarnation: Incarnation::from_random(u128::from(self.below(4))),
            url: "http://quorate-0:8080".to_owned(),
            version: "0.1.0".to_owned(),
            features: FeatureLevel::new(1 + self.below(3)),
            life: (self.below(4) > 0).then(|| self.life()),
        }
    }

    fn life(&mut self) -> Life {
        Life { number: 1 + self.below(4), token: u128::from(self.below(2)) }
    }
}
