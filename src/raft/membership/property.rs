//! Lives of clusters: members end, come back and lose their volumes, people change their minds, and every plan is carried out
//! and held to the rules. In the end everybody is there, and the cluster must be what was declared last.

use proptest::prelude::*;

use super::*;
use crate::machine::command::MemberRecord;
use crate::types::{FeatureLevel, Incarnation};

const END: LogIndex = LogIndex::new(100);
const NAMES: [&str; 7] = ["q-0", "q-1", "q-2", "q-3", "q-4", "q-5", "q-6"];
const SIZES: [(u32, u32); 7] = [(1, 0), (3, 0), (5, 0), (7, 0), (3, 2), (1, 2), (5, 1)];

/// What happens to a cluster.
#[derive(Debug, Clone)]
enum Happening {
    Ends(usize),
    ComesBack(usize),
    LosesItsVolume(usize),
    Joins(usize),
    Declared((u32, u32)),
    Preferred(Option<usize>),
    Cordoned(usize),
    /// Another member leads, if a quorum is there.
    Elected(usize),
    /// The Raft leader looks; those of this mask have caught up.
    Looks(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    let member = || 0..NAMES.len();
    prop_oneof![
        2 => member().prop_map(Happening::Ends),
        3 => member().prop_map(Happening::ComesBack),
        1 => member().prop_map(Happening::LosesItsVolume),
        5 => member().prop_map(Happening::Joins),
        1 => proptest::sample::select(&SIZES[..]).prop_map(Happening::Declared),
        1 => proptest::option::of(member()).prop_map(Happening::Preferred),
        1 => member().prop_map(Happening::Cordoned),
        1 => member().prop_map(Happening::Elected),
        10 => any::<u8>().prop_map(Happening::Looks),
    ]
}

/// The cluster, its pods and their volumes.
struct World {
    picture: Picture,
    /// Each name, and the id of its present volume.
    volumes: BTreeMap<&'static str, Option<MemberId>>,
    /// Names of pods that run, if there are such pods.
    up: BTreeSet<&'static str>,
    pods: usize,
    newest: u64,
    gone: BTreeSet<MemberId>,
}

fn node(name: &str, incarnation: u64) -> MemberNode {
    let incarnation = Incarnation::from_random(u128::from(incarnation)).to_string();
    MemberNode { name: name.to_owned(), address: format!("{name}:7400"), incarnation }
}

impl World {
    /// One member alone, as every cluster begins.
    fn new() -> Self {
        let first = MemberId::new(1);
        let picture = Picture {
            own: first,
            voters: vec![[first].into()],
            nodes: [(first, node("q-0", 1))].into(),
            progress: Progress::Committed,
            changed_at: Some(END),
            contacts: BTreeMap::new(),
            matched: [(first, END)].into(),
            recent_end: Some(END),
            size: Some(ClusterSize { voters: 1, learners: 0 }),
            steering: Steering::default(),
            unfit: BTreeSet::new(),
            moves: Moves::Allowed,
            recorded: [first].into(),
        };
        Self {
            picture,
            volumes: NAMES.into_iter().map(|name| (name, (name == "q-0").then_some(first))).collect(),
            up: NAMES.into(),
            pods: 1,
            newest: 1,
            gone: BTreeSet::new(),
        }
    }

    /// Members that run on their volumes.
    fn living(&self) -> BTreeSet<MemberId> {
        let running = NAMES[..self.pods].iter().filter(|name| self.up.contains(*name));
        running.filter_map(|name| self.volumes[name]).collect()
    }

    fn has_quorum(&self, voters: &BTreeSet<MemberId>) -> bool {
        let living = self.living();
        voters.iter().filter(|voter| living.contains(voter)).count() * 2 > voters.len()
    }

    fn happen(&mut self, happening: Happening) {
        let name = |member: usize| NAMES[member];
        match happening {
            Happening::Ends(member) => drop(self.up.remove(name(member))),
            Happening::ComesBack(member) => drop(self.up.insert(name(member))),
            Happening::LosesItsVolume(member) => self.lose_volume(name(member)),
            Happening::Joins(member) => self.join(member),
            Happening::Declared((voters, learners)) => self.picture.size = Some(ClusterSize { voters, learners }),
            Happening::Preferred(member) => {
                self.picture.steering.preferred_leader = member.map(|member| name(member).parse().unwrap());
            }
            Happening::Cordoned(member) => {
                let member = name(member).to_owned();
                if !self.picture.unfit.remove(&member) {
                    self.picture.unfit.insert(member);
                }
            }
            Happening::Elected(member) => {
                self.picture.own = self.volumes[name(member)].unwrap_or(self.picture.own);
            }
            Happening::Looks(caught_up) => drop(self.look(caught_up)),
        }
    }

    /// Nobody loses a volume on which a quorum depends: that needs a person.
    fn lose_volume(&mut self, name: &'static str) {
        let kept = |voter: &&MemberId| {
            self.volumes.values().any(|member| *member == Some(**voter)) && self.volumes[name] != Some(**voter)
        };
        let voters = &self.picture.voters[0];
        if voters.iter().filter(kept).count() * 2 > voters.len() {
            self.volumes.insert(name, None);
        }
    }

    fn join(&mut self, member: usize) {
        let name = NAMES[member];
        let incarnation = self.newest + 1;
        let record = MemberRecord {
            name: name.parse().unwrap(),
            incarnation: Incarnation::from_random(u128::from(incarnation)),
            url: String::new(),
            version: String::new(),
            features: FeatureLevel::new(1),
            life: None,
        };
        if !self.survey(u8::MAX) || self.volumes[name].is_some() || !self.up.contains(name) || member >= self.pods {
            return;
        }
        if admit(&self.picture, FeatureLevel::new(1), &record) == Admission::New {
            self.newest += 1;
            self.picture.nodes.insert(MemberId::new(self.newest), node(name, incarnation));
            self.volumes.insert(name, Some(MemberId::new(self.newest)));
        }
    }

