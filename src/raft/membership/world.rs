//! A cluster, its pods and their volumes, to which anything happens, as `property.rs` draws it. Every plan is carried out and held
//! to the rules.
//!
//! The ids and what is declared are the machine's, and how many pods there are is decided by what the operator asks; so whatever
//! these do wrong breaks a rule here.

use super::*;
use crate::machine::command::{Action, Author, Command, MemberRecord};
use crate::machine::outcome::Effect;
use crate::machine::{FEATURE_LEVEL, Limits, Machine};
use crate::raft::status::MembershipPhase;
use crate::types::{ClusterId, Incarnation, MemberName, Term, Timestamp};

const END: LogIndex = LogIndex::new(100);
pub(super) const NAMES: [&str; 7] = ["q-0", "q-1", "q-2", "q-3", "q-4", "q-5", "q-6"];

/// One bit for each member, in the order of their ids; it begins anew after the eighth.
pub(super) type Mask = u8;

/// What happens to a cluster.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    Ends(usize),
    ComesBack(usize),
    LosesItsVolume(usize),
    Joins(usize, Joined),
    Declared((u32, u32)),
    Preferred(Option<usize>),
    Cordoned(usize),
    Paused(Care),
    /// Somebody makes it so many pods, whoever needs them.
    ScaledByHand(usize),
    /// Another member leads, if a quorum is there.
    Elected(usize),
    Looks(Look),
    /// The Raft leader looks, and has ended before its change was finished: the next one finds two sets of voters.
    LooksAndEnds(Look),
}

/// What the Raft leader knows of the others, and where it is wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) caught_up: Mask,
    /// It is not known of them whether they are there.
    pub(super) unclear: Mask,
    /// They were heard of, and have ended right after it.
    pub(super) late: Mask,
    /// They are there, and were not heard of for long.
    pub(super) unheard: Mask,
}

pub(super) const CLEAR: Look = Look { caught_up: Mask::MAX, unclear: 0, late: 0, unheard: 0 };

/// How far a member-to-be gets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Joined {
    /// The Raft leader ends when it has given the id.
    HasAnId,
    /// It is a member, and never hears of it.
    IsAdded,
    Knows,
}

/// What is on a pod's volume.
#[derive(Debug, Clone, Copy)]
struct Volume {
    incarnation: u64,
    /// `None` until it has been told.
    member: Option<MemberId>,
}

/// The cluster, its pods and their volumes.
pub(super) struct World {
    pub(super) machine: Machine,
    /// Log entries that the machine has applied.
    entries: u64,
    pub(super) picture: Picture,
    /// What people have declared, which the cluster gets to know when it is not paused.
    pub(super) declared: ClusterSize,
    volumes: BTreeMap<&'static str, Volume>,
    incarnations: u64,
    /// Whose id each is: the incarnation to which it was given.
    owners: BTreeMap<MemberId, u64>,
    /// Names of pods that run, if there are such pods.
    pub(super) up: BTreeSet<&'static str>,
    pub(super) pods: usize,
    /// Ids that volumes had whose members were removed.
    gone: BTreeSet<MemberId>,
}

fn record(name: &str, incarnation: u64) -> MemberRecord {
    MemberRecord {
        name: name.parse().unwrap(),
        incarnation: Incarnation::from_random(u128::from(incarnation)),
        url: String::new(),
        version: String::new(),
        features: FEATURE_LEVEL,
        life: None,
    }
}

fn node(name: &str, incarnation: u64) -> MemberNode {
    let incarnation = Incarnation::from_random(u128::from(incarnation)).to_string();
    MemberNode { name: name.to_owned(), address: format!("{name}:7400"), incarnation }
}

fn ordinal(name: &str) -> Option<u32> {
    NAMES.iter().position(|known| *known == name).and_then(|position| u32::try_from(position).ok())
}

fn is_quorum(members: &BTreeSet<MemberId>, voters: &BTreeSet<MemberId>) -> bool {
    voters.intersection(members).count() * 2 > voters.len()
}

