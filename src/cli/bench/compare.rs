//! `quorate bench compare`: whether two runs of the same come to the same.

use std::fmt;

use anyhow::{anyhow, ensure};
use serde::Serialize;

use super::saved::{Measure, Saved, Unit};
use crate::cli::Failure;
use crate::cli::output::{Table, or_dash};
use crate::settings::args::CompareArgs;

/// Two results, figure by figure.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Agreement {
    within_percent: u32,
    results: Vec<Pair>,
}

/// A figure of both, or of one of them.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pair {
    what: String,
    side: String,
    unit: Unit,
    first: Option<f64>,
    second: Option<f64>,
    /// By how many percent the larger one exceeds the smaller one; absent where that cannot be told.
    differ_percent: Option<f64>,
    agree: bool,
}

/// Reads both.
pub fn compare(args: &CompareArgs) -> Result<Agreement, Failure> {
    let [first, second] = [&args.first, &args.second].map(|path| Saved::read(path).map_err(Failure::usage));
    Ok(Agreement::of(args.within, first?.measures(), second?.measures()))
}

impl Agreement {
    fn of(within_percent: u32, first: Vec<Measure>, mut second: Vec<Measure>) -> Self {
        let mut results = Vec::new();
        for one in first {
            let same = |other: &Measure| (&other.what, &other.side, other.unit) == (&one.what, &one.side, one.unit);
            let other = second.iter().position(same).map(|index| second.remove(index).value);
            results.push(Pair::new(within_percent, (one.what, one.side, one.unit), Some(one.value), other));
        }
        let left = second.into_iter();
        results
            .extend(left.map(|one| Pair::new(within_percent, (one.what, one.side, one.unit), None, Some(one.value))));
        Self { within_percent, results }
    }

    /// # Errors
    /// When a figure differs by more than is allowed, is in one of the two only, or there is none.
    pub fn agrees(&self) -> anyhow::Result<()> {
        let differ = self.results.iter().filter(|pair| !pair.agree).count();
        ensure!(!self.results.is_empty(), "there is nothing to compare in these results");
        if differ == 0 {
            return Ok(());
        }
        let within = self.within_percent;
        Err(anyhow!("{differ} of {} figures do not agree within {within} %", self.results.len()))
    }
}

impl Pair {
    fn new(
        within_percent: u32,
        (what, side, unit): (String, String, Unit),
        first: Option<f64>,
        second: Option<f64>,
    ) -> Self {
        let differ_percent = first.zip(second).and_then(|(first, second)| difference(first, second));
        let agree = differ_percent.is_some_and(|percent| percent <= f64::from(within_percent));
        Self { what, side, unit, first, second, differ_percent, agree }
    }
}

/// By how many percent the larger one exceeds the smaller one; of nothing, any other figure is more than can be told.
fn difference(first: f64, second: f64) -> Option<f64> {
    let (less, more) = (first.min(second), first.max(second));
    if more == 0.0 {
        return Some(0.0);
    }
    (less > 0.0).then(|| (more / less - 1.0) * 100.0)
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["", "", "", "FIRST", "SECOND", "DIFFER BY", ""]);
        let number = |value: Option<f64>| or_dash(value.map(|value| format!("{value:.0}")));
        for pair in &self.results {
            table.row([
                pair.what.clone(),
                pair.side.clone(),
                pair.unit.to_string(),
                number(pair.first),
                number(pair.second),
                or_dash(pair.differ_percent.map(|percent| format!("{percent:.0} %"))),
                if pair.agree { String::new() } else { "DIFFERS".to_owned() },
            ]);
        }
        f.write_str(&table.render(""))?;
        let agree = self.results.iter().filter(|pair| pair.agree).count();
        writeln!(f, "{agree} of {} figures agree within {} %.", self.results.len(), self.within_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(what: &str, value: f64) -> Measure {
        Measure { what: what.to_owned(), side: "Quorate".to_owned(), unit: Unit::P50Us, value }
    }

    #[test]
    fn runs_agree_when_no_figure_exceeds_the_other_by_more_than_a_quarter() {
        let agreement = |second| Agreement::of(25, vec![figure("a", 100.0)], vec![figure("a", second)]);
        for second in [100.0, 125.0, 80.0] {
            assert!(agreement(second).agrees().is_ok(), "{second}");
        }
        for second in [126.0, 79.0, 0.0] {
            assert!(agreement(second).agrees().is_err(), "{second}");
        }
    }

    #[test]
    fn a_figure_that_one_run_lacks_is_no_agreement() {
        let (one, two) = (vec![figure("a", 1.0)], vec![figure("a", 1.0), figure("b", 1.0)]);
        assert!(Agreement::of(25, one.clone(), two.clone()).agrees().is_err());
        assert!(Agreement::of(25, two.clone(), one).agrees().is_err());
        assert!(Agreement::of(25, two.clone(), two).agrees().is_ok());
        assert!(Agreement::of(25, vec![], vec![]).agrees().is_err());
    }

    #[test]
    fn two_figures_of_nothing_are_the_same() {
        assert_eq!((difference(0.0, 0.0), difference(0.0, 1.0)), (Some(0.0), None));
    }
}
