//! Members to test with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::Registry;
use quorate::machine::Machine;
use quorate::machine::command::{Action, Author, Command, KeyCondition};
use quorate::raft::identity::Identity;
use quorate::raft::transport::{TcpNetwork, tls::Layer};
use quorate::raft::volume::{DiskVolume, Volume};
use quorate::raft::{Beginning, Clock, Parts, Phase, RaftHandle, RaftStatus, SnapshotThresholds, StartError};
use quorate::settings::Timing;
use quorate::tasks::{Failures, Tasks};
use quorate::types::{Key, MemberName, Timestamp};
use quorate::watch::{Hub, HubLimits};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use crate::counted::{Counted, Messages};

/// Long enough for a loaded machine; nothing waits so long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that stands still, and numbers that look drawn.
struct CountingClock;

/// Shared by all clusters of the process, so that no two of them draw the same.
static DRAWN: AtomicU64 = AtomicU64::new(1);

impl Clock for CountingClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(1)
    }

    fn random(&self) -> u128 {
        u128::from(DRAWN.fetch_add(1, Ordering::Relaxed)) << 64 | u128::from(std::process::id())
    }
}

/// A running member.
pub struct Running {
    pub raft: RaftHandle,
    pub tasks: Tasks,
    pub failures: Failures,
    pub registry: Registry,
    pub messages: Messages,
}

/// Members that belong together, each with a directory and a port of its own.
pub struct Cluster {
    directory: TempDir,
    clock: Arc<CountingClock>,
    layer: Layer,
    pub addresses: BTreeMap<MemberName, String>,
    pub members: BTreeMap<String, Running>,
    pub snapshots: SnapshotThresholds,
    pub timing: Timing,
    /// Where a member listens, when that is not the address at which the others reach it.
    pub behind: BTreeMap<MemberName, String>,
}

pub fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits until `look` says yes.
pub async fn wait_for(what: &str, mut look: impl FnMut() -> bool) {
    let seen = async {
        while !look() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("this never happens: {what}"));
}

pub fn put(key: &str, value: &str) -> Command {
    let (key, value) = (Key::new(key).unwrap(), value.to_owned().into());
    let action = Action::PutKey { key, value, session: None, only_if: KeyCondition::Always };
    Command { at: Timestamp::from_millis(1), author: Author::Client(None), action }
}

pub fn value(state: &Machine, key: &str) -> Option<String> {
    let record = state.keys().get(&Key::new(key).unwrap())?;
    Some(String::from_utf8(record.value.to_vec()).unwrap())
}

impl Cluster {
    /// Names and ports for members; none is running.
    pub async fn new(names: &[&str]) -> Self {
        Self::with_layer(names, Layer::Plain).await
    }

