//! What the API server itself refuses, beyond types and ranges: rules in CEL, each with a message that says what to do.
//!
//! A rule must be cheap for the longest value that the schema allows, or the API server refuses the CRD; so messages are fixed
//! texts, and what would be dear (bytes of a text, a JSON Schema) is left to the operator, which says it in the condition
//! Accepted. A rule of the whole resource is also checked when a status is written: it must not come to fail by that.

use kube::core::{Reason, Rule};
use serde_json::{Value, json};

/// The name of a Quorate cluster.
pub(super) fn is_dns_label() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message(
        "it must be a DNS label: lower-case letters, digits or '-', starting and ending with a letter or digit",
    )
}

/// A resource stays with the cluster that it was made for.
pub(super) fn stays_the_same() -> Rule {
    Rule::new("self == oldSelf")
        .message("it cannot be changed: delete the resource and create it again under the other cluster")
        .reason(Reason::FieldValueForbidden)
}

/// Each part of the name between dots is a label of a path, for which Kubernetes' own rule has no limit of length.
pub(super) fn has_parts_of_63() -> Rule {
    Rule::new("!self.metadata.name.matches('[^.]{64}')")
        .message("metadata.name must not have more than 63 characters between dots: choose a shorter name")
}

/// What is called after a `QuorateCluster`: a StatefulSet, whose pods bear its name and a hash in a label, and Services.
pub(super) fn names_a_stateful_set() -> Rule {
    Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$')").message(
        "metadata.name must be that of a StatefulSet and its Services: at most 52 lower-case letters, digits or '-', \
         starting with a letter and ending with a letter or digit",
    )
}

/// How many members vote.
pub(super) fn has_a_majority_worth_its_size() -> Rule {
    Rule::new("self in [1, 3, 5, 7]")
        .message("it must be 1, 3, 5 or 7: with an even number no more voters may fail than with one less")
}

/// The name of a pod of a StatefulSet.
pub(super) fn is_a_pods_name() -> Rule {
    Rule::new("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?-[0-9]+$')")
        .message("it must be the name of a member, such as quorate-1: that of the StatefulSet, '-' and an ordinal")
}

/// The keys of a config.
pub(super) fn has_keys_of_a_config_map() -> Rule {
    Rule::new("self.all(key, key.matches('^[-._a-zA-Z0-9]{1,253}$') && key != '.' && key != '..')")
        .message("each key must be 1 to 253 letters, digits, '-', '_' or '.', and not '.' or '..' (as in a ConfigMap)")
}

/// The size of a config, in characters; the operator counts bytes.
pub(super) fn is_small() -> Rule {
    Rule::new("self.map(key, size(key) + size(self[key])).sum() <= 1048576")
        .message("keys and texts must not be longer than 1 MiB together: divide them among several ReplicatedConfigs")
}

/// What to roll back to. Only a change is looked at: what the status says later must not make the resource invalid.
pub(super) fn rolls_back_to_a_past_version() -> Rule {
    Rule::new(
        "!has(self.spec.rollbackTo) || !has(oldSelf.status) || !has(oldSelf.status.version) \
         || (has(oldSelf.spec.rollbackTo) && oldSelf.spec.rollbackTo == self.spec.rollbackTo) \
         || self.spec.rollbackTo <= oldSelf.status.version",
    )
    .message("spec.rollbackTo must not be greater than status.version: name a version that is kept, or remove it")
    .field_path(".spec.rollbackTo")
}

/// How long a leader may be silent.
pub(super) fn is_a_ttl() -> Rule {
    Rule::new(
        "self.matches('^[0-9]{1,9}(ms|s|m|h)$') && duration(self) >= duration('500ms') && duration(self) <= duration('24h')",
    )
    .message("it must be 500ms to 24h, written as a whole number and its unit, such as 500ms, 10s, 5m or 1h")
}

/// A deposed Raft leader, which does not know it yet, must not overwrite what its successor has written.
pub(super) fn is_not_of_an_older_leadership() -> Rule {
    Rule::new(
        "!has(oldSelf.clusterId) || !has(oldSelf.observedLeadership) || (has(self.clusterId) && has(self.observedLeadership) \
         && (self.clusterId != oldSelf.clusterId || self.observedLeadership >= oldSelf.observedLeadership))",
    )
    .message("a newer leadership has written this status: only the Raft leader of that one or a later one may change it")
    .reason(Reason::FieldValueForbidden)
}

/// A leadership is one of a cluster. The other way round there is a moment when a cluster is recorded that nobody has led yet.
pub(super) fn says_whose_leadership_it_is() -> Rule {
    Rule::new("!has(self.observedLeadership) || has(self.clusterId)")
        .message("observedLeadership must not be set without clusterId: it is a leadership of that cluster")
}

