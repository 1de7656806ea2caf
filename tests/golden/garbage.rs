//! Bytes that are wrong in any way are refused or read as something, and nothing panics.

use bytes::Bytes;
use quorate::encoding::{Decode, DecodeError, Encode};
use quorate::machine::command::{Author, Command};
use quorate::machine::keys::KeyRange;
use quorate::machine::outcome::Answer;
use quorate::machine::{Limits, Machine};
use quorate::types::{LogIndex, Revision, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::effort::Effort;
use super::samples;

fn rounds() -> u64 {
    Effort::from_environment().pick(300, 10_000)
}

/// Flips, cuts, inserts or repeats some bytes.
fn mutate(bytes: &Bytes, random: &mut StdRng) -> Bytes {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.random()),
            2 => {
                let end = random.random_range(at..=bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => match bytes.get_mut(at) {
                Some(byte) => *byte ^= 1 << random.random_range(0..8),
                None => bytes.push(0xff),
            },
        }
    }
    bytes.into()
}

/// Reads every sample mutated in many ways, and hands what could be read to `then`.
fn mutations<T: Decode>(samples: &[Bytes], mut then: impl FnMut(T)) {
    let (mut refused, mut read) = (0, 0);
    for round in 0..rounds() {
        let mut random = StdRng::seed_from_u64(round);
        for sample in samples {
            match T::from_bytes(mutate(sample, &mut random)) {
                Ok(value) => {
                    read += 1;
                    then(value);
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100 && read > 100, "{refused} refused, {read} read: the mutations are too strong or too weak");
}

#[test]
fn mutated_commands_are_refused_or_applied() {
    let samples: Vec<_> = samples::commands().iter().map(Encode::to_bytes).collect();
    let (mut machine, mut index) = (Machine::new(Limits::default()), LogIndex::ZERO);
    mutations(&samples, |command: Command| {
        index = index.next();
        machine.apply(index, &command);
        // What was read may have been written in another way, but it is a command like any other.
        assert_eq!(Command::from_bytes(command.to_bytes()).as_ref(), Ok(&command));
        // Most samples use one idempotency key; without it they are not just refused.
        index = index.next();
        machine.apply(index, &Command { author: Author::Client(None), ..command });
    });
    machine.check().unwrap();
}

#[test]
fn mutated_answers_are_refused_or_read() {
    let samples: Vec<_> = samples::answers().iter().map(Encode::to_bytes).collect();
    mutations(&samples, |answer: Answer| assert_eq!(Answer::from_bytes(answer.to_bytes()), Ok(answer)));
}

#[test]
fn mutated_snapshots_are_refused_or_restored() {
    let states = [samples::machine(), samples::holdings()].map(|machine| machine.records().collect::<Vec<_>>());
    let samples: Vec<_> = samples::commands().iter().map(|command| command.action.clone()).collect();
    let (mut refused, mut read) = (0, 0);
    for round in 0..rounds() * 10 {
        let mut random = StdRng::seed_from_u64(round);
        let mut records = states[usize::from(random.random_bool(0.5))].clone();
        let victim = random.random_range(0..records.len());
        records[victim] = mutate(&records[victim], &mut random);
        match Machine::restore(Limits::default(), records.into_iter().map(Ok::<_, DecodeError>)) {
            Err(_) => refused += 1,
            Ok(mut restored) => {
                read += 1;
                restored.check().unwrap();
                let keys = restored.keys();
                drop(keys.range_at(&KeyRange::Prefix(String::new()), None, 100, Revision::new(round % 20)));
                // Whatever it is that was restored, it goes on.
                let index = restored.applied().map_or(LogIndex::ZERO, LogIndex::next);
                let action = samples[usize::try_from(round).unwrap() % samples.len()].clone();
                restored.apply(index, &Command { at: Timestamp::default(), author: Author::Client(None), action });
                restored.check().unwrap();
            }
        }
    }
    assert!(refused > 0 && read > 0, "{refused} refused, {read} read: the mutations are too strong or too weak");
}

#[test]
fn random_bytes_are_refused_or_read() {
    for round in 0..rounds() * 10 {
        let mut random = StdRng::seed_from_u64(round);
        let length = random.random_range(0..60);
        let bytes: Bytes = (0..length).map(|_| random.random::<u8>()).collect();
        drop(Command::from_bytes(bytes.clone()));
        drop(Answer::from_bytes(bytes.clone()));
        drop(Machine::restore(Limits::default(), [Ok::<_, DecodeError>(bytes)]));
    }
}
