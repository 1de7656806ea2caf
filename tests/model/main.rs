//! Random commands against a naive model: every answer, every event and every read, now and of the past, must be what the
//! model says. At random points the machine is replaced by one restored from its snapshot, and must go on the same.
//!
//! A failure names its seed; `QUORATE_MODEL_SEED=N cargo test --test model` replays it alone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test reports, and the counts are for its reader"
)]

mod configs;
mod coverage;
#[path = "../support/effort.rs"]
mod effort;
mod generator;
mod holdings;
mod model;
mod transactions;

use bytes::Bytes;
use quorate::encoding::{Decode, DecodeError, Encode};
use quorate::machine::command::{Command, ContestKind, Metadata, NewClaim};
use quorate::machine::contest::ClaimRecord;
use quorate::machine::keys::{KeyRange, KeyRecord};
use quorate::machine::outcome::Answer;
use quorate::machine::{Limits, Machine, OutsideHistory};
use quorate::types::{ClientName, Key, LogIndex, Version};

use coverage::Coverage;
use effort::Effort;
use generator::Generator;
use holdings::Claim;
use model::{Bounds, Model, Moment};

/// Commands of one seed: enough for windows to move many times, few enough to replay in seconds.
const COMMANDS: u64 = 8_000;

fn limits() -> Limits {
    Limits {
        value_bytes: 40,
        config_bytes: 60,
        config_versions: 4,
        operations: 8,
        state_bytes: 9_000,
        history_revisions: 30,
        history_bytes: 1 << 30,
        requests: 60,
        request_bytes: 1 << 30,
    }
}

fn bounds() -> Bounds {
    let limits = limits();
    Bounds {
        value_bytes: limits.value_bytes,
        config_bytes: limits.config_bytes,
        config_versions: limits.config_versions,
        operations: limits.operations,
        full_at: limits.state_bytes / 10 * 9,
        history_revisions: limits.history_revisions,
        requests: limits.requests,
    }
}

#[test]
fn the_machine_does_what_the_naive_model_says() {
    let seeds = Effort::from_environment().pick(20, 200);
    #[expect(clippy::disallowed_methods, reason = "the test's own setting, to replay one seed")]
    let only: Option<u64> = std::env::var("QUORATE_MODEL_SEED").ok().map(|seed| seed.parse().unwrap());
    let mut coverage = Coverage::default();
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        println!("seed {seed}: {COMMANDS} commands");
        coverage.merge(&Run::new(seed).go());
    }
    if only.is_none() {
        coverage.assert_complete();
    }
}

/// One seed: a machine, at times a second one restored from its snapshot, and the model.
struct Run {
    generator: Generator,
    bounds: Bounds,
    model: Model,
    machine: Machine,
    restored: Option<Machine>,
    coverage: Coverage,
}

impl Run {
    fn new(seed: u64) -> Self {
        let machine = Machine::new(limits());
        let (generator, model) = (Generator::new(seed), Model::new(bounds()));
        Self { generator, bounds: bounds(), model, machine, restored: None, coverage: Coverage::default() }
    }

    fn go(mut self) -> Coverage {
        let mut index = LogIndex::ZERO;
        for _ in 0..COMMANDS {
            // Some entries of the log are no commands.
            index = LogIndex::new(index.get() + 1 + u64::from(self.generator.one_in(20)));
            self.step(index);
            if self.generator.one_in(10) {
                self.compare_reads();
            }
            if self.generator.one_in(100) {
                self.snapshot();
            }
        }
        self.coverage
    }

    fn step(&mut self, index: LogIndex) {
        let command = self.generator.command(&self.model, &self.bounds);
        assert_eq!(Command::from_bytes(command.to_bytes()).as_ref(), Ok(&command));
        let early = self.model.forgotten_early;
        let (answer, events) = self.model.apply(index, &command, self.machine.state_bytes());
        if self.model.forgotten_early > early {
            self.coverage.add("forgotten early");
        }

        let applied = self.machine.apply(index, &command);
        assert_eq!(applied.answer, answer, "at {index}: {command:?}");
        assert!(
            applied.events.iter().map(|event| &**event).eq(&events),
            "at {index}: {command:?}\n{applied:?}\n{events:?}"
        );
        assert_eq!(Answer::from_bytes(answer.to_bytes()), Ok(answer));
        if let Some(restored) = &mut self.restored {
            assert_eq!(restored.apply(index, &command), applied, "the restored machine at {index}: {command:?}");
            assert_eq!(restored.digest(), self.machine.digest(), "the restored machine at {index}: {command:?}");
        }
        self.compare_scalars(index);
        self.coverage.note(&command, &applied);
    }

