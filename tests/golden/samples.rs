//! One value of each kind, with every field set to something that is not its default.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::machine::command::{
    Action, Author, Care, ClaimLimits, ClusterSize, Command, Compare, CompareTarget, ConfigCondition, ConfigDocument,
    ConfigId, ConsumerReport, ContestId, ContestKind, ElectionSpec, EndCause, Fence, KeyCondition, KeyOperation,
    MemberRecord, NewClaim, NewSession, Otherwise, Permits, Relation, SilentSession, Steering, Transaction,
};
use quorate::machine::contest::Grant;
use quorate::machine::event::Cause;
use quorate::machine::outcome::{
    Answer, Claimed, Effect, KeyMeta, Measured, OperationResult, Origin, Outcome, Rejection,
};
use quorate::machine::{Limits, Machine};
use quorate::types::{
    ClusterId, FeatureLevel, FencingToken, IdempotencyKey, Incarnation, Key, Leadership, Life, LogIndex, MemberId,
    Revision, SessionId, Term, Timestamp, Ttl, Version,
};

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn config() -> ConfigId {
    ConfigId { namespace: "shop".parse().unwrap(), name: "checkout.flags".parse().unwrap() }
}

fn by_client(action: Action) -> Command {
    by(Author::Client(Some(IdempotencyKey::new("request 1").unwrap())), action)
}

fn by(author: Author, action: Action) -> Command {
    Command { at: Timestamp::from_millis(1_769_860_800_007), author, action }
}

/// Every action, author, condition and operation.
pub fn commands() -> Vec<Command> {
    let mut commands = vec![
        by(Author::Member, found()),
        by(
            Author::Member,
            Action::AnnounceMember { member: MemberId::new(3), record: member(), before: vec![life(6), life(7)] },
        ),
        by(Author::Member, Action::BeginLeadership { member: MemberId::new(3), term: Term::new(5) }),
        by_client(Action::Transact(transaction())),
        by(Author::Duty(Leadership::new(3)), Action::ForgetRequests { through: 70_000 }),
        by(Author::Duty(Leadership::new(3)), Action::Compact { through: Revision::new(1) }),
        by(Author::Duty(Leadership::new(3)), Action::AllocateMember { record: member() }),
        by(Author::Duty(Leadership::new(3)), Action::ForgetMember { member: MemberId::new(2) }),
        by(Author::Duty(Leadership::new(3)), Action::SetSize(size())),
        by(Author::Duty(Leadership::new(3)), Action::Steer(steering())),
        by(Author::Duty(Leadership::new(3)), Action::Steer(Steering::default())),
    ];
    let conditions = [
        KeyCondition::Always,
        KeyCondition::Absent,
        KeyCondition::Present,
        KeyCondition::ModifiedAt(Revision::new(300)),
    ];
    for only_if in conditions {
        let value = Bytes::from_static(b"\x00\xffvalue");
        commands.push(by_client(Action::PutKey { key: key("a/schl\u{fc}ssel"), value, session: None, only_if }));
        commands.push(by(Author::Client(None), Action::DeleteKey { key: key("a/b"), only_if }));
    }
    let conditions = [
        ConfigCondition::Always,
        ConfigCondition::Absent,
        ConfigCondition::Present,
        ConfigCondition::VersionIs(Version::new(2)),
    ];
    for only_if in conditions {
        commands.push(by_client(Action::PutConfig { config: config(), document: document(), only_if }));
        commands.push(by(Author::Duty(Leadership::new(3)), Action::DeleteConfig { config: config(), only_if }));
    }
    let rollback = ConfigDocument { rollback_to: Some(Version::new(7)), ..document() };
    commands.push(by_client(Action::PutConfig {
        config: config(),
        document: rollback,
        only_if: ConfigCondition::Always,
    }));
    commands.extend(holding_commands());
    commands
}

