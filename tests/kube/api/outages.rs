//! What is wrong with the API server costs the data plane nothing, is told at once, and is made up for when it is over: a test for
//! each that it may be. With CRDs of an older release: see `alone.rs`.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::operated::{Operated, find};
use crate::members;
use crate::proxy::{Fault, Proxy};
use crate::support::trio::{SIZE, wait_for};

/// A write of an application is answered within this, whatever the API server does. That is far more than it takes, and far
/// less than anything that waits for the API server.
const SOON: Duration = Duration::from_secs(4);

/// A cluster whose API server may be anything.
pub struct Weather {
    pub cluster: Operated,
    proxy: Proxy,
}

impl Weather {
    pub async fn fine() -> Self {
        let proxy = Proxy::start().await;
        let cluster = Operated::prepared().await.with_kubeconfig(proxy.kubeconfig());
        Self::of(cluster, proxy).await
    }

    /// The same, with the CRDs for itself.
    pub async fn fine_alone() -> Self {
        let proxy = Proxy::start().await;
        let cluster = Operated::prepared_alone().await.with_kubeconfig(proxy.kubeconfig());
        Self::of(cluster, proxy).await
    }

    async fn of(mut cluster: Operated, proxy: Proxy) -> Self {
        cluster.start_all().await;
        cluster.apply_text("before", "old").await;
        cluster.wait_until_served("before", Some("old")).await;
        cluster.wait_for("rcfg/before", "Ready", "True").await;
        cluster.wait_for("qc/quorate", "Ready", "True").await;
        Self { cluster, proxy }
    }

    /// Requests of the operator that failed for that reason, on all members.
    pub async fn errors(&self, reason: &str) -> f64 {
        self.sum("quorate_kubernetes_errors_total", &format!("reason=\"{reason}\"")).await
    }

    /// Waits until the cluster says that it is degraded, for this reason and in these words.
    pub async fn is_told(&self, reason: &str, words: &str) {
        let says_so = |cluster: &Value| {
            let degraded = find(cluster, "Degraded").filter(|degraded| degraded["reason"] == reason);
            let message = degraded.and_then(|degraded| degraded["message"].as_str());
            message.is_some_and(|message| message.contains(words))
        };
        self.cluster.wait_until("qc/quorate", &format!("degraded, {reason}: {words:?}"), says_so).await;
    }

    /// What a metric comes to on all members, in the series with that label.
    async fn sum(&self, metric: &str, label: &str) -> f64 {
        let mut sum = 0.0;
        for member in 0..SIZE {
            let metrics = self.cluster.trio.metrics(member).await;
            sum += members::sum(&metrics, metric, label);
        }
        sum
    }

    /// How often anybody has logged it.
    pub fn logged(&self, text: &str) -> usize {
        (0..SIZE).map(|member| self.cluster.trio.log(member).matches(text).count()).sum()
    }

    /// Applications write, and read what was there before.
    pub async fn data_plane_is_untouched(&self) {
        self.keys_are_written().await;
        for member in 0..SIZE {
            assert_eq!(self.cluster.served(member, "before").await.as_deref(), Some("old"));
        }
    }

    /// Applications write, by every member.
    pub async fn keys_are_written(&self) {
        for member in 0..SIZE {
            let began = Instant::now();
            let url = format!("{}/v1/kv/written", self.cluster.trio.url(member));
            let answer = self.cluster.trio.http.put(url).body("1").send().await.unwrap();
            assert!(answer.status().is_success(), "{answer:?}");
            assert!(began.elapsed() < SOON, "a write took {:?}", began.elapsed());
        }
    }

