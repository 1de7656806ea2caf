//! The command line as scripts see it: exit codes, messages, and which source of a setting wins.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod documents;
#[path = "../support/markdown.rs"]
#[allow(dead_code, reason = "each ring uses a part of what is shared")]
mod markdown;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::Duration;

use tokio::time::Instant;

/// The binary without anything of this environment that it would read.
fn quorate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(arguments).env_clear();
    command
}

fn run(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// An endpoint that nobody listens on.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let wrong: [&[&str]; 10] = [
        &[],
        &["frobnicate"],
        &["get"],
        &["get", "kv"],
        &["get", "kv", "a", "--prefix", "b"],
        &["status", "--output", "xml"],
        &["status", "--endpoints", "nonsense"],
        &["get", "config", "Not/Valid"],
        &["put", "config", "no-slash", "a=b"],
        &["serve"],
    ];
    for arguments in wrong {
        let (code, message) = run(&mut quorate(arguments));
        assert_eq!(code, 2, "{arguments:?}: {message}");
        assert!(!message.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_cluster_that_does_not_answer_is_exit_code_4_within_the_timeout() {
    let endpoint = nobody();
    for arguments in
        [&["status"][..], &["get", "kv", "a"], &["put", "kv", "a", "b"], &["transfer"], &["watch", "leader"]]
    {
        let began = Instant::now();
        let (code, message) = run(quorate(arguments).args(["--endpoints", &endpoint, "--timeout", "300ms"]));
        assert_eq!(code, 4, "{arguments:?}: {message}");
        assert!(message.contains(&endpoint) && message.contains("quorate status"), "{arguments:?}: {message}");
        assert!(began.elapsed() < Duration::from_secs(5), "{arguments:?} took {:?}", began.elapsed());
    }
    let (code, message) = run(quorate(&["status", "--check", "--timeout", "300ms"]).args(["--endpoints", &endpoint]));
    assert!(code == 4 && message.contains(&endpoint), "{code}: {message}");
}

#[test]
fn files_that_are_wrong_are_told_before_a_cluster_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, "apiVersion: v1\nkind: ConfigMap\n").unwrap();
    let (code, message) = run(quorate(&["apply", "--endpoints", &nobody(), "-f"]).arg(&file));
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("a.yaml, document 1, line 1: \"ConfigMap\" of \"v1\" is not known"), "{message}");
    let (code, message) = run(quorate(&["apply", "--endpoints", &nobody(), "-f"]).arg(folder.path().join("none")));
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("none: No such file"), "{message}");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quorate.yaml");
    fs::write(&file, "http: from-file\nhealth: from-file\nmemberListen: from-file\n").unwrap();
    let mut command = quorate(&["serve", "--http", "from-flag", "--name", "a", "--initial-cluster", "a=a:1"]);
    let command =
        command.env("QUORATE_SETTINGS", &file).env("QUORATE_HTTP", "from-env").env("QUORATE_HEALTH", "from-env");
    let (code, message) = run(command);
    assert_eq!(code, 2, "{message}");
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 4, "{message}");
    for (line, start, value) in [
        (1, "  --http (", "\"from-flag\""),
        (2, "  --health (", "\"from-env\""),
        (3, "  --member-listen (", "\"from-file\""),
    ] {
        assert!(lines[line].starts_with(start) && lines[line].contains(value), "{message}");
    }
}

#[test]
fn a_member_that_cannot_start_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let unreadable = folder.path().join("unreadable");
    fs::create_dir_all(unreadable.join("identity")).unwrap();
    let free = [nobody(), nobody(), nobody()].map(|url| url.trim_start_matches("http://").to_owned());
    let cases = [
        ([address.as_str(), &free[1], &free[2]], folder.path().join("data"), "(--http): Address already in use"),
        ([&free[0], address.as_str(), &free[2]], folder.path().join("data"), "(--health): Address already in use"),
        ([&free[0], &free[1], address.as_str()], folder.path().join("data"), "is the port in use by another process?"),
        ([&free[0], &free[1], &free[2]], file, "as data directory"),
        ([&free[0], &free[1], &free[2]], unreadable, "cannot use the file identity of the data directory"),
    ];
    for ([http, health, member], data, expected) in cases {
        let mut command = quorate(&["serve", "--name", "a", "--initial-cluster", "a=127.0.0.1:1"]);
        let command = command.args(["--http", http, "--health", health, "--member-listen", member]);
        let (code, message) = run(command.arg("--data-dir").arg(&data));
        assert_eq!(code, 1, "{message}");
        assert!(message.contains(expected), "{expected}: {message}");
        assert_eq!(message.matches("os error").count(), 1, "told once: {message}");
    }
}

#[test]
fn the_crds_are_printed_as_one_stream_of_documents() {
    let output = quorate(&["crds"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  name: ")).collect();
    assert_eq!(names, ["leaderelections.quorate.io", "quorateclusters.quorate.io", "replicatedconfigs.quorate.io"]);
    assert_eq!(text.lines().filter(|line| *line == "---").count(), 2, "{text}");
    assert!(text.starts_with("# Made by `quorate crds`"), "{text}");
}

#[test]
fn crds_are_not_applied_without_an_api_server_and_no_secret_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let apply = || {
        let mut command = quorate(&["crds", "apply", "--timeout", "300ms"]);
        command.env("HOME", folder.path()).env("KUBECONFIG", &file);
        run(&mut command)
    };
    let (code, message) = apply();
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("failed to read kubeconfig") && message.contains("set KUBECONFIG"), "{message}");

    fs::write(&file, "users: [{name: a, user: {token: hunter2").unwrap();
    let (code, message) = apply();
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("kubectl config view") && !message.contains("hunter2"), "{message}");

    let endpoint = nobody();
    let config = format!(
        "clusters: [{{name: a, cluster: {{server: {endpoint:?}}}}}]\nusers: [{{name: a, user: {{token: hunter2}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\ncurrent-context: a\n"
    );
    fs::write(&file, config).unwrap();
    let began = Instant::now();
    let (code, message) = apply();
    assert_eq!(code, 4, "{message}");
    assert!(message.contains("the API server does not answer") && !message.contains("hunter2"), "{message}");
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}

#[test]
fn help_lists_every_command_and_setting() {
    let help = |arguments: &[&str]| String::from_utf8(quorate(arguments).output().unwrap().stdout).unwrap();
    let all = help(&["--help"]);
    for command in
        ["serve", "dev", "status", "get", "put", "watch", "apply", "elect", "lock", "run", "transfer", "crds"]
    {
        assert!(all.contains(&format!("\n  {command} ")), "{command} in {all}");
    }
    assert!(!all.contains("guard"), "what people never type is not shown: {all}");
    let serve = help(&["serve", "--help"]);
    for part in ["--data-dir <DIR>", "QUORATE_INITIAL_CLUSTER", "[default: 127.0.0.1:17400]", "Timing:", "Logs:"] {
        assert!(serve.contains(part), "{part} in {serve}");
    }
}
