//! What a member is told when it looks whether another one is there; the truth, unless the nemesis has something else in mind.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::{Duration, Instant};

/// How the ends of members are seen.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The share of looks at a living member that are told that nobody listens there.
    lies: f64,
    /// Members in front of whom something takes connections, also when they are gone.
    proxied: BTreeSet<String>,
    /// Hosts without power: nobody answers for them.
    dark: BTreeSet<String>,
    /// Until when a process that has been killed still closes its sockets.
    closing: BTreeMap<String, Instant>,
}

/// What a connection to a member meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meets {
    /// The member's process.
    Process,
    /// Its host, which says that nobody listens.
    Host,
    /// The host of a living member, which is said to have said so.
    Liar,
    /// Something that takes the connection and says nothing.
    Something,
    Nobody,
}

/// What is wrong with what members see.
#[derive(Debug, Clone, Default)]
pub struct Deceit {
    pub lies: f64,
    pub proxied: BTreeSet<String>,
}

impl Evidence {
    pub fn deceive(&mut self, Deceit { lies, proxied }: Deceit) {
        (self.lies, self.proxied) = (lies, proxied);
    }

    /// The power of a host goes off or comes back.
    pub fn set_dark(&mut self, host: &str, is_dark: bool) {
        if is_dark {
            self.dark.insert(host.to_owned());
        } else {
            self.dark.remove(host);
        }
    }

    pub fn is_dark(&self, host: &str) -> bool {
        self.dark.contains(host)
    }

    /// A process was killed; closing its sockets takes it a moment.
    pub fn set_closing(&mut self, host: &str, rng: &mut SmallRng) {
        self.closing.insert(host.to_owned(), Instant::now() + Duration::from_micros(rng.random_range(0..5_000)));
    }

    /// What a new connection to `host` meets now.
    pub fn meets(&self, host: &str, is_up: bool, rng: &mut SmallRng) -> Meets {
        match (is_up, self.is_dark(host)) {
            (true, _) if rng.random_bool(self.lies) => Meets::Liar,
            (true, _) => Meets::Process,
            (false, _) if self.proxied.contains(host) => Meets::Something,
            (false, true) => Meets::Nobody,
            (false, false) if self.closing.get(host).is_some_and(|until| Instant::now() < *until) => Meets::Something,
            (false, false) => Meets::Host,
        }
    }
}