    /// The fault is told by a metric and in the log, touches no application, and what was declared meanwhile is there, with its
    /// conditions, when it is over.
    async fn weathers(&self, fault: Fault) {
        let told = fault.told();
        let counted = self.errors(told.reason).await;
        let logged = [told.log, told.why].map(|text| (text, self.logged(text)));
        self.proxy.set(fault.clone());
        self.cluster.apply_text("meanwhile", "new").await;
        let failure = format!("{fault:?} is not counted as {}", told.reason);
        wait_for(&failure, async || (self.errors(told.reason).await > counted).then_some(())).await;
        for (text, before) in logged {
            let failure = format!("{fault:?} is not logged as {text:?}");
            wait_for(&failure, async || (self.logged(text) > before).then_some(())).await;
        }
        self.data_plane_is_untouched().await;
        self.proxy.set(Fault::None);
        self.cluster.wait_until_served("meanwhile", Some("new")).await;
        for condition in ["Ready", "Replicated"] {
            self.cluster.wait_for("rcfg/meanwhile", condition, "True").await;
        }
        let is_told = |cluster: &Value| {
            let degraded = find(cluster, "Degraded").filter(|degraded| degraded["status"] == "False");
            degraded.is_some_and(|degraded| degraded["message"].as_str().unwrap().contains(told.why))
        };
        self.cluster.wait_until("qc/quorate", &format!("well again, after {:?}", told.why), is_told).await;
        self.data_plane_is_untouched().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_is_waited_for() {
    Weather::fine().await.weathers(Fault::Away).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_takes_requests_and_never_answers_is_given_up_and_asked_again() {
    Weather::fine().await.weathers(Fault::Hangs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_are_given_up_although_nobody_has_closed_them() {
    Weather::fine().await.weathers(Fault::Stalls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_the_api_server_is_away_is_served_until_it_is_back_and_no_longer() {
    let weather = Weather::fine().await;
    weather.proxy.set(Fault::Away);
    weather.cluster.resources.namespace.kubectl(&["delete", "rcfg/before"]).await.unwrap();
    wait_for("nobody misses the API server", async || (weather.errors("unreachable").await > 0.0).then_some(())).await;
    weather.data_plane_is_untouched().await;
    weather.proxy.set(Fault::None);
    weather.cluster.wait_until_served("before", None).await;
    weather.keys_are_written().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_slow_is_served_slowly_and_given_up_when_it_takes_too_long() {
    let weather = Weather::fine().await;
    weather.proxy.set(Fault::Slow(Duration::from_secs(2), None));
    weather.cluster.apply_text("slow", "new").await;
    weather.data_plane_is_untouched().await;
    weather.cluster.wait_until_served("slow", Some("new")).await;
    weather.cluster.wait_for("rcfg/slow", "Ready", "True").await;
    weather.weathers(Fault::Slow(Duration::from_secs(12), Some(Method::PATCH))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_somebody_else_was_faster_with_is_made_again() {
    Weather::fine().await.weathers(Fault::Answers(StatusCode::CONFLICT, Some(Method::PATCH))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_state_is_not_kept_any_more_begins_anew() {
    Weather::fine().await.weathers(Fault::WatchesEnd(410)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_cut_begins_anew() {
    Weather::fine().await.weathers(Fault::WatchesEnd(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_has_too_many_requests_is_asked_again_later() {
    Weather::fine().await.weathers(Fault::Answers(StatusCode::TOO_MANY_REQUESTS, None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_are_missed_by_no_application() {
    Weather::fine().await.weathers(Fault::Answers(StatusCode::FORBIDDEN, None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_the_api_server_fails_to_take_is_written_again() {
    let fault = Fault::Answers(StatusCode::INTERNAL_SERVER_ERROR, Some(Method::PATCH));
    Weather::fine().await.weathers(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_turned_by_a_write_that_is_never_answered_is_told_once_all_the_same() {
    let weather = Weather::fine().await;
    let declare = async |text: &str| {
        let spec = format!("schema: {{type: integer}}, data: {{text: '{text}'}}");
        weather.cluster.apply("ReplicatedConfig", "before", &spec).await.unwrap();
    };
    let told = async |reason: &str| {
        let events = weather.cluster.look.at("events").await;
        let is_it = |event: &&Value| event["involvedObject"]["name"] == "before" && event["reason"] == reason;
        events["items"].as_array().expect("Events can be read").iter().filter(is_it).count()
    };
    weather.proxy.turn(Fault::Unanswered(Method::PATCH));
    declare("none").await;
    weather.cluster.wait_for("rcfg/before", "Accepted", "False").await;
    wait_for("it is not told", async || (told("Invalid").await > 0).then_some(())).await;
    weather.data_plane_is_untouched().await;
    weather.proxy.set(Fault::None);
    declare("7").await;
    wait_for("it is not told to be well", async || (told("Valid").await > 0).then_some(())).await;
    assert_eq!((told("Invalid").await, told("Valid").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_kinds_the_members_serve_and_say_so_until_the_kinds_are_there() {
    let proxy = Proxy::start().await;
    proxy.set(Fault::Missing("/apis/quorate.io"));
    let mut cluster = Operated::prepared().await.with_kubeconfig(proxy.kubeconfig());
    cluster.start_all().await;
    let weather = Weather { cluster, proxy };
    weather.cluster.apply_text("web", "new").await;
    wait_for("it is not counted", async || (weather.errors("not_found").await > 0.0).then_some(())).await;
    wait_for("it is not logged", async || (weather.logged("replicatedconfigs are not seen") > 0).then_some(())).await;
    let url = format!("{}/v1/kv/written", weather.cluster.trio.url(0));
    assert!(weather.cluster.trio.http.put(url).body("1").send().await.unwrap().status().is_success());
    weather.proxy.set(Fault::None);
    weather.cluster.wait_until_served("web", Some("new")).await;
    weather.cluster.wait_for("rcfg/web", "Ready", "True").await;
    weather.cluster.wait_for("qc/quorate", "Degraded", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_seen_is_a_condition_of_the_cluster_and_deletes_nothing() {
    let weather = Weather::fine().await;
    weather.proxy.set(Fault::Missing("/apis/quorate.io/v1alpha1/replicatedconfigs"));
    // With its connection, another kind may be out of sight for a moment.
    weather.is_told("ResourcesNotSeen", "replicatedconfigs are not seen").await;
    assert!(weather.errors("not_found").await > 0.0, "it is not counted");
    assert!(
        weather.logged("replicatedconfigs are not seen: the API server does not know them") > 0,
        "it is not logged"
    );
    weather.data_plane_is_untouched().await;
    weather.proxy.set(Fault::None);
    weather.cluster.wait_for("qc/quorate", "Degraded", "False").await;
    weather.data_plane_is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_that_cannot_be_written_are_a_condition_of_the_cluster_which_says_of_what_kind_and_why() {
    let weather = Weather::fine().await;
    let cases = [
        ("403", StatusCode::FORBIDDEN, "the members' ServiceAccount may not patch them"),
        ("500", StatusCode::INTERNAL_SERVER_ERROR, "the API server has failed"),
    ];
    for (text, status, why) in cases {
        weather.proxy.set(Fault::StatusesAnswer("replicatedconfigs", status));
        weather.cluster.apply_text("web", text).await;
        weather.cluster.wait_until_served("web", Some(text)).await;
        let words = format!("statuses of replicatedconfigs are not written: {why}");
        weather.is_told("StatusesNotWritten", &words).await;
        // Another kind has nothing to do with it.
        weather.cluster.apply("LeaderElection", &format!("of-{text}"), "seats: 1").await.unwrap();
        weather.cluster.wait_for(&format!("le/of-{text}"), "Ready", "True").await;
        weather.data_plane_is_untouched().await;
        weather.proxy.set(Fault::None);
        weather.cluster.wait_for("rcfg/web", "Ready", "True").await;
        weather.cluster.wait_for("qc/quorate", "Degraded", "False").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_is_told_in_its_status_and_keeps_no_other_from_being_served() {
    let weather = Weather::fine().await;
    weather.proxy.set(Fault::Garbles("\"historyLimit\":77", "\"historyLimit\":\"\""));
    weather.cluster.apply("ReplicatedConfig", "broken", "data: {text: one}, historyLimit: 77").await.unwrap();
    weather.cluster.apply_text("other", "new").await;
    weather.cluster.wait_until_served("other", Some("new")).await;
    let (_, message) = weather.cluster.wait_for("rcfg/broken", "Accepted", "False").await;
    assert!(message.contains("cannot be read") && message.contains("historyLimit"), "{message}");
    assert_eq!(weather.cluster.served(0, "broken").await, None);
    weather.data_plane_is_untouched().await;
    assert!(weather.sum("quorate_resources_invalid", "kind=\"replicatedconfigs\"").await > 0.0, "it is not counted");
    let broken = format!("replicatedconfigs {}/broken is not valid", weather.cluster.resources.namespace.name);
    wait_for("it is not logged", async || (weather.logged(&broken) > 0).then_some(())).await;
    // Nothing is written again and again for its sake.
    let writes = async || {
        let metrics = weather.cluster.trio.metrics(weather.cluster.trio.leader().await).await;
        metrics
            .lines()
            .find(|line| line.starts_with("quorate_kubernetes_writes_total{operation=\"status\""))
            .unwrap()
            .to_owned()
    };
    sleep(Duration::from_secs(2)).await;
    let before = writes().await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(writes().await, before);
    weather.proxy.set(Fault::None);
    weather.cluster.apply("ReplicatedConfig", "broken", "data: {text: one}, historyLimit: 78").await.unwrap();
    weather.cluster.wait_until_served("broken", Some("one")).await;
    weather.cluster.wait_for("rcfg/broken", "Ready", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_all_start_while_the_api_server_is_away_serve_from_their_volumes() {
    let mut weather = Weather::fine().await;
    weather.proxy.set(Fault::Away);
    for member in 0..SIZE {
        weather.cluster.trio.kill(member);
    }
    weather.cluster.start_all().await;
    weather.data_plane_is_untouched().await;
    weather.proxy.set(Fault::None);
    weather.cluster.apply_text("before", "newer").await;
    weather.cluster.wait_until_served("before", Some("newer")).await;
    weather.cluster.wait_for("rcfg/before", "Ready", "True").await;
    weather.cluster.wait_for("qc/quorate", "Ready", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_statuses_a_few_are_written_at_a_time_and_all_of_them_in_the_end() {
    let weather = Weather::fine().await;
    weather.proxy.set(Fault::Slow(Duration::from_millis(200), Some(Method::PATCH)));
    let names: Vec<_> = (0..40).map(|number| format!("many-{number}")).collect();
    for name in &names {
        weather.cluster.apply_text(name, "one").await;
    }
    for name in &names {
        weather.cluster.wait_for(&format!("rcfg/{name}"), "Replicated", "True").await;
    }
    let most = weather.proxy.most_at_a_time();
    println!("at most {most} statuses were being written at a time");
    assert!((2..=8).contains(&most), "{most} statuses were being written at a time");
}
