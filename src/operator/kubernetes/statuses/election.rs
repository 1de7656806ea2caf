//! The status of a `LeaderElection`: whether it is as declared, and who leads.

use super::{Acceptance, Refusals, Writer, acceptance, finding};
use crate::machine::Machine;
use crate::machine::command::ContestId;
use crate::machine::contest::ContestRecord;
use crate::operator::kubernetes::index::Seen;
use crate::operator::kubernetes::leaders::{Leader, Marked, leaders};
use crate::operator::plan::ResourceId;
use crate::operator::resources::{
    ConditionType, Finding, LeaderElection, LeaderElectionStatus, LeaderStatus, TransitionStatus, Truth, conditions,
};
use crate::types::FencingToken;

/// Leaders that are listed at most; the CRD allows no more.
const MOST_LEADERS: usize = 100;

/// Leaders that are named in a message at most.
const NAMED: usize = 5;

impl Writer {
    /// The status of an election; `None` when the one that it has says the same. `marked` is what other objects show of it.
    pub(in crate::operator::kubernetes) fn of_election(
        &self,
        id: &ContestId,
        seen: &Seen<LeaderElection>,
        state: &Machine,
        refusals: &Refusals,
        marked: &Marked,
    ) -> Option<LeaderElectionStatus> {
        let record = state.contests().get(id);
        let refusal = refusals.get(&ResourceId::Election(id.clone()));
        let mut findings = match acceptance(&seen.wanted, refusal) {
            Acceptance::Refused { reason, message } => vec![
                finding(ConditionType::Ready, Truth::False, reason, message.clone()),
                finding(ConditionType::Stalled, Truth::True, reason, message),
            ],
            Acceptance::NoRoom { message } => {
                vec![finding(ConditionType::Ready, Truth::False, "NoRoom", message)]
            }
            Acceptance::Wanted(wanted) => {
                vec![ready(record.and_then(|record| record.spec) == Some(wanted.spec), marked)]
            }
        };
        let leaders = leaders(state, id);
        findings.push(held(&leaders, marked));
        let former = seen.status.as_ref();
        let newest = state.contests().newest(id).map(number);
        let status = LeaderElectionStatus {
            cluster_id: self.cluster_id(),
            observed_leadership: None,
            observed_generation: seen.generation,
            fencing_token: newest.max(self.told_token(former)),
            leaders: leaders[leaders.len().saturating_sub(MOST_LEADERS)..]
                .iter()
                .map(|it| leader(it, marked))
                .collect(),
            transitions: record.map(|record| i64::try_from(record.transitions).unwrap_or(i64::MAX)),
            last_transition: record.and_then(last_transition),
            conditions: conditions(
                former.map_or(&[], |former| &former.conditions),
                &findings,
                seen.generation,
                self.now,
            ),
        };
        self.if_news(former, status)
    }

    /// What this cluster has told before: an election that is forgotten and made again must not let older tokens pass.
    fn told_token(&self, former: Option<&LeaderElectionStatus>) -> Option<i64> {
        former.filter(|former| former.cluster_id == self.cluster_id())?.fencing_token
    }
}

fn ready(is_set: bool, marked: &Marked) -> Finding {
    let ready = ConditionType::Ready;
    match &marked.trouble {
        _ if !is_set => finding(ready, Truth::Unknown, "Committing", "it is being committed".to_owned()),
        Some(trouble) => finding(ready, Truth::False, trouble.reason, trouble.message.clone()),
        None => finding(ready, Truth::True, "Set", "candidates may campaign".to_owned()),
    }
}

fn held(leaders: &[Leader], marked: &Marked) -> Finding {
    let named: Vec<_> = leaders.iter().take(NAMED).map(name).collect();
    let named = named.join(", ");
    let nowhere = match marked.nowhere.first() {
        Some(pod) => format!("; spec.leaderLabel selects no pod that is called {pod}"),
        None => String::new(),
    };
    let held = |message: String| finding(ConditionType::Held, Truth::True, "Led", message + &nowhere);
    match leaders.len() {
        0 => finding(ConditionType::Held, Truth::False, "NoCandidate", "nobody campaigns".to_owned()),
        1 => held(format!("{named} leads")),
        2..=NAMED => held(format!("{named} lead")),
        all => held(format!("{named} and {} more lead", all - NAMED)),
    }
}

fn name(leader: &Leader) -> String {
    leader.candidate.clone().unwrap_or_else(|| "a candidate without a name".to_owned())
}

fn leader(leader: &Leader, marked: &Marked) -> LeaderStatus {
    LeaderStatus {
        candidate: leader.candidate.clone(),
        pod: leader.pod.clone().filter(|pod| marked.pods.contains(pod)),
        fencing_token: number(leader.token),
        since: leader.since.to_string(),
    }
}

fn last_transition(record: &ContestRecord) -> Option<TransitionStatus> {
    let last = record.recent.first()?;
    Some(TransitionStatus {
        cause: last.cause.to_string(),
        at: last.at.to_string(),
        candidate: last.candidate.as_ref().map(ToString::to_string),
        fencing_token: number(last.token),
    })
}

/// A token is a revision, which fits in 53 bits.
fn number(token: FencingToken) -> i64 {
    i64::try_from(token.get()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Timestamp;

    fn led_by(candidates: &[&str]) -> Vec<Leader> {
        let leader = |(number, candidate): (usize, &&str)| Leader {
            candidate: Some((*candidate).to_owned()),
            pod: Some((*candidate).to_owned()),
            token: FencingToken::new(number as u64),
            since: Timestamp::default(),
        };
        candidates.iter().enumerate().map(leader).collect()
    }

    #[test]
    fn who_leads_is_told_by_name_and_of_many_only_some() {
        let said = |candidates: &[&str]| held(&led_by(candidates), &Marked::default()).message;
        assert_eq!(held(&[], &Marked::default()).truth, Truth::False);
        assert_eq!(said(&["a"]), "a leads");
        assert_eq!(said(&["a", "b", "c", "d", "e"]), "a, b, c, d, e lead");
        assert_eq!(said(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more lead");
        let nameless = Leader { candidate: None, ..led_by(&["a"]).remove(0) };
        assert_eq!(held(&[nameless], &Marked::default()).message, "a candidate without a name leads");
    }

    #[test]
    fn a_pod_is_told_only_once_it_bears_the_label() {
        let led = &led_by(&["a"])[0];
        assert_eq!(leader(led, &Marked::default()).pod, None);
        let marked = Marked { pods: ["a".to_owned(), "b".to_owned()].into(), ..Marked::default() };
        assert_eq!(leader(led, &marked).pod.as_deref(), Some("a"));
        let nowhere = Marked { nowhere: ["a".to_owned()].into(), ..Marked::default() };
        let message = "a leads; spec.leaderLabel selects no pod that is called a";
        assert_eq!(held(std::slice::from_ref(led), &nowhere).message, message);
    }
}
