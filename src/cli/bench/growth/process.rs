//! What the kernel says of the members' processes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::cli::bench::trio::Trio;

/// What a process has used until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) resident_bytes: u64,
    pub(super) processor: Duration,
}

impl Usage {
    pub(super) fn of_all(pids: &[u32]) -> anyhow::Result<Vec<Self>> {
        pids.iter().map(|pid| Self::of(*pid)).collect()
    }

    fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
        let page = u64::try_from(rustix::param::page_size())?;
        Self::parse(&stat, rustix::param::clock_ticks_per_second(), page).context("a line of /proc is unlike others")
    }

    /// The fields of `/proc/PID/stat` as proc(5) numbers them: 14 and 15 are ticks, in the program and in the kernel; 24 is pages.
    fn parse(stat: &str, ticks_per_second: u64, page: u64) -> Option<Self> {
        let fields = fields(stat)?;
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let millis = (number(14)? + number(15)?) * 1000 / ticks_per_second;
        Some(Self { resident_bytes: number(24)? * page, processor: Duration::from_millis(millis) })
    }
}

/// Those from the third on: the second is a name in brackets, which may hold anything.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

/// The members: each is the child of a guard.
pub(super) fn members(trio: &Trio) -> anyhow::Result<Vec<u32>> {
    let guards = trio.guards();
    let mut children = vec![None; guards.len()];
    for entry in fs::read_dir("/proc").context("there is no /proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process that has ended meanwhile is of no interest.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = fields(&stat).and_then(|fields| fields.get(1)?.parse().ok());
        if let Some(number) = guards.iter().position(|guard| parent.is_some() && *guard == parent) {
            children[number] = Some(pid);
        }
    }
    let members: Vec<_> = children.into_iter().flatten().collect();
    ensure!(members.len() == guards.len(), "only {} of {} members were found", members.len(), guards.len());
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_are_read_behind_whatever_name_a_process_has() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 5 900000 1234 18446744073709551615";
        let usage = Usage { resident_bytes: 1234 * 4096, processor: Duration::from_secs(3) };
        assert_eq!(Usage::parse(stat, 100, 4096), Some(usage));
        assert_eq!(Usage::parse("7 (a) S 1", 100, 4096), None);
        assert_eq!(fields(stat).and_then(|fields| fields.get(1).copied()), Some("1"));
    }

    #[test]
    fn a_process_that_does_something_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
    }
}
