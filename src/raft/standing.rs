//! How a member that has just started finds out whether it may take part.
//!
//! Its volume may be a copy that somebody has put back: then it has forgotten votes that it gave and entries that it
//! acknowledged, and would give and acknowledge others. So at first it is outside (see `guard.rs`), and asks every other member
//! what is known of it (see `vouching.rs`; what follows from that is in `weighing.rs`):
//!
//! - Somebody knows for certain that it has forgotten something, or that another process was started from this volume after
//!   it: it is refused, says so wherever people look, and stays outside.
//! - The Raft leader has its new life recorded, by a commit in which it had no part: it follows, votes as if its log ended
//!   there, and campaigns once it has applied that commit. Whatever was committed before is then on its volume again, and whoever
//!   asked for its vote before has been overtaken, so it does not matter what its volume has forgotten.
//! - The Raft leader, confirmed by a quorum, says that it was removed before: its volume is set aside (see `retiring.rs`).
//! - There is no such word. While somebody hears a Raft leader, or those who take part can elect one without it, it waits.
//!   Otherwise it is needed: it takes part once a quorum, itself included, has answered and nobody knows anything against it.
//!   This is how a whole cluster starts.
//!
//! So what is not noticed is a copy, put back while too few others are there to elect without it, of which nobody who answers
//! has an own memory. `docs/architecture.md` says what that means.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::beginning::{Beginning, Known};
use super::guard::Gate;
use super::identity::Place as Seated;
use super::joining::{store, tell};
use super::member::{Member, Raft};
use super::messages::{Reply, Request, Stand};
use super::running::Running;
use super::status::{MemberNode, Phase, RaftRole};
use super::transport::{Peer, Seat};
use super::type_config::{LogId, Vote};
use super::weighing::{Answers, Ground, Place, Weighed, is_quorum, weigh};
use crate::types::MemberName;

/// How long the others may take to answer, and the Raft leader to have something recorded for it.
const QUESTION: Duration = Duration::from_secs(1);
const RECORDING: Duration = Duration::from_millis(800);

/// Once a quorum has answered, the rest may take so much longer: one of them may know better.
const REST: Duration = Duration::from_millis(200);

/// The pause before the others are asked again, and before they are told again that this member is refused.
const PAUSE: Duration = Duration::from_millis(100);
const REFUSED_AGAIN: Duration = Duration::from_secs(2);

/// How long a registry may take, how often it is asked, and after how much waiting for the first time: members that are there
/// answer long before, and the registry may be away.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// The others have so many election timeouts to elect without this member.
const ELECTIONS: u32 = 5;

/// A member that takes part and hears of no Raft leader asks after so long what became of it.
const LOST: Duration = Duration::from_secs(5);

/// The process that has drawn the identity on its volume has forgotten nothing; a copy of its volume begins the next life.
const FIRST_LIFE: u64 = 1;

/// What a member says that waits although a quorum has answered.
const LED: &str =
    "it waits for the word of the Raft leader, or until the others, who do not need it for that, have elected one";

/// What was on the volume before Raft began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Papers {
    pub(super) vote: Option<Vote>,
    pub(super) last_log: Option<LogId>,
}

/// What a registry has said, and when it is asked again.
struct Registered {
    known: Known,
    next: Instant,
}

impl Running {
    /// Lets this member take part as soon as it may; then watches whether it still belongs to the cluster.
    pub(super) async fn take_stand(&self, raft: &Raft, papers: Papers) -> Result<Infallible, String> {
        let (started, mut superfluous) = (Instant::now(), None);
        let mut registered = Registered { known: Known::default(), next: started + LOOK_AFTER };
        if self.member.record.life.is_some_and(|life| life.number == FIRST_LIFE) {
            self.let_in(Gate::Open);
            return self.watch_place(raft, &registered.known).await;
        }
        loop {
            let Some(seat) = self.member.identity.borrow().seat().cloned() else {
                return Err("a member without a place has begun to run".to_owned());
            };
            let ground = self.ground(raft, seat);
            if is_quorum(&ground.voters, &[ground.seat.member].into()) {
                // Nobody can vouch for it, and nobody's vote could be given twice but its own.
                registered.next = registered.next.min(started);
                self.look(&mut registered).await;
                if let Some(text) = self.is_recorded_elsewhere(&ground, &registered.known) {
                    self.is_refused(text, &registered.known).await;
                    continue;
                }
            }
            let answers = self.ask_around(&ground, Some(papers), &registered.known).await;
            match weigh(&ground, &answers) {
                Weighed::Follow(through) => {
                    self.let_in(Gate::Following(through));
                    break;
                }
                Weighed::Needed => {
                    self.let_in(Gate::Open);
                    break;
                }
                Weighed::NotNeeded => {
                    let since = *superfluous.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.elections() {
                        tracing::warn!("no Raft leader has said anything for five election timeouts; it takes part");
                        self.let_in(Gate::Open);
                        break;
                    }
                    self.wait(LED.to_owned()).await;
                }
                Weighed::Removed => return Err(self.retire(ground.seat).await?),
                Weighed::Refused(text) => self.is_refused(text, &registered.known).await,
                Weighed::Wait(text) => match self.is_recorded_elsewhere(&ground, &registered.known) {
                    Some(text) => self.is_refused(text, &registered.known).await,
                    None => self.wait(text).await,
                },
            }
            self.look(&mut registered).await;
        }
        self.watch_place(raft, &registered.known).await
    }