/// Every action of sessions and of what they hold, with every choice in them.
fn holding_commands() -> Vec<Command> {
    let session = SessionId::new(17);
    let report = |ok: bool| ConsumerReport { version: Version::new(3), ok, message: "done".to_owned() };
    let mut actions = vec![
        Action::CreateSession { session: new_session(), limit: 100_000 },
        Action::CreateSession {
            session: NewSession { ttl: Ttl::LEAST, client: None, metadata: BTreeMap::new() },
            limit: 0,
        },
        Action::Release { contest: lock(), session, token: None, cause: EndCause::ClientExited },
        Action::Release { contest: election(), session, token: Some(FencingToken::new(300)), cause: EndCause::GivenUp },
        Action::Revoke { contest: lock(), token: None },
        Action::Revoke { contest: election(), token: Some(FencingToken::new(300)) },
        set_election(None),
        set_election(Some(ElectionSpec { seats: 1, session_ttl: None })),
        set_election(Some(spec())),
        Action::PutKey {
            key: key("a"),
            value: Bytes::from_static(b"1"),
            session: Some(session),
            only_if: KeyCondition::Always,
        },
        Action::Transact(Transaction {
            compare: vec![Compare::Fence(Fence { contest: lock(), token: FencingToken::new(300) })],
            success: vec![KeyOperation::Put { key: key("a"), value: Bytes::from_static(b"1"), session: Some(session) }],
            failure: vec![],
        }),
    ];
    let reports = [true, false].map(|ok| Action::ReportConsumer { config: config(), session, report: report(ok) });
    let ends = [EndCause::GivenUp, EndCause::ClientExited].map(|cause| Action::EndSession { session, cause });
    let limits = ClaimLimits { waiting: 10_000, claims: 1_000 };
    let claims = claims().map(|(contest, claim)| Action::Claim { contest, session, claim, limits });
    actions.extend(reports.into_iter().chain(ends).chain(claims));
    let mut commands: Vec<_> = actions.into_iter().map(by_client).collect();
    let silent = |session: u64, overdue_ms: u64| SilentSession { session: SessionId::new(session), overdue_ms };
    let silent = [vec![silent(17, 0), silent(18, 4_000)], vec![]];
    commands.extend(silent.map(|silent| by(Author::Duty(Leadership::new(3)), Action::ExpireSessions(silent))));
    commands
}

fn claims() -> [(ContestId, NewClaim); 3] {
    let claim = NewClaim {
        candidate: Some("pod-a".parse().unwrap()),
        priority: -2,
        permits: Permits::Some(1),
        capacity: None,
        otherwise: Otherwise::Wait,
        metadata: metadata(),
    };
    let semaphore =
        NewClaim { priority: i32::MAX, permits: Permits::Some(2), capacity: Some(u32::MAX), ..claim.clone() };
    let exclusive = NewClaim {
        candidate: None,
        priority: i32::MIN,
        permits: Permits::All,
        capacity: None,
        otherwise: Otherwise::Refuse,
        metadata: BTreeMap::new(),
    };
    [(election(), claim), (lock(), semaphore), (lock(), exclusive)]
}

fn new_session() -> NewSession {
    NewSession { ttl: Ttl::USUAL, client: Some("pod-a".parse().unwrap()), metadata: metadata() }
}

fn metadata() -> BTreeMap<String, String> {
    [("zone", "a"), ("", "empty")].map(|(key, text)| (key.to_owned(), text.to_owned())).into()
}

fn election() -> ContestId {
    ContestId { kind: ContestKind::Election, namespace: "shop".parse().unwrap(), name: "leader.eu".parse().unwrap() }
}

fn lock() -> ContestId {
    ContestId { kind: ContestKind::Lock, ..election() }
}

fn set_election(spec: Option<ElectionSpec>) -> Action {
    let ContestId { namespace, name, .. } = election();
    Action::SetElection { namespace, name, spec }
}

fn spec() -> ElectionSpec {
    ElectionSpec { seats: 2, session_ttl: Some(Ttl::GREATEST) }
}