impl World {
    /// One member alone, as every cluster begins.
    pub(super) fn new() -> Self {
        let (first, declared) = (MemberId::new(1), ClusterSize { voters: 1, learners: 0 });
        let picture = Picture {
            own: first,
            voters: vec![[first].into()],
            nodes: [(first, node("q-0", 0))].into(),
            progress: Progress::Committed,
            changed_at: Some(END),
            contacts: BTreeMap::new(),
            matched: [(first, END)].into(),
            recent_end: Some(END),
            size: None,
            steering: Steering::default(),
            unfit: BTreeSet::new(),
            moves: Moves::Allowed,
            recorded: BTreeSet::new(),
        };
        let volume = |number| Volume { incarnation: number, member: (number == 0).then_some(first) };
        let mut world = Self {
            machine: Machine::new(Limits::default()),
            entries: 0,
            picture,
            declared,
            volumes: (0..).zip(NAMES).map(|(number, name)| (name, volume(number))).collect(),
            incarnations: NAMES.len() as u64,
            owners: [(first, 0)].into(),
            up: NAMES.into(),
            pods: 1,
            gone: BTreeSet::new(),
        };
        let cluster = ClusterId::from_random(1);
        world.apply(Action::BeginLeadership { member: first, term: Term::new(1) });
        world.apply(Action::FoundCluster { cluster, newest_member: first });
        world.apply(Action::AnnounceMember { member: first, record: record("q-0", 0), before: Vec::new() });
        world.apply(Action::SetSize(declared));
        world
    }

    fn apply(&mut self, action: Action) -> Effect {
        self.entries += 1;
        let command = Command { at: Timestamp::from_millis(0), author: Author::Member, action };
        let applied = self.machine.apply(LogIndex::new(self.entries), &command);
        applied.answer.outcome.unwrap_or_else(|rejection| panic!("{command:?}: {rejection}"))
    }

    /// Members that run on their volumes.
    pub(super) fn living(&self) -> BTreeSet<MemberId> {
        let running = NAMES[..self.pods].iter().filter(|name| self.up.contains(*name));
        running.filter_map(|name| self.volumes[name].member).collect()
    }

    /// Members that can come back, if they do not run: their volumes are there.
    fn kept(&self) -> BTreeSet<MemberId> {
        self.volumes.values().filter_map(|volume| volume.member).collect()
    }

    fn has_quorum(&self, voters: &BTreeSet<MemberId>) -> bool {
        is_quorum(&self.living(), voters)
    }

    /// The voters of the newest membership.
    fn voters(&self) -> &BTreeSet<MemberId> {
        self.picture.voters.last().expect("there is always one set")
    }

    fn care(&self) -> Care {
        self.machine.steering().care
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        let name = |member: usize| NAMES[member];
        match happening {
            Happening::Ends(member) => drop(self.up.remove(name(member))),
            Happening::ComesBack(member) => drop(self.up.insert(name(member))),
            Happening::LosesItsVolume(member) => self.lose_volume(name(member)),
            Happening::Joins(member, joined) => self.join(member, joined),
            Happening::Declared((voters, learners)) => self.declared = ClusterSize { voters, learners },
            Happening::Preferred(member) => {
                let preferred_leader = member.map(|member| MemberName::new(name(member)).unwrap());
                self.apply(Action::Steer(Steering { preferred_leader, care: self.care() }));
            }
            Happening::Cordoned(member) => {
                let member = name(member).to_owned();
                if !self.picture.unfit.remove(&member) {
                    self.picture.unfit.insert(member);
                }
            }
            Happening::Paused(care) => {
                let steering = Steering { care, ..self.machine.steering().clone() };
                self.apply(Action::Steer(steering));
            }
            Happening::ScaledByHand(pods) => self.pods = pods,
            Happening::Elected(member) => {
                self.picture.own = self.volumes[name(member)].member.unwrap_or(self.picture.own);
            }
            Happening::Looks(look) => self.look(look),
            Happening::LooksAndEnds(look) => self.look_and_end(look),
        }
    }

    /// Nobody loses a volume on which a quorum depends: that needs a person.
    fn lose_volume(&mut self, name: &'static str) {
        let lost = self.volumes[name].member;
        let is_kept = |voter: &&MemberId| {
            Some(**voter) != lost && self.volumes.values().any(|volume| volume.member == Some(**voter))
        };
        if self.picture.voters.iter().all(|voters| voters.iter().filter(is_kept).count() * 2 > voters.len()) {
            self.empty(name);
        }
    }

    /// Whoever starts on an empty volume draws another incarnation.
    fn empty(&mut self, name: &'static str) {
        self.volumes.insert(name, Volume { incarnation: self.incarnations, member: None });
        self.incarnations += 1;
    }

