//! How a member gets a place: it asks the others, decides (see `founding.rs`), and stores what was decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::founding::{Answer, Assignment, Step, Taken, consider, decide};
use super::identity::{Identity, Place};
use super::member::{Assigning, Member, Raft};
use super::messages::{Reply, Request};
use super::status::{MemberNode, Phase};
use super::transport::{Peer, Seat};
use super::volume::{Volume, blocking};
use crate::types::{ClusterId, MemberName};

/// How long the others may take to answer a question, and the pause before they are asked again.
const QUESTION: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until this member has a seat: the one on its volume, one that the founder gives it, or one in the cluster that it
/// founds itself.
pub(super) async fn join(
    member: &Member,
    volume: &Arc<dyn Volume>,
    initial: &BTreeMap<MemberName, String>,
    assignments: &mut mpsc::Receiver<Assigning>,
) -> Result<Seat, String> {
    // Drawn once, so that a founder that has to wait does not draw another with each try.
    let cluster = ClusterId::from_random(member.clock.random());
    loop {
        let identity = member.identity.borrow().clone();
        if let Some(seat) = identity.seat() {
            return Ok(seat.clone());
        }
        let own = identity.introduction();
        let answers = ask_others(member, initial, &identity.name);
        let answers = tokio::select! {
            biased;
            Some(assigning) = assignments.recv() => {
                take(member, volume, assigning).await?;
                continue;
            }
            answers = answers => answers,
        };
        match decide(&own, initial, &answers, &cluster) {
            Step::Found(assignment) => {
                tracing::info!(cluster = %cluster, members = assignment.roster.len(), "founding a cluster");
                store(member, volume, Place::Prepared(assignment)).await?;
            }
            Step::Wait(text) => {
                tell(member, text);
                let again = Instant::now() + PAUSE;
                tokio::select! {
                    biased;
                    Some(assigning) = assignments.recv() => take(member, volume, assigning).await?,
                    () = sleep_until(again) => {}
                }
            }
        }
    }
}

/// Says what the member waits for, and logs it when it is something new.
fn tell(member: &Member, text: String) {
    let phase = Phase::Waiting(text);
    if member.status.borrow().phase != phase {
        if let Phase::Waiting(text) = &phase {
            tracing::info!(reason = text, "waiting");
        }
        member.set_phase(phase);
    }
}

/// Asks every other initial member who it is.
async fn ask_others(
    member: &Member,
    initial: &BTreeMap<MemberName, String>,
    own: &MemberName,
) -> BTreeMap<MemberName, Answer> {
    let others = initial.iter().filter(|(name, _)| *name != own).map(|(name, address)| async move {
        let peer = Peer::Initial { name: name.clone(), address: address.clone() };
        let answer = match member.ask(&peer, &Request::Introduce, Instant::now() + QUESTION).await {
            Ok(Reply::Introduced { introduction, stage }) => Answer::Introduced { introduction, stage },
            Ok(other) => Answer::Silent(format!("it answered {other}")),
            Err(error) => Answer::Silent(error.to_string()),
        };
        (name.clone(), answer)
    });
    join_all(others).await.into_iter().collect()
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

/// The founder's part once Raft runs: gives every other member its assignment, then initializes Raft with all of them. Does
/// nothing when that was done before a crash.
pub(super) async fn found(member: &Member, raft: &Raft, assignment: &Assignment) -> Result<(), String> {
    if raft.is_initialized().await.map_err(|fatal| fatal.to_string())? {
        return Ok(());
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
            sleep_until(Instant::now() + PAUSE).await;
        }
    }
    raft.initialize(assignment.roster.clone()).await.map_err(|error| error.to_string())
}

/// Gives one member its assignment; says what is in the way.
async fn assign(
    member: &Member,
    assignment: &Assignment,
    id: crate::types::MemberId,
    node: &MemberNode,
) -> Option<String> {
    let name = MemberName::new(node.name.clone()).ok()?;
    let peer = Peer::Initial { name, address: node.address.clone() };
    match member.ask(&peer, &Request::Assign(assignment.to(id)), Instant::now() + QUESTION).await {
        Ok(Reply::Done) => None,
        Ok(Reply::Refused(text)) => Some(format!("{} ({text})", node.name)),
        Ok(other) => Some(format!("{} (it answered {other})", node.name)),
        Err(error) => Some(format!("{} ({error})", node.name)),
    }
}
