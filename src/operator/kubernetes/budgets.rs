//! How many Events an object may still have: an election whose leaders come and go all day must not fill the API server.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// So many at once,
const MOST: u32 = 20;

/// and then one in this time.
const REFILL: Duration = Duration::from_secs(30);

/// What each object has spent. Whoever has spent nothing lately takes no room.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    /// By uid: when everything that was spent will be back.
    whole_at: BTreeMap<String, Instant>,
}

impl Budgets {
    /// Whether there is one left, which is spent then.
    pub(super) fn spend(&mut self, uid: &str, now: Instant) -> bool {
        self.whole_at.retain(|_, whole_at| *whole_at > now);
        let whole_at = self.whole_at.get(uid).copied().unwrap_or(now);
        let is_left = whole_at + REFILL <= now + REFILL * MOST;
        if is_left {
            self.whole_at.insert(uid.to_owned(), whole_at + REFILL);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_some_events_at_once_and_then_one_in_a_while() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        let mut spent = |uid: &str, after: Duration| (0..100).filter(|_| budgets.spend(uid, now + after)).count();
        assert_eq!(spent("a", Duration::ZERO), MOST as usize);
        assert_eq!(spent("b", Duration::ZERO), MOST as usize, "each has its own");
        assert_eq!(spent("a", REFILL - Duration::from_millis(1)), 0);
        assert_eq!(spent("a", REFILL * 3), 3);
        assert_eq!(spent("a", REFILL * 1000), MOST as usize);
    }

    #[test]
    fn what_is_whole_again_takes_no_room() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for number in 0..1000 {
            budgets.spend(&number.to_string(), now);
        }
        budgets.spend("last", now + REFILL * 2);
        assert_eq!(budgets.whole_at.len(), 1);
    }
}
