//! Commands, answers and the state of the machine.

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
    let machine = samples::machine();
    machine.check().unwrap();
    let tables = ["scalars", "member", "key", "past of a key", "config", "past of a config", "request"];
    let mut seen = [false; 7];
    let mut samples = Vec::new();
    for record in machine.records() {
        let (table, _) = Reader::new(record.clone()).field().unwrap().unwrap();
        let table = usize::try_from(table).unwrap() - 1;
        seen[table] = true;
        samples.push((tables[table], record));
    }
    assert_eq!(seen, [true; 7], "every table has a sample");
    file::compare("0.1/state.txt", &samples);

    let records = file::read("0.1/state.txt").into_iter().map(Ok::<Bytes, DecodeError>);
    let restored = Machine::restore(Limits::default(), records).unwrap();
    restored.check().unwrap();
    assert_eq!(restored.digest(), machine.digest());
    file::compare(
        "0.1/digest.txt",
        &[("the digest of that state", Bytes::copy_from_slice(&machine.digest().bits().to_be_bytes()))],
    );
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
