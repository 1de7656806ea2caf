//! The only reader of the wall clock and of the system's randomness.

use std::time::UNIX_EPOCH;

use crate::raft::Clock;
use crate::types::Timestamp;

/// The machine's own clock and chance.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn wall(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that draws randomness")]
    fn random(&self) -> u128 {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).expect("a system without randomness cannot name anything apart");
        u128::from_ne_bytes(bits)
    }
}
