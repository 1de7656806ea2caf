//! The status of a `QuorateCluster`: who its members are, and how it is.

use std::cmp::Ordering;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Troubles, Writer, finding, why};
use crate::coordinator::{ClusterView, MemberState as State, MemberView};
use crate::machine::command::ClusterSize;
use crate::operator::kubernetes::index::Seen;
use crate::operator::resources::{
    ConditionType, Finding, MemberRole, MemberState, MemberStatus, QuorateCluster, QuorateClusterSpec,
    QuorateClusterStatus, Truth, conditions,
};

/// Why a cluster is not degraded.
const WELL: &str = "AllMembersAnswer";

impl Writer {
    /// The status of this member's own cluster; `None` when the one that it has says the same. The members serve
    /// what asks for `serves`.
    pub(in crate::operator::kubernetes) fn of_cluster(
        &self,
        seen: &Seen<QuorateCluster>,
        serves: &str,
        view: &ClusterView,
        troubles: &Troubles,
    ) -> Option<QuorateClusterStatus> {
        let former = seen.status.as_ref();
        let found = Found::of(view);
        let mut findings = match &seen.wanted {
            Ok(spec) if spec.cluster != serves => stalled("AnotherCluster", &another(spec, serves)),
            Ok(spec) => vec![found.ready(spec), found.progressing(spec)],
            Err(invalid) => stalled("Invalid", &why(invalid)),
        };
        let told = former.and_then(|former| former.conditions.iter().find(|it| it.reason == WELL));
        findings.extend([found.quorum(), found.degraded(troubles, told)]);
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
fn another(spec: &QuorateClusterSpec, serves: &str) -> String {
    format!(
        "the members serve what asks for {serves:?} (their setting --cluster), and this asks for {:?}: delete it and apply it \
         with the other name, or give the members that one",
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

    fn progressing(&self, spec: &QuorateClusterSpec) -> Finding {
        let (size, progressing) = (size(spec), ConditionType::Progressing);
        let (voters, learners) = (size.voters as usize, size.learners as usize);
        if spec.paused {
            let message = format!("{}; nothing is changed while spec.paused is true", self.declared(size));
            return finding(progressing, Truth::False, "Paused", message);
        }
        let (truth, reason) = match (self.voters + self.learners).cmp(&(voters + learners)) {
            Ordering::Less => (Truth::True, "Growing"),
            Ordering::Greater => (Truth::True, "Shrinking"),
            Ordering::Equal if (self.voters, self.view.step.as_str()) == (voters, "") => (Truth::False, "AsDeclared"),
            // Votes or leadership move from one member to another.
            Ordering::Equal => (Truth::True, "Rearranging"),
        };
        finding(progressing, truth, reason, self.step(size))
    }

    /// Degraded is what a person may have to look at; the cluster serves. What an earlier leadership has `told` of the past stays.
    fn degraded(&self, troubles: &Troubles, told: Option<&Condition>) -> Finding {
        let degraded = ConditionType::Degraded;
        let silent: Vec<_> = self.silent.iter().map(|member| member.name.as_str()).collect();
        let silent = (!silent.is_empty()).then(|| format!("no answer from {}", silent.join(", ")));
        let refused: Vec<_> = self.view.refused.iter().map(|(name, why)| format!("{name} is refused: {why}")).collect();
        let reason = match (refused.is_empty(), &silent, troubles.unseen.is_empty(), &troubles.unscaled) {
            (false, ..) => "MembersRefused",
            (true, Some(_), ..) => "MembersUnreachable",
            (true, None, false, _) => "ResourcesNotSeen",
            (true, None, true, Some(_)) => "NotScaled",
            (true, None, true, None) => "StatusesNotWritten",
        };
        let wrong: Vec<_> = refused.into_iter().chain(silent).chain(troubles.all().cloned()).collect();
        match wrong.is_empty() {
            true => {
                let message = match (&troubles.past, told) {
                    (Some(past), _) => format!("every member answers; {past}"),
                    (None, Some(told)) => told.message.clone(),
                    (None, None) => "every member answers".to_owned(),
                };
                finding(degraded, Truth::False, WELL, message)
            }
            false => finding(degraded, Truth::True, reason, wrong.join("; ")),
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
        let degraded = |view: &ClusterView, unseen: &[&str], unwritten: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
            let troubles = Troubles { unseen: texts(unseen), unwritten: texts(unwritten), ..Troubles::default() };
            Found::of(view).degraded(&troubles, None)
        };
        let unscaled = |unwritten: &[&str]| {
            let unwritten = unwritten.iter().map(|&text| text.to_owned()).collect();
            let troubles = Troubles { unscaled: Some("not scaled".to_owned()), unwritten, ..Troubles::default() };
            Found::of(&view(3, 0, "")).degraded(&troubles, None)
        };
        let past = |view: &ClusterView| {
            let past = Some("from one to two: unseen".to_owned());
            Found::of(view).degraded(&Troubles { past, ..Troubles::default() }, None)
        };
        let told = conditions(&[], &[past(&view(3, 0, ""))], None, Timestamp::default());
        let later = |view: &ClusterView| Found::of(view).degraded(&Troubles::default(), told.first());
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
            (degraded(&view(3, 0, ""), &[], &[]), "False", "AllMembersAnswer", "every member answers"),
            (degraded(&view(3, 0, ""), &[], &["not written"]), "True", "StatusesNotWritten", "not written"),
            (
                degraded(&view(3, 0, ""), &["unseen"], &["not written"]),
                "True",
                "ResourcesNotSeen",
                "unseen; not written",
            ),
            (unscaled(&["not written"]), "True", "NotScaled", "not scaled; not written"),
            (degraded(&silent, &["unseen"], &[]), "True", "MembersUnreachable", "no answer from quorate-2; unseen"),
            (degraded(&refused, &[], &[]), "True", "MembersRefused", "q is refused: its volume; no answer"),
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
            let found = Found::of(&view).progressing(&spec);
            assert_eq!((found.truth.as_str(), found.reason), (status, reason), "{}", found.message);
            assert!(found.message.contains(message), "{}", found.message);
        }
    }
}
