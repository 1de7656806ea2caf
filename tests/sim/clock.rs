//! The seam for the time of day and chance, in the simulator: both follow from the seed.

use std::sync::Mutex;

use quorate::raft::Clock;
use quorate::types::Timestamp;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// When every run begins: 2026-01-01T00:00:00Z.
const BEGINNING: u64 = 1_767_225_600_000;

/// One member's clock, which is wrong by up to an hour: nothing may depend on it.
pub struct SimClock {
    start: Instant,
    offset: u64,
    rng: Mutex<SmallRng>,
}

impl SimClock {
    pub fn new(start: Instant, rng: &mut SmallRng) -> Self {
        let offset = rng.random_range(0..3_600_000);
        Self { start, offset, rng: Mutex::new(SmallRng::from_rng(rng)) }
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Timestamp {
        let passed = u64::try_from(self.start.elapsed().as_millis()).expect("a run is shorter than that");
        Timestamp::from_millis(BEGINNING + self.offset + passed)
    }

    fn random(&self) -> u128 {
        self.rng.lock().unwrap().random()
    }
}
