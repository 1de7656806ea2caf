//! The simulator: three real members on one thread, with a simulated network, disk and clock, under faults drawn from a
//! seed. Everything else is the code that runs in production: `raft` with its log and snapshots, `machine`, `coordinator`.
//!
//! Built with `RUSTFLAGS="--cfg tokio_unstable --cfg quorate_sim"`, in a target folder of its own (`make sim`); without them
//! there is nothing here. `QUORATE_SIM_SEED=17 make sim` replays one seed and shows all that happens.

#![cfg(quorate_sim)]
#![allow(clippy::print_stdout, reason = "counts, and the trace of a replayed seed")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod candidate;
mod client;
mod clock;
mod cluster;
mod counts;
mod disk;
mod evidence;
mod failover;
mod growth;
mod ledger;
mod life;
mod nemesis;
mod network;
mod observing;
mod registry;
mod run;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each ring uses a part of what is shared")]
mod support;
mod trace;
mod violation;
mod volume;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use counts::Counts;
use network::MessageCounts;
use run::{Report, run};
use support::effort::Effort;

/// The first seeds, which planted bugs are held to as well; `QUORATE_SIM_SEEDS=N make sim` runs more of them.
const SEEDS: u64 = 500;

#[test]
fn clients_see_one_history_whatever_fails() {
    if let Some(seed) = setting("QUORATE_SIM_SEED") {
        return replay(seed);
    }
    let seeds = 0..setting("QUORATE_SIM_SEEDS").unwrap_or(SEEDS);
    let batch = Batch::run(seeds.clone());
    println!("{} seeds\n{batch}", seeds.end);
    assert!(batch.failures.is_empty(), "{} of {} seeds failed", batch.failures.len(), seeds.end);
    let missing = batch.never_happened();
    assert!(
        missing.is_empty() || seeds.end < SEEDS,
        "this never happened, so nothing was proved about it: {missing:?}"
    );
}

#[test]
fn a_seed_that_is_run_twice_has_one_trace() {
    for seed in 0..Effort::from_environment().pick(8, 40) {
        let (first, second) = (run(seed, false), run(seed, false));
        assert_eq!(
            first.trace, second.trace,
            "seed {seed} has two traces, of {:?} and {:?}",
            first.counts, second.counts
        );
    }
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "the tests' own setting, which the program never sees")]
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; it should be a number")))
}

/// Shows a seed from start to end.
fn replay(seed: u64) {
    #[expect(clippy::disallowed_methods, reason = "the tests' own setting, which the program never sees")]
    if let Ok(level) = std::env::var("QUORATE_SIM_LOG") {
        let level: tracing::Level = level.parse().expect("QUORATE_SIM_LOG is a level such as debug");
        tracing_subscriber::fmt().with_max_level(level).without_time().with_writer(std::io::stdout).init();
    }
    let Report { trace, counts, messages, violations } = run(seed, true);
    println!("seed {seed}: trace {trace:016x}\n{counts:?}\n{messages:?}");
    for violation in &violations {
        println!("seed {seed}: {violation}");
    }
    assert!(violations.is_empty(), "seed {seed} failed");
}

/// What many runs came to.
#[derive(Default)]
struct Batch {
    counts: Counts,
    messages: MessageCounts,
    failures: Vec<u64>,
}

impl Batch {
    /// Runs seeds on all cores; each run has a thread to itself.
    fn run(seeds: Range<u64>) -> Self {
        let next = AtomicU64::new(seeds.start);
        let batch = Mutex::new(Self::default());
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let report = catch_unwind(AssertUnwindSafe(|| run(seed, false)));
                        batch.lock().unwrap().add(seed, report.ok());
                    }
                });
            }
        });
        batch.into_inner().unwrap()
    }

    fn add(&mut self, seed: u64, report: Option<Report>) {
        let said: Vec<_> = match &report {
            Some(report) => report.violations.iter().map(ToString::to_string).collect(),
            None => vec!["panic: see above".to_owned()],
        };
        if let Some(report) = report {
            self.counts.add(&report.counts);
            self.messages.add(&report.messages);
        }
        if !said.is_empty() {
            self.failures.push(seed);
            for said in said {
                println!("seed {seed}: {said}");
            }
            println!("  replay with: QUORATE_SIM_SEED={seed} make sim");
        }
    }

    fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.list().into_iter().chain(self.messages.list())
    }

    fn never_happened(&self) -> Vec<&'static str> {
        self.numbers().filter(|(_, number)| *number == 0).map(|(name, _)| name).collect()
    }
}

impl std::fmt::Display for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.numbers().try_for_each(|(name, number)| writeln!(f, "{number:>12} {}", name.replace('_', " ")))
    }
}
