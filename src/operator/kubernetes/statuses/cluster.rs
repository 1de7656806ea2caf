//! The status of a `QuorateCluster`: who its members are, and how it is.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Writer, finding, why};
use crate::coordinator::{ClusterView, MemberState as State, MemberView};
use crate::machine::command::ClusterSize;
use crate::operator::kubernetes::error::Trouble;
use crate::operator::kubernetes::index::Seen;
use crate::operator::resources::{
    ConditionType, Finding, MemberRole, MemberState, MemberStatus, QuorateCluster, QuorateClusterSpec,
    QuorateClusterStatus, Truth, conditions,
};
use crate::types::Namespace;

/// Why a cluster is not degraded.
const WELL: &str = "AllMembersAnswer";

/// What the status of a cluster tells beside what its members know.
pub(in crate::operator::kubernetes) struct Around<'a> {
    /// The members serve what asks for this.
    pub(in crate::operator::kubernetes) serves: &'a Namespace,
    /// How many the StatefulSet asks for, if that is known.
    pub(in crate::operator::kubernetes) replicas: Option<i64>,
    /// What is wrong on Kubernetes' side, the worst first: what resources ask for and what is told of them may be old.
    pub(in crate::operator::kubernetes) troubles: Vec<Trouble>,
    /// When nothing of the kind is wrong: what was, and from when to when.
    pub(in crate::operator::kubernetes) past: Option<String>,
}

impl Writer {
    /// The status of this member's own cluster; `None` when the one that it has says the same.
    pub(in crate::operator::kubernetes) fn of_cluster(
        &self,
        seen: &Seen<QuorateCluster>,
        view: &ClusterView,
        around: &Around<'_>,
    ) -> Option<QuorateClusterStatus> {
        let former = seen.status.as_ref();
        let found = Found::of(view);
        let mut findings = match &seen.wanted {
            Ok(spec) if spec.cluster != around.serves.as_str() => {
                stalled("AnotherCluster", &another(spec, around.serves))
            }
            Ok(spec) => {
                let progressing = found.progressing(spec, around.replicas);
                let reconciling = Finding { condition: ConditionType::Reconciling, ..progressing.clone() };
                let reconciling = Some(reconciling).filter(|it| it.truth == Truth::True);
                [found.ready(spec), progressing].into_iter().chain(reconciling).collect()
            }
            Err(invalid) => stalled("Invalid", &why(invalid)),
        };
        let told = former.and_then(|former| former.conditions.iter().find(|it| it.reason == WELL));
        findings.extend([found.quorum(), found.degraded(around, told)]);
        let status = QuorateClusterStatus {
            cluster_id: self.cluster_id(),
            observed_leadership: None,
            observed_generation: seen.generation,
            raft_leader: view.leader.as_ref().map(|leader| leader.name.clone()),
            members: view.members.iter().map(member).collect(),
            voters: i32::try_from(found.voters).ok(),
            failure_tolerance: i32::try_from(view.tolerance).ok(),
            conditions: conditions(
                former.map_or(&[], |former| &former.conditions),
                &findings,
                seen.generation,
                self.now,
            ),
        };
        self.if_news(former, status)
    }
}

/// Nothing comes of it until somebody changes it.
fn stalled(reason: &'static str, why: &str) -> Vec<Finding> {
    [(ConditionType::Ready, Truth::False), (ConditionType::Stalled, Truth::True)]
        .map(|(condition, truth)| finding(condition, truth, reason, why.to_owned()))
        .into()
}

/// Why the members do not serve it.
fn another(spec: &QuorateClusterSpec, serves: &Namespace) -> String {
    format!(
        "the members serve what asks for {:?} (their setting --cluster), and this asks for {:?}: delete it and apply it \
         with the other name, or give the members that one",
        serves.as_str(),
        spec.cluster
    )
}

fn member(view: &MemberView) -> MemberStatus {
    MemberStatus {
        name: view.name.clone(),
        id: i64::try_from(view.member.get()).unwrap_or(i64::MAX),
        role: if view.voter { MemberRole::Voter } else { MemberRole::Learner },
        state: match view.state {
            State::Leader => MemberState::Leader,
            State::Follower => MemberState::Follower,
            State::Candidate => MemberState::Candidate,
            State::Unreachable => MemberState::Unreachable,
        },
        version: view.version.clone(),
    }
}

/// What is found about a cluster.
struct Found<'a> {
    view: &'a ClusterView,
    voters: usize,
    learners: usize,
    silent: Vec<&'a MemberView>,
}

impl<'a> Found<'a> {
    fn of(view: &'a ClusterView) -> Self {
        let voters = view.members.iter().filter(|member| member.voter).count();
        let silent = view.members.iter().filter(|member| member.state == State::Unreachable).collect();
        Self { view, voters, learners: view.members.len() - voters, silent }
    }

    fn answering(&self) -> String {
        let silent = self.silent.iter().filter(|member| member.voter).count();
        format!("{} of {} voters answer", self.voters - silent, self.voters)
    }

