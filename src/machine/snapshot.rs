//! The whole state as records: one for the scalars, then one for each row, so that a large state is never one buffer.
//! Size and digest are over exactly these records.

use bytes::Bytes;

use super::Machine;
use super::cluster::{Cluster, LeadershipRecord, MemberRows};
use super::command::Steering;
use super::config::{ConfigRows, PastConfigRows};
use super::consumers::ConsumerRows;
use super::contest::{ClaimRows, ContestRows};
use super::digest::Digest;
use super::history::UndoRows;
use super::idempotency::RequestRows;
use super::keys::KeyRows;
use super::limits::Limits;
use super::session::{EndedRows, SessionRows};
use super::table::Schema;
use crate::encoding::{DecodeError, Encode, Reader, Writer, fields, required};
use crate::types::{Leadership, LogIndex, MemberId, Revision, SessionId, Term, Timestamp};

/// The number of the record that holds what stands in no table.
const SCALARS: u32 = 1;

struct Scalars<'a>(&'a Machine);

impl Encode for Scalars<'_> {
    fn encode(&self, writer: &mut Writer) {
        let Self(machine) = self;
        if let Some(applied) = machine.applied {
            writer.number(1, applied.get());
        }
        writer.number(2, machine.revision().get());
        writer.number(3, machine.compacted().get());
        writer.number(4, machine.requests.next);
        writer.number(5, machine.requests.forgotten_early);
        if let Some(cluster) = &machine.cluster.id {
            writer.text(6, cluster.as_str());
        }
        if let Some(record) = &machine.cluster.leadership {
            writer.nested(7, |writer| {
                writer.number(1, record.leadership.get());
                writer.number(2, record.member.get());
                writer.number(3, record.term.get());
                writer.number(4, record.since.as_millis());
            });
        }
        if machine.sessions.newest > SessionId::ZERO {
            writer.number(8, machine.sessions.newest.get());
        }
        if machine.cluster.newest_member > MemberId::ZERO {
            writer.number(9, machine.cluster.newest_member.get());
        }
        if let Some(size) = &machine.cluster.size {
            writer.message(10, size);
        }
        if machine.cluster.steering != Steering::default() {
            writer.message(11, &machine.cluster.steering);
        }
    }
}

fn decode_leadership(bytes: Bytes) -> Result<LeadershipRecord, DecodeError> {
    let mut reader = Reader::new(bytes);
    fields!(reader => 1 leadership: number, 2 member: number, 3 term: number, 4 since: number);
    Ok(LeadershipRecord {
        leadership: Leadership::new(required(leadership, "leadership")?),
        member: MemberId::new(required(member, "member")?),
        term: Term::new(required(term, "term")?),
        since: Timestamp::from_millis(required(since, "since")?),
    })
}

impl Machine {
    /// The state as records, in an order that [`Machine::restore`] takes back.
    pub fn records(&self) -> impl Iterator<Item = Bytes> {
        std::iter::once(self.scalars())
            .chain(self.cluster.members.records())
            .chain(self.keys.rows.records())
            .chain(self.keys.history.table().records())
            .chain(self.configs.rows.records())
            .chain(self.configs.past.records())
            .chain(self.requests.rows.records())
            .chain(self.sessions.rows.records())
            .chain(self.sessions.ended.records())
            .chain(self.contests.rows.records())
            .chain(self.contests.claims.records())
            .chain(self.consumers.rows.records())
    }

    fn scalars(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.message(SCALARS, &Scalars(self));
        writer.finish()
    }

    /// The state from the records of a snapshot.
    ///
    /// # Errors
    /// The first error of `records`, or of a record that this release cannot read, or a broken invariant.
    pub fn restore<E: From<DecodeError>>(
        limits: Limits,
        records: impl IntoIterator<Item = Result<Bytes, E>>,
    ) -> Result<Self, E> {
        let mut machine = Self::new(limits);
        let mut scalars = None;
        for record in records {
            // A copy: a row lives longer than the buffer in which it came with many others.
            let mut reader = Reader::new(Bytes::copy_from_slice(&record?));
            while let Some((table, row)) = reader.field()? {
                let row = row.bytes()?;
                match table {
                    SCALARS => scalars = Some(row),
                    MemberRows::NUMBER => machine.cluster.members.load(row)?,
                    KeyRows::NUMBER => machine.keys.rows.load(row)?,
                    UndoRows::NUMBER => machine.keys.history.load(row)?,
                    ConfigRows::NUMBER => machine.configs.rows.load(row)?,
                    PastConfigRows::NUMBER => machine.configs.past.load(row)?,
                    RequestRows::NUMBER => machine.requests.load(row)?,
                    SessionRows::NUMBER => machine.sessions.rows.load(row)?,
                    EndedRows::NUMBER => machine.sessions.ended.load(row)?,
                    ContestRows::NUMBER => machine.contests.rows.load(row)?,
                    ClaimRows::NUMBER => machine.contests.claims.load(row)?,
                    ConsumerRows::NUMBER => machine.consumers.rows.load(row)?,
                    other => return Err(DecodeError::unknown("table", u64::from(other)).into()),
                }
            }
        }
        machine.finish_restoring(required(scalars, "scalars")?)?;
        machine.check().map_err(|violation| DecodeError::new(violation.to_string()))?;
        Ok(machine)
    }

