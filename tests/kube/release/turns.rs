//! How far a member that was replaced has come when Kubernetes takes the next one away.

use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use tokio::time::interval;

use crate::api::elected;
use crate::members::{Members, SIZE, metric, name};

/// Between two looks at how far the members are.
const PACE: Duration = Duration::from_millis(200);

/// How many looks ago any member had applied what the former must have applied: one that has caught up is behind for moments.
const LOOKS: usize = 5;

/// A pod was taken away, and another one before it.
#[derive(Debug)]
pub struct Turn {
    /// The pod that was to go.
    pub gone: String,
    /// The one before it.
    pub former: String,
    /// The log index that the former had applied then, if it answered.
    pub applied: Option<u64>,
    /// The one that any member had applied [`LOOKS`] earlier.
    pub known: u64,
}

/// Follows the members' pods, and writes down every turn. Never ends.
pub async fn follow(members: &Members, turns: &Mutex<Vec<Turn>>) {
    let pods = elected::pods(&members.namespace.name).await;
    let mut events = pin!(watcher(pods, Config::default().labels("app.kubernetes.io/name=quorate")));
    let (mut pace, http) = (interval(PACE), reqwest::Client::new());
    let (mut looks, mut ending, mut former) = (VecDeque::from([0; LOOKS]), BTreeSet::new(), None);
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(Ok(Event::Apply(pod))) = event else { continue };
                let (gone, uid) = (pod.metadata.name.unwrap(), pod.metadata.uid.unwrap());
                if pod.metadata.deletion_timestamp.is_none() || !ending.insert(uid) {
                    continue;
                }
                if let Some(former) = former.replace(gone.clone()) {
                    let applied = applied(&http, members, &former).await;
                    turns.lock().unwrap().push(Turn { gone, former, applied, known: looks[0] });
                }
            }
            _ = pace.tick() => {
                let mut most = looks[LOOKS - 1];
                for member in 0..SIZE {
                    most = most.max(applied(&http, members, &name(member)).await.unwrap_or_default());
                }
                looks.pop_front();
                looks.push_back(most);
            }
        }
    }
}

/// The log index that a member has applied, if it answers.
async fn applied(http: &reqwest::Client, members: &Members, pod: &str) -> Option<u64> {
    let url = format!("http://{pod}.quorate-members.{}.svc.cluster.local:9090/metrics", members.namespace.name);
    let answer = http.get(url).timeout(Duration::from_secs(1)).send().await.ok()?;
    metric(&answer.text().await.ok()?, "quorate_applied_index").parse().ok()
}
