//! The seam for the wire, in the simulator: whole messages that are delayed, lost, doubled, that overtake each other, and
//! that partitions swallow, also in one direction only.
//!
//! A process that is killed breaks its connections, and whoever waits on one learns of it at once, unless the wire is cut; a host
//! that loses its power is only silent. What a look at a member meets is in `evidence.rs`.
//!
//! The wires also remember every vote that they saw given: it must be there after a power loss.
//!
//! It is as bad as the contract of [`Network`] allows, and no worse: only Raft's own traffic is doubled, as by an old
//! connection whose last words arrive late, and appends to one member keep their order (openraft relies on it, and rightly
//! panics when a follower seems to have lost what it had).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use quorate::encoding::{Reader, Value};
use quorate::raft::transport::hello::recognize;
use quorate::raft::transport::{Hello, Inbox, Introduction, Lane, Network, NetworkError, Peer, Probe};
use quorate::tasks::{Exit, Tasks};
use quorate::types::Term;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::cluster::Loss;
use crate::counts::counters;
use crate::evidence::{Deceit, Evidence, Meets};
use crate::life::Life;
use crate::trace::Trace;

/// After so long a silent connection counts as broken, as it does over TCP: a caller that has more patience learns of it.
const SILENCE: Duration = Duration::from_secs(8);

/// The wires between all members. Clones share them.
#[derive(Clone)]
pub struct Wires {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    rng: SmallRng,
    trace: Trace,
    weather: Weather,
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(String, String)>,
    members: BTreeMap<String, End>,
    /// When the last message that keeps its place arrives, for each direction and lane.
    busy: BTreeMap<(String, String, Lane), Instant>,
    /// The greatest term in which each member has given its vote.
    votes: BTreeMap<String, u64>,
    evidence: Evidence,
    /// For each member, tells the calls to it on the control lane that their connections have broken.
    breaks: BTreeMap<String, Arc<Notify>>,
    counts: MessageCounts,
}

/// One member's end of the wires.
#[derive(Clone)]
struct End {
    life: Life,
    inbox: Arc<dyn Inbox>,
    tasks: Tasks,
}

/// How bad the network is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// How long a message usually takes at the most.
    pub delay: Duration,
    /// Shares of messages that take thirty times as long, are lost, are doubled, or may overtake others.
    pub slow: f64,
    pub lost: f64,
    pub doubled: f64,
    pub hurried: f64,
}

impl Weather {
    /// Nothing goes wrong.
    pub const FAIR: Self = Self { delay: Duration::from_millis(1), slow: 0.0, lost: 0.0, doubled: 0.0, hurried: 0.0 };
}

counters! {
    /// What was done to messages.
    MessageCounts {
        messages_sent,
        messages_cut,
        messages_lost,
        messages_doubled,
        messages_overtaking,
        messages_of_snapshots,
        votes_given,
        connections_broken,
        connections_ended_with_a_process,
        looks_answered,
        looks_refused,
        looks_refused_for_a_living_member,
        looks_met_by_something_mute,
        looks_met_by_nobody,
    }
}

/// What becomes of one message in one direction.
enum Fate {
    Arrives(Instant),
    Vanishes,
}

