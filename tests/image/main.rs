//! The image: what `make image` packs, compared with what the Dockerfile says and with what the manifests expect.
//!
//! A container engine is not needed, for the archive is a tar file. That it runs is shown where Kubernetes imports it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod archive;
mod dockerfile;
mod manifests;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use archive::{Archive, Entry};
use dockerfile::Stage;
use serde_json::{Map, json};

/// What the archive and the manifests call the image.
const REFERENCE: &str = concat!("localhost/quorate:", env!("CARGO_PKG_VERSION"));

/// The archive of the binary under test.
static ARCHIVE: LazyLock<Archive> = LazyLock::new(|| Archive::build("umask 022"));

const DOCKERFILE: &str = include_str!("../../Dockerfile");

fn last_stage() -> Stage {
    Stage::all(DOCKERFILE).pop().unwrap()
}

#[test]
fn an_image_that_is_built_twice_has_the_same_bytes() {
    let again = Archive::build("umask 077");
    assert!(again.bytes() == ARCHIVE.bytes(), "a second build of the same binary, by a stricter user, differs");
}

#[test]
fn every_blob_is_what_its_digest_says_and_both_manifests_name_the_same_image() {
    let annotations = &ARCHIVE.json("index.json")["manifests"][0]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], REFERENCE);
    let manifest = ARCHIVE.manifest();
    let (config, layer) = (&manifest["config"], &manifest["layers"][0]);
    assert_eq!(ARCHIVE.config()["rootfs"]["diff_ids"], json!([archive::digest(&ARCHIVE.uncompressed_layer())]));
    let docker = json!([{
        "Config": archive::path_of(config),
        "RepoTags": [REFERENCE],
        "Layers": [archive::path_of(layer)],
    }]);
    assert_eq!(ARCHIVE.json("manifest.json"), docker);
}

