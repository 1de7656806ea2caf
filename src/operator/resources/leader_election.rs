//! `LeaderElection`: what is particular about an election. One without a resource has one seat.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::conditions_schema;
use super::leader_marks::{Fencing, KeptLease, LeaderLabel, MirrorLease};
use super::{Check, Invalid, mark_rules, rules};
use crate::machine::command::{ContestId, ContestKind, ElectionSpec};
use crate::settings::duration;
use crate::types::{ContestName, Namespace, Ttl};

/// What the election should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "quorate.io",
    version = "v1alpha1",
    kind = "LeaderElection",
    plural = "leaderelections",
    shortname = "le",
    category = "quorate",
    namespaced,
    doc = "What is particular about an election that applications campaign in as NAMESPACE/NAME. An election needs no resource: \
           one without has one seat.",
    status = "LeaderElectionStatus",
    validation = rules::has_parts_of_63(),
    validation = mark_rules::mirrors_one_leader(),
    validation = mark_rules::lists_all_who_are_fenced(),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the cluster holds it as it is declared"
    ),
    printcolumn(
        name = "Leader",
        type_ = "string",
        json_path = ".status.leaders[0].candidate",
        description = "Who leads; of several, the oldest"
    ),
    printcolumn(
        name = "Token",
        type_ = "integer",
        json_path = ".status.fencingToken",
        description = "The fencing token of the newest leader"
    ),
    printcolumn(
        name = "Transitions",
        type_ = "integer",
        json_path = ".status.transitions",
        description = "How often somebody has stopped leading"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Seats",
        type_ = "integer",
        json_path = ".spec.seats",
        priority = 1,
        description = "How many leaders it may have at a time"
    ),
    printcolumn(
        name = "Cause",
        type_ = "string",
        json_path = ".status.lastTransition.cause",
        priority = 1,
        description = "Why the last leader stopped leading"
    ),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.cluster",
        priority = 1,
        description = "The Quorate cluster that holds it"
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
pub struct LeaderElectionSpec {
    /// The name of the Quorate cluster that holds it, as in the `spec.cluster` of its QuorateCluster; the others ignore it. A
    /// DNS label of at most 63 characters; `default` when left out. It cannot be changed.
    #[serde(default = "super::default_cluster")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::is_dns_label(), validation = rules::stays_the_same())]
    pub cluster: String,
    /// How many leaders it may have at a time: 1 to 1000; 1 when left out. When it shrinks, the newest leaders lose their seats.
    #[serde(default = "default_seats")]
    #[schemars(range(min = 1, max = 1000))]
    pub seats: i32,
    /// How long a leader may be silent before the next one leads: the TTL that candidates should ask for when they begin their
    /// sessions. A whole number and its unit (ms, s, m or h), from 500ms to 24h, such as 10s; without it they use their own, or
    /// 3s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 20))]
    #[x_kube(validation = rules::is_a_ttl())]
    pub session_ttl: Option<String>,
    /// A label that the leader's pod has while it leads, for the selector of a Service; none when left out. A candidate is in the
    /// pod that its metadata names as `pod`, or else in the one of its own name, in this namespace. The chart must have been
    /// given this namespace in its value `leaderLabel.namespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = mark_rules::does_not_change_what_is_selected())]
    pub leader_label: Option<LeaderLabel>,
    /// A Lease that says who leads, for tools that read nothing else; none when left out, `{}` for one with the name of the
    /// election. It is a copy: whoever writes to it changes nothing here. The chart must have been given this namespace in its
    /// value `mirrorLease.namespaces`. Only with one seat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror_lease: Option<MirrorLease>,
    /// Whose writes to objects of this namespace the API server refuses when their annotations name this election and a fencing
    /// token that is none of its leaders' any more; nobody's when left out. The chart must have been given this namespace in its
    /// value `fencing.namespaces`. Only with at most 100 seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing: Option<Fencing>,
}

/// What became of the declaration, written by the cluster's Raft leader.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = rules::nobody_yet(rules::NO_CLUSTER)))]
#[x_kube(validation = rules::is_not_of_an_older_leadership(), validation = rules::says_whose_leadership_it_is())]
pub struct LeaderElectionStatus {
    /// The cluster that holds it: `status.clusterId` of its QuorateCluster.
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
    /// The greatest fencing token that was granted in this election. It only grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub fencing_token: Option<i64>,
    /// Who leads now, the oldest grant first; at most 100, of more the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["fencingToken"]))]
    pub leaders: Vec<LeaderStatus>,
    /// How often somebody has stopped leading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub transitions: Option<i64>,
    /// Who stopped leading last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition: Option<TransitionStatus>,
    /// Ready: the cluster holds it as it is declared. Held: somebody leads. Stalled: only while it waits for a change of this
    /// resource. Each is of a type of its own; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// One who leads.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LeaderStatus {
    /// What it calls itself; absent when it has not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub candidate: Option<String>,
    /// The pod that bears the label of `spec.leaderLabel` for it; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// The fencing token of its grant.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub fencing_token: i64,
    /// Since when it leads.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
}

