//! What can be asked of the machine. A command is plain data: everything that depends on a clock, on chance or on the
//! caller was decided before it was written.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::types::{
    ClientName, ClusterId, ConfigName, ContestName, DocumentKey, FeatureLevel, FencingToken, IdempotencyKey,
    Incarnation, Key, Leadership, Life, MemberId, MemberName, Namespace, Revision, SessionId, Term, Timestamp, Ttl,
    Version,
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
        /// The greatest member id of those who founded it; the ids that it gives begin behind.
        newest_member: MemberId,
    },
    /// Records what a member says of itself, unless its volume does not go on from the life that is recorded.
    AnnounceMember {
        member: MemberId,
        record: MemberRecord,
        /// The lives of its volume that may be the recorded one, oldest first (see [`Life::continues`]).
        before: Vec<Life>,
    },
    /// Gives a member-to-be its id: the one that its incarnation has already, or one that nobody ever had.
    AllocateMember {
        record: MemberRecord,
    },
    /// Forgets what a member said of itself that is in the membership no more.
    ForgetMember {
        member: MemberId,
    },
    /// Records how large the cluster should be.
    SetSize(ClusterSize),
    /// Records what else is declared of the members: who should lead, and whether anything is to change.
    Steer(Steering),
    /// The first command of every Raft leader: its log index becomes the leadership.
    BeginLeadership {
        member: MemberId,
        term: Term,
    },

    PutKey {
        key: Key,
        value: Bytes,
        /// The session that the key ends with.
        session: Option<SessionId>,
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

    /// A consumer says which version of a config it runs.
    ReportConsumer {
        config: ConfigId,
        session: SessionId,
        report: ConsumerReport,
    },

    CreateSession {
        session: NewSession,
        /// How many sessions the proposing member allows.
        limit: u32,
    },
    /// A client ends its session, and with it all that the session holds.
    EndSession {
        session: SessionId,
        cause: EndCause,
    },
    /// Ends sessions whose clients have been silent for too long.
    ExpireSessions(Vec<SilentSession>),

    /// Campaigns in an election or asks for a lock; again, it continues what the session has there.
    Claim {
        contest: ContestId,
        session: SessionId,
        claim: NewClaim,
        limits: ClaimLimits,
    },
    /// Resigns from an election, releases a lock, or leaves its queue.
    Release {
        contest: ContestId,
        session: SessionId,
        /// What is given up; `None` gives up whatever the session has there.
        token: Option<FencingToken>,
        cause: EndCause,
    },
    /// Takes grants away from their holders, whatever they say.
    Revoke {
        contest: ContestId,
        /// One grant; `None` takes all of them.
        token: Option<FencingToken>,
    },
    /// What an election's custom resource says of it; `None` when there is no resource any more.
    SetElection {
        namespace: Namespace,
        name: ContestName,
        spec: Option<ElectionSpec>,
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

impl Action {
    /// Whether it brings data that a client wants kept: such a command is refused where there is no room for more.
    pub fn brings_data(&self) -> bool {
        match self {
            Self::PutKey { .. } | Self::PutConfig { .. } => true,
            Self::Transact(transaction) => {
                let mut operations = transaction.success.iter().chain(&transaction.failure);
                operations.any(|operation| matches!(operation, KeyOperation::Put { .. }))
            }
            Self::FoundCluster { .. }
            | Self::AnnounceMember { .. }
            | Self::AllocateMember { .. }
            | Self::ForgetMember { .. }
            | Self::SetSize(_)
            | Self::Steer(_)
            | Self::BeginLeadership { .. }
            | Self::DeleteKey { .. }
            | Self::DeleteConfig { .. }
            | Self::ReportConsumer { .. }
            | Self::CreateSession { .. }
            | Self::EndSession { .. }
            | Self::ExpireSessions(_)
            | Self::Claim { .. }
            | Self::Release { .. }
            | Self::Revoke { .. }
            | Self::SetElection { .. }
            | Self::ForgetRequests { .. }
            | Self::Compact { .. } => false,
        }
    }
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
    /// The present life of its volume; `None` for a release that counts none.
    pub life: Option<Life>,
}

/// How large a cluster should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterSize {
    /// Members that vote.
    pub voters: u32,
    /// Members that only follow.
    pub learners: u32,
}

/// What is declared of the members beside their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steering {
    /// Who leads the cluster whenever it can.
    pub preferred_leader: Option<MemberName>,
    pub care: Care,
}

/// Whether the Raft leader changes the membership, and moves leadership, of its own accord.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Care {
    #[default]
    Active,
    /// Everything stays as it is, whatever else is declared.
    Paused,
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

/// Names an election or a lock in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContestId {
    pub kind: ContestKind,
    pub namespace: Namespace,
    pub name: ContestName,
}

impl fmt::Display for ContestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The two kinds of contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContestKind {
    Election,
    Lock,
}

impl ContestKind {
    /// As it is called everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Election => "election",
            Self::Lock => "lock",
        }
    }
}

impl fmt::Display for ContestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client brings of itself. At most a few KiB, which the proposing member sees to.
pub type Metadata = BTreeMap<String, String>;

/// A session as its client wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    pub ttl: Ttl,
    pub client: Option<ClientName>,
    pub metadata: Metadata,
}

/// Why a client gives something up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// It does not want it any more.
    GivenUp,
    /// The process for which it was held has come to its end.
    ClientExited,
}

/// A session that has had no sign of life for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SilentSession {
    pub session: SessionId,
    /// How long ago its client had to stop, by the Raft leader's monotonic clock, in milliseconds.
    pub overdue_ms: u64,
}

/// What a session asks for in a contest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClaim {
    /// What the claimant calls itself, for people.
    pub candidate: Option<ClientName>,
    /// The greater is served first; equals in the order in which they came.
    pub priority: i32,
    pub permits: Permits,
    /// How many permits the contest has; the first use fixes it.
    pub capacity: Option<u32>,
    /// What to do when it cannot be granted at once.
    pub otherwise: Otherwise,
    pub metadata: Metadata,
}

/// How much of a contest is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permits {
    /// So many, next to other holders: a seat of an election, a part of a semaphore, a shared lock.
    Some(u32),
    /// All, so that nobody else holds anything: an exclusive lock.
    All,
}

/// What to do with a claim that cannot be granted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    Wait,
    Refuse,
}

/// Bounds that the proposing member is set to; the machine holds the command to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimLimits {
    /// Claims that wait in one contest.
    pub waiting: u32,
    /// Claims of one session.
    pub claims: u32,
}

/// What a custom resource says of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElectionSpec {
    /// How many leaders it may have at a time, at least one.
    pub seats: u32,
    /// What its candidates' sessions should have.
    pub session_ttl: Option<Ttl>,
}

/// What a consumer says of a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerReport {
    /// The version that it has taken in.
    pub version: Version,
    /// Whether it could use it.
    pub ok: bool,
    pub message: String,
}

/// If every compare holds, `success` is done, otherwise `failure`; all in one revision, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub compare: Vec<Compare>,
    pub success: Vec<KeyOperation>,
    pub failure: Vec<KeyOperation>,
}

/// One test of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// Of one key. An absent key compares as all zeros and no value, as in etcd.
    Key { key: Key, relation: Relation, target: CompareTarget },
    /// Whether a grant is still held.
    Fence(Fence),
}

/// A grant, as a resource is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    pub contest: ContestId,
    pub token: FencingToken,
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
    Put { key: Key, value: Bytes, session: Option<SessionId> },
    Delete(Key),
}
