//! What the API server itself refuses of `leaderLabel`, `mirrorLease` and `fencing`, and what it takes: one test a rule.

use super::assert_refused;
use super::fixture::Resources;

/// Declares each of the good specs, and sees each of the bad ones refused for the same reason.
async fn judge(good: &[String], bad: &[String], reason: &str) {
    let resources = Resources::served().await;
    for spec in good {
        resources.declare("LeaderElection", "web", spec).await.unwrap_or_else(|refusal| panic!("{spec}: {refusal}"));
    }
    for spec in bad {
        assert_refused(resources.declare("LeaderElection", "web", spec).await, reason);
    }
}

/// The same text in each of many places.
fn each(texts: &[&str], spec: impl Fn(&str) -> String) -> Vec<String> {
    texts.iter().map(|text| spec(text)).collect()
}

/// A label for the leader's pod, with more fields.
fn label(more: &str) -> String {
    format!("{{leaderLabel: {{podSelector: {{matchLabels: {{app: web}}}}, {more}}}}}")
}

fn lease(fields: &str) -> String {
    format!("{{mirrorLease: {{{fields}}}}}")
}

fn fenced(account: &str) -> String {
    format!("{{fencing: {{serviceAccounts: [{account:?}]}}}}")
}

#[tokio::test]
async fn the_key_of_a_leader_label_is_that_of_a_label() {
    let long = format!("{}/x", "a".repeat(253));
    let good = each(&["leads", "a.b/c", "Leads_now.1", &long], |key| label(&format!("key: {key:?}")));
    let too_long = format!("{}/x", "a".repeat(254));
    let bad = ["-a", "a/", "/a", "a/b/c", "a b", "A.b/c", &"a".repeat(64), &too_long];
    let bad = each(&bad, |key| label(&format!("key: {key:?}")));
    judge(&good, &bad, "it must be the key of a label").await;
}

#[tokio::test]
async fn the_value_of_a_leader_label_is_that_of_a_label() {
    let longest = "a".repeat(63);
    let good = each(&["", "true", "A_b-c.9", &longest], |value| label(&format!("value: {value:?}")));
    let bad = each(&["-a", "a b", "ä", "a."], |value| label(&format!("value: {value:?}")));
    judge(&good, &bad, "it must be the value of a label").await;
}

#[tokio::test]
async fn the_selector_of_a_leader_label_has_keys_and_values_of_labels() {
    let select = |labels: &str| format!("{{leaderLabel: {{podSelector: {{matchLabels: {labels}}}}}}}");
    let good = each(&["{app: web}", "{app.kubernetes.io/name: web, tier: \"\"}"], select);
    let bad = each(&["{\"a b\": \"\"}", "{app: \"a b\"}", "{app: web, -a: x}"], select);
    judge(&good, &bad, "it must have keys and values of labels").await;
}

#[tokio::test]
async fn a_leader_label_does_not_change_what_selects_the_pods() {
    let reason = "key must not be a label that selects the pods: choose one that only this election sets";
    judge(&[label("key: leads")], &[label("key: app")], reason).await;
}

#[tokio::test]
async fn a_mirrored_lease_is_called_like_an_object() {
    let good = each(&["web", "a.b-c.9"], |name| lease(&format!("name: {name:?}")));
    let bad = each(&["A", "a_b", "a..b", "-a", "a."], |name| lease(&format!("name: {name:?}")));
    judge(&good, &bad, "it must be the name of an object").await;
}

#[tokio::test]
async fn a_mirrored_lease_is_good_for_3_s_to_an_hour() {
    let good = each(&["3s", "15s", "1m", "60m", "1h"], |duration| lease(&format!("duration: {duration}")));
    let bad = ["2s", "61m", "2h", "3000ms", "15", "1.5s", "soon"];
    let bad = each(&bad, |duration| lease(&format!("duration: {duration:?}")));
    judge(&good, &bad, "it must be 3s to 1h, written as a whole number").await;
}

#[tokio::test]
async fn only_an_election_with_one_seat_is_mirrored() {
    let with = |seats: u32| format!("{{seats: {seats}, mirrorLease: {{}}}}");
    judge(&[with(1), "{seats: 2}".to_owned()], &[with(2)], "spec.mirrorLease needs spec.seats to be 1").await;
}

#[tokio::test]
async fn who_is_fenced_is_called_like_a_service_account() {
    let good = each(&["controller", "a.b", "shop/controller"], fenced);
    let long = format!("{}/a", "a".repeat(64));
    let bad = each(&["A", "a/b/c", "a.b/c", "system:serviceaccount:a:b", "/a", &long], fenced);
    judge(&good, &bad, "each must be the name of a ServiceAccount: NAME, or NAMESPACE/NAME").await;
}

#[tokio::test]
async fn the_status_has_room_for_all_leaders_who_are_fenced() {
    let with = |seats: u32| format!("{{seats: {seats}, fencing: {{serviceAccounts: [a]}}}}");
    judge(&[with(100), "{seats: 101}".to_owned()], &[with(101)], "spec.fencing needs spec.seats to be at most 100")
        .await;
}
