//! Random commands against a naive model: every answer, every event and every read, now and of the past, must be what the
//! model says. At random points the machine is replaced by one restored from its snapshot, and must go on the same.
//!
//! A failure names its seed; `QUORATE_MODEL_SEED=N cargo test --test model` replays it alone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test reports, and the counts are for its reader"
)]

mod coverage;
#[path = "../support/effort.rs"]
mod effort;
mod generator;
mod model;

use bytes::Bytes;
use quorate::encoding::{Decode, DecodeError, Encode};
use quorate::machine::command::Command;
use quorate::machine::keys::{KeyRange, KeyRecord};
use quorate::machine::outcome::Answer;
use quorate::machine::{Limits, Machine, OutsideHistory};
use quorate::types::{Key, LogIndex, Version};

use coverage::Coverage;
use effort::Effort;
use generator::Generator;
use model::{Bounds, Model, Moment};

/// Commands of one seed: enough for windows to move many times, few enough to replay in seconds.
const COMMANDS: u64 = 5_000;

fn limits() -> Limits {
    Limits {
        value_bytes: 40,
        config_bytes: 60,
        config_versions: 4,
        operations: 8,
        state_bytes: 6_000,
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
        let (answer, event) = self.model.apply(index, &command, self.machine.state_bytes());
        if self.model.forgotten_early > early {
            self.coverage.add("forgotten early");
        }

        let applied = self.machine.apply(index, &command);
        assert_eq!(applied.answer, answer, "at {index}: {command:?}");
        assert_eq!(applied.event.as_deref(), event.as_ref(), "at {index}: {command:?}");
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
        let level = self.model.members.values().map(|record| record.features.get()).min().unwrap_or(1);
        assert_eq!(self.machine.feature_level().get(), level);
        self.compare_configs();
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

    fn compare_keys(&mut self) {
        let key = self.generator.key();
        let (range, after, limit) = self.page();
        let keys = self.machine.keys();
        assert_eq!(keys.get(&key), record(&self.model.keys, &key).as_ref());
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
        assert_eq!(one.unwrap(), record(moment, &key).as_ref(), "{key} at {asked}");
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

fn record(moment: &Moment, key: &Key) -> Option<KeyRecord> {
    moment.get(key).map(|(meta, value)| KeyRecord { meta: *meta, value: value.clone() })
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
    (all.into_iter().map(|key| (key.clone(), record(moment, &key).unwrap())).collect(), more)
}