    fn elections(&self) -> Duration {
        Duration::from_millis(self.config.election_timeout_max) * ELECTIONS
    }

    fn let_in(&self, gate: Gate) {
        self.member.guard.open(gate);
        if !self.member.status().voters.is_empty() {
            self.member.set_phase(Phase::Running);
        }
    }

    async fn wait(&self, text: String) {
        tell(&self.member, text);
        sleep(PAUSE).await;
    }

    /// The voters that the volume knows of.
    fn ground(&self, raft: &Raft, seat: Seat) -> Ground {
        let joint = raft.metrics().borrow_watched().membership_config.membership().get_joint_config().clone();
        let known: Vec<_> = joint.into_iter().filter(|voters| !voters.is_empty()).collect();
        match &self.member.identity.borrow().place {
            Seated::Prepared(assignment) if known.is_empty() => {
                Ground { seat, voters: vec![assignment.roster.keys().copied().collect()], is_roster: true }
            }
            Seated::Prepared(_) | Seated::Done(_) | Seated::Retired(_) | Seated::Nowhere => {
                Ground { seat, voters: known, is_roster: false }
            }
        }
    }

    /// Asks every other member that may be there; ends as soon as the answers say enough. A member that has run since it started
    /// shows no papers: it has not forgotten anything.
    async fn ask_around(&self, ground: &Ground, papers: Option<Papers>, known: &Known) -> Answers {
        let member = &self.member;
        let (record, before) = (member.record.clone(), member.identity.borrow().before().to_vec());
        let stand = Stand { seat: ground.seat.clone(), record, before, papers, patience: RECORDING };
        let until = Instant::now() + QUESTION;
        let ask = |place: Place| {
            let peer = Peer::Initial { name: place.0.clone(), address: place.1.clone() };
            let stand = Request::Stand(stand.clone());
            async move {
                let answer = match member.ask(&peer, &stand, until).await {
                    Ok(Reply::Vouched(vouched)) => Ok(vouched),
                    Ok(other) => Err(format!("it answered {other}")),
                    Err(error) => Err(error.to_string()),
                };
                (place, answer)
            }
        };
        let mut asked: FuturesUnordered<_> = self.places(known).into_iter().map(ask).collect();
        let (mut answers, mut until) = (Answers::new(), until);
        while let Ok(Some((place, answer))) = timeout_at(until, asked.next()).await {
            answers.insert(place, answer);
            match weigh(ground, &answers) {
                Weighed::Follow(_) | Weighed::Removed => break,
                Weighed::Needed => until = until.min(Instant::now() + REST),
                Weighed::NotNeeded | Weighed::Refused(_) | Weighed::Wait(_) => {}
            }
        }
        answers
    }

    /// Where other members may be, by everything that this one knows; a volume from elsewhere knows other places than those who
    /// put it here.
    fn places(&self, known: &Known) -> BTreeSet<Place> {
        let identity = self.member.identity.borrow().clone();
        let mut places: BTreeSet<_> = known.others.clone().into_iter().chain(self.member.met()).collect();
        if let Seated::Prepared(assignment) = &identity.place {
            places.extend(assignment.roster.values().filter_map(place));
        }
        if let Beginning::Together(initial) = &self.beginning {
            places.extend(initial.clone());
        }
        let status = self.member.status();
        places.extend(status.voters.values().chain(status.learners.values()).filter_map(place));
        places.retain(|(name, _)| *name != identity.name);
        places
    }

