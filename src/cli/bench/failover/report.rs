//! What is told of it: for each harm and each side the quantiles, and for programs every sample.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::bench::figures::{micros, quantiles};
use crate::cli::bench::machine::Machine;
use crate::cli::output::Table;

/// What is done to whoever leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    Kill,
    Stop,
    Pause,
    Transfer,
    KillUnderLoad,
    HolderKilled,
    HolderReleased,
    HolderExpired,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::Kill,
        Self::Stop,
        Self::Pause,
        Self::Transfer,
        Self::KillUnderLoad,
        Self::HolderKilled,
        Self::HolderReleased,
        Self::HolderExpired,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "killed (SIGKILL)",
            Self::Stop => "stopped in order (SIGTERM)",
            Self::Pause => "paused (SIGSTOP)",
            Self::Transfer => "told to hand over",
            Self::KillUnderLoad => "killed under load",
            Self::HolderKilled => "an election's holder, killed",
            Self::HolderReleased => "an election's holder, released",
            Self::HolderExpired => "an election's holder, silent",
        })
    }
}

/// What one side took, round after round.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    pub fault: Fault,
    pub side: String,
    /// In microseconds, in the order of the rounds.
    samples_us: Vec<u64>,
}

impl Series {
    pub(super) fn new(fault: Fault, side: &str) -> Self {
        Self { fault, side: side.to_owned(), samples_us: Vec::new() }
    }

    pub(super) fn add(&mut self, took: Duration) {
        self.samples_us.push(micros(took));
    }

    /// In ascending order.
    pub fn sorted(&self) -> Vec<u64> {
        let mut sorted = self.samples_us.clone();
        sorted.sort_unstable();
        sorted
    }
}

/// What is printed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverReport {
    machine: Machine,
    rounds: usize,
    writers: usize,
    pub results: Vec<Series>,
}

impl FailoverReport {
    pub(super) fn new(machine: Machine, rounds: usize, writers: usize, results: Vec<Series>) -> Self {
        Self { machine, rounds, writers, results }
    }
}

impl fmt::Display for FailoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["THE LEADER IS", "", "MIN", "P50", "P90", "P99", "MAX"]);
        let mut told = None;
        for series in &self.results {
            let fault =
                if told.replace(series.fault) == Some(series.fault) { String::new() } else { series.fault.to_string() };
            let [min, p50, p90, p99, max] =
                quantiles(&series.sorted()).map(|us| format!("{}.{} ms", us / 1000, us % 1000 / 100));
            table.row([fault, series.side.clone(), min, p50, p90, p99, max]);
        }
        f.write_str(&table.render(""))?;
        writeln!(
            f,
            "The longest time without an acknowledged write (of an election: until the next candidate is granted), {} rounds \
             each, in turns; load is {} clients that write without a pause. Members and clients share the machine:",
            self.rounds, self.writers
        )?;
        writeln!(f, "{}", self.machine)
    }
}
