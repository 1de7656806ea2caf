//! What the API server itself refuses of `leaderLabel`, `mirrorLease` and `fencing`; see `rules.rs`.

use kube::core::Rule;

/// What Kubernetes calls a qualified name.
pub(super) fn is_a_label_key() -> Rule {
    Rule::new(format!("self.matches('{LABEL_KEY}') && !self.matches('^[^/]{{254}}')")).message(
        "it must be the key of a label: a name of at most 63 letters, digits, '-', '_' or '.', after a prefix such as example.com/ \
         if you like",
    )
}

pub(super) fn is_a_label_value() -> Rule {
    Rule::new(format!("self.matches('{LABEL_VALUE}')"))
        .message("it must be the value of a label: at most 63 letters, digits, '-', '_' or '.'")
}

pub(super) fn has_keys_and_values_of_labels() -> Rule {
    Rule::new(format!(
        "self.all(key, key.matches('{LABEL_KEY}') && !key.matches('^[^/]{{254}}') && self[key].matches('{LABEL_VALUE}'))"
    ))
    .message("it must have keys and values of labels")
}

/// Otherwise a pod would not be selected any more, by this or by what has made it, as soon as it is labelled.
pub(super) fn does_not_change_what_is_selected() -> Rule {
    Rule::new("!has(self.podSelector.matchLabels) || !(self.key in self.podSelector.matchLabels)")
        .message("key must not be a label that selects the pods: choose one that only this election sets")
}

pub(super) fn is_a_dns_subdomain() -> Rule {
    Rule::new(format!("self.matches('^{SUBDOMAIN}$')"))
        .message("it must be the name of an object: lower-case letters, digits, '-' or '.', starting and ending with a letter or digit")
}

/// How long a Lease is good for; it is written in whole seconds.
pub(super) fn is_a_lease_duration() -> Rule {
    Rule::new(
        "self.matches('^[0-9]{1,9}(s|m|h)$') && duration(self) >= duration('3s') && duration(self) <= duration('1h')",
    )
    .message("it must be 3s to 1h, written as a whole number and its unit, such as 15s or 1m")
}

pub(super) fn has_names_of_service_accounts() -> Rule {
    Rule::new(format!("self.all(name, name.matches('^({LABEL}/)?{SUBDOMAIN}$'))"))
        .message("each must be the name of a ServiceAccount: NAME, or NAMESPACE/NAME for one of another namespace")
}

/// A Lease has one holder.
pub(super) fn mirrors_one_leader() -> Rule {
    Rule::new("!has(self.spec.mirrorLease) || self.spec.seats == 1")
        .message("spec.mirrorLease needs spec.seats to be 1: a Lease has one holder")
        .field_path(".spec.mirrorLease")
}

/// The admission policy lets those write whom the status lists.
pub(super) fn lists_all_who_are_fenced() -> Rule {
    Rule::new("!has(self.spec.fencing) || self.spec.seats <= 100")
        .message("spec.fencing needs spec.seats to be at most 100: the status lists no more leaders")
        .field_path(".spec.fencing")
}

