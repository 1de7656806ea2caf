//! What can be asked of the machine. A command is plain data: everything that depends on a clock, on chance or on the
//! caller was decided before it was written.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::types::{
    ClusterId, ConfigName, DocumentKey, FeatureLevel, IdempotencyKey, Incarnation, Key, Leadership, MemberId,
    MemberName, Namespace, Revision, Term, Timestamp, Version,
};

/// One entry of the log: who asks, when by the proposer's wall clock, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// For people only; nothing is decided by it.
    pub at: Timestamp,
    pub author: Author,
    pub action: Action,
}

/// On whose behalf a command is proposed; it decides what makes the machine refuse it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// An application or a person; with a key, a retry gets the first outcome again.
    Client(Option<IdempotencyKey>),
    /// Work that only a Raft leader does; refused once a newer leadership than the named one has begun.
    Duty(Leadership),
    /// A member speaking of itself: founding, announcing, beginning to lead.
    Member,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Gives a new cluster its identity; refused when it has another already.
    FoundCluster {
        cluster: ClusterId,
    },
    /// Records what a member says of itself.
    AnnounceMember {
        member: MemberId,
        record: MemberRecord,
    },
    /// The first command of every Raft leader: its log index becomes the leadership.
    BeginLeadership {
        member: MemberId,
        term: Term,
    },

    PutKey {
        key: Key,
        value: Bytes,
        only_if: KeyCondition,
    },
    DeleteKey {
        key: Key,
        only_if: KeyCondition,
    },
    Transact(Transaction),

    PutConfig {
        config: ConfigId,
        document: ConfigDocument,
        only_if: ConfigCondition,
    },
    DeleteConfig {
        config: ConfigId,
        only_if: ConfigCondition,
    },

    /// Drops the remembered outcomes numbered up to and including `through`.
    ForgetRequests {
        through: u64,
    },
    /// Drops what only reads of revisions before `through` need.
    Compact {
        through: Revision,
    },
}

/// What a member says of itself, for the other members and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    pub name: MemberName,
    pub incarnation: Incarnation,
    /// Base URL of its HTTP API, as other machines reach it.
    pub url: String,
    /// Release of the program, such as `0.1.0`.
    pub version: String,
    pub features: FeatureLevel,
}

/// Names a config in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigId {
    pub namespace: Namespace,
    pub name: ConfigName,
}

impl fmt::Display for ConfigId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a config should be. Who wrote it last follows from the command's author: a duty writes for a custom resource,
/// which then owns the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDocument {
    pub data: BTreeMap<DocumentKey, String>,
    /// How many versions are kept, the current one included: 1 to 100 (0 counts as 1). A smaller number than before
    /// takes effect with the next version.
    pub history_limit: u32,
    /// While set, the content of that version is served and `data` is set aside.
    pub rollback_to: Option<Version>,
}

impl ConfigDocument {
    /// Bytes of its data, keys included.
    pub(super) fn bytes(&self) -> u64 {
        self.data.iter().map(|(key, text)| (key.as_str().len() + text.len()) as u64).sum()
    }
}

/// What must hold of a key for a command to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCondition {
    Always,
    Absent,
    /// It exists, whatever its revision.
    Present,
    /// Its last change was at this revision.
    ModifiedAt(Revision),
}

/// What must hold of a config for a command to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigCondition {
    Always,
    Absent,
    Present,
    VersionIs(Version),
}

/// If every compare holds, `success` is done, otherwise `failure`; all in one revision, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub compare: Vec<Compare>,
    pub success: Vec<KeyOperation>,
    pub failure: Vec<KeyOperation>,
}

/// A test of one key. An absent key compares as all zeros and no value, as in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub key: Key,
    pub relation: Relation,
    pub target: CompareTarget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    Greater,
}

/// Which property is compared, with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    Version(Version),
    CreateRevision(Revision),
    ModRevision(Revision),
    Value(Bytes),
}

/// One step of a transaction. A key may be written once only in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOperation {
    Get(Key),
    Put { key: Key, value: Bytes },
    Delete(Key),
}