    /// What the Raft leader sees now; false when nobody leads.
    fn survey(&mut self, caught_up: u8) -> bool {
        let (living, voters) = (self.living(), self.picture.voters[0].clone());
        if !self.has_quorum(&voters) {
            return false;
        }
        if !(living.contains(&self.picture.own) && voters.contains(&self.picture.own)) {
            self.picture.own = *voters.iter().find(|voter| living.contains(voter)).expect("there is a quorum");
        }
        for (place, member) in self.picture.nodes.keys().enumerate() {
            let contact = if living.contains(member) { Contact::Lately } else { Contact::Silent };
            self.picture.contacts.insert(*member, contact);
            if contact == Contact::Lately && caught_up & (1 << (place % 8)) != 0 {
                self.picture.matched.insert(*member, END);
            }
        }
        true
    }

    /// Carries out the next change, holds it to the rules, and then lets there be as many pods as there should be.
    fn look(&mut self, caught_up: u8) -> Next {
        if !self.survey(caught_up) {
            return Next::Nothing;
        }
        let next = plan(&self.picture);
        let (voters, living) = (self.picture.voters[0].clone(), self.living());
        match &next {
            Next::Promote { learner, voters: after } => {
                assert!(living.contains(learner) && !self.gone.contains(learner), "{next:?}");
                self.change(&next, after, voters.iter().copied().chain([*learner]).collect());
            }
            Next::Demote { voter, voters: after } => {
                assert_ne!(*voter, self.picture.own, "the Raft leader keeps its vote");
                self.change(&next, after, voters.iter().copied().filter(|other| other != voter).collect());
            }
            Next::Replace { old, new, voters: after } => {
                assert!(!living.contains(old) && living.contains(new) && !self.gone.contains(new), "{next:?}");
                let expected = voters.iter().copied().filter(|other| other != old).chain([*new]).collect();
                self.change(&next, after, expected);
                self.remove(*old);
            }
            Next::Remove(member) => {
                assert!(!voters.contains(member), "{member} votes and is removed");
                self.remove(*member);
            }
            Next::HandOver { to, .. } => {
                assert!(living.contains(to) && voters.contains(to) && *to != self.picture.own, "{next:?}");
                self.picture.own = *to;
            }
            Next::Nothing => {}
            Next::LeaveJoint | Next::Forget(_) => panic!("{next:?}"),
        }
        self.scale();
        next
    }

    fn change(&mut self, next: &Next, after: &BTreeSet<MemberId>, expected: BTreeSet<MemberId>) {
        assert_eq!(*after, expected, "one change at a time: {next:?}");
        for voters in [&self.picture.voters[0], after] {
            assert!(self.has_quorum(voters), "no quorum of {voters:?} lives: {next:?}");
        }
        let names: BTreeSet<_> = after.iter().map(|voter| self.picture.name(*voter)).collect();
        assert_eq!(names.len(), after.len(), "a name votes twice: {next:?}");
        self.picture.voters = vec![after.clone()];
    }

    /// Its volume is set aside when it starts anew.
    fn remove(&mut self, member: MemberId) {
        assert!(self.gone.insert(member), "{member} was removed before");
        self.picture.nodes.remove(&member);
        self.picture.matched.remove(&member);
        self.picture.recorded.remove(&member);
        self.volumes.values_mut().filter(|volume| **volume == Some(member)).for_each(|volume| *volume = None);
    }

    /// As the operator does: no pod of a member is taken away.
    fn scale(&mut self) {
        let size = self.picture.size.expect("it is declared");
        let number = |name: &str| NAMES.iter().position(|known| *known == name).expect("it is one of them");
        let needed = self.picture.names().map(|name| number(name) + 1).max().unwrap_or_default();
        self.pods = needed.max((size.voters + size.learners) as usize);
    }

    /// The names of voters, and of learners.
    fn places(&self) -> [Vec<&str>; 2] {
        let members = self.picture.in_order(self.picture.nodes.keys().copied());
        let (voters, learners): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| self.picture.voters[0].contains(member));
        [voters, learners].map(|members| members.into_iter().map(|member| self.picture.name(member)).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_costs_the_quorum_or_an_id_twice_and_in_the_end_the_cluster_is_what_was_declared(
        happenings in proptest::collection::vec(happening(), 1..300)
    ) {
        let mut world = World::new();
        happenings.into_iter().for_each(|happening| world.happen(happening));

        world.up = NAMES.into();
        for _ in 0..60 {
            (0..NAMES.len()).for_each(|member| world.join(member));
            world.look(u8::MAX);
        }
        let size = world.picture.size.expect("it is declared");
        let (voters, all) = (size.voters as usize, (size.voters + size.learners) as usize);
        prop_assert_eq!(world.places(), [NAMES[..voters].to_vec(), NAMES[voters..all].to_vec()]);
        prop_assert_eq!(world.pods, all);
        prop_assert!(world.picture.nodes.keys().all(|member| world.living().contains(member)));

        let preferred = world.picture.steering.preferred_leader.clone();
        let fit = |name: &str| !world.picture.unfit.contains(name);
        let leader = world.picture.name(world.picture.own);
        if let Some(preferred) = preferred.filter(|name| fit(name.as_str()) && NAMES[..voters].contains(&name.as_str())) {
            prop_assert_eq!(leader, preferred.as_str());
        } else if NAMES[..voters].iter().any(|name| fit(name)) {
            prop_assert!(fit(leader), "{} leads and is cordoned", leader);
        }
    }
}
