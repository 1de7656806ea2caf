//! `quorate run`, `lock` and `elect`: commands that run only while something is held, however stubborn they are.

use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::alone;
use crate::support::effort::Effort;
use crate::trio::{PATIENCE, Trio, wait_for};

/// For what takes no time, on a busy machine; the timeout of a call is far longer.
const SOON: Duration = Duration::from_secs(2);

/// The binary, on a cluster.
fn quorate(urls: &[String], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(arguments).env("QUORATE_ENDPOINTS", urls.join(",")).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn output(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A running command and the lines that it prints.
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it prints.
    pub async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line()).await.expect("it prints a line").unwrap().expect("a line")
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().expect("it runs")).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap()
    }

    /// Waits until its command says that it has started; not, when it had to give up before.
    async fn has_started(&mut self) -> bool {
        match timeout(PATIENCE, self.lines.next_line()).await.expect("it starts or ends").unwrap() {
            Some(line) => line == "started",
            None => {
                assert_eq!(self.code().await, 4, "it has lost what it was granted");
                false
            }
        }
    }

    /// Sends it a signal, and waits until it ends: its exit code, and what it has printed.
    async fn signalled(mut self, signal: Signal) -> (i32, String) {
        self.signal(signal);
        let code = self.code().await;
        let rest = self.lines.next_line().await.unwrap();
        (code, rest.unwrap_or_default())
    }

    async fn code(&mut self) -> i32 {
        self.ended().await.code().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_while_it_leads_and_its_end_is_told() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let urls = trio.urls();
    let script = "echo $QUORATE_FENCING_TOKEN; exit 7";
    let (code, first, errors) =
        output(quorate(&urls, &["run", "--election", "default/job", "--", "sh", "-c", script])).await;
    assert_eq!(code, 7, "{errors}");
    let seen = trio.get_json(0, "/v1/elections/default/job").await.unwrap();
    assert_eq!((&seen["lastTransition"]["cause"], &seen["leaders"]), (&"client-exited".into(), &serde_json::json!([])));
    assert_eq!(seen["lastTransition"]["fencingToken"].to_string(), first.trim());

    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done";
    let mut leads = Running::start(quorate(&urls, &["run", "--election", "default/job", "--", "sh", "-c", script]));
    assert_eq!(leads.line().await, "up");
    let mut waits = Running::start(quorate(&urls, &["run", "--election", "default/job", "--", "echo", "next"]));
    wait_for("nobody waits", async || {
        (trio.get_json(0, "/v1/elections/default/job").await?["waiting"] == 1).then_some(())
    })
    .await;
    leads.signal(Signal::TERM);
    assert_eq!(leads.code().await, 9, "the signal and the code are passed on");
    assert_eq!(waits.line().await, "next");
    assert_eq!(waits.code().await, 0);
    let (code, _, errors) =
        output(quorate(&urls, &["run", "--election", "default/job", "--", "no-such-program"])).await;
    assert!(code == 1 && errors.contains("no-such-program"), "{code}: {errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_and_an_election_are_held_until_a_signal_comes() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let urls = trio.urls();
    let mut holds = Running::start(quorate(&urls, &["lock", "default/disk"]));
    assert!(holds.line().await.starts_with("default/disk is held, with fencing token "));
    let (code, _, errors) = output(quorate(&urls, &["lock", "default/disk", "--wait", "0s", "--", "true"])).await;
    assert!(code == 1 && errors.contains("is held"), "{code}: {errors}");
    let (code, _, errors) = output(quorate(&urls, &["lock", "default/disk", "--wait", "300ms", "--", "true"])).await;
    assert!(code == 1 && errors.contains("it was not granted within 300ms"), "{code}: {errors}");
    holds.signal(Signal::INT);
    assert_eq!(holds.code().await, 0);
    let (code, told, _) = output(quorate(&urls, &["lock", "default/disk", "--wait", "0s", "--", "echo", "mine"])).await;
    assert_eq!((code, told.as_str()), (0, "mine\n"));

    let mut leads = Running::start(quorate(&urls, &["elect", "default/main", "--candidate", "me", "--output", "json"]));
    let granted: serde_json::Value = serde_json::from_str(&leads.line().await).unwrap();
    assert_eq!(granted["event"], "granted");
    let seen = trio.get_json(0, "/v1/elections/default/main").await.unwrap();
    assert_eq!(seen["leaders"][0]["fencingToken"], granted["fencingToken"]);
    let session = granted["session"].as_str().unwrap();
    trio.http.delete(format!("{}/v1/sessions/{session}", trio.url(1))).send().await.unwrap();
    assert_eq!(leads.code().await, 4, "it is lost");
}

/// What waits, with a command and without, and which signal ends the wait with which exit code.
const WAITS: [(&[&str], Signal, i32); 5] = [
    (&["run", "--election", "default/main", "--", "echo", "it runs"], Signal::TERM, 143),
    (&["lock", "default/disk", "--", "echo", "it runs"], Signal::INT, 130),
    (&["lock", "default/disk", "--wait", "20s", "--", "echo", "it runs"], Signal::TERM, 143),
    (&["lock", "default/disk"], Signal::TERM, 0),
    (&["elect", "default/main"], Signal::INT, 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_the_grant_is_no_success_of_a_command_that_never_ran() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let urls = trio.urls();
    let mut leads = Running::start(quorate(&urls, &["elect", "default/main"]));
    let mut holds = Running::start(quorate(&urls, &["lock", "default/disk"]));
    assert!(leads.line().await.contains("is held") && holds.line().await.contains("is held"));
    for (arguments, signal, code) in WAITS {
        let waiting = async || {
            let election = trio.get_json(0, "/v1/elections/default/main").await?["waiting"].as_u64()?;
            Some(election + trio.get_json(0, "/v1/locks/default/disk").await?["waiting"].as_u64()?)
        };
        let waits = Running::start(quorate(&urls, arguments));
        wait_for("nobody waits", async || (waiting().await? == 1).then_some(())).await;
        assert_eq!(waits.signalled(signal).await, (code, String::new()), "{arguments:?}");
        wait_for("who was ended waits still", async || (waiting().await? == 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_and_the_limit_of_a_wait_count_while_no_member_answers() {
    let _alone = alone().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = [format!("http://{}", silent.local_addr().unwrap())];
    // It listens for signals once it asks for a session.
    let asks = async || timeout(PATIENCE, silent.accept()).await.expect("it asks").unwrap();
    for (arguments, signal, code) in WAITS {
        let waits = Running::start(quorate(&urls, arguments));
        let _asked = asks().await;
        let began = Instant::now();
        assert_eq!(waits.signalled(signal).await, (code, String::new()), "{arguments:?}");
        assert!(began.elapsed() < SOON, "{arguments:?} took {:?}", began.elapsed());
    }
    let began = Instant::now();
    let (code, told, errors) =
        output(quorate(&urls, &["lock", "default/disk", "--wait", "1s", "--", "echo", "it runs"])).await;
    assert_eq!((code, told.as_str()), (1, ""), "{errors}");
    assert!(errors.contains("it was not granted within 1s"), "{errors}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(1) + SOON, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_in_order_when_a_signal_comes() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    for signal in [Signal::TERM, Signal::INT] {
        let mut watches = Running::start(quorate(&trio.urls(), &["watch", "kv"]));
        assert!(watches.line().await.ends_with("snapshot  no keys"));
        watches.signal(signal);
        assert_eq!(watches.code().await, 0, "it was ended by {signal:?} itself");
    }
}

/// Appends a line with its token again and again, ignores what asks it to end, and forks.
const STUBBORN: &str = r#"
trap '' TERM INT HUP
( trap '' TERM INT HUP; while :; do echo "$QUORATE_FENCING_TOKEN forked" >> "$0"; sleep 0.03; done ) &
echo started
while :; do echo "$QUORATE_FENCING_TOKEN" >> "$0"; sleep 0.03; done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_stubborn_command_does_comes_after_the_next_has_begun() {
    let _alone = alone().await;
    let (pairs, rounds) = Effort::from_environment().pick((4, 3), (8, 125));
    let trio = Trio::running().await;
    let folder = tempfile::tempdir().unwrap();
    let contests = (0..pairs).map(|pair| contest(&trio, pair, rounds, folder.path()));
    let lines: usize = join_all(contests).await.into_iter().sum();
    println!("{pairs} commands were taken over {rounds} times each; they left {lines} lines");
}

/// Two commands, one of which runs; it is cut off or its holder killed, and another one takes its place. How many lines there
/// were.
async fn contest(trio: &Trio, pair: usize, rounds: usize, folder: &Path) -> usize {
    let (election, file) = (format!("default/stubborn-{pair}"), folder.join(pair.to_string()));
    let start = |urls: &[String]| {
        let arguments = ["run", "--election", &election, "--ttl", "500ms", "--", "sh", "-c", STUBBORN];
        let mut command = quorate(urls, &arguments);
        command.arg(&file);
        Running::start(command)
    };
    // On a machine that is too busy for its TTL one may have lost what it had just won.
    let until_started = async |mut begun: Running, urls: &[String]| {
        while !begun.has_started().await {
            begun = start(urls);
        }
        begun
    };
    let mut wire = Wire::to(trio.http_port(pair % 3)).await;
    let mut leads = until_started(start(&wire.urls), &wire.urls).await;
    for round in 0..rounds {
        let next_wire = Wire::to(trio.http_port((pair + round) % 3)).await;
        let next = start(&next_wire.urls);
        if round % 2 == 0 {
            wire.cut.cancel();
        } else if leads.child.try_wait().unwrap().is_none() {
            leads.signal(Signal::KILL);
        }
        let next = until_started(next, &next_wire.urls).await;
        if round % 2 == 0 {
            assert_eq!(leads.code().await, 4, "it says that it has lost");
        }
        (leads, wire) = (next, next_wire);
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let tokens: Vec<u64> = text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(tokens.is_sorted(), "an old holder has written after a newer one began:\n{text}");
    let forked = text.lines().filter(|line| line.ends_with("forked")).count();
    assert!(forked > rounds && tokens.len() - forked > rounds, "too little was written:\n{text}");
    tokens.len()
}

/// A way to one member, which can be cut: then nothing comes through, and nobody is told.
struct Wire {
    urls: Vec<String>,
    cut: CancellationToken,
}

impl Wire {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let urls = vec![format!("http://{}", listener.local_addr().unwrap())];
        let cut = CancellationToken::new();
        let is_cut = cut.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let cut = is_cut.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        // Held open, in silence, until the test is over.
                        () = cut.cancelled() => sleep(Duration::from_secs(30)).await,
                    }
                });
            }
        });
        Self { urls, cut }
    }
}
