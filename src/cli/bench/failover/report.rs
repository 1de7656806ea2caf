//! What is told of it: for each harm and each side the quantiles, and for programs every sample.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::cli::output::Table;

/// What is done to whoever leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fault {
    Kill,
    Stop,
    Pause,
}

impl Fault {
    pub(super) const ALL: [Self; 3] = [Self::Kill, Self::Stop, Self::Pause];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "killed (SIGKILL)",
            Self::Stop => "stopped in order (SIGTERM)",
            Self::Pause => "paused (SIGSTOP)",
        })
    }
}

/// What one side took, round after round.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Series {
    fault: Fault,
    side: &'static str,
    /// In microseconds, in the order of the rounds.
    samples_us: Vec<u64>,
}

impl Series {
    pub(super) fn new(fault: Fault, side: &'static str) -> Self {
        Self { fault, side, samples_us: Vec::new() }
    }

    pub(super) fn is_of(&self, fault: Fault, side: &str) -> bool {
        self.fault == fault && self.side == side
    }

    pub(super) fn add(&mut self, took: Duration) {
        self.samples_us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Least, median, nine of ten, ninety-nine of a hundred, and longest.
    fn quantiles(&self) -> [u64; 5] {
        let mut sorted = self.samples_us.clone();
        sorted.sort_unstable();
        [0, 50, 90, 99, 100].map(|of_hundred| {
            // The least sample that so many of a hundred do not exceed.
            let rank = (sorted.len() * of_hundred).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().unwrap_or_default()
        })
    }
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverReport {
    version: &'static str,
    processors: usize,
    rounds: usize,
    results: Vec<Series>,
}

impl FailoverReport {
    pub(super) fn new(rounds: usize, results: Vec<Series>) -> Self {
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        Self { version: env!("CARGO_PKG_VERSION"), processors, rounds, results }
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
                series.quantiles().map(|us| format!("{}.{} ms", us / 1000, us % 1000 / 100));
            table.row([fault, series.side.to_owned(), min, p50, p90, p99, max]);
        }
        f.write_str(&table.render(""))?;
        writeln!(
            f,
            "The longest time without an acknowledged write, {} rounds each, in turns; {} processors for members and clients \
             together.",
            self.rounds, self.processors
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_that_so_many_do_not_exceed() {
        let mut series = Series::new(Fault::Kill, "Quorate");
        assert_eq!(series.quantiles(), [0; 5]);
        (1..=200).rev().for_each(|ms| series.add(Duration::from_millis(ms)));
        assert_eq!(series.quantiles(), [1_000, 100_000, 180_000, 198_000, 200_000]);
    }
}