fn grant() -> Grant {
    Grant {
        session: SessionId::new(17),
        token: FencingToken::new(300),
        since: Timestamp::from_millis(1_769_860_800_007),
    }
}

fn member() -> MemberRecord {
    MemberRecord {
        name: "quorate-1".parse().unwrap(),
        incarnation: Incarnation::from_random(0xfeed),
        url: "http://quorate-1.example:8080".to_owned(),
        version: "0.1.0".to_owned(),
        features: FeatureLevel::new(1),
        life: Some(life(8)),
    }
}

fn life(number: u64) -> Life {
    Life { number, token: u128::from(number) << 64 }
}

fn found() -> Action {
    Action::FoundCluster { cluster: ClusterId::from_random(0xc0ffee), newest_member: MemberId::new(3) }
}

fn size() -> ClusterSize {
    ClusterSize { voters: 3, learners: 1 }
}

fn steering() -> Steering {
    Steering { preferred_leader: Some("quorate-1".parse().unwrap()), care: Care::Paused }
}

fn document() -> ConfigDocument {
    let data = [("app.yaml", "color: red\n"), ("empty", "")];
    let data: BTreeMap<_, _> = data.into_iter().map(|(key, text)| (key.parse().unwrap(), text.to_owned())).collect();
    ConfigDocument { data, history_limit: 20, rollback_to: None }
}

fn transaction() -> Transaction {
    let compare = [
        (Relation::Equal, CompareTarget::Version(Version::new(1))),
        (Relation::NotEqual, CompareTarget::CreateRevision(Revision::new(200))),
        (Relation::Less, CompareTarget::ModRevision(Revision::new(300))),
        (Relation::Greater, CompareTarget::Value(Bytes::from_static(b"x"))),
    ];
    Transaction {
        compare: compare.map(|(relation, target)| Compare::Key { key: key("a"), relation, target }).into(),
        success: vec![
            KeyOperation::Put { key: key("a"), value: Bytes::from_static(b"1"), session: None },
            KeyOperation::Get(key("a")),
        ],
        failure: vec![KeyOperation::Delete(key("b"))],
    }
}

fn meta() -> KeyMeta {
    KeyMeta { create_revision: Revision::new(10), mod_revision: Revision::new(300), version: Version::new(4) }
}

/// Every effect and every rejection.
pub fn answers() -> Vec<Answer> {
    let outcomes = effects().into_iter().map(Ok).chain(rejections().into_iter().map(Err));
    let fresh = |outcome: Outcome| Answer { revision: Revision::new(301), origin: Origin::Fresh, outcome };
    let mut answers: Vec<_> = outcomes.map(fresh).collect();
    answers.push(Answer { origin: Origin::Remembered, ..answers[0].clone() });
    let held = holding_effects().into_iter().map(Ok).chain(holding_rejections().into_iter().map(Err));
    answers.extend(held.map(fresh));
    answers
}

fn effects() -> Vec<Effect> {
    let results = vec![
        OperationResult::Got(None),
        OperationResult::Got(Some((meta(), Bytes::new()))),
        OperationResult::Put(meta()),
        OperationResult::Deleted(None),
        OperationResult::Deleted(Some(meta())),
    ];
    vec![
        Effect::ClusterFounded,
        Effect::MemberAnnounced,
        Effect::MemberAllocated(MemberId::new(4)),
        Effect::MemberForgotten { existed: true },
        Effect::SizeSet { changed: true },
        Effect::Steered { changed: true },
        Effect::LeadershipBegun(Leadership::new(3)),
        Effect::KeyPut(meta()),
        Effect::KeyDeleted(None),
        Effect::KeyDeleted(Some(meta())),
        Effect::Transacted { succeeded: true, results },
        Effect::ConfigPut { version: Version::new(2), revision: Revision::new(301), changed: true },
        Effect::ConfigPut { version: Version::new(2), revision: Revision::new(200), changed: false },
        Effect::ConfigDeleted { existed: true },
        Effect::ConfigDeleted { existed: false },
        Effect::RequestsForgotten { count: 12 },
        Effect::Compacted { through: Revision::new(299) },
    ]
}

