//! The command line against a cluster that works, and against one that has lost its quorum.

use std::process::Command;

use crate::alone;
use crate::trio::{SIZE, Trio, wait_for};

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
    for member in 1..SIZE {
        trio.kill(member);
    }
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
