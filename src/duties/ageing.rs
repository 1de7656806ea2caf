//! How old a counter's values are, by this process's monotonic clock: a few samples of (when, value) and no more.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Samples that are kept; with them a value is known to be old at most a 64th of the age late.
const SAMPLES: u32 = 64;

/// Remembers when a counter that only grows had which value.
#[derive(Debug)]
pub(super) struct Ages {
    age: Duration,
    samples: VecDeque<(Instant, u64)>,
}

impl Ages {
    /// For values that matter once they are so old.
    pub(super) fn new(age: Duration) -> Self {
        Self { age, samples: VecDeque::new() }
    }

    /// Notes the counter's value now, and gives the newest value that it had `age` ago or earlier. A value that it had before
    /// the first look counts as being as old as that look, so nothing is ever taken for older than it is.
    pub(super) fn look(&mut self, now: Instant, value: u64) -> Option<u64> {
        let spacing = self.age / SAMPLES;
        if self.samples.back().is_none_or(|(at, _)| now.duration_since(*at) >= spacing) {
            self.samples.push_back((now, value));
        }
        let old = self.samples.partition_point(|(at, _)| now.duration_since(*at) >= self.age);
        // The newest old sample stays: the next look may have no newer one.
        self.samples.drain(..old.saturating_sub(1));
        self.samples.front().filter(|_| old > 0).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_is_old_when_its_age_has_passed_and_never_before() {
        let start = Instant::now();
        let mut ages = Ages::new(Duration::from_secs(64));
        for second in 0..1000 {
            let old = ages.look(start + Duration::from_secs(second), second);
            assert_eq!(old, second.checked_sub(64), "after {second} s");
        }
        assert!(ages.samples.len() <= SAMPLES as usize + 1, "{}", ages.samples.len());
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_are_far_apart_are_late_and_not_early() {
        let start = Instant::now();
        let mut ages = Ages::new(Duration::from_secs(64));
        assert_eq!(ages.look(start, 10), None);
        assert_eq!(ages.look(start + Duration::from_secs(63), 20), None);
        assert_eq!(ages.look(start + Duration::from_secs(64), 30), Some(10));
        assert_eq!(ages.look(start + Duration::from_secs(1000), 40), Some(30));
    }
}
