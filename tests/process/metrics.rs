//! The metrics of a live member, as Prometheus would read them and as `docs/metrics.md` explains them, and what it would make of
//! them with the rules in `examples/prometheus`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::alone;
use crate::trio::Trio;

#[tokio::test(flavor = "multi_thread")]
async fn promtool_accepts_the_metrics_of_a_live_member() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let metrics = trio.metrics(trio.leader().await).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in the Debian package prometheus; `make tools` installs it");
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.trim().is_empty(), "promtool says:\n{text}");
}

#[test]
fn promtool_finds_that_each_alert_comes_when_it_should_and_none_while_all_is_well() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (what, file) in [("check", "examples/prometheus/alerts.yaml"), ("test", "tests/process/alerts.yaml")] {
        let output = Command::new("promtool").args([what, "rules", file]).current_dir(root).output();
        let output = output.expect("promtool is in the Debian package prometheus; `make tools` installs it");
        let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "promtool {what} rules {file} says:\n{text}");
    }
    let rules = fs::read_to_string(root.join("examples/prometheus/alerts.yaml")).unwrap();
    let tests = fs::read_to_string(root.join("tests/process/alerts.yaml")).unwrap();
    let untested: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .filter(|alert| !tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n")))
        .collect();
    assert!(untested.is_empty(), "no test in tests/process/alerts.yaml makes {untested:?} come");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_explained_and_every_explained_metric_is_there() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    // Some are there only once there was a request.
    trio.get_json(0, "/v1/cluster").await.unwrap();
    let metrics = trio.metrics(0).await;
    let served = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    // Those of the process have names that Prometheus gives to everybody, and one line for all.
    let served = served.map(|name| if name.starts_with("process_") { "process_*" } else { name });
    let explained = include_str!("../../docs/metrics.md").lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("| `")?.split_once('`')?;
        Some(name)
    });
    let (served, explained): (BTreeSet<_>, BTreeSet<_>) = (served.collect(), explained.collect());
    let unexplained: Vec<_> = served.difference(&explained).collect();
    assert!(unexplained.is_empty(), "docs/metrics.md does not explain {unexplained:?}");
    let missing: Vec<_> = explained.difference(&served).collect();
    assert!(missing.is_empty(), "docs/metrics.md explains {missing:?}, which no member serves");
}
