//! What happened in a run, as one number: two runs of one seed must come to the same.

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Clones share one trace.
#[derive(Debug, Clone)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    start: Instant,
    hash: u64,
    events: u64,
    print: bool,
}

impl Trace {
    /// An empty trace that begins now; with `print`, every event is shown as it happens.
    pub fn new(print: bool) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { start: Instant::now(), hash: 0, events: 0, print })) }
    }

    /// Adds one event at the present moment.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let mut inner = self.inner.lock().unwrap();
        let line = format!("{:>10} us  {event}", inner.start.elapsed().as_micros());
        inner.hash = xxh3_64_with_seed(line.as_bytes(), inner.hash);
        inner.events += 1;
        if inner.print {
            println!("{line}");
        }
    }

    /// The number for everything so far.
    pub fn hash(&self) -> u64 {
        self.inner.lock().unwrap().hash
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.inner.lock().unwrap().events
    }
}