fn holding_effects() -> Vec<Effect> {
    vec![
        Effect::ConsumerReported { changed: true },
        Effect::ConsumerReported { changed: false },
        Effect::SessionCreated(SessionId::new(17)),
        Effect::SessionEnded { existed: true },
        Effect::SessionEnded { existed: false },
        Effect::SessionsExpired { count: 300 },
        Effect::Claimed(Claimed::Granted(grant())),
        Effect::Claimed(Claimed::Waiting),
        Effect::Released { token: Some(grant().token) },
        Effect::Released { token: None },
        Effect::Revoked { count: 2 },
        Effect::ElectionSet,
    ]
}

fn holding_rejections() -> Vec<Rejection> {
    let (session, contest) = (SessionId::new(17), election());
    let mut rejections = vec![
        Rejection::NoSuchSession { session },
        Rejection::SessionOver { session, cause: None },
        Rejection::TooManySessions { limit: 100_000 },
        Rejection::TooManyClaims { session, limit: 1_000 },
        Rejection::TooManyWaiting { contest: contest.clone(), limit: 10_000 },
        Rejection::Held { contest: contest.clone(), holder: grant() },
        Rejection::OtherCapacity { contest: lock(), capacity: u32::MAX },
        Rejection::TooManyPermits { contest: lock(), permits: 4, capacity: 3 },
        Rejection::NotHeld { contest: contest.clone(), session, current: Some(FencingToken::new(300)) },
        Rejection::NotHeld { contest, session, current: None },
    ];
    rejections.extend(Cause::ALL.map(|cause| Rejection::SessionOver { session, cause: Some(cause) }));
    rejections
}

fn rejections() -> Vec<Rejection> {
    let mut rejections = vec![
        Rejection::AlreadyFounded { cluster: ClusterId::from_random(0xc0ffee) },
        Rejection::NotFounded,
        Rejection::OlderVolume { member: MemberId::new(3), recorded: 300, present: 299 },
        Rejection::Superseded { named: Leadership::new(3), current: Leadership::new(9) },
        Rejection::KeyMismatch { key: key("a"), current: None },
        Rejection::KeyMismatch { key: key("a"), current: Some(meta()) },
        Rejection::ConfigMismatch { config: config(), current: None },
        Rejection::ConfigMismatch { config: config(), current: Some(Version::new(2)) },
        Rejection::Managed { config: config() },
        Rejection::NoSuchVersion {
            config: config(),
            version: Version::new(1),
            oldest: Version::new(2),
            newest: Version::new(21),
        },
        Rejection::RequestReused { key: IdempotencyKey::new("request 1").unwrap() },
        Rejection::WrittenTwice { key: key("a") },
        Rejection::StateFull { used: 241_591_911, limit: 241_591_910 },
        Rejection::CannotCompact { revision: Revision::new(1), compacted: Revision::new(2), present: Revision::new(3) },
    ];
    let measures = [Measured::ValueBytes, Measured::ConfigBytes, Measured::Operations, Measured::HistoryLimit];
    rejections.extend(measures.map(|what| Rejection::TooLarge { what, actual: 129, limit: 128 }));
    rejections
}

