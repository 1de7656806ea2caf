//! The proof of the simulator: bugs that are known to be terrible, each brought back by a patch. The simulator must catch
//! each under the right name, on seeds that the right code passes (`make sim` runs them and more).
//!
//! The tree is copied to `target-sim/planted`, gets all patches there, and is built once with the simulator's flags into the
//! simulator's target folder. Every bug sleeps in it until `QUORATE_PLANTED` names it: the simulator is run once for each.

#![allow(clippy::print_stdout, reason = "it says by what each bug was caught")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a test may look at the clock")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The seeds of the simulator's short effort.
const SEEDS: &str = "500";

/// A bug, and the checks of the simulator of which one must catch it.
struct Planted {
    /// Of its patch, and what wakes it.
    name: &'static str,
    caught_by: &'static [&'static str],
}

/// The patch that lets the others ask whether they are awake.
const SWITCH: &str = "switch";

const BUGS: &[Planted] = &[
    Planted { name: "acknowledge-before-sync", caught_by: &["acknowledged"] },
    Planted { name: "vote-not-synced", caught_by: &["vote-kept"] },
    Planted { name: "leader-restore", caught_by: &["linearizable"] },
    Planted { name: "snapshot-without-rename", caught_by: &["survival"] },
    Planted { name: "duty-in-a-later-leadership", caught_by: &["duty-in-its-leadership"] },
    Planted { name: "expiry-too-early", caught_by: &["kept", "exclusion"] },
    Planted { name: "claim-not-heard", caught_by: &["kept", "exclusion"] },
    Planted { name: "id-given-twice", caught_by: &["id-once"] },
];

#[test]
fn every_planted_bug_is_caught_by_name() {
    let tree = copy_of_the_tree();
    apply(SWITCH, &tree);
    for bug in BUGS {
        apply(bug.name, &tree);
    }
    let simulator = build(&tree);
    for bug in BUGS {
        let began = Instant::now();
        let caught = catch(bug, &simulator);
        println!("planted {}: {caught} ({:.0?})", bug.name, began.elapsed());
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What git holds of the working tree, or would. Files that are as they should be keep their times, so that little is rebuilt.
fn copy_of_the_tree() -> PathBuf {
    let tree = root().join("target-sim/planted/tree");
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "git does not list the files of {}", root().display());
    let names = String::from_utf8(listed.stdout).unwrap();
    let names: BTreeSet<_> =
        names.split_terminator('\0').map(Path::new).filter(|name| root().join(name).exists()).collect();
    for name in &names {
        let (content, copy) = (fs::read(root().join(name)).unwrap(), tree.join(name));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        if fs::read(&copy).ok().as_ref() != Some(&content) {
            fs::write(copy, content).unwrap();
        }
    }
    for file in files_below(&tree) {
        if !names.contains(file.strip_prefix(&tree).unwrap()) {
            fs::remove_file(file).unwrap();
        }
    }
    tree
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn apply(name: &str, tree: &Path) {
    let patch = root().join("tests/planted").join(name).with_extension("patch");
    let status = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(&patch)
        .current_dir(tree)
        // Without it, git would look for the paths in the repository around the copy.
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap())
        .status()
        .unwrap();
    assert!(status.success(), "{} does not fit the code any more: make it anew", patch.display());
}

/// Builds the simulator of a tree; where its program is.
fn build(tree: &Path) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--locked", "--profile", "sim", "--test", "sim", "--no-run", "--message-format", "json"])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", root().join("target-sim"))
        .env("RUSTFLAGS", "--cfg tokio_unstable --cfg quorate_sim")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the planted tree does not build");
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    // The binaries that tests may run are built as well, and come in any order.
    let mut simulators = messages.filter(|message| message["target"]["name"] == "sim");
    let simulator = simulators.find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    simulator.expect("the simulator is a program")
}

/// Runs the simulator until it catches the bug; the line that says so.
fn catch(bug: &Planted, simulator: &Path) -> String {
    let mut child = Command::new(simulator)
        .args(["clients_see_one_history_whatever_fails", "--exact", "--nocapture"])
        .env("QUORATE_SIM_SEEDS", SEEDS)
        .env("QUORATE_PLANTED", bug.name)
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let is_it = |line: &String| {
        let named = line.strip_prefix("seed ").and_then(|rest| rest.split_once(": ")).map(|(_, said)| said);
        bug.caught_by.iter().any(|check| named.is_some_and(|said| said.starts_with(&format!("{check}: "))))
    };
    let mut others = Vec::new();
    let mut caught = None;
    for line in lines {
        if is_it(&line) {
            caught = Some(line);
            break;
        }
        others.push(line);
    }
    // It may have come to its end.
    drop(child.kill());
    child.wait().unwrap();
    caught.unwrap_or_else(|| panic!("{} was not caught by {:?}:\n{}", bug.name, bug.caught_by, others.join("\n")))
}