    /// Asks a registry, if there is one and it is due: it knows of members and may know of another cluster.
    async fn look(&self, registered: &mut Registered) {
        let Beginning::Registered { registry, .. } = &self.beginning else { return };
        if Instant::now() < registered.next {
            return;
        }
        if let Ok(Ok(known)) = timeout(LOOK, registry.look()).await {
            registered.known = known;
        }
        registered.next = Instant::now() + LOOK_EVERY;
    }

    /// What is wrong when nobody vouches for this member, and another cluster is recorded where it runs.
    fn is_recorded_elsewhere(&self, ground: &Ground, known: &Known) -> Option<String> {
        let Beginning::Registered { registry, .. } = &self.beginning else { return None };
        let recorded = known.recorded.as_ref().filter(|recorded| **recorded != ground.seat.cluster)?;
        Some(format!(
            "this volume belongs to member {} of cluster {}, of which nobody else answers, and cluster {recorded} is recorded in \
             {}: put the volume back that belongs here, or empty this one, so that it joins that cluster as a new member",
            ground.seat.member,
            ground.seat.cluster,
            registry.place()
        ))
    }

    /// Says wherever people look that this member must not take part.
    async fn is_refused(&self, text: String, known: &Known) {
        self.member.report(&self.places(known), text).await;
        sleep(REFUSED_AGAIN).await;
    }

    /// A member on a volume that cannot be used at all: it says so, again and again.
    pub(super) async fn stay_refused(&self, text: &str) -> Infallible {
        let mut registered = Registered { known: Known::default(), next: Instant::now() };
        loop {
            self.member.show_refused(text.to_owned());
            self.look(&mut registered).await;
            self.is_refused(text.to_owned(), &registered.known).await;
        }
    }

    /// Once it takes part: whoever hears nothing of a Raft leader asks whether the next process of its member has begun.
    async fn watch_place(&self, raft: &Raft, known: &Known) -> Result<Infallible, String> {
        let mut was_led = false;
        loop {
            sleep(LOST).await;
            if !self.is_lost() {
                was_led = true;
                continue;
            }
            let Some(seat) = self.member.identity.borrow().seat().cloned() else { continue };
            let ground = self.ground(raft, seat);
            let answers = self.ask_around(&ground, None, known).await;
            match weigh(&ground, &answers) {
                Weighed::Refused(text) => return Err(text),
                // It was let in because it was needed, before anybody could know that it had been removed.
                Weighed::Removed if !was_led => return Err(self.retire(ground.seat).await?),
                // One that is removed while it runs sets its data aside when it starts again.
                Weighed::Removed | Weighed::Follow(_) | Weighed::Needed | Weighed::NotNeeded | Weighed::Wait(_) => {}
            }
        }
    }

    /// Whether nothing was heard for long of the Raft leader, or by it of a quorum.
    fn is_lost(&self) -> bool {
        let status = self.member.status();
        let heard = match status.role {
            RaftRole::Leader => status.quorum_acknowledged,
            RaftRole::Follower | RaftRole::Candidate | RaftRole::Learner => self.member.metrics.last_heard(),
        };
        heard.is_none_or(|at| at.elapsed() >= LOST)
    }

    /// Marks the volume, so that what it holds is set aside at the next start; says why the member ends.
    async fn retire(&self, seat: Seat) -> Result<String, String> {
        let Seat { cluster, member } = seat.clone();
        store(&self.member, &self.volume, Seated::Retired(seat)).await?;
        Ok(format!(
            "member {member} was removed from cluster {cluster}: at the next start its data is set aside (retired-{member}), and it \
             joins as a new member"
        ))
    }
}

fn place(node: &MemberNode) -> Option<Place> {
    Some((MemberName::new(node.name.clone()).ok()?, node.address.clone()))
}

impl Member {
    /// Shows that this member must not take part.
    fn show_refused(&self, text: String) {
        let phase = Phase::Refused(text);
        if self.status.borrow().phase != phase {
            if let Phase::Refused(text) = &phase {
                tracing::error!(reason = text, "this member is refused");
            }
            self.set_phase(phase);
        }
    }

    /// Tells other members that this one is refused.
    async fn report(&self, places: &BTreeSet<Place>, text: String) {
        self.show_refused(text.clone());
        let (report, deadline) = (Request::Report(text), Instant::now() + QUESTION);
        let told = places.iter().map(|(name, address)| {
            let (peer, report) = (Peer::Initial { name: name.clone(), address: address.clone() }, &report);
            // Whoever is not reached is told again.
            async move { drop(self.ask(&peer, report, deadline).await) }
        });
        join_all(told).await;
    }
}
