//! The clusters of `cluster/` themselves: several run side by side, and one that has ended leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ALONE;
use crate::command::output;
use crate::pods::WAITING;

/// A cluster beside the one that the ring runs in.
struct Cluster {
    name: String,
}

impl Cluster {
    fn up(name: &str) -> Self {
        let cluster = Self { name: format!("{name}-{}", std::process::id()) };
        cluster.run(&["up", &cluster.name, "1"]);
        cluster
    }

    /// What the script says that one should use from outside.
    fn kubeconfig(&self) -> String {
        let help = self.run(&["help", &self.name]);
        let path = help.split_once("KUBECONFIG=").expect("it says what to use").1;
        path.split_whitespace().next().unwrap().to_owned()
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        output(Command::new("kubectl").arg(format!("--kubeconfig={}", self.kubeconfig())).args(arguments))
    }

    /// The first process of the cluster, which all others descend from.
    fn init(&self) -> u32 {
        let folder = PathBuf::from(self.kubeconfig());
        fs::read_to_string(folder.with_file_name("pid")).unwrap().trim().parse().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        output(Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/cluster/cluster")).args(arguments))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.run(&["down", &self.name]);
    }
}

#[test]
fn clusters_side_by_side_know_nothing_of_each_other_and_leave_nothing_behind() {
    let _alone = ALONE.blocking_lock();
    let before = machine();
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| Cluster::up("second"));
        (Cluster::up("first"), second.join().unwrap())
    });
    let namespace = ["--namespace", &first.name];
    first.kubectl(&["create", "namespace", &first.name]);
    let yaml = Path::new(env!("CARGO_TARGET_TMPDIR")).join("waiting.yaml");
    fs::write(&yaml, WAITING).unwrap();
    first.kubectl(&[&namespace[..], &["apply", "--filename", yaml.to_str().unwrap()]].concat());
    first.kubectl(&[&namespace[..], &["rollout", "status", "statefulset/waiting", "--timeout=60s"]].concat());
    assert!(first.kubectl(&["get", "namespaces"]).contains(&first.name));
    assert!(!second.kubectl(&["get", "namespaces"]).contains(&first.name));
    assert_eq!(machine(), before, "while two clusters run");

    let names = [first.name.clone(), second.name.clone()];
    assert!(names.iter().all(|name| traces(name).len() > 10), "a cluster has processes and control groups");
    let namespaces: BTreeSet<_> = [first.init(), second.init()].into_iter().flat_map(namespaces_below).collect();
    assert!(namespaces.len() > 10, "a cluster, its node and its pods have namespaces of their own: {namespaces:?}");
    drop((first, second));
    assert_eq!(machine(), before);
    assert_eq!(processes_in(&namespaces), Vec::<String>::new());
    for name in names {
        assert_eq!(traces(&name), Vec::<String>::new());
    }
}

/// Folders that container runtimes and kubelets like to use.
const FOLDERS: [&str; 11] = [
    "/etc/cni",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/netns",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// What of this machine a cluster could change: mounts, network devices, rules of the packet filter, folders.
fn machine() -> Vec<String> {
    let folders = FOLDERS.into_iter().filter(|folder| Path::new(folder).exists()).collect();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let links = output(Command::new("ip").args(["-brief", "link"]));
    let rules = output(&mut Command::new("iptables-save"));
    let is_rule = |line: &&str| line.starts_with("-A");
    [folders, mounts.lines().collect(), links.lines().collect(), rules.lines().filter(is_rule).collect::<Vec<_>>()]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// Processes, control groups and files, outside of its own folder, that bear a cluster's name.
fn traces(name: &str) -> Vec<String> {
    let commands = processes().into_iter().filter_map(|process| fs::read_to_string(process.join("cmdline")).ok());
    let groups = output(Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("*{name}*")]));
    let files = FOLDERS.into_iter().filter(|folder| Path::new(folder).exists());
    let files: String =
        files.map(|folder| output(Command::new("find").args([folder, "-name", &format!("*{name}*")]))).collect();
    let found: Vec<_> = groups.lines().chain(files.lines()).map(str::to_owned).collect();
    commands.filter(|command| command.contains(name)).chain(found).collect()
}

/// The namespaces of a process and of all that descend from it.
fn namespaces_below(pid: u32) -> BTreeSet<PathBuf> {
    let mut below = BTreeSet::new();
    let mut pids = vec![pid];
    while let Some(pid) = pids.pop() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        below.extend(namespaces(&process));
        let children = fs::read_to_string(process.join(format!("task/{pid}/children"))).unwrap_or_default();
        pids.extend(children.split_whitespace().map(|child| child.parse::<u32>().unwrap()));
    }
    let own = namespaces(Path::new("/proc/self"));
    below.into_iter().filter(|namespace| !own.contains(namespace)).collect()
}

fn namespaces(process: &Path) -> Vec<PathBuf> {
    ["pid", "net", "mnt"].iter().filter_map(|kind| fs::read_link(process.join("ns").join(kind)).ok()).collect()
}

/// The command lines of processes that live in one of these namespaces.
fn processes_in(expected: &BTreeSet<PathBuf>) -> Vec<String> {
    let lives = |process: &PathBuf| namespaces(process).iter().any(|namespace| expected.contains(namespace));
    let command = |process: PathBuf| fs::read_to_string(process.join("cmdline")).unwrap_or_default();
    processes().into_iter().filter(lives).map(command).collect()
}

fn processes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit())).collect()
}