#[test]
fn the_archive_is_configured_as_the_last_stage_of_the_dockerfile_says() {
    let stage = last_stage();
    let ports: Map<_, _> = stage.one("EXPOSE").split(' ').map(|port| (port.to_owned(), json!({}))).collect();
    let environment: Vec<_> = stage.pairs("ENV").map(|(name, value)| format!("{name}={value}")).collect();
    let labels: Map<_, _> = stage.pairs("LABEL").map(|(name, value)| (name.to_owned(), value.into())).collect();
    let said = json!({
        "Cmd": stage.json("CMD"),
        "Entrypoint": stage.json("ENTRYPOINT"),
        "Env": environment,
        "ExposedPorts": ports,
        "Labels": labels,
        "StopSignal": stage.one("STOPSIGNAL"),
        "User": stage.one("USER"),
        "WorkingDir": "/",
    });
    assert_eq!(ARCHIVE.config()["config"], said);
    assert_eq!(stage.one("USER"), "65532:65532");
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_dockerfile_and_the_archive_hold_the_same_files() {
    // Both lay them out with the same program; so the same files are there as long as the last stage takes all of them and
    // nothing else.
    let stage = last_stage();
    assert_eq!(stage.one("FROM"), "scratch");
    assert_eq!(stage.one("COPY"), "--from=build /image/ /");
    assert!(DOCKERFILE.contains("&& image/root.sh target/release/quorate /image\n"), "{DOCKERFILE}");
    let laid_out = archive::files_below(ARCHIVE.root());
    let packed: BTreeSet<_> = ARCHIVE.entries().into_iter().map(|entry| entry.path).collect();
    assert_eq!(packed, laid_out);
}

#[test]
fn what_the_dockerfile_copies_is_all_that_cargo_needs() {
    let context = tempfile::tempdir().unwrap();
    let sources = Stage::all(DOCKERFILE).swap_remove(0);
    let mut copied = BTreeSet::from(["*".to_owned()]);
    for copy in sources.each("COPY") {
        let (sources, to) = copy.rsplit_once(' ').unwrap();
        copied.extend(sources.split(' ').map(|source| format!("!{source}")));
        let mut cp = Command::new("cp");
        cp.arg("-r").args(sources.split(' ')).arg(context.path().join(to)).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(cp.status().unwrap().success(), "{cp:?}");
    }
    let ignored = include_str!("../../.dockerignore").lines().filter(|line| !line.starts_with('#'));
    assert_eq!(ignored.map(str::to_owned).collect::<BTreeSet<_>>(), copied);
    // A target of the package whose file is not there is an error even if it is not built.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let fetch = ["fetch", "--locked", "--offline", "--target", &platform];
    let output = Command::new(env!("CARGO")).args(fetch).current_dir(context.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_image_holds_the_binary_what_it_is_linked_with_and_nothing_else() {
    let is_library = |path: &str| path.starts_with("/lib") && path.contains(".so.");
    let known = [
        ("/etc/group", "-rw-r--r--"),
        ("/etc/nsswitch.conf", "-rw-r--r--"),
        ("/etc/passwd", "-rw-r--r--"),
        ("/tmp", "drwxrwxrwt"),
        ("/usr/bin/quorate", "-rwxr-xr-x"),
        ("/var/lib/quorate", "drwxrwxrwt"),
    ];
    let entries = ARCHIVE.entries();
    let is_parent = |path: &str| entries.iter().any(|entry| entry.path.starts_with(&format!("{path}/")));
    for Entry { path, mode, owner } in &entries {
        assert_eq!(owner, "0/0", "{path}");
        let expected = known.iter().find(|(known, _)| known == path).map(|(_, mode)| *mode);
        let expected = expected.or(is_library(path).then_some("-rwxr-xr-x"));
        let expected = expected.or(is_parent(path).then_some("drwxr-xr-x"));
        assert_eq!(Some(mode.as_str()), expected, "{path}");
    }
    for (path, _) in known {
        assert!(entries.iter().any(|entry| entry.path == path), "{path} is missing");
    }
}

#[test]
fn the_binary_finds_every_library_inside_the_image() {
    let root = ARCHIVE.root();
    let libraries: Vec<_> =
        ARCHIVE.entries().into_iter().map(|entry| entry.path).filter(|path| path.contains(".so.")).collect();
    let loader = libraries.iter().find(|path| path.contains("/ld-linux")).unwrap();
    let inside = |path: &String| root.join(path.trim_start_matches('/'));
    let folders: BTreeSet<_> =
        libraries.iter().map(|path| inside(path).parent().unwrap().display().to_string()).collect();
    let output = Command::new(inside(loader))
        .args(["--inhibit-cache", "--library-path", &Vec::from_iter(folders).join(":"), "--list"])
        .arg(root.join("usr/bin/quorate"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in text.lines().filter(|line| line.contains("=>")) {
        let (name, found) = line.split_once(" => ").unwrap();
        assert!(found.starts_with(&root.display().to_string()) || name.contains("/ld-linux"), "{line}");
    }
    assert!(text.contains("libc.so.6 => "), "{text}");
}

#[test]
fn an_instruction_that_the_archive_cannot_follow_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dockerfile = folder.path().join("Dockerfile");
    let archive = folder.path().join("image.tar");
    for (stage, problem) in [
        ("FROM scratch\nADD more /\n", "the last stage says ADD more /"),
        ("FROM debian:12\n", "the last stage says FROM debian:12"),
        ("FROM scratch\nENV A=1\nENV B=2\n", "the last stage has an instruction twice"),
    ] {
        std::fs::write(&dockerfile, stage).unwrap();
        let message = archive::pack(folder.path(), &dockerfile, REFERENCE, &archive).unwrap_err();
        assert!(message.contains(problem), "{message}");
    }
    let message = archive::pack(folder.path(), Path::new("Dockerfile"), "quorate", &archive).unwrap_err();
    assert!(message.contains("quorate is no full reference"), "{message}");
    assert!(!archive.exists());
}
