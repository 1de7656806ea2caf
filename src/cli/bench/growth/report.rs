//! What is told of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::process::Usage;
use crate::cli::bench::figures::{Figures, in_millis};
use crate::cli::bench::machine::Machine;
use crate::cli::output::{Table, or_dash};

/// The fewest of a kind whose memory can be told from that of everything else.
const TELLING: usize = 1_000;

/// So many of a kind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Size {
    pub what: String,
    pub count: usize,
    pub asked: Figures,
    /// Of each member.
    resident_bytes: Vec<u64>,
    /// Of a member, on the average, for each of them beyond the fewest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_each: Option<u64>,
}

impl Size {
    /// `empty` is what members had with the fewest of them.
    pub(super) fn new(what: &str, count: usize, asked: Figures, resident: &[u64], empty: &[u64]) -> Self {
        let grown = resident.iter().sum::<u64>().saturating_sub(empty.iter().sum());
        let shares = u64::try_from(count * resident.len().max(1)).unwrap_or(u64::MAX);
        let bytes_each = (count >= TELLING).then_some(grown / shares);
        Self { what: what.to_owned(), count, asked, resident_bytes: resident.to_vec(), bytes_each }
    }
}

/// Writes beside snapshots of a state that is full, and a start with it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Full {
    pub(super) value_bytes: u64,
    pub(super) snapshot_bytes: u64,
    /// Of each member.
    pub(super) snapshots: usize,
    pub quiet: Figures,
    /// While a member wrote a snapshot.
    pub meanwhile: Figures,
    /// Of the Raft leader, meanwhile.
    pub(super) elections: u64,
    pub restart_ms: u64,
}

/// A member that has nothing to do.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// Of one processor.
    pub percent: f64,
    pub resident_bytes: u64,
}

impl Idle {
    pub(super) fn between(before: &Usage, after: &Usage, took: Duration) -> Self {
        let used = after.processor.saturating_sub(before.processor);
        Self { percent: 100.0 * used.as_secs_f64() / took.as_secs_f64(), resident_bytes: after.resident_bytes }
    }
}

/// What is printed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrowthReport {
    machine: Machine,
    pub results: Vec<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Full>,
    /// Each member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<Idle>,
}

impl GrowthReport {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, results: Vec::new(), full: None, idle: Vec::new() }
    }

    /// The p50 of the fewest of the same kind.
    fn fewest(&self, what: &str) -> Option<u64> {
        self.results.iter().find(|size| size.what == what).map(|size| size.asked.p50_us)
    }
}

/// In MiB, with one digit behind the point.
fn in_mib(bytes: u64) -> String {
    let tenths = bytes / ((1 << 20) / 10);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// To one of the fewest, when that took any time.
fn ratio(of: u64, to: u64) -> String {
    let hundredths = of.saturating_mul(100).checked_div(to);
    hundredths.map_or_else(|| "-".to_owned(), |ratio| format!("{}.{:02}", ratio / 100, ratio % 100))
}

impl fmt::Display for GrowthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.results.is_empty() {
            f.write_str(&self.sizes().render(""))?;
        }
        if let Some(full) = &self.full {
            let [values, snapshot] = [full.value_bytes, full.snapshot_bytes].map(in_mib);
            writeln!(
                f,
                "A state of {values} of values, {snapshot} as a snapshot, of which each member took {}:",
                full.snapshots
            )?;
            let Figures { p50_us, p99_us, longest_us, .. } = full.quiet;
            let [p50, p99, longest] = [p50_us, p99_us, longest_us].map(in_millis);
            writeln!(f, "  writes while none was taken: p50 {p50}, p99 {p99}, longest {longest}")?;
            let Figures { p50_us, p99_us, longest_us, .. } = full.meanwhile;
            let [p50, p99, longest] = [p50_us, p99_us, longest_us].map(in_millis);
            writeln!(f, "  writes while one was: p50 {p50}, p99 {p99}, longest {longest}")?;
            writeln!(f, "  p99 to p99: {}", ratio(full.meanwhile.p99_us, full.quiet.p99_us))?;
            writeln!(f, "  elections of a Raft leader meanwhile: {}", full.elections)?;
            writeln!(f, "  a member that starts with it answers after {} ms", full.restart_ms)?;
        }
        for (number, Idle { percent, resident_bytes }) in self.idle.iter().enumerate() {
            writeln!(f, "Idle member {number}: {percent:.2} % of a processor, {}", in_mib(*resident_bytes))?;
        }
        writeln!(f, "Members and clients share the machine: {}", self.machine)
    }
}

impl GrowthReport {
    fn sizes(&self) -> Table {
        let mut table = Table::new(["", "THERE ARE", "P50", "P99", "TO THE FEWEST", "RESIDENT", "BYTES EACH"]);
        let mut told = "";
        for Size { what, count, asked, resident_bytes, bytes_each } in &self.results {
            let most = resident_bytes.iter().max().copied().unwrap_or_default();
            let what = if std::mem::replace(&mut told, what) == what { "" } else { what };
            table.row([
                what.to_owned(),
                count.to_string(),
                in_millis(asked.p50_us),
                in_millis(asked.p99_us),
                ratio(asked.p50_us, self.fewest(told).unwrap_or_default()),
                in_mib(most),
                or_dash(*bytes_each),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_each_are_what_members_have_grown_by_and_are_told_of_many_only() {
        let asked = Figures::of(vec![], Duration::from_secs(1));
        let (empty, grown) = ([1_000_000, 1_000_000, 1_000_000], [3_000_000, 4_000_000, 5_000_000]);
        assert_eq!(Size::new("keys", 1_000, asked, &grown, &empty).bytes_each, Some(3_000));
        assert_eq!(Size::new("keys", 10, asked, &grown, &empty).bytes_each, None);
        assert_eq!(Size::new("keys", 1_000, asked, &empty, &grown).bytes_each, Some(0));
    }

    #[test]
    fn a_member_that_used_a_tenth_of_the_time_took_ten_percent() {
        let usage = |millis| Usage { resident_bytes: 7, processor: Duration::from_millis(millis) };
        let idle = Idle::between(&usage(500), &usage(1_500), Duration::from_secs(10));
        assert_eq!(idle, Idle { percent: 10.0, resident_bytes: 7 });
    }

    #[test]
    fn ratios_and_sizes_are_told_with_few_digits() {
        assert_eq!((ratio(123, 100), ratio(1, 0)), ("1.23".to_owned(), "-".to_owned()));
        assert_eq!(in_mib(5 * (1 << 19)), "2.5 MiB");
    }
}
