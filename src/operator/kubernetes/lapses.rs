//! What was last wrong with the resources, for whoever looks once it is over: while the API server is away, no status can say so.

use std::collections::BTreeSet;

use crate::types::Timestamp;

/// What is wrong again after no longer than this, in milliseconds, is the same lapse: a watch that breaks again and again is well
/// in between.
const SAME: u64 = 30_000;

/// Remembers the last time that something was wrong, for as long as a leadership.
#[derive(Debug, Default)]
pub(super) struct Lapses(Option<Lapse>);

#[derive(Debug)]
struct Lapse {
    from: Timestamp,
    /// None while it lasts.
    until: Option<Timestamp>,
    /// All that was wrong, though not all of it all the time.
    what: BTreeSet<String>,
}

impl Lapses {
    /// Takes in what is wrong now. While nothing is, it says what was last, and from when to when.
    pub(super) fn observe<'a>(&mut self, wrong: impl Iterator<Item = &'a String>, now: Timestamp) -> Option<String> {
        let wrong: BTreeSet<_> = wrong.cloned().collect();
        if wrong.is_empty() {
            let Lapse { from, until, what } = self.0.as_mut()?;
            let (until, what) = (until.get_or_insert(now), Vec::from_iter(what.iter().map(String::as_str)).join("; "));
            return Some(format!("from {from} to {until}: {what}"));
        }
        let goes_on = |lapse: &Lapse| lapse.until.is_none_or(|until| now.as_millis() <= until.as_millis() + SAME);
        let former = self.0.take().filter(goes_on);
        let (from, mut what) = former.map_or((now, BTreeSet::new()), |lapse| (lapse.from, lapse.what));
        what.extend(wrong);
        self.0 = Some(Lapse { from, until: None, what });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lapse_is_told_with_all_that_was_wrong_once_it_is_over() {
        let mut lapses = Lapses::default();
        let mut observe = |wrong: &[&str], seconds: u64| {
            let wrong: Vec<_> = wrong.iter().map(|&text| text.to_owned()).collect();
            lapses.observe(wrong.iter(), Timestamp::from_millis(seconds * 1000))
        };
        let told = |from: u64, until: u64, what: &str| {
            Some(format!("from 1970-01-01T00:00:{from:02}.000Z to 1970-01-01T00:00:{until:02}.000Z: {what}"))
        };
        assert_eq!(observe(&[], 1), None);
        assert_eq!(observe(&["b"], 2), None);
        assert_eq!(observe(&["a"], 3), None);
        assert_eq!(observe(&[], 4), told(2, 4, "a; b"));
        assert_eq!(observe(&[], 5), told(2, 4, "a; b"));
        assert_eq!(observe(&["c"], 10), None);
        assert_eq!(observe(&[], 11), told(2, 11, "a; b; c"));
        assert_eq!(observe(&["d"], 50), None);
        assert_eq!(observe(&[], 51), told(50, 51, "d"));
    }
}
