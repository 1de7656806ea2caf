//! `quorate dev` as a newcomer uses it: edit a file, break one, kill a member, delete a data directory, press Ctrl-C.
//! Real processes on loopback, each wait with a deadline.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use quorate::client::{Client, Freshness, Patience};
use quorate::types::{ConfigName, Namespace};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Whatever is waited for comes within seconds; a machine that builds at the same time is slower.
const SOON: Duration = Duration::from_secs(30);

/// A running `quorate dev` and the lines that it has printed.
struct Dev {
    process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    base_port: u16,
    folder: tempfile::TempDir,
}

impl Dev {
    /// `range` is another one for each test, since they run at the same time.
    fn start(range: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("resources")).unwrap();
        write_config(&folder.path().join("resources/web.yaml"), "first");
        let base_port = free_base_port(range);
        let mut process = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .arg("dev")
            .arg(folder.path().join("resources"))
            .arg("--state")
            .arg(folder.path().join("state"))
            .args(["--base-port", &base_port.to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { process, lines, seen: Vec::new(), base_port, folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Waits for a line with all of these parts, and gives it.
    fn wait_for(&mut self, parts: &[&str]) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if parts.iter().all(|part| line.contains(part)) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {parts:?} in\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// The process id of a member.
    fn pid_of(&self, member: &str) -> i32 {
        let data = self.path("state").join(member);
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let is_member = |pid: &i32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).any(|argument| argument == data.as_os_str().as_encoded_bytes())
        };
        pids.into_iter().find(is_member).unwrap_or_else(|| panic!("{member} does not run"))
    }

    fn kill(&self, member: &str) {
        signal(self.pid_of(member), Signal::KILL);
    }

    /// A client of one member.
    fn client(&self, number: u16) -> Client {
        let url = format!("http://127.0.0.1:{}", self.base_port + number);
        Client::new(&[url], Patience::Once(Duration::from_secs(5)), u128::from(number) + 1).unwrap()
    }

    async fn leader(&self) -> String {
        let urls: Vec<_> = (0..3).map(|number| format!("http://127.0.0.1:{}", self.base_port + number)).collect();
        Client::new(&urls, Patience::Until(SOON), 9).unwrap().leader().await.unwrap().body.name
    }

    /// Waits until every member serves this text; how long that took.
    async fn served_everywhere(&self, text: &str) -> Duration {
        let began = Instant::now();
        let (namespace, name) = (Namespace::new("default").unwrap(), ConfigName::new("web").unwrap());
        for client in (0..3).map(|number| self.client(number)) {
            loop {
                let config = client.config(&namespace, &name, None, Freshness::Stale).await;
                if config.is_ok_and(|config| config.body.data["text"] == text) {
                    break;
                }
                assert!(began.elapsed() < SOON, "{text:?} is not served");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        began.elapsed()
    }

    /// Waits until an election has so many seats and such a TTL in milliseconds, or does not exist.
    async fn election_becomes(&self, name: &str, wanted: Option<(u64, u64)>) {
        let url = format!("http://127.0.0.1:{}/v1/elections/default/{name}", self.base_port);
        let (http, began) = (reqwest::Client::new(), Instant::now());
        loop {
            let answer = http.get(&url).send().await.unwrap();
            let is_gone = answer.status() == 404;
            let body: serde_json::Value = answer.json().await.unwrap();
            let now = body["seats"].as_u64().zip(body["sessionTtlMs"].as_u64());
            if now == wanted && is_gone == wanted.is_none() {
                return;
            }
            assert!(began.elapsed() < SOON, "{wanted:?} is wanted, and it is {body}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The TTL in milliseconds of the session by which somebody leads who campaigns like that.
    async fn ttl_of_a_candidate(&self, election: &str, options: &[&str]) -> u64 {
        let url = format!("http://127.0.0.1:{}", self.base_port);
        let (election, mut command) = (format!("default/{election}"), Command::new(env!("CARGO_BIN_EXE_quorate")));
        command.args(["elect", &election, "--output", "json", "--endpoints", &url]).args(options);
        let mut candidate = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(candidate.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let granted: serde_json::Value = serde_json::from_str(&line).unwrap();
        let session = format!("{url}/v1/sessions/{}", granted["session"].as_str().unwrap());
        let session: serde_json::Value = reqwest::get(session).await.unwrap().json().await.unwrap();
        signal(candidate.id().try_into().unwrap(), Signal::INT);
        assert!(candidate.wait().unwrap().success());
        session["ttlMs"].as_u64().unwrap()
    }

    fn stop(&mut self) -> ExitStatus {
        signal(self.process.id().try_into().unwrap(), Signal::INT);
        self.process.wait().unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // The members notice by themselves and stop.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn write_config(path: &Path, text: &str) {
    let head = "apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata:\n  name: web\nspec:\n  data:\n";
    fs::write(path, format!("{head}    text: {text}\n")).unwrap();
}

/// The first of a range of ports in which those that dev uses are free.
fn free_base_port(range: u16) -> u16 {
    let offset = range * 6_000 + u16::try_from(std::process::id() % 100).unwrap() * 30;
    let candidates = (0..100).map(|step| 20_000 + offset + step * 30);
    let is_free = |base: &u16| {
        (0..3)
            .flat_map(|member| [0, 10, 20].map(|kind| base + member + kind))
            .all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    candidates.into_iter().find(is_free).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_edits_breaks_kills_and_deletes_and_is_told_what_happens() {
    let mut dev = Dev::start(0);
    dev.wait_for(&["default/web is served in version 1 by 3 of 3 members"]);
    dev.wait_for(&["curl http://127.0.0.1:", "/v1/leader"]);

    // An edit.
    write_config(&dev.path("resources/web.yaml"), "second");
    println!("an edit is served by all members after {:?}", dev.served_everywhere("second").await);
    dev.wait_for(&["default/web is served in version 2"]);

    // A broken file: told with its place, the last good version stays, another file goes on.
    write_config(&dev.path("resources/web.yaml"), "8080");
    dev.wait_for(&["wrong: ", "web.yaml, document 1, line 7: spec.data.text: a number where a text must be"]);
    let other =
        fs::read_to_string(dev.path("resources/web.yaml")).unwrap().replace("web", "other").replace("8080", "x");
    fs::write(dev.path("resources/other.yaml"), other).unwrap();
    dev.wait_for(&["default/other is served in version 1"]);
    dev.served_everywhere("second").await;
    write_config(&dev.path("resources/web.yaml"), "third");
    dev.wait_for(&["default/web is served in version 3"]);

    // A file that is deleted.
    fs::remove_file(dev.path("resources/other.yaml")).unwrap();
    dev.wait_for(&["default/other is not declared any more"]);

    // The Raft leader is killed: the others elect, and it comes back.
    let leader = dev.leader().await;
    dev.kill(&leader);
    dev.wait_for(&[&leader, "the Raft leader", "was killed (signal 9); it is started again in 2 s"]);
    println!("{}", dev.wait_for(&["leads now; the first write was acknowledged", &leader]));
    dev.wait_for(&[&leader, "is started again"]);
    dev.wait_for(&[&leader, "has caught up"]);
    write_config(&dev.path("resources/web.yaml"), "fourth");
    println!("an edit after it is served by all members after {:?}", dev.served_everywhere("fourth").await);

    // Its data directory is deleted while it is down: it comes back as a new member, with everything.
    dev.kill(&leader);
    // At once: an election may take longer than it stays down.
    dev.wait_for(&[&leader, "was killed (signal 9); it is started again in 2 s"]);
    fs::remove_dir_all(dev.path("state").join(&leader)).unwrap();
    dev.wait_for(&[&leader, "is started again"]);
    dev.wait_for(&[&leader, "has caught up"]);
    write_config(&dev.path("resources/web.yaml"), "fifth");
    println!("an edit after that is served by all members after {:?}", dev.served_everywhere("fifth").await);

    // Ctrl-C stops the followers first.
    let leader = dev.leader().await;
    let status = dev.stop();
    assert!(status.success(), "{status}");
    let stopped: Vec<_> = (0..3).map(|_| dev.wait_for(&["stopped in order"])).collect();
    assert!(stopped[2].contains(&leader), "{leader} led, and they stopped as {stopped:?}");
}

#[test]
fn a_second_dev_on_the_same_state_folder_is_refused_at_once() {
    let mut dev = Dev::start(2);
    dev.wait_for(&["default/web is served in version 1 by 3 of 3 members"]);
    let second = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("dev")
        .arg(dev.path("resources"))
        .arg("--fresh")
        .arg("--state")
        .arg(dev.path("state"))
        .args(["--base-port", &free_base_port(3).to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains("is in use by another `quorate dev`; stop that one, or name another folder"), "{told}");
    // The first goes on as if nothing had been.
    write_config(&dev.path("resources/web.yaml"), "second");
    dev.wait_for(&["default/web is served in version 2 by 3 of 3 members"]);
}

#[test]
fn the_members_stop_when_dev_itself_is_killed() {
    let mut dev = Dev::start(1);
    dev.wait_for(&["default/web is served in version 1 by 3 of 3 members"]);
    let pids = ["quorate-0", "quorate-1", "quorate-2"].map(|member| dev.pid_of(member));
    dev.process.kill().unwrap();
    dev.process.wait().unwrap();
    let deadline = Instant::now() + SOON;
    while pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
        assert!(Instant::now() < deadline, "a member runs on");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_has_what_its_document_says_until_the_document_is_gone() {
    let mut dev = Dev::start(4);
    dev.wait_for(&["default/web is served in version 1 by 3 of 3 members"]);
    let path = dev.path("resources/elections.yaml");
    let head = "apiVersion: quorate.io/v1alpha1\nkind: LeaderElection\nmetadata:\n  name: main\nspec:\n";
    fs::write(&path, format!("{head}  seats: 2\n  sessionTtl: 10s\n")).unwrap();
    dev.election_becomes("main", Some((2, 10_000))).await;
    fs::write(&path, format!("{head}  seats: none\n")).unwrap();
    dev.wait_for(&["elections.yaml", "line 6", "spec.seats"]);
    dev.election_becomes("main", Some((2, 10_000))).await;
    fs::write(&path, format!("{head}  seats: 3\n  sessionTtl: 1m\n")).unwrap();
    dev.election_becomes("main", Some((3, 60_000))).await;
    fs::remove_file(&path).unwrap();
    dev.election_becomes("main", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_takes_the_ttl_that_its_election_has_unless_it_is_told_another_one() {
    let mut dev = Dev::start(5);
    dev.wait_for(&["default/web is served in version 1 by 3 of 3 members"]);
    let document =
        "apiVersion: quorate.io/v1alpha1\nkind: LeaderElection\nmetadata:\n  name: slow\nspec:\n  sessionTtl: 10s\n";
    fs::write(dev.path("resources/elections.yaml"), document).unwrap();
    dev.election_becomes("slow", Some((1, 10_000))).await;
    for (election, options, expected) in
        [("slow", &[][..], 10_000), ("slow", &["--ttl", "1m"], 60_000), ("main", &[], 3_000)]
    {
        assert_eq!(dev.ttl_of_a_candidate(election, options).await, expected, "{election} {options:?}");
    }
}
