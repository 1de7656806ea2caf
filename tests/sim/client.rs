//! Clients: each does one thing at a time, through the coordinator of any member, and writes down what it was told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate::coordinator::{Consistency, CoordinatorError, Happened, Read, Write};
use quorate::machine::Machine;
use quorate::machine::command::{Action, KeyCondition};
use quorate::machine::keys::KeyRecord;
use quorate::machine::outcome::{KeyMeta, Rejection};
use quorate::types::{IdempotencyKey, Key, Revision};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Running};
use crate::ledger::StateRead;
use crate::support::history::{Call, Condition, Reply, Seen, ValueId};
use crate::violation::Check;

/// Few, so that clients meet.
const KEYS: usize = 4;

/// A client and what it remembers.
pub struct Client {
    number: usize,
    cluster: Arc<Cluster>,
    rng: SmallRng,
    writes: u64,
    /// A revision that it has seen, to require later.
    seen: Option<u64>,
}

/// What an attempt came to.
enum Attempt {
    Told(Reply),
    /// It certainly did not happen.
    Refused,
    Unknown,
}

impl Client {
    pub fn new(number: usize, cluster: &Arc<Cluster>, rng: SmallRng) -> Self {
        Self { number, cluster: Arc::clone(cluster), rng, writes: 0, seen: None }
    }

    /// Works until it is dropped.
    pub async fn work(mut self) {
        loop {
            sleep(Duration::from_micros(self.rng.random_range(100..30_000))).await;
            let Some(member) = self.some_member() else { continue };
            let key = format!("k{}", self.rng.random_range(0..KEYS));
            match self.rng.random_range(0..100) {
                0..35 => self.get(&member, &key).await,
                35..45 => self.look(&member, &key),
                _ => self.change(member, &key).await,
            }
        }
    }

    /// A member that is up, any of them.
    fn some_member(&mut self) -> Option<Running> {
        let member = self.rng.random_range(0..self.cluster.size());
        self.cluster.running(member)
    }

    /// A linearizable read.
    async fn get(&mut self, member: &Running, key: &str) {
        let pending = self.cluster.recorder.begin(self.number, key, Call::Get);
        let deadline = self.deadline();
        let read = Read { consistency: Consistency::Linearizable, min_revision: None, deadline };
        let Some(answer) = member.life.outlives(member.coordinator.read(read)).await else { return };
        match answer {
            Ok(machine) => {
                let seen = self.note_state(member, key, &machine);
                self.seen = seen.map(|seen| seen.revision);
                pending.end(Reply::Got(seen));
            }
            // A read that fails has done nothing.
            Err(_) => pending.never_happened(),
        }
    }

    /// A stale read: whatever the member has now.
    fn look(&self, member: &Running, key: &str) {
        self.note_state(member, key, &member.coordinator.state());
    }

    fn note_state(&self, member: &Running, key: &str, machine: &Machine) -> Option<Seen> {
        let key = Key::new(key).expect("a short name");
        let seen = machine.keys().get(&key).map(seen_of);
        self.cluster.ledger.read(StateRead { member: member.number, key, revision: machine.revision(), seen });
        seen
    }

    /// A put or a delete. With an idempotency key it is tried again, anywhere, until it is known what became of it.
    async fn change(&mut self, member: Running, key: &str) {
        let call = self.some_change();
        let idempotency = self.rng.random_bool(0.5).then(|| {
            self.writes += 1;
            IdempotencyKey::new(format!("{}-{}", self.number, self.writes)).expect("short and printable")
        });
        let padding = if self.rng.random_bool(0.02) { 20_000 } else { self.rng.random_range(0..300) };
        let pending = self.cluster.recorder.begin(self.number, key, call);
        let tries = if idempotency.is_some() { 4 } else { 1 };
        let mut member = Some(member);
        let mut is_unknown = false;
        for _ in 0..tries {
            if let Some(member) = member {
                let write = Write { key: idempotency.clone(), deadline: self.deadline() };
                let attempt = member.life.outlives(attempt(&member, key, call, padding, write)).await;
                match attempt.unwrap_or(Attempt::Unknown) {
                    Attempt::Told(reply) => return pending.end(reply),
                    Attempt::Refused if !is_unknown => return pending.never_happened(),
                    Attempt::Refused => {}
                    Attempt::Unknown => is_unknown = true,
                }
            }
            sleep(Duration::from_millis(self.rng.random_range(1..200))).await;
            member = self.some_member();
        }
    }

