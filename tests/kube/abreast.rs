//! The clusters of `cluster/` themselves: several run side by side, and one that has ended leaves nothing behind. They take long to
//! start and wait most of the time, so the file's name comes first: it would be a pity to wait for nothing else in the end.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

    /// Does what the script says that one can do, but for the installation, which is what `release` is about.
    fn assert_is_as_it_says(&self) {
        let help = self.run(&["help", &self.name]);
        assert!(help.starts_with(&format!("Cluster {} is up: 1 nodes.", self.name)), "{help}");
        let commands = help.lines().filter_map(|line| line.strip_prefix("    "));
        let commands: Vec<_> = commands.filter(|command| !command.starts_with("helm install")).collect();
        let told = output(Command::new("sh").args(["-euc", &commands.join("\n")]));
        assert!(commands.len() == 3 && told.contains("node1 ") && told.contains("NAMESPACE"), "{help}\n{told}");
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
    first.assert_is_as_it_says();
    assert_is_used_from_outside(&second);
    let namespaces: BTreeSet<_> = [first.init(), second.init()].into_iter().flat_map(namespaces_below).collect();
    assert!(namespaces.len() > 10, "a cluster, its node and its pods have namespaces of their own: {namespaces:?}");
    let lived = processes_in(&namespaces);
    drop((first, second));
    assert_eq!(machine(), before);
    // The next cluster may be given the numbers of namespaces that are gone.
    let left: Vec<_> = processes_in(&namespaces).into_iter().filter(|process| lived.contains(process)).collect();
    assert_eq!(left, Vec::<[String; 3]>::new());
    for name in names {
        assert_eq!(traces(&name), Vec::<String>::new());
    }
}

/// `tests/kube/run` with a cluster that is there already: it runs what can run in it, and says what cannot.
fn assert_is_used_from_outside(cluster: &Cluster) {
    let run = |test: &str| -> Output {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/run"));
        command.args(["0", std::env::current_exe().unwrap().to_str().unwrap(), "--nocapture", test]);
        command.env("QUORATE_TEST_KUBECONFIG", cluster.kubeconfig()).output().unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let used = run("api::a_status_of_an_older_leadership_is_refused");
    let said = text(&used.stdout);
    assert!(used.status.success() && said.contains("1 passed"), "{said}{}", text(&used.stderr));
    for part in ["abreast::", "pods::", "serving::", "faults::", "release::", "api::chart::"] {
        assert!(said.lines().any(|line| line.starts_with("not run: ") && line.contains(part)), "{part}: {said}");
        let nothing = run(part);
        assert!(!nothing.status.success(), "a run of nothing has passed: {}", text(&nothing.stdout));
        let why = text(&nothing.stderr);
        assert!(why.contains("nothing of this can run in the cluster of QUORATE_TEST_KUBECONFIG"), "{why}");
    }

    // What somebody may need is left alone.
    cluster.kubectl(&["apply", "--server-side", "--filename", concat!(env!("CARGO_MANIFEST_DIR"), "/crds")]);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/quorateclusters.quorate.io", "--timeout=30s"]);
    let yaml = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.yaml", cluster.name));
    fs::write(&yaml, "apiVersion: quorate.io/v1alpha1\nkind: QuorateCluster\nmetadata: {name: theirs}\nspec: {}\n")
        .unwrap();
    cluster.kubectl(&["apply", "--filename", yaml.to_str().unwrap()]);
    fs::remove_file(yaml).unwrap();
    let refused = run("api::a_status_of_an_older_leadership_is_refused");
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    let why = text(&refused.stderr);
    assert!(why.starts_with("the cluster of QUORATE_TEST_KUBECONFIG has QuorateClusters"), "{why}");
}

#[test]
fn a_run_that_fails_keeps_what_its_cluster_has_logged_and_one_without_a_cluster_says_why_in_a_line() {
    let run = || {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/run"));
        command.env_remove("QUORATE_TEST_KUBECONFIG");
        command
    };
    let failed = run().args(["0", "sh", "-c", "exit 7"]).output().unwrap();
    let said = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert_eq!(failed.status.code(), Some(7), "{said}{}", String::from_utf8_lossy(&failed.stderr));
    let kept = said.lines().find_map(|line| line.strip_prefix("what the cluster has logged is in "));
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(kept.unwrap_or_else(|| panic!("{said}")));
    assert!(fs::metadata(kept.join("apiserver.log")).unwrap().len() > 0, "{}", kept.display());
    fs::remove_dir_all(kept).unwrap();

    let refused = run().args(["0", "true"]).env("QUORATE_KUBE_CACHE", "/var/lib/quorate-kube").output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("its nodes hide /var/lib"), "{why}");
    assert_eq!(why.lines().count(), 1, "{why}");
}

