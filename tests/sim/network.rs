//! The seam for the wire, in the simulator: whole messages that are delayed, lost, doubled, that overtake each other, and
//! that partitions swallow, also in one direction only.
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
use quorate::raft::transport::{Hello, Inbox, Introduction, Lane, Network, NetworkError, Peer};
use quorate::tasks::{Exit, Tasks};
use quorate::types::Term;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::counts::counters;
use crate::life::Life;
use crate::trace::Trace;

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
        let peer = peer.name().to_owned();
        Box::pin(async move {
            // From here on it goes its way, whether or not the caller goes on waiting.
            drop(DeterministicRng::<TokioRuntime>::spawn(message.travel(request, reply)));
            match timeout_at(deadline, answered).await {
                Ok(Ok(result)) => return result,
                // The request or its reply has vanished, and nobody tells the caller.
                Ok(Err(_)) => sleep_until(deadline).await,
                Err(_) => {}
            }
            Err(NetworkError::Lost { peer, cause: "the deadline has passed".to_owned() })
        })
    }
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
        let Ok(answer) = self.deliver(&receiver, caller, request).await else { return };
        let fate = self.wires.inner().fate(to, &self.from, self.lane);
        let Fate::Arrives(at) = fate else { return };
        sleep_until(at).await;
        drop(reply.send(Ok(answer)));
    }

    /// What both ends check when a connection is made.
    fn introduce(&self, sender: &End, receiver: &End) -> Result<Arc<Introduction>, NetworkError> {
        let own = sender.inbox.introduction();
        let hello = Hello::new(own.clone(), &self.peer, self.lane);
        let checked = receiver.inbox.welcome(&hello).and_then(|answered| recognize(&own, &self.peer, &answered));
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