    /// What a Raft leader does with a member-to-be.
    pub(super) fn join(&mut self, member: usize, joined: Joined) {
        let name = NAMES[member];
        let Volume { incarnation, member: None } = self.volumes[name] else { return };
        if !self.survey(CLEAR) || !self.up.contains(name) || member >= self.pods || self.picture.voters.len() != 1 {
            return;
        }
        let record = record(name, incarnation);
        let id = match admit(&self.picture, self.machine.feature_level(), &record) {
            Admission::Seated(id) => id,
            Admission::New if self.care() == Care::Active => {
                let Effect::MemberAllocated(id) = self.apply(Action::AllocateMember { record }) else {
                    panic!("no id")
                };
                id
            }
            Admission::New | Admission::Refused(_) => return,
        };
        let owner = *self.owners.entry(id).or_insert(incarnation);
        assert_eq!(owner, incarnation, "{id} is given to {name}, and was another's");
        assert!(!self.gone.contains(&id), "{id} is given to {name}, and was removed");
        match joined {
            Joined::HasAnId => return,
            Joined::IsAdded => {}
            Joined::Knows => drop(self.volumes.insert(name, Volume { incarnation, member: Some(id) })),
        }
        self.picture.nodes.insert(id, node(name, incarnation));
    }

    /// What the Raft leader sees now; false when nobody leads.
    fn survey(&mut self, look: Look) -> bool {
        let (living, kept) = (self.living(), self.kept());
        if !self.picture.voters.iter().all(|voters| self.has_quorum(voters)) {
            return false;
        }
        if !(living.contains(&self.picture.own) && self.voters().contains(&self.picture.own)) {
            self.picture.own = *self.voters().iter().find(|voter| living.contains(voter)).expect("there is a quorum");
        }
        self.picture.size = self.machine.size();
        self.picture.steering = self.machine.steering().clone();
        self.picture.recorded = self.machine.members().map(|(member, _)| member).collect();
        for (place, member) in self.picture.nodes.keys().enumerate() {
            let is_in = |mask: Mask| mask & (1 << (place % 8)) != 0;
            let contact = match living.contains(member) {
                _ if *member == self.picture.own => Contact::Lately,
                _ if is_in(look.unclear) => Contact::Before,
                true if is_in(look.unheard) => Contact::Silent,
                true => Contact::Lately,
                false if is_in(look.late) && kept.contains(member) => Contact::Lately,
                false => Contact::Silent,
            };
            self.picture.contacts.insert(*member, contact);
            if contact == Contact::Lately && is_in(look.caught_up) {
                self.picture.matched.insert(*member, END);
            }
        }
        true
    }

    /// The Raft leader carries out the next change, which is held to the rules; then the operator looks.
    pub(super) fn look(&mut self, look: Look) {
        if !self.survey(look) {
            self.bring_back();
            return;
        }
        let next = plan(&self.picture);
        let voters = self.voters().clone();
        match &next {
            Next::LeaveJoint => {
                assert!(self.picture.voters.len() == 2 && self.picture.progress == Progress::Committed, "{next:?}");
                self.picture.voters = vec![voters];
            }
            _ if self.picture.progress == Progress::Pending => {
                assert_eq!(next, Next::Nothing, "one change at a time");
                self.picture.progress = Progress::Committed;
            }
            _ if self.care() == Care::Paused => assert_eq!(next, Next::Nothing, "it is paused"),
            Next::Promote { .. } | Next::Demote { .. } | Next::Replace { .. } => {
                self.picture.voters = vec![self.changed(&next, look)];
                if let Next::Replace { old, .. } = next {
                    self.remove(old);
                }
            }
            Next::Remove(member) => {
                assert!(!voters.contains(member), "{member} votes and is removed");
                self.remove(*member);
            }
            Next::HandOver { to, .. } => {
                assert!(self.kept().contains(to) && voters.contains(to) && *to != self.picture.own, "{next:?}");
                // Whoever does not answer does not lead.
                if self.living().contains(to) {
                    self.picture.own = *to;
                }
            }
            Next::Forget(member) => {
                assert!(!self.picture.nodes.contains_key(member), "{member} is a member and is forgotten");
                self.apply(Action::ForgetMember { member: *member });
            }
            Next::Nothing => {}
        }
        self.operate();
    }

    /// The first half of a change is in the log, and somebody else has to go on.
    fn look_and_end(&mut self, look: Look) {
        if !self.survey(look) {
            return;
        }
        let next = plan(&self.picture);
        if let Next::Promote { .. } | Next::Demote { .. } | Next::Replace { .. } = next {
            let after = self.changed(&next, look);
            self.picture.voters.push(after);
            self.picture.progress = Progress::Pending;
            let ended = self.picture.own;
            let name = self.volumes.iter().find(|(_, volume)| volume.member == Some(ended)).map(|(name, _)| *name);
            self.up.remove(name.expect("it was there just now"));
        }
    }

