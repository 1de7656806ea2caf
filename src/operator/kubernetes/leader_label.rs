//! Pure: which pods are to be labelled next, and which to lose the label, from who leads and what the API server has told.
//!
//! Whoever does not lead loses the label before anybody gets it, so that a Service with that selector never has two; only then
//! is the next one labelled. A step names the version of the pod that it was decided for, and does nothing to another.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Trouble;
use crate::operator::resources::LeaderLabel;

/// A pod, as far as that matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pod {
    /// The API server's version of it.
    pub(super) version: String,
    pub(super) labels: BTreeMap<String, String>,
}

/// What an election wants in its namespace.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) label: LeaderLabel,
    /// The pods of its leaders; nobody's, when the label is to go.
    pub(super) leaders: BTreeSet<String>,
}

/// One change of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) pod: String,
    pub(super) version: String,
    pub(super) key: String,
    pub(super) change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Set(String),
    Remove,
}

/// What is to be done for one election, and what is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) steps: Vec<Step>,
    /// The leaders' pods that bear the label.
    pub(super) labelled: BTreeSet<String>,
    /// Leaders that are in no pod that is selected.
    pub(super) nowhere: BTreeSet<String>,
    pub(super) trouble: Option<Trouble>,
}

/// What is to be done in one namespace, for each wish in the order in which they come. A label of a pod that several wish for
/// is the first one's.
pub(super) fn plan(wishes: &[(String, Wish)], pods: &BTreeMap<&str, &Pod>) -> Vec<Planned> {
    let mut taken = BTreeMap::new();
    wishes.iter().map(|(election, wish)| plan_one(election, wish, pods, &mut taken)).collect()
}

/// By pod and key, the election whose the label is.
type Taken<'a> = BTreeMap<(&'a str, &'a str), &'a str>;

fn plan_one<'a>(
    election: &'a str,
    wish: &'a Wish,
    pods: &BTreeMap<&'a str, &'a Pod>,
    taken: &mut Taken<'a>,
) -> Planned {
    let LeaderLabel { key, value, pod_selector } = &wish.label;
    let is_selected =
        |pod: &Pod| pod_selector.match_labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    let mut planned = Planned { nowhere: wish.leaders.clone(), ..Planned::default() };
    let (mut set, mut remove) = (Vec::new(), Vec::new());
    for (&name, &pod) in pods.iter().filter(|(_, pod)| is_selected(pod)) {
        planned.nowhere.remove(name);
        let owner = *taken.entry((name, key)).or_insert(election);
        if owner != election {
            planned.trouble.get_or_insert_with(|| shared(key, name, owner));
            continue;
        }
        let step = |change| Step { pod: name.to_owned(), version: pod.version.clone(), key: key.clone(), change };
        match (wish.leaders.contains(name), pod.labels.get(key)) {
            (true, Some(present)) if present == value => drop(planned.labelled.insert(name.to_owned())),
            (true, _) => set.push(step(Change::Set(value.clone()))),
            (false, Some(_)) => remove.push(step(Change::Remove)),
            (false, None) => {}
        }
    }
    planned.steps = if remove.is_empty() { set } else { remove };
    planned
}

