//! How a member gets a place: it asks whoever knows, decides (see `founding.rs` and `alone.rs`), and stores what was decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::alone::{self, Resumed, Terms};
use super::beginning::{Beginning, ClusterRegistry, Known, Recorded};
use super::founding::{self, Answer, Assignment, Step, Taken, consider};
use super::identity::{Identity, Place};
use super::log_store::LogStore;
use super::member::{Assigning, Member, Raft};
use super::messages::{Join, Reply, Request};
use super::status::{MemberNode, Phase};
use super::transport::{Peer, Seat};
use super::volume::{Volume, blocking};
use crate::types::{ClusterId, MemberId, MemberName};

/// How long the others may take to answer a question, and a registry.
const QUESTION: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(10);

/// How long a cluster may take to let this member in: it writes two entries to its log.
const JOINING: Duration = Duration::from_secs(5);

/// The pause before the others are asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Before a registry is asked again the pause grows up to this, so that many that wait are no burden to it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// And up to this when it did not answer.
const LONGEST_RESPITE: Duration = Duration::from_secs(10);

/// Waits until this member has a seat: the one on its volume, one that a founder gives it, one in the cluster that it founds
/// itself, or one in a cluster that exists.
pub(super) async fn join(
    member: &Member,
    volume: &Arc<dyn Volume>,
    beginning: &Beginning,
    assignments: &mut mpsc::Receiver<Assigning>,
) -> Result<Seat, String> {
    // Drawn once, so that a founder that has to wait does not draw another with each try.
    let cluster = ClusterId::from_random(member.clock.random());
    let mut pauses = Pauses::new(beginning);
    loop {
        if let Some(seat) = member.identity.borrow().seat() {
            return Ok(seat.clone());
        }
        let step = tokio::select! {
            biased;
            Some(assigning) = assignments.recv() => {
                take(member, volume, assigning).await?;
                continue;
            }
            step = next_step(member, beginning, &cluster, &mut pauses) => step,
        };
        let waits_for = match step {
            Step::Found(assignment) => {
                tracing::info!(cluster = %cluster, members = assignment.roster.len(), "founding a cluster");
                store(member, volume, Place::Prepared(assignment)).await?;
                continue;
            }
            Step::Join { cluster, address, through } => {
                match ask_for_seat(member, &cluster, &address, &through).await {
                    Ok(seat) => {
                        tracing::info!(cluster = %seat.cluster, member = %seat.member, "joining a cluster");
                        sit_down(member, volume, seat).await?;
                        continue;
                    }
                    Err(text) => text,
                }
            }
            Step::Wait(text) => text,
        };
        let pause = pauses.next(member, &waits_for);
        tell(member, waits_for);
        tokio::select! {
            biased;
            Some(assigning) = assignments.recv() => take(member, volume, assigning).await?,
            () = sleep(pause) => {}
        }
    }
}

/// Asks whoever knows, and decides.
async fn next_step(member: &Member, beginning: &Beginning, cluster: &ClusterId, pauses: &mut Pauses) -> Step {
    let own = member.identity.borrow().introduction();
    match beginning {
        Beginning::Together(initial) => {
            let answers = ask_others(member, initial, &own.name).await;
            founding::decide(&own, initial, &answers, cluster)
        }
        Beginning::Registered { registry, address, founder } => match look(&**registry, pauses).await {
            Ok(known) => {
                let answers = ask_others(member, &known.others, &own.name).await;
                alone::decide(&own, &Terms { address, founder, place: &registry.place() }, &known, &answers, cluster)
            }
            Err(text) => Step::Wait(format!("its volume is empty, and {text}")),
        },
    }
}

/// What a registry knows, or that it did not say.
async fn look(registry: &dyn ClusterRegistry, pauses: &mut Pauses) -> Result<Known, String> {
    let looked = match timeout(LOOK, registry.look()).await {
        Ok(Ok(known)) => Ok(known),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("there was no answer within {LOOK:?}")),
    };
    pauses.longest = if looked.is_ok() { LONGEST_PAUSE } else { LONGEST_RESPITE };
    looked.map_err(|cause| {
        format!("whether a cluster is recorded in {} is not known: {cause}; it asks again", registry.place())
    })
}

/// Says what the member waits for, and logs it when it is something new.
pub(super) fn tell(member: &Member, text: String) {
    let phase = Phase::Waiting(text);
    if member.status.borrow().phase != phase {
        if let Phase::Waiting(text) = &phase {
            tracing::info!(reason = text, "waiting");
        }
        member.set_phase(phase);
    }
}

