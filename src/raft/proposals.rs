//! The way of a command: to whoever leads, through Raft, and back when it is applied there and here.
//!
//! What matters most is to know when it is *not* known whether a command was applied. It was certainly not when it never
//! left this member, or when the Raft leader refused it before its log took it; then it is tried again until the deadline.
//! Once it may be in a log, whatever goes wrong makes the outcome unknown, and it is never tried again here.

use std::time::Duration;

use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::member::{Member, Raft, patience};
use super::messages::{Reply, Request};
use super::status::{RaftRole, RaftStatus};
use super::transport::{NetworkError, Peer};
use super::type_config::{Applied, Proposal};
use super::{Committed, ProposeError, Unavailable};
use crate::types::{LogIndex, SessionId};

/// Commands in flight on one member. More only wait for one another; whoever comes then is told to come back.
pub(super) const IN_FLIGHT: usize = 2048;

/// The longest command that is proposed. The largest request (1.5 MiB) makes one that is a little longer than itself; an entry
/// that did not fit into a message could never reach another member, nor could anything behind it.
const LONGEST: usize = 4 << 20;

/// How long to wait before another try, unless the status changes first.
const PAUSE: Duration = Duration::from_millis(20);

/// How long to wait before another try in any case. A try that fails makes openraft report its state, which changes the
/// status: without a rest, a try would be the reason for the next, and a new Raft leader that is not yet acknowledged would
/// do nothing else.
const REST: Duration = Duration::from_millis(1);

/// About how long it takes until a proposed end of a session has come about, or has failed.
pub(super) const ENDING: Duration = Duration::from_millis(10);

/// How long a Raft leader that made way may take to say what became of a command: its successor commits it, or not, within
/// a round trip and two syncs.
const GRACE: Duration = Duration::from_secs(1);