    fn declared(&self, size: ClusterSize) -> String {
        let ClusterSize { voters, learners } = size;
        format!("{} of {voters} voters, {} of {learners} learners", self.voters, self.learners)
    }

    /// The same, and what is done about it, or what that waits for.
    fn step(&self, size: ClusterSize) -> String {
        match self.view.step.as_str() {
            "" => self.declared(size),
            step => format!("{}; {step}", self.declared(size)),
        }
    }

    fn ready(&self, spec: &QuorateClusterSpec) -> Finding {
        let (size, ready) = (size(spec), ConditionType::Ready);
        match self.view.available {
            false => finding(ready, Truth::False, "NoQuorum", self.answering()),
            true if self.voters < size.voters as usize || self.learners < size.learners as usize => {
                finding(ready, Truth::False, "Growing", self.declared(size))
            }
            true => finding(ready, Truth::True, "Serving", self.declared(size)),
        }
    }

    fn quorum(&self) -> Finding {
        let quorum = ConditionType::QuorumAvailable;
        match self.view.available {
            true => finding(quorum, Truth::True, "QuorumAnswers", self.answering()),
            false => finding(quorum, Truth::False, "NoQuorum", self.answering()),
        }
    }

    /// A cluster gets smaller until the StatefulSet has no more `replicas` than that.
    fn progressing(&self, spec: &QuorateClusterSpec, replicas: Option<i64>) -> Finding {
        let (size, progressing) = (size(spec), ConditionType::Progressing);
        let (voters, learners) = (size.voters as usize, size.learners as usize);
        if spec.paused {
            let message = format!("{}; nothing is changed while spec.paused is true", self.declared(size));
            return finding(progressing, Truth::False, "Paused", message);
        }
        let more = replicas.filter(|replicas| *replicas > i64::from(size.voters) + i64::from(size.learners));
        // Whoever takes the place of a member whose volume is lost is called like it.
        let names: BTreeSet<_> = self.view.members.iter().map(|member| &member.name).collect();
        let (truth, reason) = match names.len().cmp(&(voters + learners)) {
            Ordering::Less => (Truth::True, "Growing"),
            Ordering::Greater => (Truth::True, "Shrinking"),
            Ordering::Equal if more.is_some() => (Truth::True, "Shrinking"),
            Ordering::Equal if (self.voters, self.view.step.as_str()) == (voters, "") => (Truth::False, "AsDeclared"),
            // Votes or leadership move from one member to another.
            Ordering::Equal => (Truth::True, "Rearranging"),
        };
        let pods = more.filter(|_| reason == "Shrinking").map(|more| format!("; the StatefulSet asks for {more} pods"));
        finding(progressing, truth, reason, self.step(size) + &pods.unwrap_or_default())
    }

    /// Degraded is what a person may have to look at; the cluster serves. What an earlier leadership has `told` of the past stays.
    fn degraded(&self, around: &Around<'_>, told: Option<&Condition>) -> Finding {
        let degraded = ConditionType::Degraded;
        let silent: Vec<_> = self.silent.iter().map(|member| member.name.as_str()).collect();
        let silent = (!silent.is_empty()).then(|| format!("no answer from {}", silent.join(", ")));
        let refused: Vec<_> = self.view.refused.iter().map(|(name, why)| format!("{name} is refused: {why}")).collect();
        let refused = refused.into_iter().map(|message| Trouble { reason: "MembersRefused", message });
        let silent = silent.map(|message| Trouble { reason: "MembersUnreachable", message });
        let wrong: Vec<_> = refused.chain(silent).chain(around.troubles.iter().cloned()).collect();
        match wrong.first() {
            None => {
                let message = match (&around.past, told) {
                    (Some(past), _) => format!("every member answers; {past}"),
                    (None, Some(told)) => told.message.clone(),
                    (None, None) => "every member answers".to_owned(),
                };
                finding(degraded, Truth::False, WELL, message)
            }
            Some(worst) => {
                let all: Vec<_> = wrong.iter().map(|trouble| trouble.message.as_str()).collect();
                finding(degraded, Truth::True, worst.reason, all.join("; "))
            }
        }
    }
}

