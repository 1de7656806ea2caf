//! How results are told: for each workload a line for each side, and the ratio of their medians.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::floor::Floor;
use super::machine::Machine;
use super::workload::Workload;
use crate::cli::output::Table;
use crate::settings::args::{LoadArgs, Pace};

/// Samples of a round that are kept in the result: enough to draw them, and few enough for a file that people commit.
const SAMPLES: usize = 100;

/// What clients did in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
            took.get(index).copied().map_or(0, micros)
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

pub fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Samples in ascending order: the least, the median, nine of ten, ninety-nine of a hundred, and the greatest.
pub fn quantiles(sorted: &[u64]) -> [u64; 5] {
    [0, 50, 90, 99, 100].map(|of_hundred| {
        // The least sample that so many of a hundred do not exceed.
        let rank = (sorted.len() * of_hundred).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    })
}

/// A round, and some of the steps that it was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    #[serde(flatten)]
    pub figures: Figures,
    /// How long steps took, evenly spaced among all of them in the order in which they were told.
    pub samples_us: Vec<u64>,
}

impl Round {
    /// Of how long each step took, and of how long all took together.
    pub fn of(took: Vec<Duration>, whole: Duration) -> Self {
        let every = took.len().div_ceil(SAMPLES).max(1);
        let samples_us = took.iter().step_by(every).copied().map(micros).collect();
        Self { figures: Figures::of(took, whole), samples_us }
    }
}

pub fn in_millis(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

/// All rounds of one workload.
#[derive(Debug)]
pub struct Comparison {
    workload: Workload,
    pub quorate: Vec<Round>,
    pub etcd: Vec<Round>,
}

impl Comparison {
    pub fn of(workload: Workload) -> Self {
        Self { workload, quorate: Vec::new(), etcd: Vec::new() }
    }
}

/// What is printed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    machine: Machine,
    pace: Pace,
    rounds: usize,
    seconds_each: f64,
    floor: Floor,
    pub results: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub workload: String,
    pub quorate: Side,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Side>,
    /// Of what is done in a second, Quorate's to etcd's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

impl Row {
    /// Each side under its name.
    pub fn sides(&self) -> impl Iterator<Item = (&'static str, &Side)> {
        [("Quorate", Some(&self.quorate)), ("etcd", self.etcd.as_ref())]
            .into_iter()
            .filter_map(|(name, side)| Some((name, side?)))
    }
}

/// The round in the middle, by what was done in a second, and all of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Side {
    pub median: Figures,
    pub rounds: Vec<Round>,
}

impl Side {
    fn of(rounds: Vec<Round>) -> Option<Self> {
        let mut sorted: Vec<_> = rounds.iter().map(|round| round.figures).collect();
        sorted.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
        Some(Self { median: *sorted.get(sorted.len() / 2)?, rounds })
    }
}

impl Report {
    pub fn new(args: &LoadArgs, machine: Machine, floor: Floor, comparisons: Vec<Comparison>) -> Self {
        let row = |Comparison { workload, quorate, etcd }: Comparison| {
            let (quorate, etcd) = (Side::of(quorate)?, Side::of(etcd));
            let ratio = etcd.as_ref().map(|etcd| quorate.median.per_second / etcd.median.per_second);
            Some(Row { workload: workload.to_string(), quorate, etcd, ratio })
        };
        Self {
            machine,
            pace: args.pace,
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
            for (name, Side { median, .. }) in row.sides() {
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
        let settings = match self.pace {
            Pace::Default => "default settings",
            Pace::Tuned => "tuned settings",
        };
        writeln!(
            f,
            "Medians of {} rounds of {:?} s each, in turns, with {settings}; members and clients share the machine:",
            self.rounds, self.seconds_each
        )?;
        writeln!(f, "{}", self.machine)
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

    #[test]
    fn quantiles_are_samples_that_so_many_do_not_exceed() {
        assert_eq!(quantiles(&[]), [0; 5]);
        let sorted: Vec<_> = (1..=200).collect();
        assert_eq!(quantiles(&sorted), [1, 100, 180, 198, 200]);
    }

    #[test]
    fn a_round_keeps_few_samples_of_many_steps_and_all_of_few() {
        let took = |steps: u64| (1..=steps).map(Duration::from_micros).collect();
        assert_eq!(Round::of(took(3), Duration::from_secs(1)).samples_us, [1, 2, 3]);
        let many = Round::of(took(1_050), Duration::from_secs(1)).samples_us;
        assert!(many.len() <= SAMPLES && many.starts_with(&[1, 12, 23]) && many.last() > Some(&1_030), "{many:?}");
        assert_eq!(Round::of(vec![], Duration::from_secs(1)).samples_us, [0; 0]);
    }
}
