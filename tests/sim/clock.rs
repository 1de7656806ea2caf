//! The seam for the time of day and chance, in the simulator: both follow from the seed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate::raft::Clock;
use quorate::types::Timestamp;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// When every run begins: 2026-01-01T00:00:00Z.
const BEGINNING: u64 = 1_767_225_600_000;

/// How far a clock may be wrong: thirty days, in milliseconds.
const WRONG: u64 = 30 * 24 * 3_600_000;

/// One member's clock, which is wrong, and is set to another wrong time now and then: nothing may depend on it.
pub struct SimClock {
    start: Instant,
    rng: Mutex<SmallRng>,
    ahead: AtomicU64,
}

impl SimClock {
    pub fn new(start: Instant, rng: &mut SmallRng) -> Self {
        let mut rng = SmallRng::from_rng(rng);
        let ahead = AtomicU64::new(rng.random_range(0..2 * WRONG));
        Self { start, rng: Mutex::new(rng), ahead }
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Timestamp {
        let passed = u64::try_from(self.start.elapsed().as_millis()).expect("a run is shorter than that");
        let mut rng = self.rng.lock().unwrap();
        if rng.random_bool(0.01) {
            self.ahead.store(rng.random_range(0..2 * WRONG), Ordering::Relaxed);
        }
        Timestamp::from_millis(BEGINNING - WRONG + self.ahead.load(Ordering::Relaxed) + passed)
    }

    fn random(&self) -> u128 {
        self.rng.lock().unwrap().random()
    }
}
