//! A folder of YAML, as `quorate dev` and members outside Kubernetes have it: what it declares now, and when to look again.
//!
//! Only the files right inside the folder that end in `.yaml` or `.yml` count; hidden files are what editors leave around.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::documents::{self, Declared, DeclaredConfig, DeclaredElection, Place, Problem};
use super::plan::{Desired, ResourceId, Unclear};
use crate::machine::command::{ConfigId, ContestId};

/// A larger file is not configuration: four documents of the largest size fit.
const MOST_BYTES: u64 = 4 << 20;
/// More files would not fit into the state anyway, and reading them would take too long.
const MOST_FILES: usize = 10_000;

/// What a folder declares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FolderContent {
    pub configs: BTreeMap<ConfigId, DeclaredConfig>,
    pub elections: BTreeMap<ContestId, DeclaredElection>,
    /// What cannot be read now, and may declare more.
    pub unclear: Unclear,
    /// In order of file, document and line.
    pub problems: Vec<Problem>,
}

/// Reads what the folder declares for the cluster of that name. Blocks while it reads.
pub fn read(folder: &Path, cluster: &str) -> FolderContent {
    let mut content = FolderContent::default();
    match files(folder) {
        Ok(files) => files.iter().for_each(|file| content.add_file(file, cluster)),
        Err(error) => content.add_unreadable(folder, &format!("the folder cannot be read: {error}")),
    }
    content
}

/// The files that count, in order of name.
///
/// # Errors
/// When the folder cannot be read, or has too many.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    if files.len() > MOST_FILES {
        return Err(io::Error::other(format!("it has {} files, more than the limit of {MOST_FILES}", files.len())));
    }
    Ok(files)
}

impl FolderContent {
    /// When nothing could be seen.
    pub fn unknown() -> Self {
        let mut content = Self::default();
        content.unclear.anything = true;
        content
    }

    /// What the cluster should hold.
    pub fn desired(&self) -> Desired<'_> {
        Desired {
            configs: self.configs.iter().map(|(id, declared)| (id, &declared.wanted)).collect(),
            elections: self.elections.iter().map(|(id, declared)| (id, &declared.wanted)).collect(),
            unclear: &self.unclear,
        }
    }

    /// Where a resource is declared.
    pub fn place(&self, resource: &ResourceId) -> Option<&Place> {
        match resource {
            ResourceId::Config(config) => self.configs.get(config).map(|declared| &declared.place),
            ResourceId::Election(election) => self.elections.get(election).map(|declared| &declared.place),
        }
    }

    fn add_file(&mut self, path: &Path, cluster: &str) {
        match read_text(path) {
            Ok(text) => self.add_documents(documents::read(path, &text), cluster),
            // It was there when the folder was listed: the next look decides.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.add_unreadable(path, &format!("it cannot be read: {error}")),
        }
    }

    fn add_documents(&mut self, file: documents::FileContent, cluster: &str) {
        self.problems.extend(file.problems);
        self.unclear.texts.extend(file.broken);
        self.problems.extend(declare(&mut self.configs, file.configs, cluster));
        self.problems.extend(declare(&mut self.elections, file.elections, cluster));
    }

    fn add_unreadable(&mut self, path: &Path, what: &str) {
        self.unclear.anything = true;
        self.problems.push(Problem { file: path.to_owned(), document: None, line: None, what: what.to_owned() });
    }
}

/// Adds what is declared for this cluster; gives what was declared before.
fn declare<Id: Ord + Clone + Display, Wanted>(
    known: &mut BTreeMap<Id, Declared<Id, Wanted>>,
    more: Vec<Declared<Id, Wanted>>,
    cluster: &str,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for declared in more.into_iter().filter(|declared| declared.cluster == cluster) {
        match known.entry(declared.id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(declared);
            }
            Entry::Occupied(first) => {
                let first = &first.get().place;
                let what = format!(
                    "{} is declared already in {}, document {}, line {}, which counts: declare it once",
                    declared.id,
                    first.file.display(),
                    first.document,
                    first.line
                );
                problems.push(declared.place.problem(what));
            }
        }
    }
    problems
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = fs::metadata(path)?.len();
    if bytes > MOST_BYTES {
        return Err(io::Error::other(format!("it has {bytes} bytes, more than the limit of {MOST_BYTES}")));
    }
    fs::read_to_string(path)
}

/// Tells when something in a folder has changed.
pub struct FolderChanges {
    folder: PathBuf,
    changed: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
}

/// Editors write, rename and change attributes in quick succession: what they leave is read once.
const SETTLING: Duration = Duration::from_millis(10);
/// What the operating system does not tell (a folder that was replaced, a full queue) is seen this late.
const RESCAN: Duration = Duration::from_secs(5);

