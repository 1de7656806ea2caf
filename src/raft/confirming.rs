//! The two rounds behind linearizable reads: the Raft leader asks a quorum, everybody else asks the Raft leader.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Unavailable;
use super::attendance::Attendance;
use super::member::Member;
use super::messages::{Reply, Request};
use super::read_barrier::{Found, Fresh, Round};
use crate::machine::Machine;
use crate::types::{LogIndex, SessionId};

/// How long a round may take. openraft gives up after its lease (an election timeout); this is for a round that hangs.
const ROUND_TIME: Duration = Duration::from_secs(2);

/// A round of the Raft leader: everything committed so far, once a quorum has confirmed that it still leads. Never by a
/// lease, which clocks and pauses break.
pub(super) fn with_quorum(member: &Arc<Member>) -> Round {
    round(member, |member, sessions| async move {
        let raft = member.taking_part()?;
        let confirmed = timeout(ROUND_TIME, raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
        match confirmed.map_err(|_| Unavailable::Timeout)? {
            Ok(linearizer) => {
                let committed = LogIndex::new(linearizer.read_log_id().index());
                Ok(hear(&member.attendance, &member.state, &sessions, committed))
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(Unavailable::NotRaftLeader),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(Unavailable::Timeout),
            Err(RaftError::Fatal(fatal)) => Err(Unavailable::Failed(fatal.to_string())),
        }
    })
}

/// Notes signs of life that came with a round, which found what was `committed` when it began.
fn hear(
    attendance: &Attendance,
    state: &watch::Sender<Arc<Machine>>,
    sessions: &[SessionId],
    committed: LogIndex,
) -> Fresh {
    let lives = |session: &&SessionId| state.borrow().sessions().get(**session).is_some();
    let living: Vec<_> = sessions.iter().filter(lives).copied().collect();
    let ending = attendance.hear(&living, Instant::now());
    if sessions.is_empty() {
        return Fresh { index: committed, ending };
    }
    // One may have ended while the round was on its way, and an older state would say that it lives.
    let index = state.borrow().applied().map_or(committed, |applied| applied.max(committed));
    Fresh { index, ending }
}

/// A round of another member: one question to the Raft leader, whose own rounds answer it.
pub(super) fn with_leader(member: &Arc<Member>) -> Round {
    round(member, |member, sessions| async move {
        let leader = member.leader_peer().ok_or(Unavailable::NoRaftLeader)?;
        let request = Request::ReadIndex { patience: ROUND_TIME, sessions };
        // A question does no harm when it is asked twice, so it goes to another leader as soon as there is one.
        match member.ask_leader(&leader, &request, Duration::ZERO, Instant::now() + ROUND_TIME).await {
            Ok(Reply::ReadIndex { index, ending }) => Ok(Fresh { index, ending }),
            Ok(Reply::NotDone(cause @ Unavailable::Removed)) => {
                member.heeds(&cause);
                Err(cause)
            }
            // What the Raft leader cannot do now, another may do next.
            Ok(Reply::NotDone(_)) | Err(_) => Err(Unavailable::NoRaftLeader),
            Ok(other) => Err(Unavailable::Failed(format!("{} answered {other}", leader.name()))),
        }
    })
}

/// A round that does not keep the member alive.
fn round<F>(member: &Arc<Member>, find: impl Fn(Arc<Member>, Vec<SessionId>) -> F + Send + Sync + 'static) -> Round
where
    F: Future<Output = Found> + Send + 'static,
{
    let member = Arc::downgrade(member);
    Box::new(move |sessions| match Weak::upgrade(&member) {
        Some(member) => Box::pin(find(member, sessions)),
        None => Box::pin(async { Err(Unavailable::Stopping) }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Limits;
    use crate::machine::command::{Action, Author, Command, EndCause, Metadata, NewSession};
    use crate::types::{Timestamp, Ttl};

    #[tokio::test(start_paused = true)]
    async fn who_has_ended_while_a_round_was_on_its_way_is_not_said_to_live() {
        let (attendance, session) = (Attendance::default(), SessionId::new(1));
        let state = watch::Sender::new(Arc::new(Machine::new(Limits::default())));
        let apply = |index, action| {
            let command = Command { at: Timestamp::default(), author: Author::Client(None), action };
            state.send_modify(|state| {
                let applied = Arc::make_mut(state).apply(LogIndex::new(index), &command);
                applied.answer.outcome.unwrap();
            });
        };
        let new = NewSession { ttl: Ttl::from_millis(500).unwrap(), client: None, metadata: Metadata::new() };
        apply(1, Action::CreateSession { session: new, limit: 10 });
        let committed = LogIndex::new(1);
        let heard = || hear(&attendance, &state, &[session], committed);
        assert_eq!(heard(), Fresh { index: committed, ending: Vec::new() });
        let later = Instant::now() + ROUND_TIME;
        assert_eq!(attendance.heard_after(session, later), None, "its end may be proposed");
        assert_eq!(heard(), Fresh { index: committed, ending: vec![session] });
        apply(2, Action::EndSession { session, cause: EndCause::GivenUp });
        attendance.forget(session);
        assert_eq!(heard(), Fresh { index: LogIndex::new(2), ending: Vec::new() }, "in that state it has ended");
        assert_eq!(attendance.heard_after(session, Instant::now() - ROUND_TIME), None, "it is not noted for nothing");
        let index = hear(&attendance, &state, &[], committed).index;
        assert_eq!(index, committed, "a read waits for nothing that came later");
    }
}
