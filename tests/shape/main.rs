//! The shape of the code: which module may import which, and which crates only one module names,
//! what a dependency must be, and whether the documents name what exists.
//!
//! A violation is one sentence that says who may not import what. Changing [`LAYERS`] is a change of the design and has a
//! commit of its own.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod dependencies;
mod documents;
#[path = "../support/markdown.rs"]
#[allow(dead_code, reason = "each ring uses a part of what is shared")]
mod markdown;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{CrateName, ModuleName, imported_modules, named_crates, words};

/// Each module, from the ground up, with the modules that it may import.
const LAYERS: &[(ModuleName, &[ModuleName])] = &[
    ("types", &[]),
    ("encoding", &[]),
    ("tasks", &[]),
    ("machine", &["types", "encoding"]),
    ("settings", &["types"]),
    ("telemetry", &["settings"]),
    ("watch", &["types", "machine"]),
    ("raft", &["types", "encoding", "tasks", "settings", "machine", "watch"]),
    ("coordinator", &["types", "encoding", "tasks", "machine", "settings", "telemetry", "watch", "raft"]),
    ("duties", &["types", "settings", "tasks", "machine", "coordinator"]),
    ("api", &["types", "settings", "tasks", "machine", "telemetry", "watch", "coordinator"]),
    ("operator", &["types", "settings", "tasks", "machine", "telemetry", "watch", "coordinator"]),
    ("client", &["types", "api"]),
    (
        "server",
        &[
            "types",
            "encoding",
            "tasks",
            "machine",
            "settings",
            "telemetry",
            "watch",
            "raft",
            "coordinator",
            "duties",
            "api",
            "operator",
            "client",
        ],
    ),
    (
        "cli",
        &[
            "types",
            "encoding",
            "tasks",
            "machine",
            "settings",
            "telemetry",
            "watch",
            "raft",
            "coordinator",
            "duties",
            "api",
            "operator",
            "client",
            "server",
        ],
    ),
];

/// Crates that only the named modules know; everybody else sees them through those modules' own types.
const CRATES: &[(CrateName, &[ModuleName])] = &[
    ("openraft", &["raft"]),
    ("openraft_macros", &["raft"]),
    // `tasks` gives each simulated task its share of the seed.
    ("openraft_rt", &["raft", "tasks"]),
    ("openraft_rt_tokio", &["raft", "tasks"]),
    ("redb", &["raft"]),
    ("rustls", &["raft"]),
    ("tokio_rustls", &["raft"]),
    ("axum", &["api", "server"]),
    ("utoipa", &["api"]),
    // `cli` derives the enum of its subcommands.
    ("clap", &["settings", "cli"]),
    ("tracing_subscriber", &["telemetry"]),
    ("kube", &["operator"]),
    ("k8s_openapi", &["operator"]),
    ("reqwest", &["client"]),
    ("anyhow", &["cli"]),
    ("plotters", &["cli"]),
];

/// Modules whose functions are plain: equal input gives equal output, on every member, for ever.
const PURE: &[ModuleName] = &["types", "encoding", "machine"];

/// What a plain function has no use for.
const IMPURE: &[&str] = &[
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "async",
    "await",
    "env",
    "fs",
    "getrandom",
    "net",
    "process",
    "rand",
    "thread",
    "tokio",
];

