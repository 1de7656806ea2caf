//! Commands, answers and the state of the machine.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::Bytes;
use quorate::encoding::{Decode, DecodeError, Encode, Reader, Writer};
use quorate::machine::command::Command;
use quorate::machine::outcome::Answer;
use quorate::machine::{Limits, Machine};

use super::{file, samples};

#[test]
fn commands_have_the_bytes_of_the_release() {
    compare("0.1/commands.txt", samples::commands());
}

#[test]
fn answers_have_the_bytes_of_the_release() {
    compare("0.1/answers.txt", samples::answers());
}

fn compare<T: Encode + Decode + Debug + PartialEq>(name: &str, samples: Vec<T>) {
    let encode = |value: T| {
        let bytes = value.to_bytes();
        (value, bytes)
    };
    let samples: Vec<_> = samples.into_iter().map(encode).collect();
    file::compare(name, &samples);
    for (bytes, (sample, _)) in file::read(name).into_iter().zip(samples) {
        assert_eq!(T::from_bytes(bytes), Ok(sample), "{name}");
    }
}

#[test]
fn the_state_has_the_records_and_the_digest_of_the_release() {
    same_state("state.txt", "digest.txt", &samples::machine(), &TABLES[..7]);
}

#[test]
fn sessions_and_what_they_hold_have_the_records_and_the_digest_of_the_release() {
    let state = samples::holdings();
    let tables: Vec<_> =
        TABLES.into_iter().filter(|(number, _)| [1, 3, 4, 5].contains(number) || *number > 7).collect();
    same_state("holdings.txt", "holdings-digest.txt", &state, &tables);
}

/// Every table, with its number.
const TABLES: [(u32, &str); 12] = [
    (1, "scalars"),
    (2, "member"),
    (3, "key"),
    (4, "past of a key"),
    (5, "config"),
    (6, "past of a config"),
    (7, "request"),
    (8, "session"),
    (9, "ended session"),
    (10, "contest"),
    (11, "claim"),
    (12, "consumer"),
];

fn same_state(rows: &str, digest: &str, machine: &Machine, tables: &[(u32, &str)]) {
    let (rows, digest) = (format!("0.1/{rows}"), format!("0.1/{digest}"));
    machine.check().unwrap();
    let mut seen = BTreeSet::new();
    let mut samples = Vec::new();
    for record in machine.records() {
        let (number, _) = Reader::new(record.clone()).field().unwrap().unwrap();
        let table = TABLES.into_iter().find(|(table, _)| *table == number).unwrap();
        seen.insert(table);
        samples.push((table.1, record));
    }
    assert!(seen.iter().eq(tables), "every table has a sample: {seen:?}");
    file::compare(&rows, &samples);

    let records = file::read(&rows).into_iter().map(Ok::<Bytes, DecodeError>);
    let restored = Machine::restore(Limits::default(), records).unwrap();
    restored.check().unwrap();
    assert_eq!(restored.digest(), machine.digest());
    let bits = Bytes::copy_from_slice(&machine.digest().bits().to_be_bytes());
    file::compare(&digest, &[("the digest of that state", bits)]);
}

/// The samples have every variant up to the last one that this release knows, so that a new one cannot be forgotten here.
#[test]
fn every_variant_has_a_sample() {
    let variant = |bytes: Bytes, choice: u32| {
        let mut reader = Reader::new(bytes);
        while let Some((field, value)) = reader.field().unwrap() {
            if field == choice {
                return Reader::new(value.bytes().unwrap()).field().unwrap().map(|(variant, _)| variant);
            }
        }
        None
    };
    let answer = |field: u32, number: u32| {
        let mut writer = Writer::default();
        (1..=2).for_each(|other| writer.number(other, 1));
        writer.nested(field, |w| w.nested(number, |_| ()));
        writer.finish()
    };
    let actions = samples::commands().into_iter().filter_map(|command| variant(command.to_bytes(), 3)).collect();
    complete("action", actions, |next| {
        let mut writer = Writer::default();
        writer.number(1, 0);
        writer.nested(2, |w| w.number(3, 1));
        writer.nested(3, |w| w.nested(next, |_| ()));
        Command::from_bytes(writer.finish()).map(drop)
    });
    let answers = || samples::answers().into_iter().map(|answer| answer.to_bytes());
    let effects = answers().filter_map(|bytes| variant(bytes, 3)).collect();
    complete("effect", effects, |next| Answer::from_bytes(answer(3, next)).map(drop));
    let rejections = answers().filter_map(|bytes| variant(bytes, 4)).collect();
    complete("rejection", rejections, |next| Answer::from_bytes(answer(4, next)).map(drop));
}

fn complete(name: &str, mut seen: Vec<u32>, decode: impl Fn(u32) -> Result<(), DecodeError>) {
    seen.sort_unstable();
    seen.dedup();
    let last = u32::try_from(seen.len()).unwrap();
    assert_eq!(seen, (1..=last).collect::<Vec<_>>(), "{name}: a number has no sample");
    assert_eq!(
        decode(last + 1),
        Err(DecodeError::unknown(name, u64::from(last + 1))),
        "{name}: the last has no sample"
    );
}
