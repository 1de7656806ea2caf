//! What is rendered: names, labels, rights and what the pods may do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{CASES, NAMESPACE, documents, objects, rendered, template, word};

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

/// The pod that an object is or makes, as labels and spec.
fn pod(object: &Value) -> Option<(&Value, &Value)> {
    match word(&object["kind"]) {
        "Pod" => Some((&object["metadata"]["labels"], &object["spec"])),
        "StatefulSet" | "Job" => {
            let template = &object["spec"]["template"];
            Some((&template["metadata"]["labels"], &template["spec"]))
        }
        _ => None,
    }
}

/// Whether labels are what a selector asks for.
fn is_selected(labels: &Value, selector: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn everything_is_in_the_namespace_of_the_release_and_says_what_it_belongs_to() {
    for (arguments, name) in CASES.into_iter().zip(["quorate", "payments-quorate", "payments-quorate", "quorate"]) {
        for (object, content) in objects(arguments) {
            let metadata = &content["metadata"];
            let (global, kind) = (format!("quorate:{NAMESPACE}:{name}"), word(&content["kind"]));
            if kind.starts_with("ValidatingAdmissionPolicy") {
                assert!(word(&metadata["name"]).ends_with(&format!(".{name}.{NAMESPACE}.quorate.io")), "{object}");
            } else if kind.starts_with("ClusterRole") || word(&metadata["name"]).starts_with(&global) {
                // Also rights in the namespaces of applications, whose names are not theirs alone.
                assert!(word(&metadata["name"]).starts_with(&global), "{object}");
            } else {
                assert!(word(&metadata["name"]).starts_with(name), "{object}");
                assert_eq!(metadata["namespace"], NAMESPACE, "{object}");
            }
            assert_eq!(metadata["labels"]["app.kubernetes.io/name"], "quorate", "{object}");
            assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], name, "{object}");
        }
    }
}

#[test]
fn whatever_selects_members_selects_their_pods_and_no_others() {
    for arguments in CASES {
        let objects = objects(arguments);
        let name = word(&objects.values().find(|object| object["kind"] == "StatefulSet").unwrap()["metadata"]["name"]);
        let set = &objects[&format!("StatefulSet/{name}")]["spec"];
        let mut selectors = vec![
            ("StatefulSet", &set["selector"]["matchLabels"]),
            (
                "PodDisruptionBudget",
                &objects[&format!("PodDisruptionBudget/{name}")]["spec"]["selector"]["matchLabels"],
            ),
        ];
        for service in ["", "-members", "-metrics"] {
            selectors.push(("Service", &objects[&format!("Service/{name}{service}")]["spec"]["selector"]));
        }
        if let Some(policy) = objects.get(&format!("NetworkPolicy/{name}")) {
            selectors.push(("NetworkPolicy", &policy["spec"]["podSelector"]["matchLabels"]));
        }
        for (object, (labels, _)) in objects.iter().filter_map(|(object, content)| Some((object, pod(content)?))) {
            for (selecting, selector) in &selectors {
                let is_member = object.starts_with("StatefulSet/");
                assert_eq!(is_selected(labels, selector), is_member, "{selecting} and {object}");
            }
        }
        assert_eq!(set["serviceName"], format!("{name}-members"));
        let spread = &set["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"];
        assert!(is_selected(&set["template"]["metadata"]["labels"], spread), "spread by {spread}");
    }
}

