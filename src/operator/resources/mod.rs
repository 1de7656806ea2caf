//! The custom resources of API group `quorate.io`, version `v1alpha1`. The CRDs are made from these types, so a field that
//! is not here does not exist.

mod replicated_config;

pub use replicated_config::{Invalid, ReplicatedConfig, ReplicatedConfigSpec};
pub(super) use replicated_config::{default_cluster, default_history_limit};

/// API group and version of every resource.
pub const API_VERSION: &str = "quorate.io/v1alpha1";
