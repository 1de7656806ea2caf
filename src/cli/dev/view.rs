//! What is known of the members, and the story of how it came about. Nothing here waits for anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::child::{Child, Ended};
use super::failover::FailOver;
use super::layout::{Layout, MemberPlace};
use super::observe::{ConfigSeen, MemberSeen, Observation};
use crate::api::wire::{Cluster, MemberState};
use crate::cli::output::or_dash;
use crate::machine::command::ConfigId;
use crate::operator::plan::{ResourceId, Unclear};
use crate::raft::Clock;
use crate::server::SystemClock;

/// Lines of the story that fit on a screen below the rest.
const STORY: usize = 12;
/// A member that is so few entries behind has caught up: the others go on while it is asked.
const NEAR: u64 = 10;
/// What a member waits for so long is worth a line.
const LASTING: Duration = Duration::from_secs(1);

/// Everything that is shown.
pub struct View {
    pub layout: Layout,
    pub members: Vec<Member>,
    /// Process ids, as people type them.
    pub pids: Vec<String>,
    pub leader: Option<String>,
    pub configs: BTreeMap<ConfigId, ConfigSeen>,
    /// The version of each config that was told.
    announced: BTreeMap<ConfigId, u64>,
    /// Configs that were not declared at the last look.
    gone: BTreeSet<ConfigId>,
    pub problems: Vec<String>,
    /// Losses of members whose measure is not finished.
    measured: usize,
    /// The newest lines of the story, and how many there were in all.
    pub story: VecDeque<String>,
    pub told: usize,
}

/// What is known of one member.
pub enum Member {
    Starting(Start),
    CatchingUp { start: Start, entries: u64 },
    Waiting { start: Start, waits: Waits },
    Up(MemberState),
    UpWithoutQuorum,
    Down,
}

/// When a member was started, and whether it ran before.
#[derive(Clone, Copy)]
pub enum Start {
    First,
    Again(Instant),
}

/// What a member waits for.
pub struct Waits {
    pub reason: String,
    since: Instant,
    told: bool,
}

/// What a member says of itself.
enum Says {
    Waits(String),
    Behind(u64),
    Up(MemberState),
    NoQuorum,
}