#[test]
fn rights_on_pods_and_leases_are_given_in_the_namespaces_that_are_listed_and_in_no_others() {
    let rights = |values: &[&str]| -> Vec<Value> {
        let roles = objects(values).into_values().filter(|object| word(&object["kind"]).ends_with("Role"));
        let rules = roles.flat_map(|role| {
            let namespace = role["metadata"]["namespace"].clone();
            list(&role["rules"]).clone().into_iter().map(move |rule| json!([namespace, rule]))
        });
        let of_applications = ["pods", "leases"].map(Value::from);
        // What can be named are the members' own pods.
        let of_anybody = rules.filter(|rule| rule[1]["resourceNames"].is_null());
        of_anybody.filter(|rule| of_applications.contains(&rule[1]["resources"][0])).collect()
    };
    assert_eq!(rights(&[]), Vec::<Value>::new());
    let values = "--set=leaderLabel.namespaces={shop},mirrorLease.namespaces={team}";
    let rule = |group: &str, resource: &str, verbs: &[&str]| json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs });
    let expected = [
        json!(["shop", rule("", "pods", &["list", "watch", "patch"])]),
        json!(["team", rule("coordination.k8s.io", "leases", &["get", "create", "update"])]),
    ];
    assert_eq!(rights(&[values]), expected);
    let objects = objects(&[values]);
    for (suffix, namespace) in [("leader-label", "shop"), ("mirror-lease", "team")] {
        let binding = &objects[&format!("RoleBinding/quorate:{NAMESPACE}:quorate:{suffix}")];
        assert_eq!((&binding["metadata"]["namespace"], list(&binding["subjects"]).len()), (&namespace.into(), 1));
        let subject = json!({ "kind": "ServiceAccount", "name": "quorate", "namespace": NAMESPACE });
        assert_eq!(binding["subjects"][0], subject);
    }
}

#[test]
fn policies_are_there_as_the_values_say_and_know_the_release() {
    let policies = |values: &[&str]| -> Vec<(String, Value)> {
        let policies = objects(values).into_iter().filter(|(name, _)| name.starts_with("ValidatingAdmissionPolicy"));
        policies.map(|(name, object)| (name.split_once('/').unwrap().1.to_owned(), object["spec"].clone())).collect()
    };
    let all = policies(&[]);
    let scale = format!("scale.quorate.{NAMESPACE}.quorate.io");
    assert_eq!(all.iter().map(|(name, _)| name).collect::<Vec<_>>(), [&scale, &scale]);
    assert_eq!(all[0].1["failurePolicy"], "Ignore", "with the CRDs gone it must refuse nothing");
    let account = word(&all[0].1["matchConditions"][0]["expression"]);
    assert!(account.ends_with("':quorate'"), "{account}");
    assert_eq!(policies(&["--set=scaleGuard.enabled=false"]), []);
    let fenced = policies(&["--set=scaleGuard.enabled=false,fencing.namespaces={shop}"]);
    assert_eq!(fenced.len(), 2);
    assert_eq!(fenced[0].1["failurePolicy"], "Fail");
    let namespaces = &fenced[1].1["matchResources"]["namespaceSelector"]["matchExpressions"][0];
    assert_eq!((&namespaces["key"], &namespaces["values"]), (&"kubernetes.io/metadata.name".into(), &json!(["shop"])));
}

#[test]
fn two_releases_share_no_object_and_select_nothing_of_each_other() {
    let [one, other] = ["one", "other"].map(|name| template(name, crate::helm::CHART, &[]).unwrap());
    let names = |text: &str| -> BTreeSet<String> {
        let of = |object: &Value| format!("{}/{}", object["kind"], object["metadata"]["name"]);
        documents(text).iter().map(of).collect()
    };
    assert_eq!(names(&one).intersection(&names(&other)).count(), 0);
    let [one, other] = [one, other].map(|text| documents(&text));
    for object in &one {
        let selectors = [&object["spec"]["selector"], &object["spec"]["selector"]["matchLabels"]];
        for selector in selectors.into_iter().filter(|selector| selector["app.kubernetes.io/name"].is_string()) {
            assert!(one.iter().filter_map(pod).any(|(labels, _)| is_selected(labels, selector)));
            assert!(!other.iter().filter_map(pod).any(|(labels, _)| is_selected(labels, selector)), "{object}");
        }
    }
}

#[test]
fn the_operator_alone_says_how_many_pods_there_are() {
    for arguments in CASES {
        let objects = objects(arguments);
        let set = objects.values().find(|object| object["kind"] == "StatefulSet").unwrap();
        assert_eq!(set["spec"]["replicas"], Value::Null);
    }
}

