//! The programs in `examples/clients`, as a reader would run them, against real members.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use tokio::process::Command;

use crate::alone;
use crate::running::Running;
use crate::trio::{Trio, free_ports, wait_for};

fn example(name: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/clients").join(name);
    piped(Command::new(path))
}

fn piped(mut command: Command) -> Command {
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_lines_of_shell_lead_an_election_and_let_go_of_it() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let mut command = example("lead.sh");
    command.env("QUORATE_URL", trio.url(1));
    let mut leads = Running::start(command);
    assert!(leads.line().await.starts_with("leading: {\"fencingToken\":"));
    let seen = trio.get_json(0, "/v1/elections/default/main").await.unwrap();
    assert_eq!(seen["leaders"].as_array().map(Vec::len), Some(1));
    leads.signal(Signal::TERM);
    leads.ended().await;
    let seen = trio.get_json(0, "/v1/elections/default/main").await.unwrap();
    assert_eq!((&seen["leaders"], &seen["lastTransition"]["cause"]), (&serde_json::json!([]), &"session-ended".into()));
}

/// The leaders in each language, as commands that lack only their arguments.
fn leaders(folder: &Path) -> [(&'static str, Command); 3] {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients");
    // A program that `go run` started does not get the signals that the test sends.
    let binary = folder.join("lead");
    let mut build = std::process::Command::new("go");
    let built = build.arg("build").arg("-o").arg(&binary).arg(clients.join("lead.go")).status();
    assert!(built.expect("Go is installed, from https://go.dev").success());
    let mut java = Command::new("java");
    java.arg(clients.join("Lead.java"));
    [("Python", Command::new(clients.join("lead.py"))), ("Go", Command::new(binary)), ("Java", java)]
}

#[tokio::test(flavor = "multi_thread")]
async fn in_each_language_a_leader_that_was_paused_is_replaced_and_the_store_refuses_its_token() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    for (language, command) in leaders(folder.path()) {
        println!("{language}");
        replaces_a_paused_leader(command).await;
    }
}

async fn replaces_a_paused_leader(command: Command) {
    let trio = Trio::running().await;
    let port = free_ports(1)[0];
    let store_url = format!("http://127.0.0.1:{port}");
    let mut store = example("store.py");
    store.arg(port.to_string());
    let _store = Running::start(store);
    wait_for("the store does not answer", async || trio.http.get(&store_url).send().await.ok().map(drop)).await;
    let lead = |name: &str| {
        let mut again = piped(Command::new(command.as_std().get_program()));
        again.args(command.as_std().get_args()).arg(&store_url).arg(name).args(trio.urls());
        Running::start(again)
    };
    let mut first = lead("first");
    let token_of = |line: String| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    let old = token_of(first.line().await);
    let holds =
        async |text: &str| trio.http.get(&store_url).send().await.ok()?.text().await.ok()?.contains(text).then_some(());
    wait_for("the first does not write", async || holds("written by first").await).await;

    let mut second = lead("second");
    first.signal(Signal::STOP);
    let new = token_of(second.line().await);
    assert!(new > old, "{new} after {old}");
    wait_for("the second does not write", async || holds("written by second").await).await;
    first.signal(Signal::CONT);
    assert!(first.line().await.starts_with("first leads no more"));
    let late = trio.http.put(&store_url).header("Fencing-Token", old).body("late").send().await.unwrap();
    assert_eq!(late.status(), 409);
}
