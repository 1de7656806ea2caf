//! Whatever may be wrong with the API server, one after the other, while applications work with members in pods: these ask a proxy,
//! and the tests, the nodes and everybody else the API server itself. `api/outages.rs` has more of it, for members that are processes.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::deposed::wait_until;
use super::helm::Release;
use crate::api::alone::make_configs_older;
use crate::faults::outage::{assert_served, declare_everything, declare_text, document, everything_converges};
use crate::kubectl::kubectl;
use crate::members::{Agreement, PATIENCE, SIZE, name, sum};
use crate::nodes::Nodes;
use crate::proxy::{Fault, Proxy, Told};
use crate::support::effort::Effort;
use crate::trial::{GAP, Trial};

/// Longer than the operator waits for a write.
const TOO_LONG: Duration = Duration::from_secs(12);

/// Between two looks at what the Raft leader tells.
const PACE: Duration = Duration::from_millis(300);

/// What may be wrong; at short effort every fourth of them is.
const FAULTS: [Fault; 9] = [
    Fault::Away,
    Fault::Slow(TOO_LONG, Some(Method::PATCH)),
    Fault::Answers(StatusCode::INTERNAL_SERVER_ERROR, Some(Method::PATCH)),
    Fault::Hangs,
    Fault::Answers(StatusCode::CONFLICT, Some(Method::PATCH)),
    Fault::Answers(StatusCode::TOO_MANY_REQUESTS, None),
    Fault::WatchesEnd(500),
    Fault::WatchesEnd(410),
    Fault::Missing("/apis/quorate.io/v1alpha1/replicatedconfigs"),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_the_api_server_is_told_and_made_up_for_and_costs_applications_nothing() {
    let weather = Weather::fine().await;
    for (number, fault) in FAULTS.iter().enumerate().step_by(Effort::from_environment().pick(4, 1)) {
        weather.weathers(fault, &format!("meanwhile-{number}")).await;
    }
    weather.weathers_what_cannot_be_read().await;
    weather.weathers_a_kind_that_is_deleted().await;
    weather.weathers_a_kind_of_an_older_release().await;
    everything_converges(&weather.trial, &weather.release).await;
    weather.trial.judge().await;
}

/// A release under load whose API server may be anything.
struct Weather {
    proxy: Proxy,
    release: Release,
    trial: Trial,
}

/// How it was before something went wrong, and how that is told.
struct Calm {
    told: Told,
    /// Requests of each member that have failed so.
    counted: Vec<f64>,
    until: Timestamp,
}

impl Weather {
    async fn fine() -> Self {
        let nodes = Nodes::alone().await;
        let release = Release::running().await;
        // So members may do through it what their chart lets them do, and nothing else.
        let account = release.namespace.kubeconfig_of("quorate").await;
        let proxy = Proxy::for_pods(account.path()).await;
        release.asks(&proxy).await;
        declare_everything(&release).await;
        let trial = Trial::with(release.members(), nodes).await;
        Self { proxy, release, trial }
    }

    /// The fault is told by the Raft leader's metrics and log, touches no application, and is told by the cluster's condition when it
    /// is over; and a config that was declared meanwhile is there then, with its conditions.
    async fn weathers(&self, fault: &Fault, config: &str) {
        let lasting = async |_: &Agreement| {
            let calm = self.calm(fault.told()).await;
            // What is open breaks only where that is what is wrong: after each break members wait longer before they ask again.
            let begin = if *fault == Fault::Away { Proxy::set } else { Proxy::turn };
            begin(&self.proxy, fault.clone());
            declare_text(&self.release, config, "new").await;
            let seen = self.is_told(&calm).await;
            self.applications_work().await;
            self.proxy.turn(Fault::None);
            self.is_ready(config).await;
            let why = calm.told.why;
            let is_told = |status: &Value| is_over(status, |message| tells(message, why, calm.until, seen));
            self.release.status_when(&format!("well again, after {why:?}"), is_told).await;
        };
        self.survives(&format!("{fault:?}"), lasting).await;
    }

    /// A config that cannot be read is told by its own condition, and keeps no other from being served.
    async fn weathers_what_cannot_be_read(&self) {
        let namespace = &self.release.namespace;
        let declare = async |limit: u8| {
            let spec = format!("{{data: {{text: new}}, historyLimit: {limit}}}");
            namespace.apply(&document("ReplicatedConfig", "broken", &spec)).await.unwrap();
        };
        let is_counted = async |leader, times| {
            let metrics = self.trial.members.metrics(leader).await;
            sum(&metrics, "quorate_resources_invalid", "kind=\"replicatedconfigs\"") == times
        };
        let lasting = async |_: &Agreement| {
            let began = Timestamp::now();
            self.proxy.turn(Fault::Garbles("\"historyLimit\":77", "\"historyLimit\":\"\""));
            declare(77).await;
            declare_text(&self.release, "whole", "new").await;
            self.is_ready("whole").await;
            let words = format!("replicatedconfigs {}/broken is not valid", namespace.name);
            self.wait_until_leader("it does not say what it cannot read", async |leader| {
                self.logs(leader, began, &[&words]).await && is_counted(leader, 1.0).await
            })
            .await;
            namespace.wait("replicatedconfig/broken", "condition=Accepted=False", 60).await;
            self.applications_work().await;
            self.proxy.turn(Fault::None);
            // What was read once is read again when it has changed.
            declare(78).await;
            self.is_ready("broken").await;
            self.wait_until_leader("it does not say that it can read everything", async |leader| {
                is_counted(leader, 0.0).await
            })
            .await;
            self.release.status_when("well", |status| is_over(status, |_| true)).await;
        };
        self.survives("a config that cannot be read", lasting).await;
    }

    /// A kind that is deleted takes what is declared of it with it, and is missed aloud until it is there again.
    async fn weathers_a_kind_that_is_deleted(&self) {
        let lasting = async |_: &Agreement| {
            let calm = self.calm(Fault::Missing("leaderelections").told()).await;
            kubectl(&["delete", "crd", "leaderelections.quorate.io"]).await.unwrap();
            self.is_told(&calm).await;
            self.is_degraded("ResourcesNotSeen", calm.told.why).await;
            self.applications_work().await;
            apply_crds().await;
            let is_served = async || self.release.namespace.kubectl(&["get", "leaderelections"]).await.is_ok();
            wait_until("the kind is served", is_served).await;
            declare_everything(&self.release).await;
            self.release.status_when("well", |status| is_over(status, |_| true)).await;
        };
        self.survives("a kind that is deleted", lasting).await;
    }

    /// Of a kind that an older release has brought, statuses are not written, and that is told, until this one's is there.
    async fn weathers_a_kind_of_an_older_release(&self) {
        let why = "statuses of replicatedconfigs are not written";
        let lasting = async |_: &Agreement| {
            let calm = self.calm(Told { reason: "other", log: "replicatedTo", why }).await;
            make_configs_older().await;
            declare_text(&self.release, "of-old", "new").await;
            assert_served(&self.release, "of-old", "new").await;
            self.is_told(&calm).await;
            self.is_degraded("StatusesNotWritten", why).await;
            self.applications_work().await;
            apply_crds().await;
            self.is_ready("of-old").await;
            self.release.status_when("well", |status| is_over(status, |_| true)).await;
        };
        self.survives("a kind of an older release", lasting).await;
    }

    async fn survives(&self, what: &str, lasting: impl AsyncFnOnce(&Agreement)) {
        let gap = self.trial.survives(&format!("the API server: {what}"), lasting).await;
        assert!(gap <= GAP, "{what}: an election was without a leader for {gap:?}");
    }

    /// They write, read and lead as in good weather, and are served what was declared before.
    async fn applications_work(&self) {
        self.trial.goes_on().await;
        assert_served(&self.release, "web", "before").await;
    }

    /// Waits until a config is served by all, and Kubernetes is told so.
    async fn is_ready(&self, config: &str) {
        assert_served(&self.release, config, "new").await;
        for condition in ["Ready", "Replicated"] {
            let config = format!("replicatedconfig/{config}");
            self.release.namespace.wait(&config, &format!("condition={condition}"), 60).await;
        }
    }

    /// Waits until it is so of the member that leads.
    async fn wait_until_leader(&self, failure: &str, is_so: impl AsyncFn(usize) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self.trial.members.agree(&[0, 1, 2]).await.leader).await {
            assert!(Instant::now() < deadline, "after {PATIENCE:?}: {failure}");
            sleep(PACE).await;
        }
    }

    async fn calm(&self, told: Told) -> Calm {
        Calm { told, counted: self.errors(&told).await, until: Timestamp::now() }
    }

    /// Waits until whoever leads tells it in its log and by its metrics; when that was seen.
    async fn is_told(&self, calm: &Calm) -> Timestamp {
        let Calm { told, counted, until } = calm;
        self.wait_until_leader(&format!("it is not told as {told:?}"), async |leader| {
            self.logs(leader, *until, &[told.log, told.why]).await && self.errors(told).await[leader] > counted[leader]
        })
        .await;
        let seen = Timestamp::now();
        println!("{:?} was told within {:.1?}", told.why, Duration::try_from(seen.duration_since(*until)).unwrap());
        seen
    }

    /// Waits until the cluster's condition says so.
    async fn is_degraded(&self, reason: &str, why: &str) {
        let says_so = |status: &Value| {
            let mut conditions = status["conditions"].as_array().into_iter().flatten();
            let degraded = conditions.find(|it| it["type"] == "Degraded" && it["reason"] == reason);
            degraded.is_some_and(|degraded| degraded["message"].as_str().unwrap().contains(why))
        };
        self.release.status_when(&format!("degraded, {reason}: {why}"), says_so).await;
    }

    /// Requests of each member that failed as is told of a fault.
    async fn errors(&self, told: &Told) -> Vec<f64> {
        let (mut errors, reason) = (Vec::new(), format!("reason=\"{}\"", told.reason));
        for member in 0..SIZE {
            let metrics = self.trial.members.metrics(member).await;
            errors.push(sum(&metrics, "quorate_kubernetes_errors_total", &reason));
        }
        errors
    }

    /// Whether a member has logged all of these words since then.
    async fn logs(&self, member: usize, since: Timestamp, words: &[&str]) -> bool {
        let since = format!("--since-time={since}");
        let log = self.release.namespace.kubectl(&["logs", &name(member), &since]).await.unwrap();
        words.iter().all(|words| log.contains(words))
    }
}