/// The status before anybody has written one. Without it, tools take a resource that nobody serves for one that is ready.
pub(super) fn nobody_yet(message: &str) -> Value {
    json!({ "conditions": [{
        "type": "Ready",
        "status": "Unknown",
        "reason": "Pending",
        "message": message,
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }] })
}

/// What [`nobody_yet`] says of a resource that a cluster should serve.
pub(super) const NO_CLUSTER: &str =
    "no Quorate cluster has taken it up yet: is one running whose QuorateCluster has the same spec.cluster?";
/// What [`nobody_yet`] says of a `QuorateCluster`.
pub(super) const NO_MEMBER: &str =
    "no member has taken it up yet: are pods of the StatefulSet of this name running in this namespace?";

#[cfg(test)]
pub(super) mod tests {
    use kube::CustomResourceExt;
    use kube::core::cel::Validator;

    use super::super::{LeaderElection, QuorateCluster, ReplicatedConfig};
    use super::*;
    use crate::types::{ConfigName, ContestName};

    /// What the rules of a kind say of an object, as it is created, or changed from what it was.
    pub(in super::super) fn refusals<Kind: CustomResourceExt>(object: &Value, old: Option<&Value>) -> Vec<String> {
        let definition = Kind::crd();
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("JSON");
        let named = |object: &Value| {
            let mut object = object.clone();
            object["metadata"]["name"] = object["metadata"]["name"].as_str().unwrap_or("web").into();
            object["spec"] = object.get("spec").cloned().unwrap_or(json!({}));
            object
        };
        let old = old.map(named);
        let verdict = Validator::new().validate_with_defaults(&schema["openAPIV3Schema"], &named(object), old.as_ref());
        verdict.err().into_iter().flat_map(|errors| errors.into_vec()).map(|error| error.to_string()).collect()
    }

    #[track_caller]
    pub(in super::super) fn assert_valid<Kind: CustomResourceExt>(object: &Value, old: Option<&Value>) {
        assert_eq!(refusals::<Kind>(object, old), [] as [String; 0], "{object}");
    }

    #[track_caller]
    pub(in super::super) fn assert_refused<Kind: CustomResourceExt>(
        object: &Value,
        old: Option<&Value>,
        message: &str,
    ) {
        let refusals = refusals::<Kind>(object, old);
        assert!(refusals.len() == 1 && refusals[0].contains(message), "{object}: {refusals:?}");
    }

    #[test]
    fn a_cluster_is_a_dns_label() {
        for good in ["default", "a", "a-1", "1a"] {
            assert_valid::<ReplicatedConfig>(&json!({ "spec": { "cluster": good } }), None);
        }
        for bad in ["A", "a.b", "-a", "a-", "a b", ""] {
            let object = json!({ "spec": { "cluster": bad } });
            assert_refused::<ReplicatedConfig>(&object, None, "it must be a DNS label");
            assert_refused::<LeaderElection>(&object, None, "it must be a DNS label");
            assert_refused::<QuorateCluster>(&object, None, "it must be a DNS label");
        }
    }

    #[test]
    fn a_resource_stays_with_its_cluster() {
        let (left_out, default, other) = (json!({}), json!({ "cluster": "default" }), json!({ "cluster": "other" }));
        let [left_out, default, other] = [left_out, default, other].map(|spec| json!({ "spec": spec }));
        assert_valid::<ReplicatedConfig>(&default, Some(&left_out));
        assert_refused::<ReplicatedConfig>(&other, Some(&left_out), "it cannot be changed");
        assert_refused::<LeaderElection>(&default, Some(&other), "it cannot be changed");
        assert_refused::<QuorateCluster>(&left_out, Some(&other), "it cannot be changed");
    }

    #[test]
    fn voters_are_1_3_5_or_7() {
        for voters in 1..=7 {
            let object = json!({ "spec": { "voters": voters } });
            match voters % 2 {
                1 => assert_valid::<QuorateCluster>(&object, None),
                _ => assert_refused::<QuorateCluster>(&object, None, "it must be 1, 3, 5 or 7"),
            }
        }
    }

    #[test]
    fn who_should_lead_is_called_like_a_pod_of_a_stateful_set() {
        let prefer = |name: &str| json!({ "spec": { "preferredLeader": name } });
        for good in ["quorate-0", "q-10", "a-1-2", "my-quorate-1", &format!("{}-0", "a".repeat(61))] {
            assert_valid::<QuorateCluster>(&prefer(good), None);
        }
        for bad in ["quorate", "quorate-", "-0", "0", "1a-0", "a--", "a.b-0", "A-0", "a-0x", "a-0 ", "a_b-0", "ä-0"] {
            assert_refused::<QuorateCluster>(&prefer(bad), None, "it must be the name of a member, such as quorate-1");
        }
    }

