//! What a later release adds, this one skips.

use bytes::Bytes;
use quorate::encoding::{Decode, DecodeError, Encode, Reader, Writer};
use quorate::machine::command::Command;
use quorate::machine::outcome::Answer;
use quorate::machine::{Limits, Machine};

use super::samples;

/// Fields that no release has, one of each wire type.
const UNKNOWN: &[u8] = &[
    0x80, 0x7d, 7, // field 2000, a number
    0x82, 0x7d, 2, 0xff, 0xff, // field 2000, bytes
    0x81, 0x7d, 1, 2, 3, 4, 5, 6, 7, 8, // field 2000, eight bytes
    0x85, 0x7d, 1, 2, 3, 4, // field 2000, four bytes
];

/// Appends unknown fields to the nested value at `path`; `None` when there is none, or an empty one.
fn with_unknown(bytes: &Bytes, path: &[u32]) -> Option<Bytes> {
    let Some((step, rest)) = path.split_first() else {
        return (!bytes.is_empty()).then(|| [bytes, UNKNOWN].concat().into());
    };
    let (mut reader, mut writer, mut found) = (Reader::new(bytes.clone()), Writer::default(), false);
    while let Some((field, value)) = reader.field().unwrap() {
        match value.clone().bytes() {
            Ok(nested) if field == *step => {
                writer.bytes(field, &with_unknown(&nested, rest)?);
                found = true;
            }
            Ok(other) => writer.bytes(field, &other),
            Err(_) => writer.number(field, value.number().unwrap()),
        }
    }
    found.then(|| writer.finish())
}

#[test]
fn unknown_fields_of_a_command_are_skipped() {
    let mut paths = vec![vec![], vec![2], vec![3]];
    paths.extend((1..=10).map(|action| vec![3, action]));
    // The record of a member, the compares and operations of a transaction, the name and the data of a config.
    paths.extend([[3, 2, 2], [3, 6, 1], [3, 6, 2], [3, 6, 3], [3, 7, 1], [3, 7, 2], [3, 7, 3]].map(Vec::from));
    paths.extend([[3, 6, 1, 3], [3, 7, 2, 1]].map(Vec::from));
    for path in &paths {
        let changed: Vec<_> = samples::commands()
            .into_iter()
            .filter_map(|command| with_unknown(&command.to_bytes(), path).map(|bytes| (command, bytes)))
            .collect();
        assert!(!changed.is_empty(), "no sample has {path:?}");
        for (command, bytes) in changed {
            assert_eq!(Command::from_bytes(bytes), Ok(command), "at {path:?}");
        }
    }
}

#[test]
fn unknown_fields_of_an_answer_are_skipped() {
    let mut paths = vec![vec![], vec![3], vec![4]];
    paths.extend([4, 5, 6, 7].map(|effect| vec![3, effect]));
    paths.extend((1..=11).map(|rejection| vec![4, rejection]));
    paths.extend([[3, 6, 2], [4, 3, 2], [4, 4, 1], [4, 6, 1], [4, 6, 2]].map(Vec::from));
    for path in &paths {
        let changed: Vec<_> = samples::answers()
            .into_iter()
            .filter_map(|answer| with_unknown(&answer.to_bytes(), path).map(|bytes| (answer, bytes)))
            .collect();
        assert!(!changed.is_empty(), "no sample has {path:?}");
        for (answer, bytes) in changed {
            assert_eq!(Answer::from_bytes(bytes), Ok(answer), "at {path:?}");
        }
    }
}

#[test]
fn unknown_fields_of_the_state_are_skipped() {
    let machine = samples::machine();
    for table in 1..=7 {
        let records = machine.records().map(|record| {
            let changed = with_unknown(&record, &[table]);
            Ok::<_, DecodeError>(changed.unwrap_or(record))
        });
        let restored = Machine::restore(Limits::default(), records).unwrap();
        assert_eq!(restored.digest(), machine.digest(), "table {table}");
    }
}
