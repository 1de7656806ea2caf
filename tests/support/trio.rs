//! Three real `quorate serve` processes on loopback, each with a directory of its own.

#![allow(clippy::print_stdout, reason = "the cluster of a test that fails shows its logs")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// Members in the cluster.
pub const SIZE: usize = 3;

/// How long a member may take to start, stop or elect before a test gives up; on a busy machine all of it is slow.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of three. What still runs is killed when it is dropped.
pub struct Trio {
    pub http: Client,
    members: Vec<Member>,
    // Dropped last, when nobody writes to it any more.
    directory: TempDir,
}

struct Member {
    http: u16,
    health: u16,
    wire: u16,
    child: Option<Child>,
    starts: usize,
}

/// The program that the members run. Not optimised they take most of a machine: rings that start many of them say where there is
/// one that is.
pub fn program() -> PathBuf {
    let optimised = std::env::var_os("QUORATE_TEST_PROGRAM");
    optimised.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_quorate")), PathBuf::from)
}

/// The name of a member.
pub fn name(member: usize) -> String {
    format!("quorate-{member}")
}

impl Trio {
    /// Three members that have never run.
    pub fn new() -> Self {
        let mut ports = free_ports(3 * SIZE).into_iter();
        let mut port = || ports.next().unwrap();
        let member = |_| Member { http: port(), health: port(), wire: port(), child: None, starts: 0 };
        let http = Client::builder().timeout(Duration::from_secs(8)).build().unwrap();
        Self { http, members: (0..SIZE).map(member).collect(), directory: tempfile::tempdir().unwrap() }
    }

    /// Starts all three and waits until they serve.
    pub async fn running() -> Self {
        let mut trio = Self::new();
        trio.start_all().await;
        trio
    }

    /// Starts whoever is down and waits until all serve.
    pub async fn start_all(&mut self) {
        for member in 0..SIZE {
            if self.members[member].child.is_none() {
                self.start(member);
            }
        }
        for member in 0..SIZE {
            self.wait_until_ready(member).await;
        }
    }

    pub fn start(&mut self, member: usize) {
        let command = self.command(member);
        self.start_with(member, command);
    }

    /// Starts a member by another command line than the usual one.
    pub fn start_with(&mut self, member: usize, mut command: Command) {
        assert!(self.members[member].child.is_none(), "{} runs already", name(member));
        self.members[member].starts += 1;
        let log = File::create(self.log_path(member, self.members[member].starts)).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.members[member].child = Some(child);
    }

    /// The command line of a member.
    pub fn command(&self, member: usize) -> Command {
        let Member { http, health, wire, .. } = self.members[member];
        self.command_on(member, [http, health, wire])
    }

    /// The command line of a member, with other ports.
    pub fn command_on(&self, member: usize, ports: [u16; 3]) -> Command {
        let all = self.members.iter().enumerate();
        let cluster: Vec<_> = all.map(|(number, other)| format!("{}=127.0.0.1:{}", name(number), other.wire)).collect();
        let mut command = self.listening(member, ports);
        command.args(["--initial-cluster", &cluster.join(",")]);
        command
    }

    /// The command line of a member that is told of no other.
    pub fn command_alone(&self, member: usize) -> Command {
        let Member { http, health, wire, .. } = self.members[member];
        self.listening(member, [http, health, wire])
    }

    fn listening(&self, member: usize, ports: [u16; 3]) -> Command {
        let [http, health, wire] = ports.map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(program());
        command.arg("serve").args(["--name", &name(member)]).arg("--data-dir").arg(self.data(member));
        command.args(["--http", &http, "--health", &health, "--member-listen", &wire]);
        command
    }

    /// The directory of a member.
    pub fn data(&self, member: usize) -> PathBuf {
        self.directory.path().join(name(member))
    }

    fn log_path(&self, member: usize, start: usize) -> PathBuf {
        self.directory.path().join(format!("{}-{start}.log", name(member)))
    }

    /// What a member has logged since its last start.
    pub fn log(&self, member: usize) -> String {
        fs::read_to_string(self.log_path(member, self.members[member].starts)).unwrap_or_default()
    }

    pub fn url(&self, member: usize) -> String {
        format!("http://127.0.0.1:{}", self.members[member].http)
    }

    /// The HTTP APIs of all members.
    pub fn urls(&self) -> Vec<String> {
        (0..SIZE).map(|member| self.url(member)).collect()
    }