/// How large a cluster is declared to be; the schema lets nothing else pass than what fits.
pub(in crate::operator::kubernetes) fn size(spec: &QuorateClusterSpec) -> ClusterSize {
    let number = |number: i32| u32::try_from(number).unwrap_or_default();
    ClusterSize { voters: number(spec.voters), learners: number(spec.learners) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::coordinator::Phase;
    use crate::types::{MemberId, Revision, Term, Timestamp};

    fn spec(voters: i32, learners: i32) -> QuorateClusterSpec {
        let cluster = "default".to_owned();
        QuorateClusterSpec { cluster, voters, learners, preferred_leader: None, paused: false }
    }

    fn view(voters: usize, learners: usize, step: &str) -> ClusterView {
        let member = |number: usize| MemberView {
            member: MemberId::new(number as u64),
            name: format!("quorate-{number}"),
            url: None,
            voter: number < voters,
            state: State::Follower,
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
            members: (0..voters + learners).map(member).collect(),
            quorum: 0,
            available: true,
            tolerance: 0,
            refused: BTreeMap::new(),
            confirmed: true,
            step: step.to_owned(),
        }
    }

    #[test]
    fn it_is_ready_once_as_many_voters_and_learners_serve_as_are_declared() {
        let cases = [
            (spec(3, 0), view(3, 0, ""), "True", "Serving"),
            (spec(3, 0), view(5, 1, ""), "True", "Serving"),
            (spec(5, 0), view(3, 2, ""), "False", "Growing"),
            (spec(3, 2), view(3, 1, ""), "False", "Growing"),
            (spec(3, 2), view(3, 2, ""), "True", "Serving"),
            (spec(3, 0), ClusterView { available: false, ..view(3, 0, "") }, "False", "NoQuorum"),
        ];
        for (spec, view, status, reason) in cases {
            let found = Found::of(&view).ready(&spec);
            assert_eq!((found.truth.as_str(), found.reason), (status, reason), "{}", found.message);
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_the_worst_of_it() {
        let serves = Namespace::new("default").unwrap();
        let around = |troubles: &[&'static str], past: Option<&str>| {
            let troubles = troubles.iter().map(|&reason| Trouble { reason, message: reason.to_lowercase() }).collect();
            Around { serves: &serves, replicas: None, troubles, past: past.map(str::to_owned) }
        };
        let degraded =
            |view: &ClusterView, troubles: &[&'static str]| Found::of(view).degraded(&around(troubles, None), None);
        let past = |view: &ClusterView| Found::of(view).degraded(&around(&[], Some("from one to two: unseen")), None);
        let told = conditions(&[], &[past(&view(3, 0, ""))], None, Timestamp::default());
        let later = |view: &ClusterView| Found::of(view).degraded(&around(&[], None), told.first());
        let silent = ClusterView {
            members: view(3, 0, "")
                .members
                .into_iter()
                .map(|it| MemberView {
                    state: if it.name == "quorate-2" { State::Unreachable } else { it.state },
                    ..it
                })
                .collect(),
            ..view(3, 0, "")
        };
        let refused = ClusterView {
            refused: BTreeMap::from([("q".parse().unwrap(), "its volume".to_owned())]),
            ..silent.clone()
        };
        let cases = [
            (degraded(&view(3, 0, ""), &[]), "False", "AllMembersAnswer", "every member answers"),
            (degraded(&view(3, 0, ""), &["NotScaled", "PodsNotSeen"]), "True", "NotScaled", "notscaled; podsnotseen"),
            (degraded(&silent, &["NotScaled"]), "True", "MembersUnreachable", "no answer from quorate-2; notscaled"),
            (degraded(&refused, &[]), "True", "MembersRefused", "q is refused: its volume; no answer"),
            (past(&view(3, 0, "")), "False", "AllMembersAnswer", "every member answers; from one to two: unseen"),
            (past(&silent), "True", "MembersUnreachable", "no answer from quorate-2"),
            (later(&view(3, 0, "")), "False", "AllMembersAnswer", "every member answers; from one to two: unseen"),
            (later(&silent), "True", "MembersUnreachable", "no answer from quorate-2"),
        ];
        for (found, status, reason, message) in cases {
            assert_eq!((found.truth.as_str(), found.reason), (status, reason), "{}", found.message);
            assert!(found.message.starts_with(message), "{}", found.message);
        }
    }

    #[test]
    fn progressing_says_where_it_goes_and_what_comes_next() {
        let cases = [
            (spec(3, 0), view(3, 0, ""), "False", "AsDeclared", "3 of 3 voters, 0 of 0 learners"),
            (
                spec(5, 0),
                view(3, 1, "q-3 catches up"),
                "True",
                "Growing",
                "3 of 5 voters, 1 of 0 learners; q-3 catches up",
            ),
            (spec(3, 0), view(5, 0, "q-4 leaves"), "True", "Shrinking", "5 of 3 voters, 0 of 0 learners; q-4 leaves"),
            (spec(3, 2), view(5, 0, ""), "True", "Rearranging", "5 of 3 voters, 0 of 2 learners"),
            (spec(3, 0), view(3, 0, "leadership moves"), "True", "Rearranging", "leadership moves"),
            (
                QuorateClusterSpec { paused: true, ..spec(1, 0) },
                view(3, 0, ""),
                "False",
                "Paused",
                "3 of 1 voters, 0 of 0 learners; nothing is changed while",
            ),
        ];
        for (spec, view, status, reason, message) in cases {
            let found = Found::of(&view).progressing(&spec, Some(3));
            assert_eq!((found.truth.as_str(), found.reason), (status, reason), "{}", found.message);
            assert!(found.message.contains(message), "{}", found.message);
        }
        let found = Found::of(&view(1, 0, "")).progressing(&spec(1, 0), Some(3));
        assert_eq!((found.truth, found.reason), (Truth::True, "Shrinking"));
        assert_eq!(found.message, "1 of 1 voters, 0 of 0 learners; the StatefulSet asks for 3 pods");
    }
}
