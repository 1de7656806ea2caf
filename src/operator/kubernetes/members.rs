//! How the members are, asked again and again. A member that does not answer takes time, which nothing else waits for; and one
//! that was only slow once is not said to be away.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::coordinator::{ClusterView, Coordinator, MemberState, RaftStatus};
use crate::types::MemberId;

/// The members are asked so often.
const EVERY: Duration = Duration::from_secs(1);

/// Who has not answered for so long is away.
const AWAY: Duration = Duration::from_secs(3);

/// Asks, and tells what it finds. Never ends.
pub(super) async fn ask(coordinator: &Coordinator, views: watch::Sender<Option<ClusterView>>) {
    let (mut status, mut heard) = (coordinator.status_changes(), Heard::default());
    loop {
        let known = who(&status.borrow_and_update());
        let mut view = coordinator.cluster().await;
        heard.settle(&mut view, Instant::now());
        views.send_replace(Some(view));
        drop(timeout(EVERY, status.wait_for(|status| who(status) != known)).await);
    }
}

/// What is worth asking anew for at once: the rest changes with every write of an application.
fn who(status: &RaftStatus) -> (Option<MemberId>, Vec<MemberId>, Vec<MemberId>) {
    (status.raft_leader, status.voters.keys().copied().collect(), status.learners.keys().copied().collect())
}

/// When each member has answered last, and as what.
#[derive(Debug, Default)]
struct Heard(BTreeMap<MemberId, (Instant, MemberState)>);

impl Heard {
    /// Lets members that have answered a moment ago be as they were then.
    fn settle(&mut self, view: &mut ClusterView, now: Instant) {
        for member in &mut view.members {
            match (member.state, self.0.get(&member.member)) {
                (MemberState::Unreachable, Some((at, state))) if now < *at + AWAY => {
                    // Somebody else leads by now, or nobody.
                    member.state = match state {
                        MemberState::Leader => MemberState::Follower,
                        state => *state,
                    };
                }
                (MemberState::Unreachable, _) => {}
                (state, _) => drop(self.0.insert(member.member, (now, state))),
            }
        }
        self.0.retain(|member, _| view.members.iter().any(|known| known.member == *member));
        view.count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::{MemberView, Phase};
    use crate::types::{Revision, Term};

    fn view(states: [MemberState; 3]) -> ClusterView {
        let member = |(number, state): (u64, MemberState)| MemberView {
            member: MemberId::new(number),
            name: format!("quorate-{number}"),
            url: None,
            voter: true,
            state,
            matched: None,
            lag_entries: None,
            last_contact: None,
            version: None,
        };
        ClusterView {
            phase: Phase::Running,
            cluster: None,
            revision: Revision::new(0),
            term: Term::new(1),
            leader: None,
            members: (0..).zip(states).map(member).collect(),
            refused: BTreeMap::new(),
            quorum: 0,
            available: false,
            tolerance: 0,
            confirmed: false,
            step: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_once_is_not_away_and_who_is_silent_is() {
        use MemberState::{Follower, Leader, Unreachable};
        let (mut heard, start) = (Heard::default(), Instant::now());
        let mut look = |after: Duration, states: [MemberState; 3]| {
            let mut view = view(states);
            heard.settle(&mut view, start + after);
            (view.members[2].state, view.available, view.tolerance)
        };
        assert_eq!(look(Duration::ZERO, [Leader, Follower, Unreachable]), (Unreachable, true, 0), "it was never heard");
        assert_eq!(look(Duration::from_secs(1), [Leader, Follower, Follower]), (Follower, true, 1));
        assert_eq!(look(Duration::from_secs(3), [Leader, Unreachable, Unreachable]), (Follower, true, 1));
        assert_eq!(look(Duration::from_secs(4), [Leader, Unreachable, Unreachable]), (Unreachable, false, 0));
    }
}