    fn finish_restoring(&mut self, scalars: Bytes) -> Result<(), DecodeError> {
        let mut reader = Reader::new(scalars);
        fields!(reader => 1 applied: number, 2 revision: number, 3 compacted: number, 4 next_request: number,
            5 forgotten_early: number, 6 cluster: parse, 7 leadership: bytes, 8 newest_session: number,
            9 newest_member: number, 10 size: message, 11 steering: message);
        self.applied = applied.map(LogIndex::new);
        let compacted = Revision::new(required(compacted, "compacted")?);
        self.keys.finish_loading(Revision::new(required(revision, "revision")?), compacted);
        self.sessions.newest = SessionId::new(newest_session.unwrap_or_default());
        self.contests.finish_loading();
        self.consumers.finish_loading();
        let next = required(next_request, "next request")?;
        self.requests.finish_loading(next, required(forgotten_early, "forgotten early")?);
        let members = std::mem::take(&mut self.cluster.members);
        let leadership = leadership.map(decode_leadership).transpose()?;
        let newest_member = MemberId::new(newest_member.unwrap_or_default());
        self.cluster =
            Cluster { id: cluster, leadership, members, newest_member, size, steering: steering.unwrap_or_default() };
        Ok(())
    }

    /// Encoded size of the whole state.
    pub fn state_bytes(&self) -> u64 {
        self.cluster.members.bytes()
            + self.keys.rows.bytes()
            + self.keys.history.table().bytes()
            + self.configs.rows.bytes()
            + self.configs.past.bytes()
            + self.requests.rows.bytes()
            + self.sessions.rows.bytes()
            + self.sessions.ended.bytes()
            + self.contests.rows.bytes()
            + self.contests.claims.bytes()
            + self.consumers.rows.bytes()
    }

    /// What members compare: equal wherever the same entries were applied.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.scalars())
            .with(self.cluster.members.digest())
            .with(self.keys.rows.digest())
            .with(self.keys.history.table().digest())
            .with(self.configs.rows.digest())
            .with(self.configs.past.digest())
            .with(self.requests.rows.digest())
            .with(self.sessions.rows.digest())
            .with(self.sessions.ended.digest())
            .with(self.contests.rows.digest())
            .with(self.contests.claims.digest())
            .with(self.consumers.rows.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore(records: Vec<Bytes>) -> Result<Machine, DecodeError> {
        Machine::restore(Limits::default(), records.into_iter().map(Ok))
    }

    fn record(table: u32, write: impl FnOnce(&mut Writer)) -> Bytes {
        let mut writer = Writer::default();
        writer.nested(table, write);
        writer.finish()
    }

    fn member(number: u64) -> Bytes {
        record(MemberRows::NUMBER, |writer| {
            writer.number(1, number);
            writer.nested(2, |writer| {
                writer.text(1, "quorate-0");
                writer.text(2, "00000000000000000000000000000001");
                writer.text(3, "http://quorate-0:8080");
                writer.text(4, "0.1.0");
                writer.number(5, 1);
            });
        })
    }

    #[test]
    fn the_empty_state_is_one_record_and_comes_back() {
        let records: Vec<_> = Machine::default().records().collect();
        assert_eq!(records.len(), 1);
        assert_eq!(restore(records).unwrap().digest(), Machine::default().digest());
    }

    #[test]
    fn a_snapshot_that_lacks_something_or_has_it_twice_is_refused() {
        let mut machine = Machine::default();
        machine.cluster.newest_member = MemberId::new(2);
        let scalars = machine.scalars();
        assert!(restore(vec![scalars.clone(), member(1), member(2)]).is_ok());
        let refused = [
            (vec![], "field `scalars` is missing"),
            (vec![member(1)], "field `scalars` is missing"),
            (vec![scalars.clone(), member(1), member(1)], "the row of MemberId(1) comes twice"),
            (vec![scalars.clone(), record(99, |_| ())], "table 99 is not known to this release"),
            (vec![scalars.slice(..scalars.len() - 1)], "only"),
        ];
        for (records, why) in refused {
            let error = restore(records).unwrap_err().to_string();
            assert!(error.contains(why), "{error:?} should say {why:?}");
        }
    }

    #[test]
    fn an_error_of_the_reader_ends_the_restoring() {
        let records = [Ok(Machine::default().scalars()), Err(DecodeError::new("the disk is gone"))];
        assert_eq!(Machine::restore(Limits::default(), records).unwrap_err(), DecodeError::new("the disk is gone"));
    }
}