#[test]
fn one_member_at_a_time_may_be_evicted_and_whoever_is_not_ready_always() {
    for arguments in CASES {
        let objects = objects(arguments);
        let budgets: Vec<_> = objects.values().filter(|object| object["kind"] == "PodDisruptionBudget").collect();
        assert_eq!(budgets.len(), 1, "{arguments:?}");
        let spec = &budgets[0]["spec"];
        assert_eq!((&spec["maxUnavailable"], &spec["minAvailable"]), (&1.into(), &Value::Null));
        assert_eq!(spec["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    }
}

#[test]
fn every_pod_is_restricted_and_mounts_a_token_only_to_use_it() {
    for arguments in CASES {
        for (object, content) in objects(arguments) {
            let Some((_, spec)) = pod(&content) else { continue };
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{object}");
            assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{object}");
            assert_eq!(spec["enableServiceLinks"], false, "{object}");
            for container in list(&spec["containers"]) {
                let security = json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                });
                assert_eq!(container["securityContext"], security, "{object}");
            }
            let talks = word(&content["kind"]) != "Pod";
            assert_eq!(spec["automountServiceAccountToken"], talks, "{object}");
            assert_eq!(spec["serviceAccountName"].is_string(), talks, "{object}");
        }
    }
}

#[test]
fn every_rule_says_what_it_is_for_and_allows_no_more_than_is_named() {
    for arguments in CASES {
        let text = rendered(arguments).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let rules: Vec<_> = (0..lines.len()).filter(|line| lines[*line].starts_with("  - apiGroups:")).collect();
        assert!(rules.len() >= 7, "{} rules", rules.len());
        for rule in rules {
            assert!(lines[rule - 1].starts_with("  # "), "no comment stands above {}", lines[rule + 1]);
        }
        for object in documents(&text) {
            if let Some(rules) = object["rules"].as_array() {
                rules.iter().for_each(check_rule);
            }
        }
    }
}

fn check_rule(rule: &Value) {
    let words = |key: &str| list(&rule[key]).iter().map(word).collect::<Vec<_>>();
    for key in ["apiGroups", "resources", "verbs"] {
        assert!(!words(key).iter().any(|word| word.contains('*')), "{rule}");
    }
    // In the namespaces of applications, which the values list, and where nobody knows how pods are called.
    let of_leaders =
        [json!(["pods"]), json!(["leases"])].contains(&rule["resources"]) && rule["resourceNames"].is_null();
    for verb in words("verbs") {
        let may = ["get", "list", "watch", "create", "patch"].contains(&verb);
        assert!(may || of_leaders && verb == "update", "{rule}");
    }
    for resource in words("resources") {
        assert!(!["secrets", "configmaps", "pods/exec"].contains(&resource), "{rule}");
        assert!(of_leaders || !["pods", "nodes"].contains(&resource) || words("verbs") == ["get"], "{rule}");
    }
    assert_eq!(rule["nonResourceURLs"], Value::Null, "{rule}");
    // Whatever can be named is.
    let everywhere = ["persistentvolumeclaims", "nodes", "replicatedconfigs", "replicatedconfigs/status", "events"];
    let collections = if of_leaders { &["pods", "leases"][..] } else { &everywhere[..] };
    assert_ne!(rule["resourceNames"].is_array(), collections.contains(&words("resources")[0]), "{rule}");
}

#[test]
fn the_notes_name_what_was_installed() {
    let arguments = ["install", "shop", "charts/quorate", "--namespace", "team", "--dry-run=client"];
    let said = crate::helm::built("helm", &arguments, "").unwrap();
    let notes = said.split_once("NOTES:\n").unwrap().1;
    for part in ["grows to 3.", "--namespace team wait quoratecluster/shop ", "http://shop.team.svc:8080", "shop-0"] {
        assert!(notes.contains(part), "{part} is not in {notes}");
    }
    assert!(!notes.contains("nothing may fail"), "{notes}");
    let said = crate::helm::built("helm", &[&arguments[..], &["--set=voters=1"]].concat(), "").unwrap();
    assert!(said.contains("With one voter nothing may fail"), "{said}");
}