    /// The voters after a change, which must be the one that it says, and cost no quorum. Whoever has ended since it was heard of is
    /// waited for.
    fn changed(&self, next: &Next, look: Look) -> BTreeSet<MemberId> {
        let (before, living) = (self.voters(), self.living());
        let there = if look.late == 0 { living.clone() } else { self.kept() };
        let without = |gone: &MemberId| before.iter().copied().filter(|voter| voter != gone).collect::<BTreeSet<_>>();
        let comes = |new: &MemberId| {
            assert!(there.contains(new) && !self.gone.contains(new), "{next:?}");
            assert_eq!(self.picture.matched.get(new), Some(&END), "{new} votes before it has caught up: {next:?}");
        };
        let (after, expected) = match next {
            Next::Promote { learner, voters } => {
                comes(learner);
                (voters, before.iter().copied().chain([*learner]).collect())
            }
            Next::Demote { voter, voters } => {
                assert_ne!(*voter, self.picture.own, "the Raft leader keeps its vote");
                (voters, without(voter))
            }
            Next::Replace { old, new, voters } => {
                assert!(!living.contains(old), "{next:?}");
                comes(new);
                (voters, without(old).into_iter().chain([*new]).collect())
            }
            other => panic!("{other:?} changes no votes"),
        };
        assert_eq!(*after, expected, "one change at a time: {next:?}");
        for voters in [before, after] {
            assert!(is_quorum(&there, voters), "no quorum of {voters:?} is there: {next:?}");
        }
        let names: BTreeSet<_> = after.iter().map(|voter| self.picture.name(*voter)).collect();
        assert_eq!(names.len(), after.len(), "a name votes twice: {next:?}");
        after.clone()
    }

    /// Its volume, if it has one, is set aside when it starts anew.
    fn remove(&mut self, member: MemberId) {
        self.picture.nodes.remove(&member);
        self.picture.matched.remove(&member);
        let incarnation = self.owners[&member];
        let has_it = |volume: &Volume| volume.incarnation == incarnation && volume.member.is_none();
        // One that has never heard of its id comes with the same incarnation, and may get it again: nothing was written under it.
        if !self.volumes.values().any(has_it) {
            assert!(self.gone.insert(member), "{member} was removed before");
        }
        let held = self.volumes.iter().find(|(_, volume)| volume.member == Some(member)).map(|(name, _)| *name);
        held.into_iter().for_each(|name| self.empty(name));
    }

    /// What the operator does with what is declared, and with the pods.
    fn operate(&mut self) {
        if self.care() == Care::Paused {
            return;
        }
        if self.machine.size() != Some(self.declared) {
            self.apply(Action::SetSize(self.declared));
        }
        let present = self.pods;
        match self.scaling() {
            Scaling::None => {}
            Scaling::Up(pods) => {
                self.pods = usize::try_from(pods).unwrap();
                assert!(self.pods > present, "{pods}");
            }
            Scaling::Down(pods) => {
                self.pods = usize::try_from(pods).unwrap();
                assert!(self.pods < present, "{pods}");
                let remains = |name: &str| ordinal(name).is_some_and(|ordinal| i64::from(ordinal) < pods);
                assert!(self.picture.names().all(remains), "a pod of a member is taken away");
            }
        }
    }

    /// What any member does while nobody leads: voters get their pods back.
    fn bring_back(&mut self) {
        if self.care() == Care::Paused {
            return;
        }
        let voters = self.picture.voters.iter().flatten();
        let needed = voters.filter_map(|voter| ordinal(self.picture.name(*voter))).max();
        let needed = needed.map_or(0, |ordinal| usize::try_from(ordinal).unwrap() + 1);
        self.pods = self.pods.max(needed);
    }

    fn scaling(&self) -> Scaling {
        let membership = match (self.picture.voters.len(), self.picture.progress) {
            (1, Progress::Committed) => MembershipPhase::Settled,
            _ => MembershipPhase::Changing,
        };
        let held = Held::by(self.picture.names().map(ordinal), membership);
        scaling(self.declared, self.machine.size(), held, i64::try_from(self.pods).unwrap())
    }

    /// The names of voters, and of learners.
    pub(super) fn places(&self) -> [Vec<&str>; 2] {
        let members = self.picture.in_order(self.picture.nodes.keys().copied());
        let (voters, learners): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| self.voters().contains(member));
        [voters, learners].map(|members| members.into_iter().map(|member| self.picture.name(member)).collect())
    }
}
