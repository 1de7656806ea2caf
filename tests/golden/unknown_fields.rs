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
    paths.extend((1..=21).map(|action| vec![3, action]));
    // The records of members, the compares and operations of a transaction, the name and the data of a config.
    paths.extend(
        [[3, 2, 2], [3, 19, 1], [3, 6, 1], [3, 6, 2], [3, 6, 3], [3, 7, 1], [3, 7, 2], [3, 7, 3]].map(Vec::from),
    );
    paths.extend([[3, 6, 1, 3], [3, 7, 2, 1]].map(Vec::from));
    // A fence and its contest; the report, session, contest, claim, limits and seats, and the metadata in them.
    paths.extend([[3, 6, 1, 4], [3, 12, 1, 3], [3, 15, 3, 6]].map(Vec::from));
    paths.extend([[3, 11, 3], [3, 12, 1], [3, 14, 1], [3, 15, 1], [3, 15, 3], [3, 15, 4], [3, 18, 3]].map(Vec::from));
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
    paths.extend([4, 5, 6, 7, 15].map(|effect| vec![3, effect]));
    paths.extend((1..=20).map(|rejection| vec![4, rejection]));
    paths.extend([[3, 6, 2], [4, 3, 2], [4, 4, 1], [4, 6, 1], [4, 6, 2], [4, 17, 1], [4, 17, 2]].map(Vec::from));
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
    for machine in [samples::machine(), samples::holdings()] {
        // The records inside the rows of sessions, contests, claims and consumers, and what is nested in those.
        let inside = [[8, 2], [10, 2], [11, 3], [12, 3]].map(Vec::from);
        let deeper = [[8, 2, 1], [10, 2, 4], [10, 2, 6], [11, 3, 4], [11, 3, 5]].map(Vec::from);
        for path in (1..=12).map(|table| vec![table]).chain(inside).chain(deeper) {
            let records = machine.records().map(|record| {
                let changed = with_unknown(&record, &path);
                Ok::<_, DecodeError>(changed.unwrap_or(record))
            });
            let restored = Machine::restore(Limits::default(), records).unwrap();
            assert_eq!(restored.digest(), machine.digest(), "at {path:?}");
        }
    }
}