impl Wires {
    pub fn new(rng: &mut SmallRng, trace: &Trace) -> Self {
        let inner = Inner {
            rng: SmallRng::from_rng(rng),
            trace: trace.clone(),
            weather: Weather::FAIR,
            cut: BTreeSet::new(),
            members: BTreeMap::new(),
            busy: BTreeMap::new(),
            votes: BTreeMap::new(),
            evidence: Evidence::default(),
            breaks: BTreeMap::new(),
            counts: MessageCounts::default(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    pub fn set_weather(&self, weather: Weather) {
        self.inner().weather = weather;
    }

    /// From now on nothing gets from `from` to `to`.
    pub fn cut(&self, from: &str, to: &str) {
        self.inner().cut.insert((from.to_owned(), to.to_owned()));
    }

    /// Every wire works again.
    pub fn mend(&self) {
        self.inner().cut.clear();
    }

    /// The greatest term in which a member has given its vote.
    pub fn vote_of(&self, name: &str) -> Term {
        Term::new(self.inner().votes.get(name).copied().unwrap_or_default())
    }

    /// A member has lost its volume: whatever comes back under its name has never voted.
    pub fn forget_vote(&self, name: &str) {
        self.inner().votes.remove(name);
    }

    /// Something else is wrong with what members see of one another, from now on.
    pub fn deceive(&self, deceit: Deceit) {
        self.inner().evidence.deceive(deceit);
    }

    /// Breaks the connections to a member on the control lane.
    pub fn break_connections(&self, to: &str) {
        let mut inner = self.inner();
        inner.trace.note(format_args!("connections to {to} break"));
        inner.counts.connections_broken += 1;
        inner.breaking(to).notify_waiters();
    }

    /// A member's process has ended, or its host with it.
    pub fn note_end(&self, name: &str, loss: Loss) {
        let Inner { evidence, rng, .. } = &mut *self.inner();
        match loss {
            Loss::Power => evidence.set_dark(name, true),
            Loss::Process => evidence.set_closing(name, rng),
        }
    }

    /// A member's host has power again.
    pub fn note_start(&self, name: &str) {
        self.inner().evidence.set_dark(name, false);
    }

    pub fn counts(&self) -> MessageCounts {
        self.inner().counts
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    /// Draws what becomes of a message that is sent now.
    fn fate(&mut self, from: &str, to: &str, lane: Lane) -> Fate {
        self.counts.messages_sent += 1;
        let Weather { delay, slow, lost, hurried, .. } = self.weather;
        let stretch = if self.rng.random_bool(slow) { 30.0 } else { 1.0 };
        let alone = Instant::now() + delay.mul_f64(self.rng.random_range(0.05..1.0) * stretch);
        if self.cut.contains(&(from.to_owned(), to.to_owned())) {
            self.counts.messages_cut += 1;
            return Fate::Vanishes;
        }
        if self.rng.random_bool(lost) {
            self.counts.messages_lost += 1;
            return Fate::Vanishes;
        }
        let is_ordered = matches!(lane, Lane::Replication | Lane::Snapshot);
        let busy = self.busy.entry((from.to_owned(), to.to_owned(), lane)).or_insert(alone);
        if !is_ordered && self.rng.random_bool(hurried) && alone < *busy {
            self.counts.messages_overtaking += 1;
            return Fate::Arrives(alone);
        }
        *busy = alone.max(*busy + Duration::from_micros(1));
        Fate::Arrives(*busy)
    }

    /// Draws whether a message of Raft arrives a second time, and how much later.
    fn double(&mut self, lane: Lane) -> Option<Duration> {
        let is_rafts = matches!(lane, Lane::Control | Lane::Replication);
        if !is_rafts || !self.rng.random_bool(self.weather.doubled) {
            return None;
        }
        self.counts.messages_doubled += 1;
        Some(Duration::from_micros(self.rng.random_range(100..200_000)))
    }

    fn breaking(&mut self, to: &str) -> Arc<Notify> {
        Arc::clone(self.breaks.entry(to.to_owned()).or_default())
    }

    /// Draws what a look at `to` meets, and when that is known.
    fn look(&mut self, from: &str, to: &str) -> (Meets, Fate) {
        let is_up = self.end(to).is_some();
        let Self { evidence, rng, .. } = self;
        let meets = evidence.meets(to, is_up, rng);
        (meets, self.fate(to, from, Lane::Control))
    }

    fn note_look(&mut self, from: &str, to: &str, probe: &Probe, meets: Meets) {
        self.trace.note(format_args!("{from} looks at {to}, meets {meets:?}: {probe:?}"));
        let counter = match (probe, meets) {
            (Probe::Answered(_), _) => &mut self.counts.looks_answered,
            (Probe::Refused, Meets::Liar) => &mut self.counts.looks_refused_for_a_living_member,
            (Probe::Refused, _) => &mut self.counts.looks_refused,
            (Probe::Mute, _) => &mut self.counts.looks_met_by_something_mute,
            (Probe::Nothing, _) => &mut self.counts.looks_met_by_nobody,
        };
        *counter += 1;
    }

    fn note_vote(&mut self, name: String, term: u64) {
        self.counts.votes_given += 1;
        let greatest = self.votes.entry(name).or_default();
        *greatest = term.max(*greatest);
    }

    /// The member `name`, if it is up.
    fn end(&self, name: &str) -> Option<End> {
        self.members.get(name).filter(|end| !end.life.is_over()).cloned()
    }
}

/// The network of one member during one life.
pub struct SimNetwork {
    name: String,
    life: Life,
    wires: Wires,
}

impl SimNetwork {
    pub fn new(name: &str, life: &Life, wires: &Wires) -> Self {
        Self { name: name.to_owned(), life: life.clone(), wires: wires.clone() }
    }
}

impl Network for SimNetwork {
    fn open(&self, inbox: Arc<dyn Inbox>, tasks: &Tasks) {
        let end = End { life: self.life.clone(), inbox, tasks: tasks.clone() };
        self.wires.inner().members.insert(self.name.clone(), end);
    }

    fn call(
        &self,
        peer: &Peer,
        lane: Lane,
        request: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let (reply, answered) = oneshot::channel();
        let message = Message { from: self.name.clone(), peer: peer.clone(), lane, wires: self.wires.clone() };
        let breaking = self.wires.inner().breaking(peer.name());
        let (peer, sent) = (peer.name().to_owned(), Instant::now());
        Box::pin(async move {
            // From here on it goes its way, whether or not the caller goes on waiting.
            drop(DeterministicRng::<TokioRuntime>::spawn(message.travel(request, reply)));
            let answered = async {
                tokio::select! {
                    biased;
                    answered = answered => answered,
                    () = breaking.notified(), if lane == Lane::Control => Ok(Err(broken(&peer))),
                }
            };
            match timeout_at(deadline, answered).await {
                Ok(Ok(result)) => return result,
                // The request or its reply has vanished with its connection, whose silence tells the caller in the end.
                Ok(Err(_)) => sleep_until(deadline.min(sent + SILENCE)).await,
                Err(_) => {}
            }
            Err(NetworkError::Lost { peer, cause: "the deadline has passed".to_owned() })
        })
    }

    fn probe(&self, peer: &Peer, question: Bytes, deadline: Instant) -> BoxFuture<'static, Probe> {
        let message =
            Message { from: self.name.clone(), peer: peer.clone(), lane: Lane::Control, wires: self.wires.clone() };
        Box::pin(async move {
            let (probe, meets) =
                timeout_at(deadline, message.look(question)).await.unwrap_or((Probe::Nothing, Meets::Nobody));
            message.wires.inner().note_look(&message.from, message.peer.name(), &probe, meets);
            probe
        })
    }
}

fn broken(peer: &str) -> NetworkError {
    NetworkError::Lost { peer: peer.to_owned(), cause: "the connection broke".to_owned() }
}

/// One request on its way.
struct Message {
    from: String,
    peer: Peer,
    lane: Lane,
    wires: Wires,
}

type Reply = oneshot::Sender<Result<Bytes, NetworkError>>;

impl Message {
    /// There and back again. A caller that has stopped waiting is no error, hence the dropped results.
    async fn travel(self, request: Bytes, reply: Reply) {
        let to = self.peer.name();
        let (fate, sender) = {
            let mut inner = self.wires.inner();
            (inner.fate(&self.from, to, self.lane), inner.end(&self.from))
        };
        let (Fate::Arrives(at), Some(sender)) = (fate, sender) else { return };
        sleep_until(at).await;
        let Some(receiver) = self.wires.inner().end(to) else {
            drop(reply.send(Err(self.not_sent("connection refused"))));
            return;
        };
        let caller = match self.introduce(&sender, &receiver) {
            Ok(caller) => caller,
            Err(refusal) => {
                drop(reply.send(Err(refusal)));
                return;
            }
        };
        let answer = match self.deliver(&receiver, caller, request).await {
            Ok(answer) => Ok(answer),
            // The receiver has ended, and its host says so, if it can.
            Err(_) if self.wires.inner().evidence.is_dark(to) => return,
            Err(_) => {
                self.wires.inner().counts.connections_ended_with_a_process += 1;
                Err(broken(to))
            }
        };
        let fate = self.wires.inner().fate(to, &self.from, self.lane);
        let Fate::Arrives(at) = fate else { return };
        sleep_until(at).await;
        drop(reply.send(answer));
    }

    /// Looks whether the receiver is there, and says what was met.
    async fn look(&self, question: Bytes) -> (Probe, Meets) {
        let to = self.peer.name();
        let there = self.wires.inner().fate(&self.from, to, self.lane);
        let Fate::Arrives(at) = there else { return std::future::pending().await };
        sleep_until(at).await;
        let (meets, back) = self.wires.inner().look(&self.from, to);
        let (sender, receiver) = {
            let inner = self.wires.inner();
            (inner.end(&self.from), inner.end(to))
        };
        let probe = match (meets, sender.zip(receiver)) {
            (Meets::Nobody, _) => return std::future::pending().await,
            (Meets::Host | Meets::Liar, _) => Probe::Refused,
            (Meets::Process, Some((sender, receiver))) => match self.introduce(&sender, &receiver) {
                Ok(caller) => self.deliver(&receiver, caller, question).await.map_or(Probe::Nothing, Probe::Answered),
                Err(_) => Probe::Nothing,
            },
            (Meets::Process, None) => Probe::Nothing,
            (Meets::Something, _) => Probe::Mute,
        };
        let Fate::Arrives(at) = back else { return std::future::pending().await };
        sleep_until(at).await;
        (probe, meets)
    }

    /// What both ends check when a connection is made.
    fn introduce(&self, sender: &End, receiver: &End) -> Result<Arc<Introduction>, NetworkError> {
        let own = sender.inbox.introduction();
        let hello = Hello::new(own.clone(), &self.peer, self.lane);
        let checked = receiver.inbox.welcome(&hello).and_then(|answered| {
            recognize(&own, &self.peer, &answered)?;
            sender.inbox.identify(&answered)
        });
        checked.map(|()| Arc::new(own)).map_err(|refusal| self.not_sent(&refusal.text))
    }

    /// Hands a request to its receiver, now and perhaps once more.
    fn deliver(&self, receiver: &End, caller: Arc<Introduction>, request: Bytes) -> oneshot::Receiver<Bytes> {
        let again = {
            let mut inner = self.wires.inner();
            let (from, to, lane) = (&self.from, self.peer.name(), self.lane);
            inner.trace.note(format_args!("{from} to {to} on {lane}: {} bytes", request.len()));
            inner.counts.messages_of_snapshots += u64::from(lane == Lane::Snapshot);
            inner.double(lane)
        };
        if let Some(later) = again {
            let at = Instant::now() + later;
            let inbox = Arc::clone(&receiver.inbox);
            let (caller, lane, request) = (Arc::clone(&caller), self.lane, request.clone());
            receiver.tasks.spawn("message again", Exit::Normal, async move {
                sleep_until(at).await;
                // Nobody waits for the answer to a message that came twice.
                drop(inbox.handle(caller, lane, request).await);
            });
        }
        let (sender, answer) = oneshot::channel();
        let asks_for_a_vote = first_field(&request).is_some_and(|(field, _)| field == VOTE);
        let handling = receiver.inbox.handle(caller, self.lane, request);
        let (name, wires) = (self.peer.name().to_owned(), self.wires.clone());
        receiver.tasks.spawn("message", Exit::Normal, async move {
            let answer = handling.await;
            if let Some(term) = granted(&answer).filter(|_| asks_for_a_vote) {
                wires.inner().note_vote(name, term);
            }
            drop(sender.send(answer));
        });
        answer
    }

    fn not_sent(&self, cause: &str) -> NetworkError {
        NetworkError::NotSent { peer: self.peer.name().to_owned(), cause: cause.to_owned() }
    }
}

/// The field of the envelope that holds a request for a vote, and the one that holds the answer to it.
const VOTE: u32 = 2;

/// The first field of a message.
fn first_field(message: &Bytes) -> Option<(u32, Value)> {
    Reader::new(message.clone()).field().ok()?
}

/// The term in which an answer gives a vote, if it does.
fn granted(answer: &Bytes) -> Option<u64> {
    let (field, value) = first_field(answer)?;
    let (mut term, mut is_granted) = (None, false);
    let mut response = Reader::new(value.bytes().ok().filter(|_| field == VOTE)?);
    while let Some((field, value)) = response.field().ok()? {
        match field {
            1 => term = first_field(&value.bytes().ok()?)?.1.number().ok(),
            3 => is_granted = value.flag().ok()?,
            _ => {}
        }
    }
    term.filter(|_| is_granted)
}
