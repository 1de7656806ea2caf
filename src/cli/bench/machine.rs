//! What a result was measured on, so that another one can be held against it.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// The machine, and what ran on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    processor: String,
    /// For members and clients together.
    processors: usize,
    kernel: String,
    /// Of the folder that all data is in.
    file_system: String,
    quorate: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etcd: Option<String>,
}

impl Machine {
    /// The one that this program runs on; what it does not tell is called unknown.
    pub fn here(folder: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        Self {
            processor: or_unknown(processor_in(&read("/proc/cpuinfo"))),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: or_unknown(Some(read("/proc/sys/kernel/osrelease").trim())),
            file_system: or_unknown(file_system_in(&read("/proc/self/mounts"), &folder)),
            quorate: env!("CARGO_PKG_VERSION").to_owned(),
            etcd: None,
        }
    }

    /// With the release of etcd, when there is a program to ask.
    pub async fn with_etcd(self, program: Option<&Path>) -> anyhow::Result<Self> {
        let Some(program) = program else { return Ok(self) };
        let told = Command::new(program).arg("--version").output().await.context("etcd does not tell its version")?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        Ok(Self { etcd: Some(or_unknown(etcd_version_in(&told))), ..self })
    }
}

fn or_unknown(found: Option<&str>) -> String {
    found.filter(|text| !text.is_empty()).unwrap_or("unknown").to_owned()
}

fn processor_in(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

/// The type of the mount that is nearest above the folder; of two on the same folder, the later one hides the other.
fn file_system_in<'a>(mounts: &'a str, folder: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = mounts.filter(|(target, _)| folder.starts_with(target));
    above.max_by_key(|(target, _)| target.len()).map(|(_, kind)| kind)
}

fn etcd_version_in(told: &str) -> Option<&str> {
    told.lines().find_map(|line| line.strip_prefix("etcd Version: ")).map(str::trim)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel, file_system, quorate, etcd } = self;
        write!(f, "{processor}, {processors} processors, Linux {kernel}, {file_system}; Quorate {quorate}")?;
        etcd.iter().try_for_each(|etcd| write!(f, ", etcd {etcd}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_folder_is_that_of_the_nearest_mount_above_it() {
        let mounts =
            "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nx /tmp/data xfs rw 0 0\ny /tmp/data btrfs rw 0 0\n";
        let kind = |folder: &str| file_system_in(mounts, Path::new(folder));
        assert_eq!(kind("/tmp/data/0"), Some("btrfs"));
        assert_eq!(kind("/tmp/database"), Some("tmpfs"));
        assert_eq!(kind("/home"), Some("ext4"));
        assert_eq!(file_system_in("", Path::new("/home")), None);
    }

    #[test]
    fn names_and_versions_are_found_among_what_else_is_told() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A Fast One\nflags\t: fpu\n";
        assert_eq!(processor_in(cpuinfo), Some("A Fast One"));
        assert_eq!(etcd_version_in("etcd Version: 3.6.14\nGit SHA: GitNotFound\n"), Some("3.6.14"));
        assert_eq!(or_unknown(etcd_version_in("a usage text")), "unknown");
    }
}