impl View {
    pub fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            members: layout.members.iter().map(|_| Member::Starting(Start::First)).collect(),
            pids: layout.members.iter().map(|_| or_dash(None::<u32>)).collect(),
            leader: None,
            configs: BTreeMap::new(),
            announced: BTreeMap::new(),
            gone: BTreeSet::new(),
            problems: Vec::new(),
            measured: 0,
            story: VecDeque::new(),
            told: 0,
        }
    }

    /// Adds a line to the story.
    pub fn say(&mut self, line: String) {
        let now = SystemClock.wall().to_string();
        let time = now.get(11..19).unwrap_or_default();
        self.story.push_back(format!("{time}  {line}"));
        self.told += 1;
        if self.story.len() > STORY {
            self.story.pop_front();
        }
    }

    /// The number of the member that leads.
    pub fn leader(&self) -> Option<usize> {
        let leader = self.leader.as_ref()?;
        self.layout.members.iter().position(|member| member.name == *leader)
    }

    /// Whether there is enough to show to somebody who sees it only once.
    pub fn is_settled(&self) -> bool {
        let all = self.layout.members.len();
        let up = self.members.iter().all(|member| matches!(member, Member::Up(_)));
        up && self.leader.is_some() && self.configs.values().all(|seen| seen.members == all)
    }

    /// A process has ended unasked, and how long that is felt is being measured.
    pub fn ended(&mut self, ended: &Ended) {
        let leads = self.leader() == Some(ended.number);
        let who = if leads { ", the Raft leader," } else { "" };
        let place = self.layout.members[ended.number].clone();
        self.say(format!("{}{who} {ended}; it is started again in 2 s", place.name));
        if ended.failed() {
            self.say(format!("  why stands at the end of {}", place.log.display()));
        }
        self.members[ended.number] = Member::Down;
        self.pids[ended.number] = or_dash(None::<u32>);
        self.measured += 1;
        if leads {
            self.leader = None;
        }
    }

    pub fn started(&mut self, number: usize, child: &Child) {
        self.pids[number] = child.pid();
    }

    pub fn started_again(&mut self, number: usize, child: &Child) {
        self.started(number, child);
        self.members[number] = Member::Starting(Start::Again(Instant::now()));
        self.say(format!("{} is started again", self.layout.members[number].name));
    }

    pub fn failed_over(&mut self, done: FailOver) {
        let FailOver { lost, writes } = done;
        self.measured -= 1;
        let Some((leader, after)) = writes else {
            return self.say(format!("no write was acknowledged within 10 s after the end of {lost}: no quorum"));
        };
        let after = after.as_millis();
        self.say(format!("{leader} leads now; the first write was acknowledged {after} ms after the end of {lost}"));
        self.leader = Some(leader);
    }

    pub fn observed(&mut self, observation: Observation) {
        let Observation { members, configs, problems, unclear } = observation;
        self.observed_leader(&members);
        for (number, seen) in members.into_iter().enumerate() {
            if let MemberSeen::Answers(cluster) = seen {
                self.observed_member(number, says(&cluster, &self.layout.members[number]));
            }
        }
        self.observed_configs(configs, &unclear);
        let new: Vec<_> = problems.iter().filter(|problem| !self.problems.contains(problem)).cloned().collect();
        new.into_iter().for_each(|problem| self.say(format!("wrong: {problem}; the last good version stays")));
        self.problems = problems;
    }

    fn observed_leader(&mut self, members: &[MemberSeen]) {
        let leader = members.iter().find_map(|seen| match seen {
            MemberSeen::Answers(cluster) if !cluster.stale => cluster.leader.clone(),
            MemberSeen::Answers(_) | MemberSeen::Silent => None,
        });
        let new = leader.as_ref().filter(|name| self.leader.as_ref() != Some(name));
        // While a loss is measured, who leads is told with the measure.
        if let (Some(name), 0) = (new, self.measured) {
            self.say(format!("{name} leads"));
        }
        self.leader = leader;
    }

    fn observed_member(&mut self, number: usize, says: Says) {
        let name = self.layout.members[number].name.clone();
        let start = match &self.members[number] {
            // What it said before its end arrived after it.
            Member::Down => return,
            Member::Starting(start) | Member::CatchingUp { start, .. } | Member::Waiting { start, .. } => *start,
            Member::Up(_) | Member::UpWithoutQuorum => Start::First,
        };
        let caught_up = matches!(says, Says::Up(_));
        if let (Start::Again(since), true) = (start, caught_up) {
            self.say(format!("{name} has caught up, {} ms after it was started again", since.elapsed().as_millis()));
        }
        self.members[number] = match says {
            Says::Waits(reason) => Member::Waiting { start, waits: self.waits(number, reason) },
            Says::Behind(entries) => Member::CatchingUp { start, entries },
            Says::Up(state) => Member::Up(state),
            Says::NoQuorum => match start {
                Start::First => Member::UpWithoutQuorum,
                Start::Again(_) => Member::Starting(start),
            },
        };
    }

    /// Every member waits for a moment when it starts; what lasts is told, once.
    fn waits(&mut self, number: usize, reason: String) -> Waits {
        let (since, told) = match &self.members[number] {
            Member::Waiting { waits, .. } if waits.reason == reason => (waits.since, waits.told),
            Member::Waiting { .. }
            | Member::Starting(_)
            | Member::CatchingUp { .. }
            | Member::Up(_)
            | Member::UpWithoutQuorum
            | Member::Down => (Instant::now(), false),
        };
        let lasts = since.elapsed() > LASTING;
        if lasts && !told {
            self.say(format!("{} waits: {reason}", self.layout.members[number].name));
        }
        Waits { reason, since, told: told || lasts }
    }

    fn observed_configs(&mut self, mut configs: BTreeMap<ConfigId, ConfigSeen>, unclear: &Unclear) {
        // What cannot be read now is served on as it was.
        for (config, seen) in
            self.configs.iter().filter(|(config, _)| unclear.may_be_about(&ResourceId::Config((*config).clone())))
        {
            configs.entry(config.clone()).or_insert_with(|| seen.clone());
        }
        let all = self.layout.members.len();
        let up = self.members.iter().filter(|member| matches!(member, Member::Up(_))).count();
        for (config, seen) in &configs {
            let version = seen.version.filter(|version| self.announced.get(config) != Some(version));
            // Told once everybody who can serve it does.
            if let Some(version) = version.filter(|_| seen.members >= up.max(1)) {
                self.say(format!("{config} is served in version {version} by {} of {all} members", seen.members));
                self.announced.insert(config.clone(), version);
            }
        }
        let gone: BTreeSet<_> = self.configs.keys().filter(|config| !configs.contains_key(*config)).cloned().collect();
        // An editor that replaces a file leaves it missing for a moment: gone is what is gone twice.
        let newly: Vec<_> = gone.difference(&self.gone).cloned().collect();
        let kept = newly.into_iter().filter_map(|config| self.configs.remove_entry(&config)).collect::<Vec<_>>();
        for config in self.gone.intersection(&gone).cloned().collect::<Vec<_>>() {
            self.say(format!("{config} is not declared any more"));
            self.announced.remove(&config);
        }
        self.configs = configs;
        self.configs.extend(kept);
        self.gone = gone;
    }
}

fn says(cluster: &Cluster, place: &MemberPlace) -> Says {
    if let Some(reason) = &cluster.waiting {
        return Says::Waits(reason.clone());
    }
    if cluster.stale {
        return Says::NoQuorum;
    }
    // One that lost its data directory is there twice until it has taken its own place.
    let own = cluster.members.iter().filter(|member| member.name == place.name);
    match own.max_by_key(|member| member.member_id) {
        None => Says::NoQuorum,
        Some(own) => match own.lag_entries {
            Some(entries) if entries > NEAR => Says::Behind(entries),
            Some(_) | None => Says::Up(own.state),
        },
    }
}