impl Member {
    /// Proposes through whoever leads, and waits until the command is applied here too. The Raft leader has heard of the
    /// session `alive` before its log takes the command.
    pub(super) async fn propose(
        &self,
        proposal: Proposal,
        alive: Option<SessionId>,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        check_length(&proposal)?;
        let Ok(_permit) = self.proposals.try_acquire() else {
            return Err(ProposeError::NotApplied(Unavailable::Overloaded));
        };
        let mut status = self.status.subscribe();
        loop {
            status.mark_unchanged();
            let tried = match self.taking_part() {
                Ok(raft) if self.leads() => self.propose_to_raft(&raft, proposal.clone(), alive, deadline).await,
                Ok(_) => match self.leader_peer() {
                    Some(leader) => self.forward(&leader, &proposal, alive, deadline).await,
                    None => Err(ProposeError::NotApplied(Unavailable::NoRaftLeader)),
                },
                Err(cause) => Err(ProposeError::NotApplied(cause)),
            };
            match tried {
                Ok(committed) => {
                    // The outcome is known even when this member cannot catch up in time.
                    drop(self.applied(committed.index, deadline).await);
                    return Ok(committed);
                }
                Err(ProposeError::NotApplied(cause)) if worth_another_try(&cause) => {
                    if !pause(&mut status, deadline).await {
                        return Err(ProposeError::NotApplied(cause));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Proposes on this member only, for a duty and for another member that takes this one for the Raft leader.
    pub(super) async fn propose_here(
        &self,
        proposal: Proposal,
        alive: Option<SessionId>,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        check_length(&proposal)?;
        let raft = self.taking_part().map_err(ProposeError::NotApplied)?;
        if !self.leads() {
            return Err(ProposeError::NotApplied(Unavailable::NotRaftLeader));
        }
        self.propose_to_raft(&raft, proposal, alive, deadline).await
    }

    async fn propose_to_raft(
        &self,
        raft: &Raft,
        proposal: Proposal,
        alive: Option<SessionId>,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        if self.is_stopping() {
            return Err(ProposeError::NotApplied(Unavailable::Stopping));
        }
        self.leadership_begun(deadline).await.map_err(ProposeError::NotApplied)?;
        self.check_room(&proposal).map_err(ProposeError::NotApplied)?;
        if let Some(session) = alive {
            self.hear(session, deadline).await.map_err(ProposeError::NotApplied)?;
        }
        self.write(raft, proposal, deadline).await
    }

    fn check_room(&self, proposal: &Proposal) -> Result<(), Unavailable> {
        if !self.room.is_short() {
            return Ok(());
        }
        let command = proposal.command().map_err(|error| Unavailable::Failed(error.to_string()))?;
        self.room.check(&command, &self.state.borrow())
    }

    /// Notes a sign of life that comes with a command. When the end of the session is proposed, what comes of that is known
    /// soon. A session that this member does not know yet has its whole time before it.
    async fn hear(&self, session: SessionId, deadline: Instant) -> Result<(), Unavailable> {
        while self.state.borrow().sessions().get(session).is_some()
            && !self.attendance.hear(&[session], Instant::now()).is_empty()
        {
            timeout_at(deadline, sleep(ENDING)).await.map_err(|_| Unavailable::Timeout)?;
        }
        Ok(())
    }

    /// Hands a command to openraft and waits until it is applied.
    pub(super) async fn write(
        &self,
        raft: &Raft,
        proposal: Proposal,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        let began = Instant::now();
        let written = match timeout_at(deadline, raft.client_write(proposal)).await {
            Ok(Ok(written)) => written,
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                return Err(ProposeError::NotApplied(Unavailable::NotRaftLeader));
            }
            Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => {
                return Err(ProposeError::Unknown(Unavailable::NotRaftLeader));
            }
            // openraft answers so only to changes of the membership and to writes with conditions.
            Ok(Err(RaftError::APIError(
                error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
            ))) => return Err(ProposeError::NotApplied(Unavailable::Failed(error.to_string()))),
            Ok(Err(RaftError::Fatal(fatal))) => {
                return Err(ProposeError::Unknown(Unavailable::Failed(fatal.to_string())));
            }
            Err(_) => return Err(ProposeError::Unknown(Unavailable::Timeout)),
        };
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        let index = LogIndex::new(written.log_id.index());
        match written.data {
            Applied::Answer(answer) => Ok(Committed { answer, index }),
            Applied::Nothing => {
                let text = format!("log entry {index} was a command and was applied as none");
                Err(ProposeError::Unknown(Unavailable::Failed(text)))
            }
        }
    }

    /// Sends a command to the Raft leader.
    async fn forward(
        &self,
        leader: &Peer,
        proposal: &Proposal,
        alive: Option<SessionId>,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        self.metrics.forwarded.inc();
        let request = Request::Propose { command: proposal.0.clone(), patience: patience(deadline), alive };
        match self.ask_leader(leader, &request, GRACE, deadline).await {
            Ok(Reply::Proposed { index, answer }) => Ok(Committed { answer, index }),
            // Another one leads soon, and this member goes on.
            Ok(Reply::NotDone(Unavailable::Stopping)) => Err(ProposeError::NotApplied(Unavailable::NoRaftLeader)),
            Ok(Reply::NotDone(cause)) => {
                self.heeds(&cause);
                Err(ProposeError::NotApplied(cause))
            }
            Ok(Reply::Unknown(cause)) => Err(ProposeError::Unknown(cause)),
            Ok(Reply::Refused(text)) => Err(ProposeError::NotApplied(Unavailable::Failed(text))),
            Ok(other) => {
                let text = format!("{} answered a proposal with {other}", leader.name());
                Err(ProposeError::Unknown(Unavailable::Failed(text)))
            }
            Err(NetworkError::NotSent { .. }) => Err(ProposeError::NotApplied(Unavailable::NoRaftLeader)),
            Err(NetworkError::Lost { .. }) => Err(ProposeError::Unknown(Unavailable::Timeout)),
        }
    }

    /// Waits until this member's leadership has begun: its first command is applied. Fails when it does not lead.
    async fn leadership_begun(&self, deadline: Instant) -> Result<(), Unavailable> {
        let (mut status, mut state) = (self.status.subscribe(), self.state.subscribe());
        loop {
            let begun = {
                let (status, state) = (status.borrow_and_update(), state.borrow_and_update());
                if status.role != RaftRole::Leader {
                    return Err(Unavailable::NotRaftLeader);
                }
                let newest = state.leadership();
                newest.is_some_and(|newest| Some(newest.member) == status.member && newest.term == status.term)
            };
            if begun {
                return Ok(());
            }
            let changed = async {
                tokio::select! {
                    biased;
                    changed = state.changed() => changed,
                    changed = status.changed() => changed,
                }
            };
            match timeout_at(deadline, changed).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Unavailable::Stopping),
                Err(_) => return Err(Unavailable::Timeout),
            }
        }
    }
}

/// Refuses what could not be replicated.
fn check_length(proposal: &Proposal) -> Result<(), ProposeError> {
    let length = proposal.0.len();
    if length <= LONGEST {
        return Ok(());
    }
    let text = format!("the command has {length} bytes, and at most {LONGEST} can be replicated");
    Err(ProposeError::NotApplied(Unavailable::Failed(text)))
}

/// Whether a command that was not applied may be tried again at once.
fn worth_another_try(cause: &Unavailable) -> bool {
    match cause {
        Unavailable::NoRaftLeader | Unavailable::NotRaftLeader | Unavailable::Waiting(_) => true,
        Unavailable::Timeout
        | Unavailable::Overloaded
        | Unavailable::Stopping
        | Unavailable::Removed
        | Unavailable::NoRoom { .. }
        | Unavailable::Failed(_) => false,
    }
}

/// Waits for a change of the status, but not long. Says whether there is time for another try.
pub(super) async fn pause(status: &mut watch::Receiver<std::sync::Arc<RaftStatus>>, deadline: Instant) -> bool {
    let until = (Instant::now() + PAUSE).min(deadline);
    sleep_until((Instant::now() + REST).min(deadline)).await;
    tokio::select! {
        biased;
        () = sleep_until(until) => {}
        changed = status.changed() => if changed.is_err() {
            return false;
        },
    }
    Instant::now() < deadline
}