impl Release {
    /// Lets the members ask a proxy for the API server: one is restarted after the other.
    async fn asks(&self, proxy: &Proxy) {
        let file = format!("--from-file=config={}", proxy.kubeconfig().display());
        self.namespace.kubectl(&["create", "configmap", "kubeconfig", &file]).await.unwrap();
        // The image has no certificates, and a client wants some even where it needs none.
        let authority = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
        let container = json!({
            "name": "quorate",
            "env": [
                { "name": "KUBECONFIG", "value": "/kubeconfig/config" },
                { "name": "SSL_CERT_FILE", "value": authority },
            ],
            "volumeMounts": [{ "name": "kubeconfig", "mountPath": "/kubeconfig", "readOnly": true }],
        });
        let volume = json!({ "name": "kubeconfig", "configMap": { "name": "kubeconfig" } });
        let pod = json!({ "containers": [container], "volumes": [volume] });
        let patch = json!({ "spec": { "template": { "spec": pod } } }).to_string();
        self.namespace.kubectl(&["patch", "statefulset/quorate", "--patch", &patch]).await.unwrap();
        self.namespace.kubectl(&["rollout", "status", "statefulset/quorate", "--timeout=3m"]).await.unwrap();
    }
}

/// Brings the kinds of this release.
async fn apply_crds() {
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=quorate-crds", "--filename=crds"];
    kubectl(&apply).await.unwrap();
}

/// Whether a cluster is not degraded, and its message says so.
fn is_over(status: &Value, says_so: impl Fn(&str) -> bool) -> bool {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let degraded = conditions.find(|it| it["type"] == "Degraded" && it["status"] == "False");
    degraded.is_some_and(|degraded| says_so(degraded["message"].as_str().unwrap()))
}

/// Whether a message says why something was wrong, from before it was seen until after it had begun.
fn tells(message: &str, why: &str, began: Timestamp, seen: Timestamp) -> bool {
    let lapse = || {
        let (times, what) = message.strip_prefix("every member answers; from ")?.split_once(": ")?;
        let (from, until) = times.split_once(" to ")?;
        Some((from.parse::<Timestamp>().ok()?, until.parse::<Timestamp>().ok()?, what))
    };
    lapse().is_some_and(|(from, until, what)| from <= seen && until >= began && what.contains(why))
}
