//! The first answer to each request, so that a retry is harmless: also through another member and after a change of Raft
//! leader, because the memory is replicated.
//!
//! Requests are numbered in the order of the log. A duty proposes through which number to forget; when the bounds are
//! reached first, the oldest go early and are counted.

use bytes::Bytes;
use imbl::OrdMap;
use xxhash_rust::xxh3::xxh3_128;

use super::command::Action;
use super::outcome::{Answer, Origin};
use super::table::{Schema, Table};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::types::IdempotencyKey;

/// A request and the answer that it got.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    key: IdempotencyKey,
    /// Hash of what was asked for, to tell a retry from another request.
    fingerprint: u128,
    answer: Bytes,
}

pub(super) struct RequestRows;

impl Schema for RequestRows {
    type Key = u64;
    type Value = Remembered;
    const NUMBER: u32 = 7;

    fn encode(number: &u64, request: &Remembered, writer: &mut Writer) {
        writer.number(1, *number);
        writer.text(2, request.key.as_str());
        writer.bytes(3, &request.fingerprint.to_be_bytes());
        writer.bytes(4, &request.answer);
    }

    fn decode(mut reader: Reader) -> Result<(u64, Remembered), DecodeError> {
        fields!(reader => 1 number: number, 2 key: parse, 3 fingerprint: bytes, 4 answer: bytes);
        let fingerprint = <[u8; 16]>::try_from(required(fingerprint, "fingerprint")?.as_ref())
            .map_err(|_| DecodeError::new("a fingerprint has 16 bytes"))?;
        let answer = required(answer, "answer")?;
        // Read once here, so that recalling it later cannot fail.
        Answer::from_bytes(answer.clone())?;
        let request = Remembered { key: required(key, "key")?, fingerprint: u128::from_be_bytes(fingerprint), answer };
        Ok((required(number, "number")?, request))
    }
}

/// What is known of a request.
pub(super) enum Recall {
    New,
    Retry(Answer),
    /// The key was used for something else.
    Reused,
}

/// Remembered requests, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    pub(super) rows: Table<RequestRows>,
    /// Derived from the rows.
    by_key: OrdMap<String, u64>,
    /// The number that the next request gets.
    pub(super) next: u64,
    pub(super) forgotten_early: u64,
}

/// The fingerprint of what a command asks for.
pub(super) fn fingerprint(action: &Action) -> u128 {
    xxh3_128(&action.to_bytes())
}

impl Requests {
    /// The number that the next request gets: every remembered one has a lower number.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// How many requests are remembered.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many requests were forgotten because there was no room, since the cluster was founded.
    pub fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    /// Whether a request with this key is remembered.
    pub fn knows(&self, key: &IdempotencyKey) -> bool {
        self.by_key.contains_key(key.as_str())
    }

    pub(super) fn recall(&self, key: &IdempotencyKey, fingerprint: u128) -> Recall {
        let Some(request) = self.by_key.get(key.as_str()).and_then(|number| self.rows.get(number)) else {
            return Recall::New;
        };
        if request.fingerprint != fingerprint {
            return Recall::Reused;
        }
        let answer =
            Answer::from_bytes(request.answer.clone()).expect("it was encoded here or read when it was loaded");
        Recall::Retry(Answer { origin: Origin::Remembered, ..answer })
    }

    pub(super) fn remember(&mut self, key: &IdempotencyKey, fingerprint: u128, answer: &Answer) {
        let request = Remembered { key: key.clone(), fingerprint, answer: answer.to_bytes() };
        self.by_key.insert(key.as_str().to_owned(), self.next);
        self.rows.insert(self.next, request);
        self.next += 1;
    }

    /// Forgets the oldest until at most `count` and `bytes` are left.
    pub(super) fn trim(&mut self, count: usize, bytes: u64) {
        while self.rows.len() > count || self.rows.bytes() > bytes {
            self.forget_first();
            self.forgotten_early += 1;
        }
    }

    /// Forgets every request numbered up to `through` and says how many.
    pub(super) fn forget(&mut self, through: u64) -> u64 {
        let mut count = 0;
        while self.rows.first().is_some_and(|(number, _)| *number <= through) {
            self.forget_first();
            count += 1;
        }
        count
    }

    fn forget_first(&mut self) {
        let Some((&number, _)) = self.rows.first() else { return };
        if let Some(request) = self.rows.remove(&number) {
            self.by_key.remove(request.key.as_str());
        }
    }

    /// Puts a row of a snapshot back.
    pub(super) fn load(&mut self, row: Bytes) -> Result<(), DecodeError> {
        self.rows.load(row)
    }

    /// Makes what is derived, once every row of a snapshot is back.
    pub(super) fn finish_loading(&mut self, next: u64, forgotten_early: u64) {
        (self.next, self.forgotten_early) = (next, forgotten_early);
        let index: Vec<_> =
            self.rows.iter().map(|(number, request)| (request.key.as_str().to_owned(), *number)).collect();
        self.by_key.extend(index);
    }

    /// Whether the index says the same as the table and numbers are below the next.
    pub(super) fn is_consistent(&self) -> bool {
        self.by_key.len() == self.rows.len() && self.rows.iter().all(|(number, _)| *number < self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::outcome::Effect;
    use crate::types::Revision;

    fn requests(names: &[&str]) -> Requests {
        let mut requests = Requests::default();
        for name in names {
            let outcome = Ok(Effect::MemberAnnounced);
            let answer = Answer { revision: Revision::new(requests.next), origin: Origin::Fresh, outcome };
            requests.remember(&name.parse().unwrap(), 7, &answer);
        }
        requests
    }

    fn recalled(requests: &Requests, name: &str, fingerprint: u128) -> &'static str {
        match requests.recall(&name.parse().unwrap(), fingerprint) {
            Recall::New => "new",
            Recall::Retry(answer) => {
                assert_eq!(answer.origin, Origin::Remembered);
                "retry"
            }
            Recall::Reused => "reused",
        }
    }

    #[test]
    fn a_retry_is_known_by_its_key_and_what_it_asks_for() {
        let requests = requests(&["a"]);
        assert_eq!(recalled(&requests, "a", 7), "retry");
        assert_eq!(recalled(&requests, "a", 8), "reused");
        assert_eq!(recalled(&requests, "b", 7), "new");
    }

    #[test]
    fn forgetting_goes_through_a_number_and_counts() {
        let mut requests = requests(&["a", "b", "c"]);
        assert_eq!(requests.forget(1), 2);
        assert_eq!(requests.forget(1), 0);
        assert_eq!((recalled(&requests, "b", 7), recalled(&requests, "c", 7)), ("new", "retry"));
        assert_eq!((requests.next_number(), requests.forgotten_early()), (3, 0));
        assert!(requests.is_consistent());
    }

    #[test]
    fn the_oldest_go_early_when_there_are_too_many_or_they_are_too_large() {
        let mut requests = requests(&["a", "b", "c", "d"]);
        let one = requests.rows.bytes() / 4;
        requests.trim(3, u64::MAX);
        assert_eq!((requests.len(), requests.forgotten_early()), (3, 1));
        requests.trim(100, 2 * one);
        assert_eq!((requests.len(), requests.forgotten_early()), (2, 2));
        requests.trim(100, 0);
        assert_eq!((requests.len(), requests.rows.bytes(), requests.forgotten_early()), (0, 0, 4));
        assert!(requests.is_consistent());
    }
}