    fn compare_scalars(&self, index: LogIndex) {
        let (machine, model) = (&self.machine, &self.model);
        assert_eq!(machine.applied(), Some(index));
        assert_eq!(machine.revision(), model.revision);
        assert_eq!(machine.compacted(), model.compacted);
        assert_eq!(machine.cluster(), model.cluster.as_ref());
        let leadership = machine.leadership().map(|it| (it.leadership, it.member, it.term, it.since));
        assert_eq!(leadership, model.leadership);
        let requests = machine.requests();
        let numbers = (requests.len(), requests.next_number(), requests.forgotten_early());
        assert_eq!(numbers, (model.remembered(), model.next_request, model.forgotten_early));
    }

    fn compare_reads(&mut self) {
        let members: Vec<_> = self.machine.members().map(|(member, record)| (member, record.clone())).collect();
        assert_eq!(members, self.model.members.clone().into_iter().collect::<Vec<_>>());
        assert_eq!(self.machine.newest_member(), self.model.newest_member);
        assert_eq!(self.machine.size(), self.model.size);
        assert_eq!(*self.machine.steering(), self.model.steering);
        let level = self.model.members.values().map(|record| record.features.get()).min().unwrap_or(1);
        assert_eq!(self.machine.feature_level().get(), level);
        self.compare_configs();
        self.compare_sessions();
        self.compare_contests();
        self.compare_keys();
        self.compare_past();
    }

    fn compare_configs(&mut self) {
        let id = self.generator.config();
        let configs = self.machine.configs();
        let kept = self.model.configs.get(&id).cloned().unwrap_or_default();
        assert_eq!(configs.get(&id), kept.last());
        assert!(configs.history(&id).eq(kept.iter().rev()), "history of {id}");
        for version in (0..10).map(Version::new) {
            let expected = kept.iter().find(|record| record.version == version);
            assert_eq!(configs.version(&id, version), expected, "{id} version {version}");
        }
        let namespace = self.generator.one_in(2).then_some(&id.namespace);
        let expected = self.model.configs.iter().filter(|(id, _)| namespace.is_none_or(|only| id.namespace == *only));
        let expected = expected.map(|(id, kept)| (id, kept.last().unwrap()));
        assert!(configs.list(namespace).eq(expected), "list of {namespace:?}");
    }

    fn compare_sessions(&mut self) {
        let (machine, model) = (&self.machine, &self.model.holdings);
        assert!(machine.sessions().iter().eq(model.sessions.iter().map(|(session, record)| (*session, record))));
        for session in (0..8).map(|_| self.generator.session(&self.model)) {
            assert_eq!(machine.sessions().alive(session).map(drop), model.alive(session));
            let claims = machine.contests().of_session(session).map(|(contest, _)| contest);
            assert!(claims.eq(model.contests.iter().filter(|(_, it)| it.has(session)).map(|(id, _)| id)));
        }
        let id = self.generator.config();
        let consumers = machine.consumers().of(&id).map(|(session, record)| (session, &record.report, record.at));
        let expected = model.consumers.iter().filter(|((config, _), _)| *config == id);
        assert!(consumers.eq(expected.map(|((_, session), (report, at))| (*session, report, *at))), "of {id}");
    }

    fn compare_contests(&mut self) {
        let contests = self.machine.contests();
        for kind in [ContestKind::Election, ContestKind::Lock] {
            let expected = self.model.holdings.contests.keys().filter(|id| id.kind == kind);
            assert!(contests.list(kind, None).map(|(id, _)| id).eq(expected));
        }
        for (id, expected) in &self.model.holdings.contests {
            let record = contests.get(id).unwrap();
            let (taken, waiting) = (expected.taken(), u32::try_from(expected.queue.len()).unwrap());
            assert_eq!((record.capacity, record.taken, record.waiting), (expected.capacity, taken, waiting), "{id}");
            assert_eq!((record.spec, record.transitions), (expected.spec, expected.transitions), "{id}");
            assert_eq!(record.recent, expected.recent, "{id}");
            let holders: Vec<_> = contests.holders(id).map(|(grant, claim)| (grant, told(claim))).collect();
            let grants: Vec<_> = expected.holders.iter().map(|(grant, claim)| (*grant, asked(claim))).collect();
            assert_eq!(holders, grants, "{id}");
            let waiting: Vec<_> = contests.waiting(id).map(|(session, claim)| (session, told(claim))).collect();
            let expected: Vec<_> = expected.in_line().iter().map(|(session, claim)| (*session, asked(claim))).collect();
            assert_eq!(waiting, expected, "{id}");
        }
        let fence = self.generator.fence(&self.model);
        assert_eq!(self.machine.contests().is_current(&fence), self.model.holdings.is_current(&fence), "{fence:?}");
    }