/// The end of a leader's time.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TransitionStatus {
    /// Why it stopped: `resigned`, `session-expired` (it was silent for longer than its TTL), `session-ended`, `client-exited`, or
    /// `removed` (somebody took it away, or there is no seat for it any more).
    #[schemars(length(max = 32))]
    pub cause: String,
    /// When that was.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Who that was; absent when it has not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub candidate: Option<String>,
    /// The fencing token that it had.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub fencing_token: i64,
}

pub(in crate::operator) fn default_seats() -> i32 {
    1
}

impl LeaderElection {
    /// What the resource asks for, when it is valid.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn accept(&self) -> Result<(ContestId, ElectionSpec), Vec<Invalid>> {
        let mut check = Check::default();
        let name =
            check.parse(&["metadata", "name"], ContestName::new(self.metadata.name.as_deref().unwrap_or_default()));
        let namespace = self.metadata.namespace.as_deref().unwrap_or("default");
        let namespace = check.parse(&["metadata", "namespace"], Namespace::new(namespace));
        check.parse(&["spec", "cluster"], Namespace::new(self.spec.cluster.as_str()));
        let seats = u32::try_from(self.spec.seats).ok().filter(|seats| (1..=1000).contains(seats));
        check.require(&["spec", "seats"], seats.is_some(), "it must be between 1 and 1000");
        let session_ttl = self.spec.session_ttl.as_deref().map(parse_ttl).transpose();
        let session_ttl = check.parse(&["spec", "sessionTtl"], session_ttl);
        if let Some(label) = &self.spec.leader_label {
            label.check(&mut check);
        }
        if let Some(lease) = &self.spec.mirror_lease {
            lease.accept(self.metadata.name.as_deref().unwrap_or_default(), &mut check);
            check.require(
                &["spec", "mirrorLease"],
                self.spec.seats == 1,
                "spec.seats must be 1: a Lease has one holder",
            );
        }
        if let Some(fencing) = &self.spec.fencing {
            fencing.check(&mut check);
            let what = "spec.seats must be at most 100: the status lists no more leaders";
            check.require(&["spec", "fencing"], self.spec.seats <= 100, what);
        }
        match (name, namespace, seats, session_ttl) {
            (Some(name), Some(namespace), Some(seats), Some(session_ttl)) if check.0.is_empty() => {
                Ok((ContestId { kind: ContestKind::Election, namespace, name }, ElectionSpec { seats, session_ttl }))
            }
            _ => Err(check.0),
        }
    }

    /// The Lease that is asked for.
    pub fn kept_lease(&self) -> Option<KeptLease> {
        let election = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.mirror_lease.as_ref()?.accept(election, &mut Check::default())
    }
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    let wrong = || format!("{text:?} is not allowed; allowed: 500ms to 24h, such as 10s");
    let millis = duration(text).ok().and_then(|ttl| u64::try_from(ttl.as_millis()).ok());
    millis.and_then(|millis| Ttl::from_millis(millis).ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use serde_json::json;

    use super::*;

    fn accept(spec: serde_json::Value) -> Result<(ContestId, ElectionSpec), Vec<String>> {
        let resource = LeaderElection::new("main", serde_json::from_value(spec).expect("a spec"));
        resource.accept().map_err(|invalid| invalid.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let (id, spec) = accept(json!({})).expect("valid");
        assert_eq!(
            (id.to_string().as_str(), spec),
            ("election default/main", ElectionSpec { seats: 1, session_ttl: None })
        );
        let (_, spec) = accept(json!({"seats": 3, "sessionTtl": "10s"})).expect("valid");
        assert_eq!(spec, ElectionSpec { seats: 3, session_ttl: Some(Ttl::from_millis(10_000).expect("allowed")) });
    }

    #[test]
    fn what_is_out_of_range_is_refused_together() {
        let problems = accept(json!({"cluster": "A", "seats": 0, "sessionTtl": "499ms"})).expect_err("invalid");
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(problems[1], "spec.seats: it must be between 1 and 1000");
        assert!(problems[2].starts_with("spec.sessionTtl: \"499ms\" is not allowed; allowed: 500ms"), "{problems:?}");
        for wrong in ["25h", "10", "soon", "-1s"] {
            accept(json!({ "sessionTtl": wrong })).expect_err(wrong);
        }
    }

    #[test]
    fn the_crd_is_made_from_this_type() {
        assert_eq!(LeaderElection::crd().metadata.name.as_deref(), Some("leaderelections.quorate.io"));
    }
}