    #[test]
    fn a_quorate_cluster_is_named_like_a_stateful_set_and_its_services() {
        let named = |name: &str| json!({ "metadata": { "name": name } });
        for good in ["q", "quorate", "a-1", &"a".repeat(52)] {
            assert_valid::<QuorateCluster>(&named(good), None);
        }
        for bad in ["1a", "a.b", "a-", &"a".repeat(53)] {
            assert_refused::<QuorateCluster>(&named(bad), None, "at most 52 lower-case letters");
        }
    }

    #[test]
    fn each_part_of_a_name_is_a_label() {
        let named = |name: &str| json!({ "metadata": { "name": name } });
        let long = "a".repeat(63);
        assert_valid::<ReplicatedConfig>(&named(&format!("{long}.{long}")), None);
        assert_refused::<ReplicatedConfig>(&named(&format!("a.{long}a.b")), None, "63 characters between dots");
        assert_refused::<LeaderElection>(&named(&format!("{long}a")), None, "63 characters between dots");
    }

    /// Kubernetes' own rule for the name of a custom resource: parts of any length between dots (an RFC 1123 subdomain).
    fn kubernetes_takes(name: &str) -> bool {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_part = |part: &str| {
            let bytes = part.as_bytes();
            let ends = [bytes.first(), bytes.last()];
            ends.iter().all(|end| end.is_some_and(|end| is_letter(*end)))
                && bytes.iter().all(|byte| is_letter(*byte) || *byte == b'-')
        };
        name.len() <= 253 && name.split('.').all(is_part)
    }

    /// So every resource has an id in the cluster, and its status says what became of it.
    #[test]
    fn every_name_that_the_api_server_takes_is_one_of_a_config_and_of_an_election() {
        let lengths = [62, 63, 64, 127, 253].map(|length| "a".repeat(length));
        let parts = ["", "a", "1", "-", "a-", "-a", "a-1", "A", "a_b", "ä", " "];
        let parts: Vec<_> = parts.into_iter().chain(lengths.iter().map(String::as_str)).collect();
        let pairs = parts.iter().flat_map(|first| parts.iter().map(move |second| format!("{first}.{second}")));
        let names = pairs.chain(parts.iter().map(|&part| part.to_owned())).chain([vec!["a".repeat(63); 4].join(".")]);
        let mut taken = 0;
        for name in names.filter(|name| kubernetes_takes(name)) {
            let object = json!({ "metadata": { "name": name } });
            if refusals::<ReplicatedConfig>(&object, None).is_empty() {
                assert!(ConfigName::new(name.as_str()).is_ok(), "{name}");
                taken += 1;
            }
            if refusals::<LeaderElection>(&object, None).is_empty() {
                assert!(ContestName::new(name.as_str()).is_ok(), "{name}");
            }
        }
        assert!(taken > 20, "{taken}");
    }

    #[test]
    fn the_keys_of_a_config_are_those_of_a_config_map() {
        let with = |key: &str| json!({ "spec": { "data": { key: "text" } } });
        for good in ["a", "app.yaml", ".env", "A_b-c.9", "...", &"k".repeat(253)] {
            assert_valid::<ReplicatedConfig>(&with(good), None);
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"k".repeat(254)] {
            assert_refused::<ReplicatedConfig>(&with(bad), None, "each key must be 1 to 253 letters");
        }
    }

    #[test]
    fn a_config_is_small() {
        let with = |length: usize| json!({ "spec": { "data": { "a": "x".repeat(500_000), "b": "x".repeat(length) } } });
        assert_valid::<ReplicatedConfig>(&json!({ "spec": { "data": {} } }), None);
        assert_valid::<ReplicatedConfig>(&with((1 << 20) - 500_002), None);
        assert_refused::<ReplicatedConfig>(&with((1 << 20) - 500_001), None, "must not be longer than 1 MiB together");
    }

    #[test]
    fn a_rollback_names_a_version_that_was_there_when_it_is_declared() {
        let object = |rollback_to: Option<i64>, version: i64| {
            let status = json!({ "version": version });
            match rollback_to {
                Some(rollback_to) => json!({ "spec": { "rollbackTo": rollback_to }, "status": status }),
                None => json!({ "status": status }),
            }
        };
        let before = object(None, 3);
        assert_valid::<ReplicatedConfig>(&object(Some(3), 3), Some(&before));
        assert_refused::<ReplicatedConfig>(
            &object(Some(4), 3),
            Some(&before),
            "must not be greater than status.version",
        );
        // What is there already stays valid, whatever the status comes to say, and so does a first declaration.
        assert_valid::<ReplicatedConfig>(&object(Some(4), 1), Some(&object(Some(4), 5)));
        assert_valid::<ReplicatedConfig>(&object(None, 1), Some(&object(Some(4), 1)));
        assert_valid::<ReplicatedConfig>(&json!({ "spec": { "rollbackTo": 4 } }), None);
        assert_valid::<ReplicatedConfig>(&json!({ "spec": { "rollbackTo": 4 } }), Some(&json!({})));
    }

