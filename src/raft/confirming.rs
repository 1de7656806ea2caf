//! The two rounds behind linearizable reads: the Raft leader asks a quorum, everybody else asks the Raft leader.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::{Instant, timeout};

use super::Unavailable;
use super::member::Member;
use super::messages::{Reply, Request};
use super::read_barrier::{Found, Fresh, Round};
use crate::types::{LogIndex, SessionId};

/// How long a round may take. openraft gives up after its lease (an election timeout); this is for a round that hangs.
const ROUND_TIME: Duration = Duration::from_secs(2);

/// A round of the Raft leader: everything committed so far, once a quorum has confirmed that it still leads. Never by a
/// lease, which clocks and pauses break.
pub(super) fn with_quorum(member: &Arc<Member>) -> Round {
    round(member, |member, sessions| async move {
        let raft = member.running()?;
        let confirmed = timeout(ROUND_TIME, raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
        match confirmed.map_err(|_| Unavailable::Timeout)? {
            Ok(linearizer) => {
                let index = LogIndex::new(linearizer.read_log_id().index());
                Ok(Fresh { index, ending: member.attendance.hear(&sessions, Instant::now()) })
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(Unavailable::NotRaftLeader),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(Unavailable::Timeout),
            Err(RaftError::Fatal(fatal)) => Err(Unavailable::Failed(fatal.to_string())),
        }
    })
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