    pub fn health_url(&self, member: usize) -> String {
        format!("http://127.0.0.1:{}", self.members[member].health)
    }

    /// The most memory that a member has ever had resident, in bytes.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self, member: usize) -> u64 {
        let pid = self.members[member].child.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The port on which a member listens to other members.
    pub fn wire_port(&self, member: usize) -> u16 {
        self.members[member].wire
    }

    /// The port of a member's HTTP API.
    pub fn http_port(&self, member: usize) -> u16 {
        self.members[member].http
    }

    pub fn is_up(&self, member: usize) -> bool {
        self.members[member].child.is_some()
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self, member: usize) {
        let mut child = self.members[member].child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn ask_to_stop(&self, member: usize) {
        self.signal(member, Signal::TERM);
    }

    /// SIGTERM; returns how the process ended.
    pub async fn terminate(&mut self, member: usize) -> ExitStatus {
        self.ask_to_stop(member);
        self.wait_until_ended(member).await
    }

    /// Stops the process where it is; its connections stay and fall silent.
    pub fn freeze(&self, member: usize) {
        self.signal(member, Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self, member: usize) {
        self.signal(member, Signal::CONT);
    }

    fn signal(&self, member: usize, signal: Signal) {
        let child = self.members[member].child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Waits until the process has ended by itself; returns how.
    pub async fn wait_until_ended(&mut self, member: usize) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended(member) {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end:\n{}", name(member), self.log(member));
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// How the process has ended, if it has.
    pub fn ended(&mut self, member: usize) -> Option<ExitStatus> {
        let status = self.members[member].child.as_mut().expect("it runs").try_wait().unwrap()?;
        self.members[member].child = None;
        Some(status)
    }

    /// Waits until a member is in the cluster and has caught up.
    pub async fn wait_until_ready(&self, member: usize) {
        let url = format!("{}/readyz", self.health_url(member));
        let text = format!("{} is not ready:\n{}", name(member), self.log(member));
        wait_for(&text, async || {
            let answer = self.http.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
    }

    /// The Raft leader, once there is one that a member knows and that is up.
    pub async fn leader(&self) -> usize {
        wait_for("there is no Raft leader", async || {
            for member in (0..SIZE).filter(|member| self.is_up(*member)) {
                let answer = self.get_json(member, "/v1/leader").await;
                let named = answer.and_then(|leader| leader["name"].as_str().map(str::to_owned));
                let leader = (0..SIZE).find(|other| Some(name(*other)) == named);
                if let Some(leader) = leader.filter(|leader| self.is_up(*leader)) {
                    return Some(leader);
                }
            }
            None
        })
        .await
    }

    /// The answer of a member to a GET, when it is a good one.
    pub async fn get_json(&self, member: usize, path: &str) -> Option<Value> {
        let url = format!("{}{path}", self.url(member));
        let answer = timeout(Duration::from_secs(6), self.http.get(url).send()).await.ok()?.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    }

    /// The metrics of a member.
    pub async fn metrics(&self, member: usize) -> String {
        let url = format!("{}/metrics", self.health_url(member));
        self.http.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// A metric without labels.
    pub async fn metric(&self, member: usize, name: &str) -> f64 {
        let metrics = self.metrics(member).await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {name} in:\n{metrics}")).parse().unwrap()
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        for (number, member) in self.members.iter_mut().enumerate() {
            if let Some(mut child) = member.child.take() {
                // It may have ended by itself.
                drop(child.kill());
                drop(child.wait());
            }
            if std::thread::panicking() {
                let path = self.directory.path().join(format!("{}-{}.log", name(number), member.starts));
                println!("--- the end of the log of {}:\n{}", name(number), tail(&path));
            }
        }
    }
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Waits until `look` finds something; `failure` says what it means when it never does.
pub async fn wait_for<T>(failure: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "after {PATIENCE:?}: {failure}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Ports that nobody listens on, each given out once. The kernel gives none of these to whoever asks for any port, who could be faster
/// than the one for whom it is meant.
pub fn free_ports(count: usize) -> Vec<u16> {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let next = || {
        // Other processes that do the same begin elsewhere.
        let given = GIVEN.fetch_add(1, Ordering::Relaxed) + std::process::id() % COUNT;
        u16::try_from(FIRST + given * 101 % COUNT).unwrap()
    };
    std::iter::repeat_with(next).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(count).collect()
}
