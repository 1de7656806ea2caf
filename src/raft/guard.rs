//! Whether this member takes part in consensus, and what other members have promised it.
//!
//! A member that has just started is not known to be on the newest volume of its own. Until it is (see `standing.rs`), no
//! message of Raft comes in or goes out: it votes for nobody, asks for no vote and acknowledges nothing. One that is a whole cluster
//! needs no messages: for it, `Member::taking_part` keeps what applications ask away from Raft.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use super::messages::Request;
use super::type_config::{LeaderId, LogId, Vote};
use crate::types::MemberId;

/// How far a member takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Not at all.
    Closed,
    /// It takes log entries and snapshots, and asks for no vote before it has applied this one: then it has all that was
    /// committed before it came back, whatever its volume had forgotten. Until then it votes as if its log ended there.
    Following(LogId),
    Open,
}

impl Gate {
    /// Whether a message of Raft may come in; whatever else is asked may always be.
    fn admits(self, request: &Request) -> bool {
        match (self, request) {
            (Self::Closed, Request::Append(_) | Request::Vote(_) | Request::PreVote(_) | Request::MakeWay(_))
            | (
                Self::Closed,
                Request::BeginSnapshot { .. } | Request::SnapshotPart { .. } | Request::EndSnapshot { .. },
            ) => false,
            // Whoever is asked these may have to lead next.
            (Self::Closed | Self::Following(_), Request::Look { .. } | Request::WouldLead) => false,
            (Self::Following(through), Request::Vote(request) | Request::PreVote(request)) => {
                request.last_log_id >= Some(through)
            }
            (Self::Closed | Self::Following(_) | Self::Open, _) => true,
        }
    }
}

/// The gate of one member, and what the others have promised.
#[derive(Debug)]
pub(super) struct Guard {
    gate: watch::Sender<Gate>,
    promises: Mutex<BTreeMap<MemberId, Promise>>,
}

/// What a member has made durable, as far as this one was told: its vote was this one or a later one, and under this vote its
/// log reached so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Promise {
    vote: LeaderId,
    log: Option<LogId>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { gate: watch::Sender::new(Gate::Closed), promises: Mutex::default() }
    }
}

impl Guard {
    pub(super) fn gate(&self) -> Gate {
        *self.gate.borrow()
    }

    pub(super) fn is_open(&self) -> bool {
        self.gate() == Gate::Open
    }

    /// Whether a message of Raft may come in now.
    pub(super) fn admits(&self, request: &Request) -> bool {
        self.gate().admits(request)
    }

    /// Opens the gate, all the way or for following.
    pub(super) fn open(&self, gate: Gate) {
        self.gate.send_replace(gate);
    }

    /// This member has applied its log so far.
    pub(super) fn applied(&self, last: Option<LogId>) {
        self.gate.send_if_modified(|gate| {
            let is_reached = matches!(*gate, Gate::Following(through) if last >= Some(through));
            if is_reached {
                *gate = Gate::Open;
            }
            is_reached
        });
    }

    /// Waits until the gate is no longer closed.
    pub(super) async fn opened(&self) {
        // The guard itself keeps the other end.
        drop(self.gate.subscribe().wait_for(|gate| *gate != Gate::Closed).await);
    }

    fn promises(&self) -> MutexGuard<'_, BTreeMap<MemberId, Promise>> {
        self.promises.lock().expect("nobody panics while holding the promises")
    }

    /// A member has made a vote durable, and under it, its log up to there. A log that was acknowledged under an earlier vote
    /// may have been cut since.
    pub(super) fn promised(&self, member: MemberId, vote: &Vote, log: Option<LogId>) {
        let mut promises = self.promises();
        let known = promises.entry(member).or_insert(Promise { vote: vote.leader_id, log });
        if known.vote < vote.leader_id {
            *known = Promise { vote: vote.leader_id, log };
        } else if known.vote == vote.leader_id {
            known.log = known.log.max(log);
        }
    }

    /// What a member that has started with this vote and this end of the log has forgotten of its promises.
    pub(super) fn forgotten(&self, member: MemberId, vote: Option<&Vote>, log: Option<LogId>) -> Option<String> {
        let promise = *self.promises().get(&member)?;
        let end =
            |log: Option<LogId>| log.map_or_else(|| "nowhere".to_owned(), |log| format!("at entry {}", log.index()));
        let vote = vote.map(|vote| vote.leader_id);
        if vote < Some(promise.vote) {
            let term = promise.vote.term;
            return Some(format!("it has forgotten a vote of term {term}"));
        }
        (vote == Some(promise.vote) && log < promise.log)
            .then(|| format!("its log ends {}, and it has acknowledged one that ends {}", end(log), end(promise.log)))
    }
}

#[cfg(test)]
mod tests {
    use openraft::raft::VoteRequest;

    use super::*;

    fn vote(term: u64) -> Vote {
        Vote { leader_id: LeaderId { term, node_id: MemberId::new(1) }, committed: true }
    }

    fn log(term: u64, index: u64) -> Option<LogId> {
        Some(LogId::new(LeaderId { term, node_id: MemberId::new(1) }, index))
    }

    #[test]
    fn who_comes_back_with_less_than_it_has_promised_has_an_older_volume() {
        let (guard, member) = (Guard::default(), MemberId::new(2));
        let forgotten = |term: u64, end| guard.forgotten(member, Some(&vote(term)), end);
        assert_eq!(forgotten(0, None), None, "nothing is known");
        guard.promised(member, &vote(3), log(3, 10));
        guard.promised(member, &vote(3), log(3, 8));
        assert_eq!(forgotten(3, log(3, 10)), None);
        assert_eq!(forgotten(3, log(3, 11)), None);
        assert_eq!(forgotten(4, log(3, 2)), None, "another Raft leader may have cut the log");
        assert!(forgotten(3, log(3, 9)).unwrap().contains("ends at entry 9"), "a log that has lost its end");
        assert!(forgotten(2, log(2, 90)).unwrap().contains("vote of term 3"));
        assert!(guard.forgotten(member, None, None).unwrap().contains("vote of term 3"));
        guard.promised(member, &vote(5), None);
        assert_eq!(forgotten(5, log(3, 2)), None);
        guard.promised(member, &vote(3), log(3, 99));
        assert_eq!(forgotten(5, log(3, 2)), None, "what comes late says nothing new");
    }

    #[test]
    fn a_member_that_follows_votes_only_for_those_who_have_what_it_lacks() {
        let guard = Guard::default();
        let asks = |end| guard.admits(&Request::PreVote(VoteRequest::new(vote(9), end)));
        assert!(guard.gate() == Gate::Closed && !asks(log(9, 9)));
        guard.open(Gate::Following(log(3, 7).unwrap()));
        assert!(!asks(log(3, 6)) && !asks(log(2, 90)) && !asks(None));
        assert!(asks(log(3, 7)) && asks(log(4, 1)));
        guard.applied(log(3, 6));
        assert!(!guard.is_open());
        guard.applied(log(3, 7));
        assert!(guard.is_open() && asks(None));
    }
}