#[test]
fn clusters_that_cannot_start_say_what_failed_and_leave_nothing_behind() {
    let (before, name) = (machine(), format!("broken-{}", std::process::id()));
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.tar");
    fs::write(&broken, "this is no archive of an image").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/cluster/cluster");
    let refused = Command::new(script).args(["up", &name, "1"]).arg(broken).output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains("node1.log") && why.contains("ctr: "), "{why}");
    assert_eq!((machine(), traces(&name)), (before, Vec::<String>::new()));
    let gone = Command::new(script).args(["down", &name]).output().unwrap();
    assert!(String::from_utf8_lossy(&gone.stderr).contains("there is no such cluster"), "{gone:?}");
}

#[test]
fn without_root_or_on_another_system_a_cluster_says_why_it_is_not_started_and_what_to_use_instead() {
    // Nobody else may be able to read this repository.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    for file in ["cluster", "common.sh"] {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube/cluster").join(file), folder.path().join(file))
            .unwrap();
    }
    let uname = folder.path().join("uname");
    fs::write(&uname, "#!/bin/sh\necho Darwin\n").unwrap();
    let refuse = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65532", "--regid=65532", "--clear-groups"]).arg(folder.path().join("cluster"));
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let refused = command.args(arguments).env("PATH", path).output().unwrap();
        let why = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0), "{why}");
        why
    };
    // What is checked before anything is built, and what is checked then.
    let ways = [&["check", "nobodys"][..], &["up", "nobodys", "1"]];
    let instead = "use QUORATE_TEST_KUBECONFIG=FILE with a cluster that you have\n";
    let no_root = format!("cluster nobodys: it needs root, for namespaces and mounts; without, {instead}");
    let no_linux = format!("cluster nobodys: it is made of Linux namespaces; on another system {instead}");
    fs::set_permissions(&uname, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(ways.map(refuse), [no_root.clone(), no_root]);
    fs::set_permissions(&uname, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ways.map(refuse), [no_linux.clone(), no_linux]);
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

/// What of this machine a cluster could change: folders, mounts, control groups, network devices, and the packet filter.
fn machine() -> Vec<String> {
    let folders = FOLDERS.into_iter().filter(|folder| Path::new(folder).exists()).map(str::to_owned).collect();
    let mounts = lines(&fs::read_to_string("/proc/self/mounts").unwrap());
    let groups =
        lines(&output(Command::new("find").arg("/sys/fs/cgroup").args(NO_CLUSTERS).args(["-type", "d", "-print"])));
    let links = lines(&output(Command::new("ip").args(["-brief", "link"])));
    // Those of iptables as well; what they have counted is left out.
    let rules = lines(&output(Command::new("nft").args(["--stateless", "list", "ruleset"])));
    [folders, mounts, groups.into_iter().filter(|group| !is_others(group)).collect(), links, rules].concat()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Lets `find` pass over what is in control groups of clusters: others come and go beside the test, and `traces` finds its own.
const NO_CLUSTERS: [&str; 4] = ["-name", "quorate-kube-*", "-prune", "-o"];

/// Control groups of services and logins, where systemd runs, come and go as well.
fn is_others(group: &str) -> bool {
    ["/system.slice/", "/user.slice/"].iter().any(|part| group.contains(part))
}

/// Processes, control groups and files, outside of its own folder, that bear a cluster's name.
fn traces(name: &str) -> Vec<String> {
    let commands = processes().into_iter().filter_map(|process| fs::read_to_string(process.join("cmdline")).ok());
    let of_cluster = ["-name", &format!("*{name}*"), "-print"];
    let groups =
        output(Command::new("find").arg("/sys/fs/cgroup").args(of_cluster).arg("-o").args(NO_CLUSTERS).arg("-false"));
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

/// Processes that live in one of these namespaces: the folder of each, when it began, and its command line.
fn processes_in(expected: &BTreeSet<PathBuf>) -> Vec<[String; 3]> {
    let lives = |process: &PathBuf| namespaces(process).iter().any(|namespace| expected.contains(namespace));
    let read = |process: &Path, file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
    let tell = |process: PathBuf| {
        // The name of the program, in brackets, may have spaces in it.
        let stat = read(&process, "stat");
        let began = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap_or_default().to_owned();
        [process.display().to_string(), began, read(&process, "cmdline")]
    };
    processes().into_iter().filter(lives).map(tell).collect()
}

fn processes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit())).collect()
}