/// Asks every other member that may be there who it is.
async fn ask_others(
    member: &Member,
    addresses: &BTreeMap<MemberName, String>,
    own: &MemberName,
) -> BTreeMap<MemberName, Answer> {
    let others = addresses.iter().filter(|(name, _)| *name != own).map(|(name, address)| async move {
        let peer = Peer::Initial { name: name.clone(), address: address.clone() };
        let answer = match member.ask(&peer, &Request::Introduce, Instant::now() + QUESTION).await {
            Ok(Reply::Introduced { introduction, stage }) => Answer::Introduced { introduction, stage },
            Ok(other) => Answer::Silent(format!("it answered {other}")),
            Err(error) => Answer::Silent(error.to_string()),
        };
        (name.clone(), answer)
    });
    let answers: BTreeMap<_, _> = join_all(others).await.into_iter().collect();
    let has_answered = |name: &&MemberName| matches!(answers.get(*name), Some(Answer::Introduced { .. }));
    let met = addresses.keys().filter(has_answered).map(|name| (name.clone(), addresses[name].clone()));
    member.met.lock().expect("nobody panics while holding it").extend(met);
    answers
}

/// Asks one member of a cluster after the other for a seat; says what is in the way.
async fn ask_for_seat(
    member: &Member,
    cluster: &ClusterId,
    address: &str,
    through: &BTreeMap<MemberName, String>,
) -> Result<Seat, String> {
    let mut refusals = Vec::new();
    for (name, other) in through {
        let peer = Peer::Initial { name: name.clone(), address: other.clone() };
        let (cluster, record, address) = (cluster.clone(), member.record.clone(), address.to_owned());
        let join = Request::Join(Join { cluster: cluster.clone(), record, address, patience: JOINING });
        match member.ask(&peer, &join, Instant::now() + JOINING).await {
            Ok(Reply::Seated { member }) => return Ok(Seat { cluster, member }),
            Ok(Reply::Refused(text)) => refusals.push(format!("{name}: {text}")),
            Ok(Reply::NotDone(cause)) => refusals.push(format!("{name}: {cause}")),
            Ok(other) => refusals.push(format!("{name}: it answered {other}")),
            Err(error) => refusals.push(format!("{name}: {error}")),
        }
    }
    Err(format!(
        "its volume is empty, and cluster {cluster} has not let it in yet ({}); it asks again",
        refusals.join("; ")
    ))
}

/// Makes a place in a cluster that exists durable. The log is made before: from then on a volume without one has lost it.
async fn sit_down(member: &Member, volume: &Arc<dyn Volume>, seat: Seat) -> Result<(), String> {
    let to = Arc::clone(volume);
    let made = blocking(&**volume, move || LogStore::create(&*to)).await.map_err(|error| error.to_string())?;
    made.map_err(|error| error.to_string())?;
    store(member, volume, Place::Done(seat)).await
}

/// Stores an assignment that the founder sent, then answers.
async fn take(member: &Member, volume: &Arc<dyn Volume>, (assignment, answer): Assigning) -> Result<(), String> {
    let taken = consider(&member.identity.borrow(), &assignment);
    let reply = match taken {
        Taken::New => {
            store(member, volume, Place::Prepared(assignment)).await?;
            Reply::Done
        }
        Taken::Known => Reply::Done,
        Taken::Refused(text) => Reply::Refused(text),
    };
    // The founder asks again when it has not heard this.
    drop(answer.send(reply));
    Ok(())
}

/// Makes a place durable, then known.
pub(super) async fn store(member: &Member, volume: &Arc<dyn Volume>, place: Place) -> Result<(), String> {
    let identity = Identity { place, ..member.identity.borrow().clone() };
    keep(member, volume, identity).await
}

/// Makes an identity durable, then known.
pub(super) async fn keep(member: &Member, volume: &Arc<dyn Volume>, identity: Identity) -> Result<(), String> {
    let (written, to) = (identity.clone(), Arc::clone(volume));
    let stored = blocking(&**volume, move || written.store(&*to)).await.and_then(|stored| stored);
    stored.map_err(|error| format!("the member's place in the cluster cannot be stored: {error}"))?;
    member.status.send_modify(|status| {
        let status = Arc::make_mut(status);
        status.member = identity.seat().map(|seat| seat.member);
        status.cluster = identity.seat().map(|seat| seat.cluster.clone());
    });
    member.identity.send_replace(identity);
    Ok(())
}

