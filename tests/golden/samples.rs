//! One value of each kind, with every field set to something that is not its default.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::machine::command::{
    Action, Author, Command, Compare, CompareTarget, ConfigCondition, ConfigDocument, ConfigId, KeyCondition,
    KeyOperation, MemberRecord, Relation, Transaction,
};
use quorate::machine::outcome::{Answer, Effect, KeyMeta, Measured, OperationResult, Origin, Outcome, Rejection};
use quorate::machine::{Limits, Machine};
use quorate::types::{
    ClusterId, FeatureLevel, IdempotencyKey, Incarnation, Key, Leadership, LogIndex, MemberId, Revision, Term,
    Timestamp, Version,
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
        by(Author::Member, Action::FoundCluster { cluster: ClusterId::from_random(0xc0ffee) }),
        by(Author::Member, Action::AnnounceMember { member: MemberId::new(3), record: member() }),
        by(Author::Member, Action::BeginLeadership { member: MemberId::new(3), term: Term::new(5) }),
        by_client(Action::Transact(transaction())),
        by(Author::Duty(Leadership::new(3)), Action::ForgetRequests { through: 70_000 }),
        by(Author::Duty(Leadership::new(3)), Action::Compact { through: Revision::new(1) }),
    ];
    let conditions = [
        KeyCondition::Always,
        KeyCondition::Absent,
        KeyCondition::Present,
        KeyCondition::ModifiedAt(Revision::new(300)),
    ];
    for only_if in conditions {
        let value = Bytes::from_static(b"\x00\xffvalue");
        commands.push(by_client(Action::PutKey { key: key("a/schl\u{fc}ssel"), value, only_if }));
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
    commands
}

fn member() -> MemberRecord {
    MemberRecord {
        name: "quorate-1".parse().unwrap(),
        incarnation: Incarnation::from_random(0xfeed),
        url: "http://quorate-1.example:8080".to_owned(),
        version: "0.1.0".to_owned(),
        features: FeatureLevel::new(1),
    }
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
        compare: compare.map(|(relation, target)| Compare { key: key("a"), relation, target }).into(),
        success: vec![
            KeyOperation::Put { key: key("a"), value: Bytes::from_static(b"1") },
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

fn rejections() -> Vec<Rejection> {
    let mut rejections = vec![
        Rejection::AlreadyFounded { cluster: ClusterId::from_random(0xc0ffee) },
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
        only_if: KeyCondition::Always,
    };
    let actions = [
        Action::FoundCluster { cluster: ClusterId::from_random(0xc0ffee) },
        Action::AnnounceMember { member: MemberId::new(3), record: member() },
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
    machine.apply(LogIndex::new(100), &by(Author::Duty(Leadership::new(2)), rollback));
    machine
}
