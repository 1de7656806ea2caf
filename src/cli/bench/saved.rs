//! Results as they are printed for programs, and read back.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::failover::FailoverReport;
use super::figures::{Report, quantiles};
use super::growth::GrowthReport;

/// The result of a benchmark.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "bench", rename_all = "lowercase")]
pub enum Saved {
    Load(Report),
    Failover(FailoverReport),
    Growth(GrowthReport),
}

/// One figure of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    pub what: String,
    pub side: String,
    pub unit: Unit,
    pub value: f64,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    PerSecond,
    P50Us,
    BytesEach,
    Percent,
    Millis,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PerSecond => "a second",
            Self::P50Us => "p50, us",
            Self::BytesEach => "bytes each",
            Self::Percent => "%",
            Self::Millis => "ms",
        })
    }
}

impl Saved {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let path_is = || path.display().to_string();
        let text = fs::read_to_string(path).with_context(path_is)?;
        let advice = "it is no result of `quorate bench load`, `failover` or `growth` with --output json";
        serde_json::from_str(&text).context(advice).with_context(path_is)
    }

    /// The figures that another run of the same should come to as well: medians, as longest and rarest ones vary.
    pub fn measures(&self) -> Vec<Measure> {
        match self {
            Self::Load(report) => of_load(report),
            Self::Failover(report) => of_failover(report),
            Self::Growth(report) => of_growth(report),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no figure comes near to what a float cannot tell apart")]
const fn float(value: u64) -> f64 {
    value as f64
}

fn measure(what: &str, side: &str, unit: Unit, value: f64) -> Measure {
    Measure { what: what.to_owned(), side: side.to_owned(), unit, value }
}

fn of_load(report: &Report) -> Vec<Measure> {
    let mut measures = Vec::new();
    for row in &report.results {
        for (name, side) in row.sides() {
            measures.push(measure(&row.workload, name, Unit::PerSecond, side.median.per_second));
            measures.push(measure(&row.workload, name, Unit::P50Us, float(side.median.p50_us)));
        }
    }
    measures
}

fn of_failover(report: &FailoverReport) -> Vec<Measure> {
    let median = |sorted: &[u64]| float(quantiles(sorted)[1]);
    let series = report.results.iter();
    series.map(|one| measure(&one.fault.to_string(), &one.side, Unit::P50Us, median(&one.sorted()))).collect()
}

fn of_growth(report: &GrowthReport) -> Vec<Measure> {
    let side = "Quorate";
    let mut measures = Vec::new();
    for size in &report.results {
        let what = format!("{}, of {}", size.what, size.count);
        measures.push(measure(&what, side, Unit::P50Us, float(size.asked.p50_us)));
        measures.extend(size.bytes_each.map(|bytes| measure(&what, side, Unit::BytesEach, float(bytes))));
    }
    if let Some(full) = &report.full {
        measures.push(measure("a write beside no snapshot", side, Unit::P50Us, float(full.quiet.p50_us)));
        measures.push(measure("a write beside a snapshot", side, Unit::P50Us, float(full.meanwhile.p50_us)));
        measures.push(measure("a start with a full state", side, Unit::Millis, float(full.restart_ms)));
    }
    for (number, idle) in report.idle.iter().enumerate() {
        let what = format!("idle member {number}");
        measures.push(measure(&what, side, Unit::Percent, idle.percent));
        measures.push(measure(&what, side, Unit::BytesEach, float(idle.resident_bytes)));
    }
    measures
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(report) => report.fmt(f),
            Self::Failover(report) => report.fmt(f),
            Self::Growth(report) => report.fmt(f),
        }
    }
}