/// The founder's part once Raft runs: lets a registry record the cluster, or gives every other member its assignment, then
/// initializes Raft with all of them. Does nothing when that was done before a crash.
pub(super) async fn found(
    member: &Member,
    raft: &Raft,
    assignment: &Assignment,
    beginning: &Beginning,
) -> Result<(), String> {
    if raft.is_initialized().await.map_err(|fatal| fatal.to_string())? {
        return Ok(());
    }
    if let Beginning::Registered { registry, .. } = beginning {
        record(member, &assignment.seat.cluster, &**registry, &mut Pauses::new(beginning)).await;
    }
    let mut waiting: Vec<_> = assignment.roster.iter().filter(|(id, _)| **id != assignment.founder).collect();
    while !waiting.is_empty() {
        let asked = waiting.iter().map(|(id, node)| assign(member, assignment, **id, node));
        let answers = join_all(asked).await;
        let missing: Vec<_> = answers.iter().flatten().cloned().collect();
        let mut answers = answers.into_iter();
        waiting.retain(|_| answers.next().flatten().is_some());
        if !missing.is_empty() {
            tell(member, format!("founding a cluster, waiting for {}", missing.join(", ")));
            sleep(PAUSE).await;
        }
    }
    raft.initialize(assignment.roster.clone()).await.map_err(|error| error.to_string())
}

/// Waits until the registry has recorded the cluster that this volume is prepared for.
async fn record(member: &Member, prepared: &ClusterId, registry: &dyn ClusterRegistry, pauses: &mut Pauses) {
    loop {
        let resumed = match look(registry, pauses).await {
            Ok(known) => {
                let own = member.identity.borrow().name.clone();
                let answers = ask_others(member, &known.others, &own).await;
                alone::resume(prepared, &registry.place(), &known, &answers)
            }
            Err(text) => Resumed::Wait(text),
        };
        let text = match resumed {
            Resumed::Initialize => return,
            Resumed::Wait(text) => text,
            Resumed::Record => match timeout(LOOK, registry.record(prepared)).await {
                Ok(Ok(Recorded::AsAsked)) => {
                    tracing::info!(cluster = %prepared, place = registry.place(), "recorded the new cluster");
                    return;
                }
                Ok(Ok(Recorded::Other(other))) => format!(
                    "cluster {prepared} could not be recorded in {}, where cluster {other} is recorded by now",
                    registry.place()
                ),
                Ok(Err(error)) => format!("cluster {prepared} could not be recorded in {}: {error}", registry.place()),
                Err(_) => format!("cluster {prepared} could not be recorded in {} within {LOOK:?}", registry.place()),
            },
        };
        let pause = pauses.next(member, &text);
        tell(member, text);
        sleep(pause).await;
    }
}

/// Gives one member its assignment; says what is in the way.
async fn assign(member: &Member, assignment: &Assignment, id: MemberId, node: &MemberNode) -> Option<String> {
    let name = MemberName::new(node.name.clone()).ok()?;
    let peer = Peer::Initial { name, address: node.address.clone() };
    match member.ask(&peer, &Request::Assign(assignment.to(id)), Instant::now() + QUESTION).await {
        Ok(Reply::Done) => None,
        Ok(Reply::Refused(text)) => Some(format!("{} ({text})", node.name)),
        Ok(other) => Some(format!("{} (it answered {other})", node.name)),
        Err(error) => Some(format!("{} ({error})", node.name)),
    }
}

/// How long to wait before whoever knows is asked again.
struct Pauses {
    next: Duration,
    longest: Duration,
    grows: bool,
    /// What the last one was for; something new begins with a short one.
    reason: String,
}

impl Pauses {
    /// Only a registry has to be spared.
    fn new(beginning: &Beginning) -> Self {
        let grows = matches!(beginning, Beginning::Registered { .. });
        Self { next: PAUSE, longest: LONGEST_PAUSE, grows, reason: String::new() }
    }

    /// Between a half and one and a half of what is due, so that members that began together do not go on together.
    fn next(&mut self, member: &Member, reason: &str) -> Duration {
        if !self.grows {
            return PAUSE;
        }
        if self.reason != reason {
            reason.clone_into(&mut self.reason);
            self.next = PAUSE;
        }
        let due = self.next.min(self.longest);
        self.next = (due * 2).min(self.longest);
        let chance = u32::try_from(member.clock.random() % 1000).unwrap_or_default();
        due / 2 + due * chance / 1000
    }
}
