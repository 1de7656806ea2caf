//! Requests that follow from the OpenAPI document, valid and broken, against real members.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::alone;
use crate::support::effort::Effort;
use crate::trio::Trio;

/// What must be true of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_answer_that_is_not_documented() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let (phases, examples) =
        Effort::from_environment().pick(("examples,fuzzing", "10"), ("examples,coverage,fuzzing", "50"));
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = home.join("target/tools/bin/schemathesis");
    assert!(program.exists(), "`make tools` installs schemathesis");
    let output = Command::new(program)
        .arg("--config-file")
        .arg(home.join("tests/process/fuzzing/schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", trio.url(0))])
        .args(["--checks", CHECKS, "--max-examples", examples, "--phases", phases])
        // One worker: Python's own parser, which the generator asks for the text of a lambda, fails now and then in
        // two threads at once ("AST constructor recursion depth mismatch").
        .args(["--seed", "1", "--workers", "1", "--request-timeout", "70", "--generation-database", "none"])
        .arg("--no-color")
        // A watch goes on until its client is gone.
        .args(["--exclude-path-regex", "/watch$"])
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", text.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    // It was also asked to move leadership about, and the cluster serves on.
    let answer = trio.http.put(format!("{}/v1/kv/after", trio.url(1))).body("all of it").send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}
