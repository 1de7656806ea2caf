//! How results are told: for each workload a line for each side, and the ratio of their medians.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::floor::Floor;
use super::workload::Workload;
use crate::cli::output::Table;
use crate::settings::args::LoadArgs;

/// What clients did in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    pub per_second: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub longest_us: u64,
}

impl Figures {
    /// Of how long each step took, and of how long all took together.
    pub fn of(mut took: Vec<Duration>, whole: Duration) -> Self {
        took.sort_unstable();
        let quantile = |of_hundred: usize| {
            let index = took.len().saturating_sub(1) * of_hundred / 100;
            took.get(index).map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
        };
        let per_second = f64::from(u32::try_from(took.len()).unwrap_or(u32::MAX)) / whole.as_secs_f64();
        Self { per_second, p50_us: quantile(50), p99_us: quantile(99), longest_us: quantile(100) }
    }

    /// When each step did so many things.
    pub fn times(self, things: usize) -> Self {
        Self { per_second: self.per_second * f64::from(u32::try_from(things).unwrap_or(u32::MAX)), ..self }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, longest] = [self.p50_us, self.p99_us, self.longest_us].map(in_millis);
        write!(f, "{:.0} a second, p50 {p50}, p99 {p99}, longest {longest}", self.per_second)
    }
}

fn in_millis(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

/// All rounds of one workload.
#[derive(Debug)]
pub struct Comparison {
    workload: Workload,
    pub quorate: Vec<Figures>,
    pub etcd: Vec<Figures>,
}

impl Comparison {
    pub fn of(workload: Workload) -> Self {
        Self { workload, quorate: Vec::new(), etcd: Vec::new() }
    }
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    version: &'static str,
    processors: usize,
    rounds: usize,
    seconds_each: f64,
    floor: Floor,
    results: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    workload: String,
    quorate: Side,
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd: Option<Side>,
    /// Of what is done in a second, Quorate's to etcd's.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// The round in the middle, by what was done in a second, and all of them.
#[derive(Debug, Serialize)]
struct Side {
    median: Figures,
    rounds: Vec<Figures>,
}

impl Side {
    fn of(rounds: &[Figures]) -> Option<Self> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
        Some(Self { median: *sorted.get(sorted.len() / 2)?, rounds: rounds.to_vec() })
    }
}

impl Report {
    pub fn new(args: &LoadArgs, floor: Floor, comparisons: Vec<Comparison>) -> Self {
        let row = |comparison: Comparison| {
            let (quorate, etcd) = (Side::of(&comparison.quorate)?, Side::of(&comparison.etcd));
            let ratio = etcd.as_ref().map(|etcd| quorate.median.per_second / etcd.median.per_second);
            Some(Row { workload: comparison.workload.to_string(), quorate, etcd, ratio })
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            rounds: args.rounds,
            seconds_each: args.duration.as_secs_f64(),
            floor,
            results: comparisons.into_iter().filter_map(row).collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["", "", "A SECOND", "P50", "P99", "RATIO"]);
        for row in &self.results {
            let mut workload = row.workload.clone();
            let mut ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            for (name, side) in [("Quorate", Some(&row.quorate)), ("etcd", row.etcd.as_ref())] {
                let Some(Side { median, .. }) = side else { continue };
                let [p50, p99] = [median.p50_us, median.p99_us].map(in_millis);
                let per_second = format!("{:.0}", median.per_second);
                table.row([
                    std::mem::take(&mut workload),
                    name.to_owned(),
                    per_second,
                    p50,
                    p99,
                    std::mem::take(&mut ratio),
                ]);
            }
        }
        f.write_str(&table.render(""))?;
        writeln!(f, "A page appended and synced on this disk: {}", self.floor.disk_sync)?;
        writeln!(f, "A round trip on loopback: {}", self.floor.round_trip)?;
        writeln!(
            f,
            "Medians of {} rounds of {:?} s each, in turns; {} processors for members and clients together.",
            self.rounds, self.seconds_each, self.processors
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_rates_are_those_of_the_steps() {
        let took = (1..=200).rev().map(Duration::from_millis).collect();
        let figures = Figures::of(took, Duration::from_secs(4));
        assert_eq!(figures, Figures { per_second: 50.0, p50_us: 100_000, p99_us: 198_000, longest_us: 200_000 });
        assert_eq!(Figures::of(vec![], Duration::from_secs(1)).p99_us, 0);
    }
}