impl FolderChanges {
    /// Begins to watch; what changes from now on is told.
    pub fn of(folder: &Path) -> Self {
        let mut changes = Self { folder: folder.to_owned(), changed: Arc::new(Notify::new()), watcher: None };
        changes.watch();
        changes
    }

    /// Waits until there may be something new, at most until the next slow look.
    pub async fn next(&mut self) {
        match tokio::time::timeout(RESCAN, self.changed.notified()).await {
            Ok(()) => tokio::time::sleep(SETTLING).await,
            // A watch ends silently when its folder is removed, so it is made anew.
            Err(_) => self.watch(),
        }
    }

    /// Without a watch (no such folder yet, no more watches allowed) the slow look still works.
    fn watch(&mut self) {
        let changed = Arc::clone(&self.changed);
        let tell = move |event: notify::Result<notify::Event>| {
            // One permit is kept however many events come, so this needs no queue.
            if event.map_or(true, |event| may_change_content(&event.kind)) {
                changed.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(tell).and_then(|mut watcher| {
            watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        if let (Err(error), true) = (&watcher, self.watcher.is_some()) {
            tracing::warn!(folder = %self.folder.display(), %error, "the folder is not watched: changes are seen late");
        }
        self.watcher = watcher.ok();
    }
}

/// Reading a file makes events too, which must not lead to reading it again.
fn may_change_content(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> String {
        format!("apiVersion: quorate.io/v1alpha1\nkind: ReplicatedConfig\nmetadata:\n  name: {name}\nspec: {{}}\n")
    }

    #[test]
    fn only_yaml_files_right_in_the_folder_count() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("sub.yaml")).expect("created");
        for (file, name) in
            [("a.yaml", "a"), ("b.yml", "b"), (".c.yaml", "c"), ("d.yaml~", "d"), ("sub.yaml/e.yaml", "e")]
        {
            fs::write(folder.path().join(file), config(name)).expect("written");
        }
        let content = read(folder.path(), "default");
        let names: Vec<_> = content.configs.keys().map(|config| config.name.as_str()).collect();
        assert_eq!((names, content.problems), (vec!["a", "b"], Vec::new()));
    }

    #[test]
    fn a_config_that_is_declared_twice_is_told_and_the_first_counts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in ["a.yaml", "b.yaml"] {
            fs::write(folder.path().join(file), config("same")).expect("written");
        }
        let content = read(folder.path(), "default");
        assert_eq!(content.configs.len(), 1);
        let problem = content.problems[0].to_string();
        assert!(problem.contains("b.yaml, document 1, line 1: default/same is declared already in "), "{problem}");
        assert!(problem.contains("a.yaml, document 1, line 1, which counts"), "{problem}");
    }

    #[test]
    fn the_examples_are_valid() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let content = read(&examples, "default");
        assert_eq!(content.problems, []);
        assert_eq!((content.configs.len(), content.elections.len()), (4, 2));
    }

    #[test]
    fn resources_of_another_cluster_are_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("a.yaml"), config("a")).expect("written");
        assert_eq!(read(folder.path(), "other"), FolderContent::default());
    }

    #[test]
    fn what_cannot_be_read_may_be_about_anything() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("a.yaml"), b"\xff").expect("written");
        let content = read(folder.path(), "default");
        assert!(content.unclear.anything);
        assert!(content.problems[0].to_string().contains("a.yaml: it cannot be read: "), "{:?}", content.problems);
        let missing = read(&folder.path().join("nowhere"), "default");
        assert!(missing.unclear.anything);
        assert!(
            missing.problems[0].to_string().contains("nowhere: the folder cannot be read"),
            "{:?}",
            missing.problems
        );
    }

    #[tokio::test]
    async fn a_file_that_is_written_or_renamed_is_told_and_reading_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut changes = FolderChanges::of(folder.path());
        let soon = Duration::from_secs(2);
        fs::write(folder.path().join("a.new"), config("a")).expect("written");
        tokio::time::timeout(soon, changes.next()).await.expect("told of the write");
        fs::rename(folder.path().join("a.new"), folder.path().join("a.yaml")).expect("renamed");
        tokio::time::timeout(soon, changes.next()).await.expect("told of the rename");
        // What is left of the events of the rename.
        let _ = tokio::time::timeout(Duration::from_millis(100), changes.next()).await;
        assert_eq!(read(folder.path(), "default").configs.len(), 1);
        let told = tokio::time::timeout(Duration::from_millis(200), changes.next()).await;
        assert!(told.is_err(), "told of reading");
    }
}