    fn compare_keys(&mut self) {
        let key = self.generator.key();
        let (range, after, limit) = self.page();
        let keys = self.machine.keys();
        assert_eq!(keys.get(&key), self.model.keys.get(&key));
        let (expected, more) = page_of(&self.model.keys, &range, after.as_ref(), limit);
        let page = keys.range(&range, after.as_ref(), limit);
        assert_eq!((page.keys, page.more), (expected, more), "{range:?} after {after:?}, at most {limit}");
    }

    fn compare_past(&mut self) {
        let (key, asked) = (self.generator.key(), self.generator.revision(&self.model));
        let (range, after, limit) = self.page();
        let keys = self.machine.keys();
        let (one, many) = (keys.get_at(&key, asked), keys.range_at(&range, after.as_ref(), limit, asked));
        let (oldest, present) = (self.model.compacted, self.model.revision);
        let refusal = if asked < oldest {
            Some(OutsideHistory::Compacted { asked, oldest })
        } else {
            (asked > present).then_some(OutsideHistory::Future { asked, present })
        };
        if let Some(refusal) = refusal {
            assert_eq!((one, many), (Err(refusal), Err(refusal)));
            return;
        }
        let moment = &self.model.moments[&asked];
        assert_eq!(one.unwrap(), moment.get(&key), "{key} at {asked}");
        let page = many.unwrap();
        let expected = page_of(moment, &range, after.as_ref(), limit);
        assert_eq!((page.keys, page.more), expected, "{range:?} after {after:?}, at most {limit}, at {asked}");
    }

    fn page(&mut self) -> (KeyRange, Option<Key>, usize) {
        let after = if self.generator.one_in(2) { Some(self.generator.key()) } else { None };
        (self.generator.key_range(), after, usize::try_from(self.generator.below(12)).unwrap())
    }

    /// Checks everything, and sometimes goes on with a machine that came from a snapshot.
    fn snapshot(&mut self) {
        self.machine.check().unwrap();
        if let Some(restored) = self.restored.take() {
            restored.check().unwrap();
            self.machine = restored;
        }
        let records: Vec<Bytes> = self.machine.records().collect();
        let restored = Machine::restore::<DecodeError>(limits(), records.iter().cloned().map(Ok)).unwrap();
        restored.check().unwrap();
        assert_eq!(restored.digest(), self.machine.digest());
        assert_eq!(restored.state_bytes(), self.machine.state_bytes());
        assert!(restored.records().eq(records), "a snapshot of the restored machine");
        self.restored = Some(restored);
    }
}

/// What a claim says, as the machine and as the model know it.
type Said = (Option<ClientName>, i32, u32, Metadata);

fn told(claim: &ClaimRecord) -> Said {
    let ClaimRecord { candidate, priority, permits, metadata, place: _ } = claim.clone();
    (candidate, priority, permits, metadata)
}

fn asked(claim: &Claim) -> Said {
    let NewClaim { candidate, priority, metadata, .. } = claim.asked.clone();
    (candidate, priority, claim.permits, metadata)
}

fn page_of(moment: &Moment, range: &KeyRange, after: Option<&Key>, limit: usize) -> (Vec<(Key, KeyRecord)>, bool) {
    let inside = |key: &Key| match range {
        KeyRange::Prefix(prefix) => key.as_str().starts_with(prefix),
        KeyRange::Between { start, end } => start <= key && end.as_ref().is_none_or(|end| key < end),
    };
    let behind = |key: &Key| after.is_none_or(|after| key > after);
    let mut all: Vec<_> = moment.keys().filter(|key| inside(key) && behind(key)).cloned().collect();
    let more = all.len() > limit;
    all.truncate(limit);
    (all.into_iter().map(|key| (key.clone(), moment[&key].clone())).collect(), more)
}
