//! Builds an archive as `make image` does, and reads it back with nothing of what built it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::REFERENCE;

/// An archive, with the folder that it was packed from.
pub struct Archive {
    folder: TempDir,
}

/// One entry of the layer.
#[derive(Debug)]
pub struct Entry {
    pub path: String,
    /// As `ls` shows it.
    pub mode: String,
    pub owner: String,
}

impl Archive {
    /// Lays out, packs and unpacks the binary under test; `first` is a command for the shell that lays it out.
    pub fn build(first: &str) -> Self {
        let archive = Self { folder: tempfile::tempdir().unwrap() };
        let script = format!("{first}; exec image/root.sh \"$0\" \"$1\"");
        let mut shell = Command::new("sh");
        run(shell.args(["-c", &script, env!("CARGO_BIN_EXE_quorate")]).arg(archive.root())).unwrap();
        pack(&archive.root(), Path::new("Dockerfile"), REFERENCE, &archive.path()).unwrap();
        fs::create_dir(archive.unpacked("")).unwrap();
        let mut tar = Command::new("tar");
        run(tar.args(["--extract", "--file"]).arg(archive.path()).arg("--directory").arg(archive.unpacked("")))
            .unwrap();
        archive
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("quorate.tar")
    }

    /// The folder that it was packed from.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn unpacked(&self, name: &str) -> PathBuf {
        self.folder.path().join("unpacked").join(name)
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.unpacked(name)).unwrap()).unwrap()
    }

    /// The file of the blob that a descriptor describes, if it is the one.
    fn blob(&self, descriptor: &Value) -> PathBuf {
        let path = self.unpacked(&path_of(descriptor));
        let content = fs::read(&path).unwrap();
        assert_eq!(descriptor["digest"], digest(&content));
        assert_eq!(descriptor["size"], content.len());
        path
    }

    fn json_blob(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(&fs::read(self.blob(descriptor)).unwrap()).unwrap()
    }

    pub fn manifest(&self) -> Value {
        self.json_blob(&self.json("index.json")["manifests"][0])
    }

    pub fn config(&self) -> Value {
        self.json_blob(&self.manifest()["config"])
    }

    /// The only layer, as a compressed tar archive.
    fn layer(&self) -> PathBuf {
        let manifest = self.manifest();
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 1);
        self.blob(&layers[0])
    }

    /// The only layer, as a tar archive.
    pub fn uncompressed_layer(&self) -> Vec<u8> {
        run(Command::new("gzip").args(["--decompress", "--stdout"]).stdin(File::open(self.layer()).unwrap())).unwrap()
    }

    /// What is in the layer.
    pub fn entries(&self) -> Vec<Entry> {
        let mut tar = Command::new("tar");
        tar.args(["--list", "--gzip", "--verbose", "--numeric-owner", "--utc", "--file"]);
        let listing = String::from_utf8(run(tar.arg(self.layer())).unwrap()).unwrap();
        let entries = listing.lines().map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [mode, owner, _size, day, time, path] = fields[..] else { panic!("{line}") };
            assert_eq!((day, time), ("1970-01-01", "00:00"), "{line}");
            Entry { path: format!("/{}", path.trim_end_matches('/')), mode: mode.to_owned(), owner: owner.to_owned() }
        });
        entries.collect()
    }
}

/// Packs a folder.
///
/// # Errors
/// What the program said.
pub fn pack(folder: &Path, dockerfile: &Path, reference: &str, archive: &Path) -> Result<(), String> {
    let mut packer = Command::new("image/archive.py");
    run(packer.arg(folder).arg(dockerfile).arg(reference).arg(archive)).map(drop)
}

pub fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Where the blob of a descriptor is.
pub fn path_of(descriptor: &Value) -> String {
    format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

/// Every file and folder below `root`, as it is called from there.
pub fn files_below(root: PathBuf) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.insert(format!("/{}", path.strip_prefix(&root).unwrap().display()));
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let Output { status, stdout, stderr } =
        command.current_dir(env!("CARGO_MANIFEST_DIR")).output().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(stdout) } else { Err(String::from_utf8_lossy(&stderr).into_owned()) }
}
