//! `LeaderElection`: what is particular about an election. One without a resource has one seat.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Invalid};
use crate::machine::command::{ContestId, ContestKind, ElectionSpec};
use crate::settings::duration;
use crate::types::{ContestName, Namespace, Ttl};

/// An election that applications campaign in.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "quorate.io",
    version = "v1alpha1",
    kind = "LeaderElection",
    plural = "leaderelections",
    shortname = "le",
    namespaced,
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct LeaderElectionSpec {
    /// Name of the Quorate cluster that holds it; the others ignore it.
    #[serde(default = "super::default_cluster")]
    #[schemars(length(min = 1, max = 63))]
    pub cluster: String,
    /// How many leaders it may have at a time. When it shrinks, the newest leaders lose their seats.
    #[serde(default = "default_seats")]
    #[schemars(range(min = 1, max = 1000))]
    pub seats: i32,
    /// How long a leader may be silent before the next one leads, from 500ms to 24h, such as `10s`: the TTL that candidates
    /// should ask for when they begin their sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 20))]
    pub session_ttl: Option<String>,
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
        match (name, namespace, seats, session_ttl) {
            (Some(name), Some(namespace), Some(seats), Some(session_ttl)) if check.0.is_empty() => {
                Ok((ContestId { kind: ContestKind::Election, namespace, name }, ElectionSpec { seats, session_ttl }))
            }
            _ => Err(check.0),
        }
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
