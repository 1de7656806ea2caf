//! One short round of each benchmark, so that none of them is found broken on the day that it is needed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::alone;

/// Runs `quorate bench` with its data in that folder, and prints JSON.
fn bench(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.arg("bench").args(arguments).args(["--output", "json", "--directory"]).arg(directory);
    command.output().unwrap()
}

/// The JSON of a benchmark that has succeeded and has left nothing behind.
fn measured(arguments: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let output = bench(directory.path(), arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{arguments:?} has left something behind");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Writes a result, as `> FILE` would.
fn save(folder: &Path, name: &str, report: &Value) -> String {
    let path = folder.join(name);
    fs::write(&path, serde_json::to_vec(report).unwrap()).unwrap();
    path.display().to_string()
}

/// What a command that needs no members says, and how it ends.
fn told(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).arg("bench").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_told_with_its_machine_and_can_be_drawn_and_compared() {
    let _alone = alone().await;
    let report = measured(&["load", "--rounds", "1", "--duration", "300ms", "--only", "two for an election"]);
    assert_eq!(report["results"].as_array().map(Vec::len), Some(3), "{report}");
    for result in report["results"].as_array().unwrap() {
        assert!(result["quorate"]["median"]["perSecond"].as_f64().unwrap() > 1.0, "{report}");
        let samples = result["quorate"]["rounds"][0]["samplesUs"].as_array().unwrap();
        assert!((1..=100).contains(&samples.len()), "{report}");
    }
    for fact in ["processor", "kernel", "fileSystem", "quorate"] {
        assert!(report["machine"][fact].as_str().is_some_and(|fact| fact != "unknown"), "{fact} of {report}");
    }

    let folder = tempfile::tempdir().unwrap();
    let first = save(folder.path(), "first.json", &report);
    let (code, text) = told(&["show", &first]);
    assert!(code == 0 && text.contains("election won and resigned, 256 clients") && text.contains("RATIO"), "{text}");
    let drawings = folder.path().join("drawings");
    let (code, text) = told(&["plot", &first, "--output", drawings.to_str().unwrap()]);
    assert_eq!((code, text.lines().count()), (0, 3), "{text}");
    for path in text.lines() {
        assert!(fs::read_to_string(path).unwrap().contains("<polyline"), "{path} has no line");
    }
    let (code, text) = told(&["compare", &first, &first]);
    assert!(code == 0 && text.contains("6 of 6 figures agree within 25 %"), "{code}: {text}");
    let mut slower = report;
    let rate = &mut slower["results"][0]["quorate"]["median"]["perSecond"];
    *rate = (rate.as_f64().unwrap() / 2.0).into();
    let second = save(folder.path(), "second.json", &slower);
    let (code, text) = told(&["compare", &first, &second]);
    assert!(code == 1 && text.contains("5 of 6 figures agree") && text.contains("DIFFERS"), "{code}: {text}");
    let (code, text) = told(&["compare", &first, "no-such-file.json"]);
    assert!(code == 2 && text.contains("no-such-file.json"), "{code}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_hears_of_a_write_later_from_when_it_is_sent_than_from_when_it_is_acknowledged() {
    let _alone = alone().await;
    let report = measured(&["load", "--rounds", "1", "--duration", "500ms", "--only", "until its event, 1 client"]);
    let p50 = |row: usize| report["results"][row]["quorate"]["median"]["p50Us"].as_u64().unwrap();
    assert!(p50(0) > p50(1), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_harm_to_a_leader_is_measured_once_a_round() {
    let _alone = alone().await;
    let report = measured(&["failover", "--rounds", "1", "--writers", "4"]);
    let results = report["results"].as_array().unwrap();
    let faults: Vec<_> = results.iter().map(|series| series["fault"].as_str().unwrap()).collect();
    let elections = ["holder-killed", "holder-released", "holder-expired"];
    assert_eq!(faults[..5], ["kill", "stop", "pause", "transfer", "kill-under-load"], "{report}");
    assert_eq!(faults[5..], elections, "{report}");
    for series in results {
        let samples = series["samplesUs"].as_array().unwrap();
        assert!(samples.len() == 1 && samples[0].as_u64().unwrap() > 0, "{report}");
    }
    // A holder that is silent keeps its election for its TTL of two seconds, and nobody has it before.
    assert!(results[7]["samplesUs"][0].as_u64().unwrap() >= 1_900_000, "{report}");
    let folder = tempfile::tempdir().unwrap();
    let saved = save(folder.path(), "failover.json", &report);
    let (code, text) = told(&["plot", &saved, "--output", folder.path().to_str().unwrap()]);
    assert_eq!((code, text.lines().count()), (0, 8), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_is_told_of_each_kind_of_a_full_state_and_of_members_that_do_nothing() {
    let _alone = alone().await;
    let short = ["--most", "10", "--duration", "300ms", "--state", "8", "--snapshots", "1", "--idle", "500ms"];
    let report = measured(&[&["growth"][..], &short].concat());
    assert_eq!(report["results"].as_array().map(Vec::len), Some(4), "{report}");
    for size in report["results"].as_array().unwrap() {
        assert!(size["count"] == 10 && size["asked"]["p50Us"].as_u64().unwrap() > 0, "{report}");
    }
    let full = &report["full"];
    assert!(full["snapshotBytes"].as_u64().unwrap() >= 8 << 20, "{report}");
    assert!(full["meanwhile"]["p99Us"].as_u64().unwrap() > 0 && full["elections"] == 0, "{report}");
    assert!(full["restartMs"].as_u64().is_some(), "{report}");
    let idle = report["idle"].as_array().unwrap();
    assert!(
        idle.len() == 3 && idle.iter().all(|member| member["residentBytes"].as_u64().unwrap() > 1 << 20),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_together_are_told_in_figures() {
    let _alone = alone().await;
    let report = measured(&["expiry", "--sessions", "1000"]);
    assert!(report["sessions"] == 1000 && report["begunPerSecond"].as_f64().unwrap() > 1.0, "{report}");
    assert!(report["writesMeanwhile"]["p50Us"].as_u64().unwrap() > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rival_that_is_not_there_is_named_and_nothing_is_left_behind() {
    let _alone = alone().await;
    let missing = "/no/such/program";
    let cases: [(&[&str], i32, &str); 4] = [
        (&["load", "--against", "etcd", "--etcd", missing], 1, "etcd does not start (see --etcd)"),
        (&["failover", "--against", "etcd", "--etcd", missing], 1, "etcd does not start (see --etcd)"),
        (&["failover", "--against", "lease"], 2, "--kubeconfig"),
        (
            &["failover", "--against", "lease", "--lease-program", missing, "--kubeconfig", "/dev/null"],
            1,
            "the Lease has no holder (see --lease-program and --kubeconfig)",
        ),
    ];
    for (arguments, code, reason) in cases {
        let directory = tempfile::tempdir().unwrap();
        let refused = bench(directory.path(), arguments);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(code) && text.contains(reason), "{arguments:?}: {text}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{arguments:?}");
    }
}
