//! What the controller does for its `QuorateCluster`: the cluster gets to know what is declared, and the StatefulSet gets as many
//! replicas as there are members.
//!
//! Pods come before members and go after them: the StatefulSet grows at once, and shrinks only when those whose pods would go
//! are members no more, which a quorum confirms right before. So no pod of a member is taken away, whatever is declared.

use std::cmp::Ordering;

use tokio::time::{Duration, Instant};
use tracing::{info, warn};

use super::Controller;
use crate::coordinator::{Consistency, Coordinator, CoordinatorError, MembershipPhase, RaftStatus, Read};
use crate::machine::STEERING_LEVEL;
use crate::machine::command::{Action, Care, ClusterSize, Steering};
use crate::operator::kubernetes::Release;
use crate::operator::kubernetes::statuses::size;
use crate::operator::kubernetes::watching::Kind;
use crate::operator::kubernetes::writer::Target;
use crate::operator::proposing::PATIENCE;
use crate::operator::resources::QuorateClusterSpec;
use crate::types::{Leadership, MemberName};

/// How long a quorum may take to confirm that pods can go.
const CONFIRMING: Duration = Duration::from_secs(2);

impl Controller<'_> {
    /// Lets the cluster know what is declared of its members, if it does not.
    pub(super) async fn declare(&mut self) -> Result<(), CoordinatorError> {
        let Some(spec) = self.own_spec().cloned() else { return Ok(()) };
        let state = self.coordinator.state();
        let steering = steering(&spec);
        if state.feature_level() >= STEERING_LEVEL && *state.steering() != steering {
            self.tell_cluster(Action::Steer(steering.clone())).await?;
            info!(preferred_leader = ?steering.preferred_leader, care = ?steering.care, "the cluster knows how it is steered");
        }
        let size = size(&spec);
        if !spec.paused && state.size() != Some(size) {
            self.tell_cluster(Action::SetSize(size)).await?;
            info!(voters = size.voters, learners = size.learners, "the cluster knows how large it should be");
        }
        Ok(())
    }

    async fn tell_cluster(&mut self, action: Action) -> Result<(), CoordinatorError> {
        let deadline = Instant::now() + PATIENCE;
        let proposed = self.coordinator.propose_duty(self.leadership, action, deadline).await;
        if let Err(error) = &proposed {
            warn!(%error, "the cluster does not know what is declared of its members; it is tried again");
        }
        proposed.map(drop)
    }

    /// What is declared of this cluster's members, if that is this cluster's resource.
    fn own_spec(&self) -> Option<&QuorateClusterSpec> {
        let own = self.index.clusters.get(&self.own_key())?;
        let recorded = own.status.as_ref().and_then(|status| status.cluster_id.as_deref());
        let present = self.coordinator.state();
        if recorded.is_some_and(|recorded| present.cluster().is_none_or(|cluster| cluster.as_str() != recorded)) {
            return None;
        }
        own.wanted.as_ref().ok()
    }

    /// Gives the StatefulSet as many replicas as it should have.
    pub(super) fn scale(&mut self, now: Instant) {
        let target = Target { kind: Kind::StatefulSet, key: self.own_key() };
        let (Some(spec), Some(&present)) = (self.own_spec(), self.index.replicas.get(&target.key)) else { return };
        let wanted = size(spec);
        if spec.paused || !self.may_write(&target, now) {
            return;
        }
        let version = self.index.version(Kind::StatefulSet, &target.key);
        let held = Held::of(&self.coordinator.status(), self.release);
        match scaling(wanted, self.coordinator.state().size(), held, present) {
            Scaling::None => {}
            Scaling::Up(replicas) => {
                info!(from = present, to = replicas, "scaling the StatefulSet up to the members that are declared");
                self.writer.scale(target, version, replicas, std::future::ready(true));
            }
            Scaling::Down(replicas) => {
                info!(
                    from = present,
                    to = replicas,
                    "scaling the StatefulSet down: who was to leave is no member any more"
                );
                let confirmed =
                    confirm(self.coordinator.clone(), self.release.clone(), self.leadership, wanted, replicas);
                self.writer.scale(target, version, replicas, confirmed);
            }
        }
    }
}