/// A state with rows in every table: what commands make of the empty one, each request by a name of its own.
pub fn machine() -> Machine {
    let put_config = |text: &str| Action::PutConfig {
        config: config(),
        document: ConfigDocument {
            data: BTreeMap::from([("app.yaml".parse().unwrap(), text.to_owned())]),
            ..document()
        },
        only_if: ConfigCondition::Always,
    };
    let put_key = |text: &str, value: &'static [u8]| Action::PutKey {
        key: key(text),
        value: Bytes::from_static(value),
        session: None,
        only_if: KeyCondition::Always,
    };
    let actions = [
        found(),
        Action::AnnounceMember { member: MemberId::new(3), record: member(), before: vec![life(6), life(7)] },
        Action::BeginLeadership { member: MemberId::new(3), term: Term::new(5) },
        put_key("a", b"1"),
        put_key("a", b"2"),
        put_key("b", b""),
        put_key("c", b"3"),
        Action::Compact { through: Revision::new(4) },
        Action::DeleteKey { key: key("c"), only_if: KeyCondition::Present },
        Action::Transact(transaction()),
        put_config("color: green\n"),
        put_config("color: blue\n"),
        Action::DeleteKey { key: key("c"), only_if: KeyCondition::Present },
    ];
    let mut machine = Machine::new(Limits::default());
    for (index, action) in (0..).zip(actions) {
        // The first three are a member's own; it has no retries.
        let author = if index < 3 {
            Author::Member
        } else {
            Author::Client(Some(IdempotencyKey::new(format!("request {index}")).unwrap()))
        };
        machine.apply(LogIndex::new(index), &by(author, action));
    }
    let document = ConfigDocument { rollback_to: Some(Version::new(1)), ..document() };
    let rollback = Action::PutConfig { config: config(), document, only_if: ConfigCondition::Always };
    let joiner = MemberRecord { incarnation: Incarnation::from_random(0xbeef), ..member() };
    let duties =
        [rollback, Action::AllocateMember { record: joiner }, Action::SetSize(size()), Action::Steer(steering())];
    for (index, action) in (100..).zip(duties) {
        machine.apply(LogIndex::new(index), &by(Author::Duty(Leadership::new(2)), action));
    }
    machine
}

/// A state with rows in every table of sessions and of what they hold.
pub fn holdings() -> Machine {
    let [(_, candidate), (_, semaphore), (_, exclusive)] = claims();
    let candidate = || candidate.clone();
    let limits = ClaimLimits { waiting: 10, claims: 10 };
    let claim = |contest: ContestId, session: u64, claim: NewClaim| Action::Claim {
        contest,
        session: SessionId::new(session),
        claim,
        limits,
    };
    let create = || Action::CreateSession { session: new_session(), limit: 10 };
    let report = ConsumerReport { version: Version::new(1), ok: false, message: "no such color".to_owned() };
    let bound = Action::PutKey {
        key: key("a"),
        value: Bytes::from_static(b"1"),
        session: Some(SessionId::new(2)),
        only_if: KeyCondition::Always,
    };
    let silent = SilentSession { session: SessionId::new(3), overdue_ms: 40 };
    let actions = [
        create(),
        create(),
        create(),
        Action::CreateSession {
            session: NewSession { ttl: Ttl::LEAST, client: None, metadata: BTreeMap::new() },
            limit: 10,
        },
        set_election(Some(spec())),
        claim(election(), 3, candidate()),
        claim(election(), 2, candidate()),
        claim(election(), 1, NewClaim { priority: 300, ..candidate() }),
        claim(election(), 4, candidate()),
        claim(lock(), 1, semaphore),
        claim(lock(), 2, NewClaim { otherwise: Otherwise::Wait, ..exclusive.clone() }),
        claim(ContestId { name: "other".parse().unwrap(), ..lock() }, 2, exclusive),
        Action::PutConfig { config: config(), document: document(), only_if: ConfigCondition::Always },
        Action::ReportConsumer { config: config(), session: SessionId::new(1), report },
        bound,
        Action::ExpireSessions(vec![silent]),
        Action::EndSession { session: SessionId::new(4), cause: EndCause::ClientExited },
        Action::Revoke { contest: election(), token: Some(FencingToken::new(7)) },
    ];
    let mut machine = Machine::new(Limits::default());
    for (index, action) in (0..).zip(actions) {
        let applied = machine.apply(LogIndex::new(index), &by(Author::Client(None), action));
        assert!(applied.answer.outcome.is_ok(), "{index}: {applied:?}");
    }
    machine
}
