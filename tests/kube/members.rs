//! Three members in pods, each on a node of its own. They found their cluster together and talk to no API server, so that what
//! goes wrong with them is Raft's and the pods' matter alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quorate::api::wire;
use quorate::client::{Client, Patience};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::direct;
use crate::kubectl::{apply, kubectl};
use crate::namespace::Namespace;
use crate::nodes::Nodes;

pub const SIZE: usize = 3;

/// How long members may take to be all there and agreed again after the last of the faults is over: a node that comes back
/// needs a minute for its pods.
pub const PATIENCE: Duration = Duration::from_mins(3);

pub struct Members {
    pub namespace: Arc<Namespace>,
}

/// Where a member is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub node: usize,
    pub ip: String,
    /// Of the pod: another one is another pod, although it has the same name.
    pub uid: String,
    /// How often its container was started again.
    pub restarts: u64,
}

/// What all members say that there is one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    pub cluster: String,
    pub leader: usize,
    pub term: u64,
    pub revision: u64,
}

/// Everybody but one.
pub fn others(member: usize) -> Vec<usize> {
    (0..SIZE).filter(|other| *other != member).collect()
}

/// The name of a member and of its pod.
pub fn name(member: usize) -> String {
    format!("quorate-{member}")
}

impl Members {
    /// Three new members that serve, each on another node: otherwise one node would be a quorum.
    pub async fn running() -> Self {
        let members = Self::start(Namespace::for_pods("members").await).await;
        let nodes: BTreeSet<_> = members.places().await.into_iter().map(|place| place.node).collect();
        assert_eq!(nodes.len(), SIZE, "they are on the nodes {nodes:?}");
        members
    }