const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL: &str = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";
const LABEL_KEY: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::LeaderElection;
    use super::super::rules::tests::{assert_refused, assert_valid, refusals};

    fn labelled(label: Value) -> Value {
        json!({ "spec": { "leaderLabel": label } })
    }

    #[test]
    fn a_leader_label_is_a_label_that_does_not_select() {
        let pods = json!({ "matchLabels": { "app": "web" } });
        let with = |key: &str, value: &str| labelled(json!({ "podSelector": pods, "key": key, "value": value }));
        assert_valid::<LeaderElection>(&labelled(json!({ "podSelector": pods })), None);
        for good in ["leads", "a.b/c", "Leads_now.1", &format!("{}/x", "a".repeat(253))] {
            assert_valid::<LeaderElection>(&with(good, ""), None);
        }
        for bad in ["", "-a", "a/", "/a", "a/b/c", "a b", "A.b/c", &"a".repeat(64), &format!("{}/x", "a".repeat(254))] {
            assert!(!refusals::<LeaderElection>(&with(bad, ""), None).is_empty(), "{bad}");
        }
        for bad in ["-a", "a b", "ä", &"a".repeat(64)] {
            assert!(!refusals::<LeaderElection>(&with("leads", bad), None).is_empty(), "{bad}");
        }
        assert_refused::<LeaderElection>(&with("app", "x"), None, "must not be a label that selects the pods");
        let wrong = labelled(json!({ "podSelector": { "matchLabels": { "a b": "" } } }));
        assert_refused::<LeaderElection>(&wrong, None, "it must have keys and values of labels");
    }

    #[test]
    fn a_lease_has_one_holder_and_a_duration() {
        let with = |duration: &str| json!({ "spec": { "mirrorLease": { "duration": duration } } });
        assert_valid::<LeaderElection>(&json!({ "spec": { "mirrorLease": {} } }), None);
        for good in ["3s", "15s", "1m", "60m", "1h"] {
            assert_valid::<LeaderElection>(&with(good), None);
        }
        for bad in ["2s", "61m", "3000ms", "15", "1.5s", "soon"] {
            assert_refused::<LeaderElection>(&with(bad), None, "it must be 3s to 1h");
        }
        let named = json!({ "spec": { "mirrorLease": { "name": "A" } } });
        assert_refused::<LeaderElection>(&named, None, "it must be the name of an object");
        let two = json!({ "spec": { "mirrorLease": {}, "seats": 2 } });
        assert_refused::<LeaderElection>(&two, None, "a Lease has one holder");
    }

    #[test]
    fn who_is_fenced_is_a_service_account_and_the_status_has_room_for_all_leaders() {
        let with = |account: &str| json!({ "spec": { "fencing": { "serviceAccounts": [account] } } });
        for good in ["controller", "a.b", "shop/controller"] {
            assert_valid::<LeaderElection>(&with(good), None);
        }
        for bad in ["", "A", "a/b/c", "a.b/c", "system:serviceaccount:a:b", &format!("{}/a", "a".repeat(64))] {
            assert!(!refusals::<LeaderElection>(&with(bad), None).is_empty(), "{bad}");
        }
        let crowd = json!({ "spec": { "fencing": { "serviceAccounts": ["a"] }, "seats": 101 } });
        assert_refused::<LeaderElection>(&crowd, None, "at most 100: the status lists no more leaders");
    }

    /// Otherwise something would be taken here and never served, or be served from a file and refused here.
    #[test]
    fn the_api_server_and_the_operator_judge_marks_alike() {
        let texts = ["", "a", "A", "a.b", "..", ".", "a-", "-a", "a_b", "a b", "a/b", "ä", "\n"];
        let lengths = [63, 64, 253, 254].map(|length| "a".repeat(length));
        let (pods, accounts) =
            (json!({ "matchLabels": { "app": "web" } }), |name: &str| json!({ "serviceAccounts": [name] }));
        let marks = texts.into_iter().chain(lengths.iter().map(String::as_str)).flat_map(|text| {
            [
                json!({ "leaderLabel": { "podSelector": pods, "key": text } }),
                json!({ "leaderLabel": { "podSelector": { "matchLabels": { text: "" } } } }),
                json!({ "mirrorLease": { "name": text } }),
                json!({ "mirrorLease": { "duration": text } }),
                json!({ "fencing": accounts(text) }),
                json!({ "fencing": accounts(&format!("{text}/a")) }),
            ]
        });
        let durations = ["2s", "3s", "1h", "61m", "3000ms"].map(|text| json!({ "mirrorLease": { "duration": text } }));
        let marks = marks.chain(durations).chain([
            json!({ "leaderLabel": { "podSelector": pods, "key": "app" } }),
            json!({ "leaderLabel": { "podSelector": { "matchLabels": {} } } }),
            json!({ "mirrorLease": {}, "seats": 2 }),
            json!({ "fencing": accounts("a"), "seats": 101 }),
        ]);
        for spec in marks {
            let object = json!({ "metadata": { "name": "web" }, "spec": spec });
            let election: LeaderElection = serde_json::from_value(object.clone()).expect("an election");
            let is_refused = !refusals::<LeaderElection>(&object, None).is_empty() || is_out_of_bounds(&object["spec"]);
            assert_eq!(!is_refused, election.accept().is_ok(), "{object}: {:?}", election.accept());
        }
    }

    /// What a length of its own refuses, or a number of entries, is no rule.
    fn is_out_of_bounds(spec: &Value) -> bool {
        let long = |text: &Value, most: usize| text.as_str().is_some_and(|text| text.is_empty() || text.len() > most);
        let labels = spec["leaderLabel"]["podSelector"]["matchLabels"].as_object();
        long(&spec["mirrorLease"]["name"], 253)
            || long(&spec["mirrorLease"]["duration"], 20)
            || long(&spec["leaderLabel"]["key"], 317)
            || long(&spec["fencing"]["serviceAccounts"][0], 317)
            || labels.is_some_and(serde_json::Map::is_empty)
    }
}
