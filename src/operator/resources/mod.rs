//! The custom resources of API group `quorate.io`, version `v1alpha1`. The CRDs are made from these types, so a field that
//! is not here does not exist.

mod conditions;
mod extent;
mod leader_election;
mod leader_marks;
mod mark_rules;
mod quorate_cluster;
mod replicated_config;
mod rules;
mod schema;
mod texts;

use std::fmt;

pub use conditions::{ConditionType, Finding, Truth, conditions};
pub(super) use leader_election::default_seats;
pub use leader_election::{LeaderElection, LeaderElectionSpec, LeaderElectionStatus, LeaderStatus, TransitionStatus};
pub use leader_marks::{Fencing, KeptLease, LeaderLabel, MirrorLease, PodSelector};
pub use quorate_cluster::{
    MemberRole, MemberState, MemberStatus, QuorateCluster, QuorateClusterSpec, QuorateClusterStatus,
};
pub(super) use replicated_config::default_history_limit;
pub use replicated_config::{ConsumersStatus, ReplicatedConfig, ReplicatedConfigSpec, ReplicatedConfigStatus};

/// API group and version of every resource.
pub const API_VERSION: &str = "quorate.io/v1alpha1";

pub(super) fn default_cluster() -> String {
    "default".to_owned()
}

/// What is wrong with a resource, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub path: Vec<String>,
    pub what: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.join("."), self.what)
    }
}

/// What was wrong so far.
#[derive(Default)]
struct Check(Vec<Invalid>);

impl Check {
    fn refuse(&mut self, path: &[&str], what: &str) {
        self.0.push(Invalid { path: path.iter().map(|&part| part.to_owned()).collect(), what: what.to_owned() });
    }

    fn require(&mut self, path: &[&str], holds: bool, what: &str) {
        if !holds {
            self.refuse(path, what);
        }
    }

    fn parse<T, E: fmt::Display>(&mut self, path: &[&str], parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.refuse(path, &error.to_string())).ok()
    }
}