#[test]
fn modules_import_only_downwards() {
    let violations: Vec<_> = source_files().iter().flat_map(check).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_table_of_layers_imports_only_downwards_itself() {
    let mut below = BTreeSet::new();
    for (module, allowed) in LAYERS {
        for import in *allowed {
            assert!(below.contains(import), "{module} may import {import}, which does not stand above it in the table");
        }
        assert!(below.insert(*module), "{module} stands in the table twice");
    }
}

#[test]
fn every_source_file_begins_by_saying_what_it_is_for() {
    for file in source_files() {
        assert!(file.text.starts_with("//!"), "{} has no doc comment on its first line", file.path.display());
    }
}

/// One file of the library.
struct SourceFile {
    path: PathBuf,
    text: String,
}

impl SourceFile {
    /// The top-level module that the file belongs to; `None` for the roots of library and binary.
    fn module(&self) -> Option<String> {
        let first = self.path.components().next()?;
        let name = first.as_os_str().to_str()?;
        let name = name.strip_suffix(".rs").unwrap_or(name);
        (name != "lib" && name != "main").then(|| name.to_owned())
    }

    /// How many modules deep it stands below the root of the crate.
    fn depth(&self) -> usize {
        self.path.components().count() - usize::from(self.path.ends_with("mod.rs"))
    }
}

/// Every file of the library, its path relative to `src`.
fn source_files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push(SourceFile { path: path.strip_prefix(&root).unwrap().to_owned(), text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

/// One sentence for each thing that `file` does and may not do.
fn check(file: &SourceFile) -> Vec<String> {
    let Some(module) = file.module() else { return Vec::new() };
    let path = file.path.display();
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        return vec![format!("src/{path}: module `{module}` has no place in the table of layers; give it one.")];
    };
    let words = words(&file.text);
    let mut violations = Vec::new();
    for import in imported_modules(&words, file.depth()) {
        if LAYERS.iter().any(|(name, _)| *name == import) && import != module && !allowed.contains(&import.as_str()) {
            let allowed = list(allowed);
            violations.push(format!("src/{path}: `{module}` imports `{import}`, but may import only {allowed}."));
        }
    }
    for name in named_crates(&words) {
        if let Some((_, owners)) = CRATES.iter().find(|(owned, _)| *owned == name)
            && !owners.contains(&module.as_str())
        {
            violations.push(format!("src/{path}: `{module}` names the crate `{name}`, but only {} may.", list(owners)));
        }
    }
    if PURE.contains(&module.as_str()) {
        for word in IMPURE.iter().filter(|word| words.iter().any(|other| other == *word)) {
            violations.push(format!("src/{path}: `{module}` is pure and may not say `{word}`."));
        }
    }
    violations
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(path: &str, text: &str) -> Vec<String> {
        check(&SourceFile { path: path.into(), text: text.to_owned() })
    }

    #[test]
    fn a_planted_upward_import_is_one_sentence() {
        let planted = "use crate::types::Key;\nuse crate::{\n    encoding::{Encode, Decode},\n    raft::{self as r, Clock},\n};\n";
        assert_eq!(
            violations("machine/keys.rs", planted),
            ["src/machine/keys.rs: `machine` imports `raft`, but may import only types, encoding."]
        );
    }

    #[test]
    fn a_planted_path_in_the_middle_of_the_code_is_seen() {
        let planted = "fn f() -> crate::coordinator::Error { g() }";
        assert_eq!(violations("raft/mod.rs", planted).len(), 1);
    }

    #[test]
    fn a_planted_path_that_climbs_out_of_its_module_is_seen() {
        let planted = "use super::super::api::router;";
        assert_eq!(violations("duties/expiry.rs", planted).len(), 1);
        assert_eq!(violations("duties/expiry/table.rs", planted).len(), 0, "that is duties::api");
    }

    #[test]
    fn comments_and_texts_are_no_imports() {
        let harmless = "//! See [`crate::raft`].\n/* crate::api /* nested */ axum:: */\nconst A: &str = \"crate::cli::x \\\" axum::y\";\n\
                        const B: &str = r#\"redb::\"#; const C: char = '\"'; fn f<'a>(x: &'a str) {}";
        assert_eq!(violations("types/names.rs", harmless), [""; 0]);
    }

    #[test]
    fn a_planted_foreign_crate_is_one_sentence() {
        assert_eq!(
            violations("coordinator/reads.rs", "use openraft::Raft;"),
            ["src/coordinator/reads.rs: `coordinator` names the crate `openraft`, but only raft may."]
        );
        assert_eq!(violations("watch/hub.rs", "fn f() { ::axum::serve() }").len(), 1);
        assert_eq!(violations("client/mod.rs", "use crate::api::wire; use reqwest::Client;"), [""; 0]);
    }

    #[test]
    fn a_planted_clock_in_the_machine_is_one_sentence() {
        assert_eq!(
            violations("machine/history.rs", "let now = std::time::Instant::now();"),
            ["src/machine/history.rs: `machine` is pure and may not say `Instant`."]
        );
        assert_eq!(violations("machine/mod.rs", "async fn apply() {}").len(), 1);
    }

    #[test]
    fn a_module_without_a_layer_is_one_sentence() {
        assert_eq!(violations("helpers.rs", "").len(), 1);
    }
}