    pub async fn with_layer(names: &[&str], layer: Layer) -> Self {
        let mut addresses = BTreeMap::new();
        let mut kept = Vec::new();
        for text in names {
            // Bound and given back, so that the port is free when the member takes it.
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.insert(name(text), listener.local_addr().unwrap().to_string());
            kept.push(listener);
        }
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Arc::new(CountingClock),
            layer,
            addresses,
            members: BTreeMap::new(),
            snapshots: SnapshotThresholds::default(),
            timing: Timing::default(),
            behind: BTreeMap::new(),
        }
    }

    /// All members of these names, with a Raft leader.
    pub async fn founded(names: &[&str]) -> Self {
        let mut cluster = Self::new(names).await;
        for text in names {
            cluster.start(text).await;
        }
        cluster.leader().await;
        cluster
    }

    pub fn directory(&self, text: &str) -> PathBuf {
        self.directory.path().join(text)
    }

    /// Starts a member on its directory.
    pub async fn start(&mut self, text: &str) -> &Running {
        let beginning = Beginning::Together(self.addresses.clone());
        self.try_start(text, beginning).await.unwrap()
    }

    /// Starts a member on its directory; its cluster begins in one way or the other.
    pub async fn try_start(&mut self, text: &str, beginning: Beginning) -> Result<&Running, StartError> {
        let volume = self.volume(text).await;
        self.start_on(text, beginning, volume).await
    }

    /// Starts a member on a volume.
    pub async fn start_on(
        &mut self,
        text: &str,
        beginning: Beginning,
        volume: Arc<dyn Volume>,
    ) -> Result<&Running, StartError> {
        let (tasks, failures) = Tasks::new();
        let registry = Registry::new();
        let messages = Messages::default();
        let network = Arc::new(Counted::new(self.network(text, &registry).await, &messages));
        let parts = Parts {
            name: name(text),
            url: format!("http://{text}.test"),
            beginning,
            timing: self.timing,
            snapshots: self.snapshots,
            volume,
            network,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            hub: Hub::new(HubLimits::default()),
            registry: registry.clone(),
        };
        let raft = RaftHandle::start(parts, &tasks).await?;
        let running = Running { raft, tasks, failures, registry, messages };
        Ok(self.members.entry(text.to_owned()).or_insert(running))
    }

    /// Who a member is that does not run, as its volume says; with that it begins another life.
    pub async fn identity(&self, text: &str) -> Identity {
        Identity::load(&*self.volume(text).await, &name(text), &*self.clock).unwrap()
    }

    /// The member's directory, once the one that used it before has let go of it.
    pub async fn volume(&self, text: &str) -> Arc<DiskVolume> {
        let path = self.directory(text);
        let opened = async {
            loop {
                match DiskVolume::open(&path) {
                    Ok(volume) => return volume,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(PATIENCE, opened).await.expect("a member that crashed lets go of its directory")
    }

    /// The member's port, once the one that used it before has let go of it.
    async fn network(&self, text: &str, registry: &Registry) -> Arc<TcpNetwork> {
        let address = self.behind.get(&name(text)).unwrap_or(&self.addresses[&name(text)]);
        let bound = async {
            loop {
                match TcpNetwork::bind(address, self.layer.clone(), registry).await {
                    Ok(network) => return network,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(PATIENCE, bound).await.expect("a member that crashed lets go of its port")
    }

    /// Ends a member as a crash would.
    pub fn crash(&mut self, text: &str) {
        self.members.remove(text).unwrap().tasks.abort();
    }

    /// Empties the directory of a member that has crashed.
    pub async fn empty(&self, text: &str) {
        drop(self.volume(text).await);
        std::fs::remove_dir_all(self.directory(text)).unwrap();
    }

    pub fn raft(&self, text: &str) -> &RaftHandle {
        &self.members[text].raft
    }

    /// What a counter of a member says.
    pub fn count(&self, text: &str, counter: &str) -> f64 {
        let families = self.members[text].registry.gather();
        let family = families.iter().find(|family| family.name() == counter).unwrap();
        family.get_metric()[0].get_counter().get_value()
    }

    /// How many observations a histogram of a member has.
    pub fn observed(&self, text: &str, histogram: &str) -> u64 {
        let families = self.members[text].registry.gather();
        let family = families.iter().find(|family| family.name() == histogram).unwrap();
        family.get_metric()[0].get_histogram().get_sample_count()
    }

    /// What a member's metric says under the value of its label.
    pub fn labelled(&self, text: &str, metric: &str, label: &str) -> f64 {
        let families = self.members[text].registry.gather();
        let family = families.iter().find(|family| family.name() == metric).unwrap();
        let found = family.get_metric().iter().find(|one| one.get_label().iter().any(|pair| pair.value() == label));
        found.unwrap().get_counter().get_value()
    }

    /// Waits until a member's status is as wanted.
    pub async fn status(&self, text: &str, wanted: impl Fn(&RaftStatus) -> bool) -> Arc<RaftStatus> {
        let mut changes = self.raft(text).status_changes();
        let reached =
            timeout(PATIENCE, changes.wait_for(|status| wanted(status))).await.map(|status| status.unwrap().clone());
        reached.unwrap_or_else(|_| panic!("{text} stays at {:?}", self.raft(text).status()))
    }

    /// Waits until a member waits with a text that contains `wanted`.
    pub async fn waits(&self, text: &str, wanted: &str) {
        self.status(text, |status| matches!(&status.phase, Phase::Waiting(reason) if reason.contains(wanted))).await;
    }

    /// The name of the Raft leader, once all running members agree on it.
    pub async fn leader(&self) -> String {
        let agreed = async {
            loop {
                let leaders: Vec<_> = self.members.values().map(|member| member.raft.status().raft_leader).collect();
                let running = self.members.iter().find(|(_, member)| {
                    let status = member.raft.status();
                    status.member.is_some() && leaders.iter().all(|leader| *leader == status.member)
                });
                if let Some((name, _)) = running {
                    return name.clone();
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let statuses = || self.members.values().map(|member| member.raft.status()).collect::<Vec<_>>();
        timeout(PATIENCE, agreed)
            .await
            .unwrap_or_else(|_| panic!("the members agree on no Raft leader: {:?}", statuses()))
    }

    /// Another process of one of the members: it reaches the others, and has a directory and a port of its own.
    pub async fn twin(&self, text: &str) -> Self {
        let mut twin = Self::new(&[text]).await;
        let others = self.addresses.iter().filter(|(name, _)| name.as_str() != text);
        twin.addresses.extend(others.map(|(name, address)| (name.clone(), address.clone())));
        twin
    }

    /// The name of a running member that does not lead.
    pub async fn follower(&self) -> String {
        let leader = self.leader().await;
        self.members.keys().find(|name| **name != leader).unwrap().clone()
    }
}
