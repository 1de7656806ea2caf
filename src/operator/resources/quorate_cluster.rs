//! `QuorateCluster`: how many members a cluster should have, and how it is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::conditions_schema;
use super::rules;

/// What the cluster should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "quorate.io",
    version = "v1alpha1",
    kind = "QuorateCluster",
    plural = "quorateclusters",
    shortname = "qc",
    category = "quorate",
    namespaced,
    doc = "A Quorate cluster: the members that share one Raft log. Its name is that of the StatefulSet that runs them, in the \
           same namespace.",
    status = "QuorateClusterStatus",
    scale(spec_replicas_path = ".spec.voters", status_replicas_path = ".status.voters"),
    validation = rules::names_a_stateful_set(),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether a quorum serves and at least as many members vote as are declared"
    ),
    printcolumn(
        name = "Leader",
        type_ = "string",
        json_path = ".status.raftLeader",
        description = "The member that leads"
    ),
    printcolumn(
        name = "Voters",
        type_ = "integer",
        json_path = ".status.voters",
        description = "How many members vote now"
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".spec.voters",
        description = "How many members should vote"
    ),
    printcolumn(
        name = "Tolerates",
        type_ = "integer",
        json_path = ".status.failureTolerance",
        description = "How many more voters may fail before the cluster stops"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.cluster",
        priority = 1,
        description = "The name that resources give in their spec.cluster"
    ),
    printcolumn(
        name = "Members",
        type_ = "string",
        json_path = ".status.members[*].name",
        priority = 1,
        description = "Who is in the cluster"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1,
        description = "Why it is ready or not"
    ),
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct QuorateClusterSpec {
    /// The name of this cluster, which resources give in their own `spec.cluster` to be served by it. A DNS label of at most 63
    /// characters; `default` when left out. It cannot be changed, and no two clusters in one Kubernetes cluster may share it.
    #[serde(default = "super::default_cluster")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::is_dns_label(), validation = rules::stays_the_same())]
    pub cluster: String,
    /// How many members vote: 1, 3, 5 or 7; 3 when left out. 3 go on while 1 has failed, 5 while 2 have, 7 while 3 have; 1 stops
    /// with its pod. Each write waits for a majority of them. `kubectl scale` changes this field. Members are added and removed
    /// one at a time, those of the highest ordinals leave first, and the StatefulSet is scaled by the Raft leader alone: never
    /// scale it by hand.
    #[serde(default = "default_voters")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = rules::has_a_majority_worth_its_size())]
    pub voters: i32,
    /// How many members hold and serve everything without a vote: 0 to 20; 0 when left out. They make reads cheaper, and
    /// neither help nor hinder a majority. The members of the lowest ordinals vote, and the learners come next.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub learners: i32,
    /// The name of the member that leads whenever it is caught up and can be reached, such as quorate-1; any member when left
    /// out. It is passed over while its pod is ending or its node is cordoned, and while it is to vote no more. If another one
    /// leads, by an election or by `quorate transfer`, leadership is moved back, at first after seconds, and later and later if
    /// it does not stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::is_a_pods_name())]
    pub preferred_leader: Option<String>,
    /// While true, the members, their votes, leadership and the StatefulSet stay as they are, whatever else is declared here;
    /// false when left out. The cluster goes on serving and taking in resources, and its status goes on being written.
    #[serde(default)]
    pub paused: bool,
}

pub(in crate::operator) fn default_voters() -> i32 {
    3
}

/// How the cluster is, written by its Raft leader. When a majority is lost, another member writes the conditions
/// QuorumAvailable and Ready; everything else is then as it was last.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = rules::nobody_yet(rules::NO_MEMBER)))]
#[x_kube(validation = rules::is_not_of_an_older_leadership(), validation = rules::says_whose_leadership_it_is())]
pub struct QuorateClusterStatus {
    /// Identifies the cluster for ever: 32 hexadecimal digits, drawn when it is founded. While it stands here, no pod founds
    /// another cluster under this resource, whatever became of the volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^[0-9a-f]{32}$"))]
    pub cluster_id: Option<String>,
    /// The leadership in which this status was written: the index in the log at which that Raft leader began. It only grows,
    /// and the API server refuses a status of an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub observed_leadership: Option<i64>,
    /// The `metadata.generation` of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The name of the member that leads; absent while none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub raft_leader: Option<String>,
    /// Who is in the cluster, at most 64. A pod that has lost its volume comes back as another member under the same name, so
    /// for a moment there are two of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub members: Vec<MemberStatus>,
    /// How many members vote now; `spec.voters` once the cluster has the size that is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub voters: Option<i32>,
    /// How many more voters may fail before the cluster stops, those that are unreachable now taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub failure_tolerance: Option<i32>,
    /// Ready: a quorum serves, and at least as many members vote as are declared. QuorumAvailable: a majority of the voters
    /// answers, and one of them leads. Progressing: members are on their way to what is declared. Reconciling:
    /// the same, and there only while it is True. Degraded: a member does not answer, or the cluster cannot see or do something on
    /// Kubernetes' side. Stalled: only while it waits for a change of this resource. Each is of a type of its own; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// One member of the cluster.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// The name of its pod.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Which member it is: a number that the cluster gives once and never again.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub id: i64,
    /// Whether it votes: Voter or Learner.
    pub role: MemberRole,
    /// What it is doing: Leader, Follower, Candidate, or Unreachable when the Raft leader hears nothing from it.
    pub state: MemberState,
    /// The release of Quorate that it runs, such as 0.1.0; absent while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
}

/// A member's place in the membership.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    Voter,
    Learner,
}

/// What a member does.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    Leader,
    Follower,
    Candidate,
    Unreachable,
}