/// What is declared of the members beside their number. A name that no member can have is nobody's.
fn steering(spec: &QuorateClusterSpec) -> Steering {
    let care = if spec.paused { Care::Paused } else { Care::Active };
    let preferred = spec.preferred_leader.as_ref();
    Steering { preferred_leader: preferred.and_then(|name| MemberName::new(name.clone()).ok()), care }
}

/// What to do with the StatefulSet's replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scaling {
    None,
    Up(i64),
    Down(i64),
}

/// What the StatefulSet must have pods for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    /// Up to the highest ordinal of a member; `None` when a member is no pod of this set.
    replicas: Option<i64>,
    membership: MembershipPhase,
}

impl Held {
    fn of(status: &RaftStatus, release: &Release) -> Self {
        let members = status.voters.values().chain(status.learners.values());
        let ordinals: Option<Vec<_>> = members.map(|node| release.ordinal_of(&node.name)).collect();
        let replicas = ordinals.map(|ordinals| ordinals.into_iter().max().map_or(0, |highest| i64::from(highest) + 1));
        Self { replicas, membership: status.membership }
    }
}

/// Decides for a StatefulSet with `present` replicas. `wanted` is declared, and `known` what the cluster acts on.
fn scaling(wanted: ClusterSize, known: Option<ClusterSize>, held: Held, present: i64) -> Scaling {
    let declared = i64::from(wanted.voters) + i64::from(wanted.learners);
    let needed = held.replicas.unwrap_or_default().max(declared);
    // Until the cluster knows how large it should be it may let in whoever it should not.
    let is_settled = held.membership == MembershipPhase::Settled && known == Some(wanted) && held.replicas.is_some();
    match present.cmp(&needed) {
        Ordering::Less => Scaling::Up(needed),
        Ordering::Greater if is_settled => Scaling::Down(needed),
        Ordering::Greater | Ordering::Equal => Scaling::None,
    }
}

/// Whether a quorum confirms, right now, that this member still leads and that the pods behind `replicas` are no members'.
async fn confirm(
    coordinator: Coordinator,
    release: Release,
    leadership: Leadership,
    wanted: ClusterSize,
    replicas: i64,
) -> bool {
    let deadline = Instant::now() + CONFIRMING;
    let read = Read { consistency: Consistency::Linearizable, min_revision: None, deadline };
    let Ok(state) = coordinator.read(read).await else { return false };
    coordinator.own_leadership() == Some(leadership)
        && scaling(wanted, state.size(), Held::of(&coordinator.status(), &release), i64::MAX) == Scaling::Down(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_come_before_their_members_and_go_after_them() {
        use MembershipPhase::{Changing, Settled};
        use Scaling::{Down, None as Nothing, Up};
        let size = |voters| ClusterSize { voters, learners: 0 };
        let cases = [
            ("up to what is declared", Some(1), Settled, 3, Some(1), 1, Up(3)),
            ("also in the middle of a change", Some(1), Changing, 3, None, 1, Up(3)),
            ("up to who is a member, whatever is declared", Some(3), Settled, 1, Some(1), 1, Up(3)),
            ("as it should be", Some(3), Settled, 3, Some(3), 3, Nothing),
            ("not down while they are members", Some(3), Settled, 1, Some(1), 3, Nothing),
            ("down once they are none", Some(1), Settled, 1, Some(1), 3, Down(1)),
            ("not in the middle of a change", Some(1), Changing, 1, Some(1), 3, Nothing),
            ("not before the cluster knows", Some(1), Settled, 1, Some(3), 3, Nothing),
            ("nor when it knows nothing", Some(1), Settled, 1, None, 3, Nothing),
            ("as far as the highest ordinal", Some(5), Settled, 1, Some(1), 7, Down(5)),
            ("not when a member is no pod of this set", None, Settled, 1, Some(1), 3, Nothing),
        ];
        for (case, replicas, membership, wanted, known, present, expected) in cases {
            let held = Held { replicas, membership };
            assert_eq!(scaling(size(wanted), known.map(size), held, present), expected, "{case}");
        }
    }
}