    #[test]
    fn a_ttl_is_half_a_second_to_a_day() {
        let with = |ttl: &str| json!({ "spec": { "sessionTtl": ttl } });
        for good in ["500ms", "1s", "10s", "5m", "24h", "86400s"] {
            assert_valid::<LeaderElection>(&with(good), None);
        }
        for bad in ["499ms", "0s", "25h", "86401s", "10", "1.5s", "1h30m", "-1s", "soon", "", "1d"] {
            assert_refused::<LeaderElection>(&with(bad), None, "it must be 500ms to 24h");
        }
    }

    /// Otherwise something would be taken here and never served, or be served from a file and refused here.
    #[test]
    fn the_api_server_and_the_operator_judge_alike() {
        let named = |name: String| json!({ "metadata": { "name": name }, "spec": {} });
        let (key, ttl) = (|key: &str| json!({ "data": { key: "" } }), |ttl: &str| json!({ "sessionTtl": ttl }));
        let cluster = |cluster: &str| json!({ "cluster": cluster });
        let texts = ["", "a", "A", "a.b", "..", ".", "a-", "-a", "a_b", "a b", "a/b", "ä", "\n"];
        let lengths = [63, 64, 253, 254].map(|length| "a".repeat(length));
        let ttls = ["1s", "0s", "1ms", "500ms", "24h", "25h", "007s", "1d", "s", "1.0s", "4294967296ms", "9999999999s"];
        let specs =
            texts.into_iter().chain(lengths.iter().map(String::as_str)).flat_map(|text| [key(text), cluster(text)]);
        let objects = specs.chain(ttls.map(ttl)).map(|spec| json!({ "metadata": { "name": "web" }, "spec": spec }));
        let names = ["a".to_owned(), format!("{0}.{0}", lengths[0]), lengths[1].clone(), format!("a.{}", lengths[1])];
        for object in objects.chain(names.map(named)) {
            // A length of its own is no rule.
            if object["spec"]["cluster"].as_str().is_some_and(|cluster| cluster.len() > 63) {
                continue;
            }
            let config: ReplicatedConfig = serde_json::from_value(object.clone()).expect("a config");
            assert_eq!(refusals::<ReplicatedConfig>(&object, None).is_empty(), config.accept().is_ok(), "{object}");
            let election: LeaderElection = serde_json::from_value(object.clone()).expect("an election");
            assert_eq!(refusals::<LeaderElection>(&object, None).is_empty(), election.accept().is_ok(), "{object}");
        }
    }

    fn status(fields: Value) -> Value {
        json!({ "status": fields })
    }

    #[test]
    fn an_older_leadership_changes_no_status() {
        let written = |cluster: &str, leadership: i64| {
            status(json!({ "clusterId": cluster.repeat(32), "observedLeadership": leadership }))
        };
        let now = written("a", 5);
        for allowed in [written("a", 5), written("a", 6), written("b", 1)] {
            assert_valid::<QuorateCluster>(&allowed, Some(&now));
            assert_valid::<ReplicatedConfig>(&allowed, Some(&json!({})));
            assert_valid::<LeaderElection>(&allowed, None);
        }
        for refused in [written("a", 4), json!({}), status(json!({ "conditions": [] }))] {
            let refusal = "a newer leadership has written this status";
            assert_refused::<QuorateCluster>(&refused, Some(&now), refusal);
            assert_refused::<ReplicatedConfig>(&refused, Some(&now), refusal);
            assert_refused::<LeaderElection>(&refused, Some(&now), refusal);
        }
    }

    #[test]
    fn a_leadership_is_one_of_a_cluster() {
        let alone = status(json!({ "observedLeadership": 5 }));
        let refusal = "observedLeadership must not be set without clusterId";
        assert_refused::<QuorateCluster>(&alone, None, refusal);
        assert_refused::<ReplicatedConfig>(&alone, None, refusal);
        assert_refused::<LeaderElection>(&alone, None, refusal);

        let founded = status(json!({ "clusterId": "a".repeat(32) }));
        let led = status(json!({ "clusterId": "a".repeat(32), "observedLeadership": 1 }));
        assert_valid::<QuorateCluster>(&founded, Some(&json!({})));
        assert_valid::<QuorateCluster>(&led, Some(&founded));
        assert_refused::<QuorateCluster>(&founded, Some(&led), "a newer leadership has written this status");
    }
}
