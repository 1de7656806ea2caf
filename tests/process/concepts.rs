//! The calls of `docs/concepts.md`, as a reader would type them, one after the other, against real members.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::alone;
use crate::support::markdown::Markdown;
use crate::trio::Trio;

/// What the answers hold, in the order in which they come.
const ANSWERS: [&str; 23] = [
    // What a minority may do.
    "\"data\":{\"app.yaml\"",
    "1 more may fail",
    // Leader election, with the token that guards a transaction.
    "\"fencingToken\":",
    "\"holds\":[{\"kind\":\"election\"",
    "\"leaders\":[{\"candidate\":\"me\"",
    "\"current\":true",
    "\"succeeded\":true",
    // Configuration.
    "\"version\":1",
    "\"version\":1",
    "\"versions\":[",
    "\"revision\":",
    "\"registered\":1,\"applied\":1",
    // Metadata.
    "\"modRevision\":",
    "etag: \"",
    "https://quorate.io/problems/precondition-failed",
    "\"createRevision\":",
    "event: snapshot",
    // Locks.
    "\"fencingToken\":",
    "\"holders\":[{",
    "this runs while the lock is held",
    "\"deleted\":true",
    // Membership.
    "\"failureTolerance\":1",
    " leads in term ",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_concepts_is_answered_as_the_page_says() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = Markdown::parse(&fs::read_to_string(root.join("docs/concepts.md")).unwrap());
    let calls = page.blocks("sh").concat();
    // What `make dev` has from the start.
    let script = format!("set -eu\ntarget/debug/quorate apply --filename examples/shop.yaml >&2\n{calls}");
    let mut script = script.replace("target/debug/quorate", env!("CARGO_BIN_EXE_quorate"));
    for (member, port) in ["17400", "17401", "17402"].into_iter().enumerate() {
        script = script.replace(&format!("http://127.0.0.1:{port}"), &trio.url(member));
    }
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(root).env("QUORATE_ENDPOINTS", trio.urls().join(",")).stdin(Stdio::null());
    let output = shell.output().await.unwrap();
    let (answers, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {answers}\n{errors}", output.status);
    let mut rest = &*answers;
    for answer in ANSWERS {
        let (_, after) =
            rest.split_once(answer).unwrap_or_else(|| panic!("{answer:?} does not come in:\n{rest}\nof:\n{answers}"));
        rest = after;
    }
    assert_eq!(answers.matches("https://quorate.io/problems/").count(), 1, "something else was refused:\n{answers}");
}