fn shared(key: &str, pod: &str, owner: &str) -> Trouble {
    let message = format!(
        "the label {key} of pod {pod} is already that of LeaderElection {owner}: give one of the two another \
         spec.leaderLabel.key, or a spec.leaderLabel.podSelector that selects other pods"
    );
    Trouble { reason: "LabelTaken", message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::resources::PodSelector;

    fn label(app: &str) -> LeaderLabel {
        let match_labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        LeaderLabel { pod_selector: PodSelector { match_labels }, key: "leads".to_owned(), value: "true".to_owned() }
    }

    /// What an election wants of the pods of an application.
    fn wish(election: &str, app: &str, leaders: &[&str]) -> (String, Wish) {
        let leaders = leaders.iter().map(|&leader| leader.to_owned()).collect();
        (election.to_owned(), Wish { label: label(app), leaders })
    }

    fn planned(wishes: &[(String, Wish)], pods: &BTreeMap<String, Pod>) -> Vec<Planned> {
        plan(wishes, &pods.iter().map(|(name, pod)| (name.as_str(), pod)).collect())
    }

    /// Pods of the application `a`, each with what it says under `leads`.
    fn pods(pods: &[(&str, Option<&str>)]) -> BTreeMap<String, Pod> {
        let pod = |(name, leads): &(&str, Option<&str>)| {
            let leads = leads.map(|leads| ("leads".to_owned(), leads.to_owned()));
            let labels = leads.into_iter().chain([("app".to_owned(), "a".to_owned())]).collect();
            ((*name).to_owned(), Pod { version: format!("v-{name}"), labels })
        };
        pods.iter().map(pod).collect()
    }

    /// The steps for one election, in words.
    fn steps(leaders: &[&str], present: &[(&str, Option<&str>)]) -> Vec<String> {
        let planned = planned(&[wish("e", "a", leaders)], &pods(present)).remove(0);
        let word = |step: Step| {
            assert_eq!((step.key.as_str(), step.version), ("leads", format!("v-{}", step.pod)));
            match step.change {
                Change::Set(value) => format!("{}={value}", step.pod),
                Change::Remove => format!("{}-", step.pod),
            }
        };
        planned.steps.into_iter().map(word).collect()
    }

    #[test]
    fn whoever_does_not_lead_loses_the_label_before_the_leader_gets_it() {
        assert_eq!(steps(&["b"], &[("a", Some("true")), ("b", None)]), ["a-"]);
        assert_eq!(steps(&["b"], &[("a", None), ("b", None)]), ["b=true"]);
        assert_eq!(steps(&["b"], &[("a", None), ("b", Some("true"))]), [] as [&str; 0]);
        assert_eq!(steps(&[], &[("a", Some("true")), ("b", Some("old"))]), ["a-", "b-"]);
        assert_eq!(steps(&["a"], &[("a", Some("old")), ("b", None)]), ["a=true"]);
        assert_eq!(steps(&["a", "c"], &[("a", Some("true")), ("b", Some("true")), ("c", None)]), ["b-"]);
    }

    #[test]
    fn a_pod_that_is_not_selected_or_not_there_is_never_labelled() {
        let nobody = Planned { nowhere: ["a".to_owned()].into(), ..Planned::default() };
        let present = pods(&[("a", None), ("b", Some("true"))]);
        assert_eq!(planned(&[wish("e", "other", &["a"])], &present), [nobody]);
        let planned = planned(&[wish("e", "a", &["gone"])], &pods(&[("a", None)])).remove(0);
        assert_eq!((planned.steps, planned.nowhere), (Vec::new(), ["gone".to_owned()].into()));
    }

    #[test]
    fn a_label_that_two_elections_would_set_is_the_firsts_and_the_other_is_told() {
        let present = pods(&[("a", Some("true")), ("b", None)]);
        let planned = planned(&[wish("e", "a", &["a"]), wish("f", "a", &["b"])], &present);
        assert_eq!((planned[0].steps.len(), planned[0].labelled.len(), &planned[0].trouble), (0, 1, &None));
        assert_eq!((planned[1].steps.len(), planned[1].labelled.len()), (0, 0));
        let trouble = planned[1].trouble.as_ref().expect("it is told");
        assert!(trouble.message.contains("leads of pod a is already that of LeaderElection e"), "{trouble:?}");
    }

    /// Whatever was there before, following the plan leads to the right labels, and on no way are there two.
    #[test]
    fn followed_to_its_end_the_plan_labels_the_leader_alone_and_never_two() {
        let values = [None, Some("true"), Some("old")];
        for start in 0..27 {
            let before = [values[start % 3], values[start / 3 % 3], values[start / 9]];
            let mut present = pods(&[("a", before[0]), ("b", before[1]), ("c", before[2])]);
            let count = |pods: &BTreeMap<String, Pod>| {
                pods.values().filter(|pod| pod.labels.get("leads").is_some_and(|value| value == "true")).count()
            };
            let mut most = count(&present);
            for looks in 0.. {
                let step = planned(&[wish("e", "a", &["b"])], &present).remove(0).steps.into_iter().next();
                let Some(step) = step else { break };
                assert!(looks < 9, "it does not end: {present:?}");
                let pod = present.get_mut(&step.pod).expect("a pod that is there");
                match step.change {
                    Change::Set(value) => drop(pod.labels.insert(step.key, value)),
                    Change::Remove => drop(pod.labels.remove(&step.key)),
                }
                assert!(count(&present) <= most.max(1), "{present:?}");
                most = count(&present);
            }
            let leads: Vec<_> = present.values().map(|pod| pod.labels.get("leads").map(String::as_str)).collect();
            assert_eq!(leads, [None, Some("true"), None]);
        }
    }
}
