//! The command line against a cluster that works, and against one that has lost its quorum.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::alone;
use crate::trio::{SIZE, Trio, name, wait_for};

/// Runs `quorate` against all members; its exit code and what it printed.
fn quorate(trio: &Trio, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.env_clear().env("QUORATE_ENDPOINTS", trio.urls().join(","));
    let output = command.args(arguments).args(["--timeout", "3s"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_answers_without_a_quorum_and_what_needs_one_is_exit_code_4() {
    let _alone = alone().await;
    let mut trio = Trio::running().await;
    assert_eq!(quorate(&trio, &["put", "kv", "a", "kept"]).0, 0);
    assert_eq!(quorate(&trio, &["get", "kv", "absent"]).0, 3);
    let (code, text) = quorate(&trio, &["status"]);
    assert!(code == 0 && text.contains("quorum    available, 1 more may fail"), "{code}: {text}");
    let (code, text) = quorate(&trio, &["status", "--check"]);
    assert!(code == 0 && text.contains("quorum    available"), "{code}: {text}");
    for member in 1..SIZE {
        trio.kill(member);
    }
    let (code, text) = quorate(&trio, &["status", "--check"]);
    assert!(code == 4 && text.contains("see whether its process, or its pod, runs"), "{code}: {text}");
    let text = wait_for("the status does not tell the loss", async || {
        let (code, text) = quorate(&trio, &["status"]);
        assert_eq!(code, 0, "{text}");
        text.contains("quorum    NOT available").then_some(text)
    })
    .await;
    assert!(text.contains("all of it may be old"), "{text}");
    let (code, text) = quorate(&trio, &["put", "kv", "a", "lost"]);
    assert_eq!(code, 4, "{text}");
    let (code, text) = quorate(&trio, &["get", "kv", "a", "--stale"]);
    assert!(code == 0 && text.contains("kept"), "{code}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_command_writes_another_reads_in_every_form() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let folder = tempfile::tempdir().unwrap();
    let resource = "apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata: {name: shop, namespace: eu}\n\
                    spec: {data: {limit: \"7\"}}\n";
    fs::write(folder.path().join("shop.yaml"), resource).unwrap();
    let folder = folder.path().to_str().unwrap();
    let (code, text) = quorate(&trio, &["apply", "-f", folder]);
    assert!(code == 0 && text.contains("eu/shop"), "{code}: {text}");
    for form in ["json", "yaml"] {
        let (code, text) = quorate(&trio, &["get", "config", "eu/shop", "--output", form]);
        assert_eq!(code, 0, "{text}");
        // JSON is YAML as well.
        let read: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!((&read["data"]["limit"], &read["version"]), (&Value::from("7"), &Value::from(1)), "{form}: {text}");
    }
    assert_eq!(quorate(&trio, &["get", "config", "eu/absent"]).0, 3);
    let (code, text) = quorate(&trio, &["apply", "-f", "there-is-no-such-file.yaml"]);
    assert!(code == 1 && text.contains("there-is-no-such-file.yaml"), "{code}: {text}");
    assert_eq!(quorate(&trio, &["apply"]).0, 2);

    let to = (trio.leader().await + 1) % SIZE;
    let (code, text) = quorate(&trio, &["transfer", &name(to)]);
    assert!(code == 0 && text.contains(&name(to)), "{code}: {text}");
    assert_eq!(trio.leader().await, to);
    let (code, text) = quorate(&trio, &["transfer", "nobody"]);
    assert!(code == 3 && text.contains("nobody"), "{code}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_is_ever_logged_however_much_is_logged() {
    const SECRET: &str = "hunter2-is-never-logged";
    let _alone = alone().await;
    let mut trio = Trio::new();
    for member in 0..SIZE {
        let mut command = trio.command(member);
        command.args(["--log", "trace"]);
        trio.start_with(member, command);
    }
    trio.start_all().await;
    assert_eq!(quorate(&trio, &["put", "kv", "password", SECRET]).0, 0);
    assert_eq!(quorate(&trio, &["put", "config", "eu/shop", &format!("password={SECRET}")]).0, 0);
    let refused =
        trio.http.put(format!("{}/v1/config/eu/shop", trio.url(0))).header("content-type", "application/json");
    let refused = refused.body(format!("{{\"data\":{{\"password\":\"{SECRET}\"}},\"x\":1}}")).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    // A member that starts anew reads what it has stored.
    trio.kill(0);
    let before = trio.log(0);
    let mut command = trio.command(0);
    command.args(["--log", "trace"]);
    trio.start_with(0, command);
    trio.wait_until_ready(0).await;
    assert_eq!(quorate(&trio, &["get", "kv", "password"]), (0, SECRET.to_owned()));
    let logs: String = [before].into_iter().chain((0..SIZE).map(|member| trio.log(member))).collect();
    assert!(logs.contains("serving"), "the logs are where they are looked for");
    let line = logs.lines().find(|line| line.contains(SECRET));
    assert!(line.is_none(), "a value is in the log: {line:?}");
}