    fn some_change(&mut self) -> Call {
        let only_if = match (self.rng.random_range(0..10), self.seen) {
            (0, _) => Condition::Absent,
            (1, _) => Condition::Present,
            (2..5, Some(revision)) => Condition::ModifiedAt(revision),
            _ => Condition::Always,
        };
        if self.rng.random_bool(0.2) && only_if != Condition::Absent {
            return Call::Delete { only_if };
        }
        Call::Put { value: self.cluster.next_value(), only_if }
    }

    fn deadline(&mut self) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.random_range(50..1500))
    }
}

async fn attempt(member: &Running, key: &str, call: Call, padding: usize, write: Write) -> Attempt {
    let key = Key::new(key).expect("a short name");
    let result = match call {
        Call::Put { value, only_if } => {
            let (content, session) = (content(value, padding), None);
            let put = member.coordinator.put_key(key, content, session, condition(only_if), write).await;
            put.map(|written| Reply::Put { revision: written.effect.mod_revision.get() })
        }
        Call::Delete { only_if } => {
            let deleted = member.coordinator.delete_key(key, condition(only_if), write).await;
            deleted
                .map(|written| Reply::Deleted { existed: written.effect.is_some(), revision: written.revision.get() })
        }
        Call::Get => unreachable!("only changes are tried again"),
    };
    match result {
        Ok(reply) => Attempt::Told(reply),
        Err(CoordinatorError::Rejected { rejection, .. }) => match *rejection {
            Rejection::KeyMismatch { current, .. } => {
                Attempt::Told(Reply::Mismatch { current: current.map(|meta| meta.mod_revision.get()) })
            }
            other => panic!("no client asks for what is refused like this: {other}"),
        },
        Err(error) => match error.happened() {
            Happened::No => Attempt::Refused,
            Happened::Yes => unreachable!("only a claim that waits is done and not over: {error}"),
            Happened::Unknown => Attempt::Unknown,
        },
    }
}

/// What only the Raft leader may do, decided in one leadership and proposed some time later.
pub async fn do_duties(cluster: Arc<Cluster>, mut rng: SmallRng) {
    let mut number = 0;
    loop {
        sleep(Duration::from_millis(rng.random_range(20..300))).await;
        let Some(member) = cluster.running(rng.random_range(0..cluster.size())) else { continue };
        let Some(record) = member.coordinator.state().leadership().copied() else { continue };
        if Some(record.member) != member.raft.status().member {
            continue;
        }
        sleep(Duration::from_millis(rng.random_range(0..1500))).await;
        number += 1;
        let key = Key::new("duty").expect("a short name");
        let action = Action::PutKey { key, value: content(number, 0), session: None, only_if: KeyCondition::Always };
        let deadline = Instant::now() + Duration::from_secs(1);
        let proposal = member.coordinator.propose_duty(record.leadership, action, deadline);
        match member.life.outlives(proposal).await {
            Some(Ok(written)) => cluster.ledger.duty_done(record.leadership, written.revision),
            Some(Err(CoordinatorError::Rejected { rejection, .. })) => match *rejection {
                Rejection::Superseded { .. } => cluster.count(|counts| counts.duties_superseded += 1),
                other => cluster.violations.add(Check::DutyInItsLeadership, format!("refused with {other}")),
            },
            Some(Err(_)) | None => {}
        }
    }
}

fn condition(condition: Condition) -> KeyCondition {
    match condition {
        Condition::Always => KeyCondition::Always,
        Condition::Absent => KeyCondition::Absent,
        Condition::Present => KeyCondition::Present,
        Condition::ModifiedAt(revision) => KeyCondition::ModifiedAt(Revision::new(revision)),
    }
}

fn seen_of(record: &KeyRecord) -> Seen {
    let KeyMeta { mod_revision, .. } = record.meta;
    Seen { value: value_id(&record.value), revision: mod_revision.get() }
}

/// A value that says which it is, and is as long as one wants.
fn content(value: ValueId, padding: usize) -> Bytes {
    let mut content = value.to_be_bytes().to_vec();
    content.resize(content.len() + padding, b'.');
    content.into()
}

/// Which value it is.
pub fn value_id(content: &[u8]) -> ValueId {
    let number = content.first_chunk().expect("every value begins with its number");
    ValueId::from_be_bytes(*number)
}
