//! The machines under the cluster that the ring runs in, and what can go wrong with them. What a test breaks is whole again
//! when the test lets go of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tokio::sync::RwLockWriteGuard;

use crate::command::output;
use crate::{alone, kubectl};

/// How many nodes there are: `node1` to `node3`.
const SIZE: usize = 3;

/// Where the tests run, with the control plane: nodes and pods can reach it.
pub const CONTROL_PLANE: &str = "10.89.0.1";

/// The cluster's nodes, which one test at a time may break.
pub struct Nodes {
    cluster: String,
    _alone: RwLockWriteGuard<'static, ()>,
}

impl Nodes {
    pub async fn alone() -> Self {
        let cluster = std::env::var("QUORATE_KUBE_CLUSTER").expect("`make kube` runs the ring in a cluster of its own");
        Self { cluster, _alone: alone().await }
    }

    /// Ends every process of a node at once.
    pub fn cut_power(&self, node: usize) -> PowerCut<'_> {
        self.run("kill", &[&node.to_string()]);
        PowerCut { nodes: self, node }
    }

    /// Parts the pod with the address `ip` from other addresses.
    pub fn partition_pod(&self, node: usize, ip: &str, from: &[String]) -> Partition<'_> {
        Partition::begin(self, vec!["pod".to_owned(), node.to_string(), ip.to_owned()], from)
    }

    /// Parts a node, with all that runs on it, from the control plane and from the other nodes with theirs.
    pub fn partition_node(&self, node: usize) -> Partition<'_> {
        let others = (1..=SIZE).filter(|other| *other != node);
        let addresses = others.flat_map(|other| [format!("10.89.0.1{other}"), format!("10.244.{other}.0/24")]);
        let from: Vec<_> = addresses.chain([CONTROL_PLANE.to_owned()]).collect();
        Partition::begin(self, vec!["node".to_owned(), node.to_string()], &from)
    }

    /// Parts the pods on a node from those on other nodes, also from those that come; the control plane can be reached still.
    pub fn partition_pods_on(&self, node: usize) -> Partition<'_> {
        let others = (1..=SIZE).filter(|other| *other != node);
        let from: Vec<_> = others.map(|other| format!("10.244.{other}.0/24")).collect();
        Partition::begin(self, vec!["node".to_owned(), node.to_string()], &from)
    }

    /// Moves all pods away from a node that is still well, as before a repair.
    pub fn drain(&self, node: usize) -> Drained {
        let drained = Drained { node: format!("node{node}") };
        output(&mut drained.kubectl(&["drain", "--timeout=2m"]));
        drained
    }

    /// Keeps new pods from a node.
    pub fn cordon(&self, node: usize) -> Drained {
        let cordoned = Drained { node: format!("node{node}") };
        output(&mut cordoned.kubectl(&["cordon"]));
        cordoned
    }

    /// Why a node cannot be drained within a few seconds.
    pub fn refuse_to_drain(&self, node: usize) -> String {
        let node = Drained { node: format!("node{node}") };
        let refused = node.kubectl(&["drain", "--timeout=4s"]).output().unwrap();
        assert!(!refused.status.success(), "{} was drained", node.node);
        String::from_utf8_lossy(&refused.stderr).into_owned()
    }

    /// Kills the API server.
    pub fn stop_api(&self) -> Outage<'_> {
        self.run("stop-api", &[]);
        Outage { nodes: self }
    }

    /// Runs a command in a node; what it printed.
    pub fn in_node(&self, node: usize, command: &[&str]) -> String {
        output(&mut self.command_in_node(node, command))
    }

    /// The same for whoever does not wait for its end.
    pub fn command_in_node(&self, node: usize, command: &[&str]) -> Command {
        self.script("node", &[&[node.to_string().as_str()], command].concat())
    }

    /// Who has asked the API server to change a status of Quorate's or the size of a StatefulSet in a namespace, and which accounts
    /// of services have asked it to change pods and Leases there.
    pub fn audit(&self, namespace: &str) -> Vec<Value> {
        let kubeconfig = std::env::var("QUORATE_TEST_KUBECONFIG").expect("`make kube` runs the ring in a cluster");
        let cluster = Path::new(&kubeconfig).ancestors().nth(2).expect("it is in a folder of the cluster");
        let log = fs::read_to_string(cluster.join("log/audit.log")).expect("the API server writes it");
        let entries = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("it is JSON"));
        entries.filter(|entry| entry["objectRef"]["namespace"] == namespace).collect()
    }

    fn run(&self, command: &str, arguments: &[&str]) -> String {
        output(&mut self.script(command, arguments))
    }

    fn script(&self, command: &str, arguments: &[&str]) -> Command {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/cluster/cluster"));
        script.args([command, &self.cluster]).args(arguments);
        script
    }
}

/// A node without power.
pub struct PowerCut<'a> {
    nodes: &'a Nodes,
    node: usize,
}

impl Drop for PowerCut<'_> {
    fn drop(&mut self) {
        self.nodes.run("boot", &[&self.node.to_string()]);
    }
}

/// A time without an API server.
pub struct Outage<'a> {
    nodes: &'a Nodes,
}

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        self.nodes.run("start-api", &[]);
    }
}

/// A node that takes no pods.
pub struct Drained {
    node: String,
}

impl Drained {
    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = kubectl::command();
        command.args(arguments).arg(&self.node);
        command
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        output(&mut self.kubectl(&["uncordon"]));
    }
}

/// A node or a pod that cannot reach some addresses, nor be reached from there.
pub struct Partition<'a> {
    nodes: &'a Nodes,
    /// What makes the script run a command there.
    place: Vec<String>,
}

impl<'a> Partition<'a> {
    fn begin(nodes: &'a Nodes, place: Vec<String>, from: &[String]) -> Self {
        let rules = from
            .iter()
            .map(|ip| format!("iptables -A PARTITION -s {ip} -j DROP; iptables -A PARTITION -d {ip} -j DROP"));
        let rules: Vec<_> = rules.collect();
        let partition = Self { nodes, place };
        partition.shell(&format!("set -e; iptables -N PARTITION; {}", rules.join("; ")));
        partition.shell("for chain in INPUT FORWARD OUTPUT; do iptables -I $chain -j PARTITION || exit; done");
        partition
    }

    /// How many packets it has kept from arriving.
    pub fn dropped(&self) -> u64 {
        let table = self.shell("iptables -vnxL PARTITION");
        let counts = table.lines().filter(|line| line.contains("DROP"));
        counts.map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// That from there the API server can be reached still.
    pub fn assert_reaches_api(&self) {
        self.shell("timeout 5 bash -c ': < /dev/tcp/10.96.0.1/443'");
    }

    fn shell(&self, script: &str) -> String {
        let (command, place) = self.place.split_first().expect("a pod or a node");
        let place = place.iter().map(String::as_str);
        self.nodes.run(command, &place.chain(["sh", "-c", script]).collect::<Vec<_>>())
    }
}

impl Drop for Partition<'_> {
    fn drop(&mut self) {
        self.shell("for chain in INPUT FORWARD OUTPUT; do iptables -D $chain -j PARTITION || exit; done");
        self.shell("iptables -F PARTITION && iptables -X PARTITION");
    }
}
