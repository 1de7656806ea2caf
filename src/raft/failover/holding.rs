//! One connection from each voter to every other one, kept open by a question that is not answered for a long while. When the
//! connection breaks, the question is lost at once, and that is the sign to look whether the other end is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until};

use crate::raft::member::Member;
use crate::raft::messages::{Reply, Request};
use crate::raft::status::MemberNode;
use crate::raft::transport::{Lane, NetworkError, Peer};
use crate::raft::type_config::{LeaderId, Vote};
use crate::types::MemberId;

/// How long a question is held. Less than it takes a connection without calls to be closed.
pub(in crate::raft) const HOLD: Duration = Duration::from_secs(20);

/// How long its answer may take on top of that.
const GRACE: Duration = Duration::from_secs(10);

/// Between two looks at who votes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long to wait before a connection that broke is made again: doubled each time, until one has lasted.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const LASTED: Duration = Duration::from_secs(1);

/// One question that is held, and how it ended.
struct Held {
    member: MemberId,
    node: MemberNode,
    /// How long to wait before the next one.
    pause: Duration,
}

type Holds = FuturesUnordered<BoxFuture<'static, Held>>;

/// Keeps a connection to every other voter. Never ends.
pub(in crate::raft) async fn holding(member: Arc<Member>) {
    let mut holds: Holds = FuturesUnordered::new();
    let mut held: BTreeMap<MemberId, MemberNode> = BTreeMap::new();
    let mut look = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(ended) = holds.next(), if !holds.is_empty() => {
                // Whoever is no voter any more, or lives elsewhere now, is found by the next look.
                if others(&member).get(&ended.member) == Some(&ended.node) {
                    holds.push(hold(&member, ended));
                } else {
                    held.remove(&ended.member);
                }
            }
            () = sleep_until(look) => {
                look = Instant::now() + LOOK_EVERY;
                for (other, node) in others(&member) {
                    if held.get(&other) != Some(&node) {
                        held.insert(other, node.clone());
                        holds.push(hold(&member, Held { member: other, node, pause: Duration::ZERO }));
                    }
                }
            }
        }
    }
}

/// The other voters, when this member is one.
fn others(member: &Member) -> BTreeMap<MemberId, MemberNode> {
    let status = member.status();
    let Some(own) = status.member.filter(|own| status.voters.contains_key(own)) else { return BTreeMap::new() };
    status.voters.iter().filter(|(other, _)| **other != own).map(|(other, node)| (*other, node.clone())).collect()
}

/// Holds a question after `held.pause`.
fn hold(member: &Arc<Member>, held: Held) -> BoxFuture<'static, Held> {
    let member = Arc::clone(member);
    Box::pin(async move {
        sleep(held.pause).await;
        let peer = Peer::Member(held.member, held.node.clone());
        let began = Instant::now();
        let asked = member.ask_on(Lane::Control, &peer, &Request::Hold { patience: HOLD }, began + HOLD + GRACE).await;
        let pause = match asked {
            Ok(Reply::Done) => Duration::ZERO,
            // An older release does not know the question.
            Ok(_) => LASTED,
            Err(error) => {
                // Also one that could not be made: the leader may have ended before there was a connection.
                if member.status().raft_leader == Some(held.member) {
                    member.failover.suspect(held.member);
                } else if matches!(error, NetworkError::NotSent { .. }) {
                    member.look_behind_the_proxy(held.member, &peer).await;
                }
                if began.elapsed() >= LASTED { FIRST_PAUSE } else { longer(held.pause) }
            }
        };
        Held { pause, ..held }
    })
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

impl Member {
    /// Looks at a member that is down: whether that can be seen, for the day when it is the Raft leader that is.
    async fn look_behind_the_proxy(&self, other: MemberId, peer: &Peer) {
        let as_if_it_led = LeaderId { term: 0, node_id: other };
        self.look(&Vote { leader_id: as_if_it_led, committed: true }, peer).await;
    }
}
