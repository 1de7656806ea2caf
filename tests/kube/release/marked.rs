//! An election whose leader has a label and a Lease, and pods that wait to lead it: the test campaigns for them.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::helm::Release;
use crate::api::elected::LABEL;
use crate::members::PATIENCE;
use crate::namespace::Namespace;
use crate::pods::WAITING;

/// The TTL of sessions that no test outlives.
const LONG: u64 = 86_400_000;

const ELECTION: &str = "
apiVersion: quorate.io/v1alpha1
kind: LeaderElection
metadata: {name: marked}
spec:
  leaderLabel: {podSelector: {matchLabels: {app: waiting}}}
  mirrorLease: {duration: 3s}
";

/// That a pod leads.
#[derive(Debug)]
pub struct Reign {
    pub pod: String,
    pub token: u64,
    session: String,
    /// How many were before it; each ended with its session.
    before: u64,
}

impl Release {
    /// Three members that serve, and may label pods and keep Leases in their namespace.
    pub async fn running_with_marks() -> Self {
        let namespace = Namespace::for_pods("chart").await;
        let values = format!("--set=leaderLabel.namespaces={{{0}}},mirrorLease.namespaces={{{0}}}", namespace.name);
        Self::running_in(namespace, &[&values]).await
    }

    /// Makes the pods and the election, and lets the first pod lead.
    pub async fn declare_marked(&self) -> Reign {
        self.namespace.apply(WAITING).await.unwrap();
        self.namespace.wait("statefulset/waiting", "jsonpath={.status.readyReplicas}=3", 60).await;
        self.namespace.apply(ELECTION).await.unwrap();
        self.namespace.wait("leaderelection/marked", "condition=Ready", 60).await;
        let reign = self.enthrone("waiting-0", 0).await;
        self.wait_until_shown(&reign).await;
        reign
    }

    /// Lets a pod lead after this one.
    pub async fn succeed(&self, former: Reign, pod: &str) -> Reign {
        self.ask(&Method::DELETE, &format!("/v1/sessions/{}", former.session), &Value::Null).await;
        let next = self.enthrone(pod, former.before + 1).await;
        assert!(next.token > former.token, "{next:?} after {former:?}");
        next
    }

    async fn enthrone(&self, pod: &str, before: u64) -> Reign {
        let session = self.ask(&Method::POST, "/v1/sessions", &json!({ "ttlMs": LONG, "client": pod })).await;
        let session = session["session"].as_str().unwrap().to_owned();
        let path = format!("/v1/elections/{}/marked/campaign", self.namespace.name);
        let granted = self.ask(&Method::POST, &path, &json!({ "session": session, "candidate": pod })).await;
        Reign { pod: pod.to_owned(), token: granted["fencingToken"].as_u64().unwrap(), session, before }
    }

    /// Asks one member after the other until one knows. Whoever has ended a session already is told that there is none.
    async fn ask(&self, method: &Method, path: &str, body: &Value) -> Value {
        let (http, deadline) =
            (Client::builder().timeout(Duration::from_secs(4)).build().unwrap(), Instant::now() + PATIENCE);
        loop {
            for url in self.members().urls() {
                let request = http.request(method.clone(), format!("{url}{path}?timeoutMs=3000"));
                let request = if body.is_null() { request } else { request.json(body) };
                let Ok(answer) = request.send().await else { continue };
                let is_gone = matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::GONE) && body.is_null();
                if answer.status().is_success() || is_gone {
                    return answer.json().await.unwrap_or_default();
                }
                assert!(answer.status().is_server_error(), "{path}: {:?}", answer.text().await);
            }
            assert!(Instant::now() < deadline, "{path}: nobody knows within {PATIENCE:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until Kubernetes shows that this pod leads and no other: by the label, the Lease and the status.
    pub async fn wait_until_shown(&self, reign: &Reign) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown().await;
            let (pod, token, before) = (&reign.pod, &reign.token.to_string(), &reign.before.to_string());
            let cause = if reign.before == 0 { "" } else { "session-ended" };
            let expected = [pod, pod, token, before, pod, token, token, before, cause];
            if shown == expected {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{reign:?} is not shown within {PATIENCE:?}: labels, holder, token and transitions of the Lease, leaders with \
                 their tokens, and token, transitions and last cause of the status are {shown:?}"
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Who bears the label; the holder of the Lease, its token, and how often it has changed; who leads, by the status, with their
    /// tokens, and the newest, how often that has changed, and why the last one stopped.
    async fn shown(&self) -> [String; 9] {
        // The Lease may not be there yet.
        let get = async |object: &str| self.namespace.get(object).await.unwrap_or_default();
        let (pods, lease, election) = (get("pods").await, get("lease/marked").await, get("le/marked").await);
        let (keeps, status) = (&lease["spec"], &election["status"]);
        let is_labelled = |pod: &&Value| !pod["metadata"]["labels"][LABEL].is_null();
        let labelled = pods["items"].as_array().into_iter().flatten().filter(is_labelled);
        let leaders = status["leaders"].as_array().into_iter().flatten();
        [
            all(labelled, |pod| text(&pod["metadata"]["name"])),
            text(&keeps["holderIdentity"]),
            text(&lease["metadata"]["annotations"]["quorate.io/fencing-token"]),
            text(&keeps["leaseTransitions"]),
            all(leaders.clone(), |leader| text(&leader["pod"])),
            all(leaders, |leader| text(&leader["fencingToken"])),
            text(&status["fencingToken"]),
            text(&status["transitions"]),
            text(&status["lastTransition"]["cause"]),
        ]
    }
}

/// What is said of each, where something is.
fn all<'a>(objects: impl Iterator<Item = &'a Value>, say: impl Fn(&Value) -> String) -> String {
    objects.map(say).filter(|said| !said.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A text or a number as a text; nothing for what is not there.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