    /// The same, with a volume of 24 MiB for one of them.
    pub async fn with_small_volume(nodes: &Nodes, member: usize) -> Self {
        let namespace = Namespace::for_pods("members").await;
        let (node, path) = (member + 1, format!("/run/{}", namespace.name));
        nodes.in_node(node, &["mkdir", &path]);
        nodes.in_node(node, &["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", &path]);
        let volume = format!(
            "
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {0}}}
spec:
  capacity: {{storage: 2Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: local
  claimRef: {{namespace: {0}, name: data-{1}}}
  local: {{path: {path}}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [node{node}]}}]
",
            namespace.name,
            name(member)
        );
        apply(&volume).await.unwrap();
        Self::start(namespace).await
    }

    async fn start(namespace: Namespace) -> Self {
        let members = Self { namespace: Arc::new(namespace) };
        members.namespace.apply(include_str!("members.yaml")).await.unwrap();
        members.namespace.kubectl(&["rollout", "status", "statefulset/quorate", "--timeout=2m"]).await.unwrap();
        members
    }

    /// The HTTP APIs of the members, by names.
    pub fn urls(&self) -> Vec<String> {
        let url =
            |member| format!("http://{}.quorate-members.{}.svc.cluster.local:8080", name(member), self.namespace.name);
        (0..SIZE).map(url).collect()
    }

    pub async fn place(&self, member: usize) -> Option<Place> {
        let pod = self.namespace.get(&format!("pod/{}", name(member))).await.ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Place {
            node: pod["spec"]["nodeName"].as_str()?.strip_prefix("node")?.parse().ok()?,
            ip: text(&pod["status"]["podIP"])?,
            uid: text(&pod["metadata"]["uid"])?,
            restarts: pod["status"]["containerStatuses"][0]["restartCount"].as_u64()?,
        })
    }

    /// Where all members are; every one of them has a pod with an address.
    pub async fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for member in 0..SIZE {
            places.push(self.place(member).await.unwrap_or_else(|| panic!("{} has no place", name(member))));
        }
        places
    }

    /// The cluster as one member sees it, if it answers.
    pub async fn seen_by(&self, member: usize) -> Option<wire::Cluster> {
        let patience = Patience::Once(Duration::from_secs(3));
        let client = Client::new(&self.urls()[member..=member], patience, 0).expect("it is a URL");
        Some(client.cluster().await.ok()?.body)
    }

    /// Waits until all of `members` say the same of the cluster, and confirm that it is new.
    pub async fn agree(&self, members: &[usize]) -> Agreement {
        self.agree_on(members, |_| true).await
    }

    /// Waits until everybody but `lost` agrees on another Raft leader.
    pub async fn succeed(&self, lost: usize) -> Agreement {
        self.agree_on(&others(lost), |agreement| agreement.leader != lost).await
    }

    async fn agree_on(&self, members: &[usize], enough: impl Fn(&Agreement) -> bool) -> Agreement {
        let mut last = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last.clear();
            for member in members {
                last.push(self.seen_by(*member).await);
            }
            if let Some(agreement) = agreement(&last).filter(&enough) {
                return agreement;
            }
            sleep(Duration::from_millis(200)).await;
        }
        panic!("the members {members:?} do not agree within {PATIENCE:?}: {last:#?}");
    }

    /// Waits until every pod is ready and all members agree.
    pub async fn whole(&self) -> Agreement {
        let deadline = Instant::now() + PATIENCE;
        while !self.all_ready().await {
            assert!(Instant::now() < deadline, "the pods are not ready within {PATIENCE:?}");
            sleep(Duration::from_millis(200)).await;
        }
        self.agree(&[0, 1, 2]).await
    }

    async fn all_ready(&self) -> bool {
        let Ok(set) = self.namespace.get("statefulset/quorate").await else { return false };
        set["status"]["readyReplicas"] == SIZE
    }

    pub async fn delete_pod(&self, member: usize) {
        self.namespace.kubectl(&["delete", "pod", &name(member), "--wait=false"]).await.unwrap();
    }

    /// Takes everything from a member's volume, on that node, behind its back; its container is started again.
    pub async fn wipe_volume(&self, nodes: &Nodes, member: usize, node: usize) {
        let volume = self.volume(member).await;
        let wipe = r#"pkill -STOP -x quorate; find "$0" -mindepth 1 -delete; pkill -KILL -x quorate"#;
        nodes.in_node(node, &["sh", "-c", wipe, &volume]);
    }

    /// The id by which a member votes, as another one sees it.
    pub async fn id(&self, member: usize) -> Option<u64> {
        let seen = self.seen_by(others(member)[0]).await?;
        let is_it = |it: &&wire::Member| it.name == name(member) && it.role == wire::MemberRole::Voter;
        let voters: Vec<_> = seen.members.iter().filter(is_it).collect();
        // While it is being replaced there may be two.
        if let [voter] = voters[..] { Some(voter.member_id) } else { None }
    }

    /// The metrics of a member.
    pub async fn metrics(&self, member: usize) -> String {
        let path = format!("/api/v1/namespaces/{}/pods/{}:9090/proxy/metrics", self.namespace.name, name(member));
        direct::get(&path).await.unwrap()
    }

    /// Waits until so many members have applied the same, and compares what they hold. Nobody has ever found another digest, or a gap
    /// in a watch.
    pub async fn hold_the_same(&self, members: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut states = Vec::new();
            for member in 0..members {
                let metrics = self.metrics(member).await;
                for never in ["quorate_digest_mismatches_total", "quorate_watch_gaps_total"] {
                    assert_eq!(metric(&metrics, never), "0", "{never} of {}", name(member));
                }
                states.push(["quorate_applied_index", "quorate_state_digest"].map(|of| metric(&metrics, of)));
            }
            if states.iter().all(|state| *state == states[0]) {
                println!("{members} members have applied up to {} and hold the same: {}", states[0][0], states[0][1]);
                return;
            }
            assert!(Instant::now() < deadline, "applied index and digest of each member differ: {states:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The folder on its node that is a member's volume.
    pub async fn volume(&self, member: usize) -> String {
        let claim = self.namespace.get(&format!("pvc/data-{}", name(member))).await.unwrap();
        let volume = claim["spec"]["volumeName"].as_str().expect("it is bound");
        kubectl(&["get", "persistentvolume", volume, "--output=jsonpath={.spec.local.path}"]).await.unwrap()
    }
}

/// The value of a metric without labels, as it stands there.
pub fn metric(metrics: &str, name: &str) -> String {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no metric {name} in:\n{metrics}")).to_owned()
}

/// What a metric comes to, in all its series with that label.
pub fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let series = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// What they agree on, if they do.
fn agreement(seen: &[Option<wire::Cluster>]) -> Option<Agreement> {
    let seen: Vec<_> = seen.iter().map(Option::as_ref).collect::<Option<_>>()?;
    let first = *seen.first()?;
    let same = seen.iter().all(|other| {
        !other.stale && other.cluster_id == first.cluster_id && other.leader == first.leader && other.term == first.term
    });
    let leader = (0..SIZE).find(|member| Some(name(*member)) == first.leader)?;
    let revision = seen.iter().map(|cluster| cluster.revision).max()?;
    same.then_some(Agreement { cluster: first.cluster_id.clone()?, leader, term: first.term, revision })
}
