//! Sessions, elections and locks: what is asked for, and how it stands in the state's rows.

use std::collections::BTreeMap;

use super::choice;
use crate::encoding::{Decode, DecodeError, Encode, Reader, Value, Writer, fields, required};
use crate::machine::command::{
    ClaimLimits, ConsumerReport, ContestId, ContestKind, ElectionSpec, EndCause, Fence, Metadata, NewClaim, NewSession,
    Otherwise, Permits, SilentSession,
};
use crate::machine::contest::{ClaimRecord, ContestRecord, Grant, Place, Transition};
use crate::machine::event::Cause;
use crate::machine::session::SessionRecord;
use crate::types::{FencingToken, Revision, SessionId, Timestamp, Ttl, Version};

impl Encode for ContestId {
    fn encode(&self, writer: &mut Writer) {
        writer.number(
            1,
            match self.kind {
                ContestKind::Election => 1,
                ContestKind::Lock => 2,
            },
        );
        writer.text(2, self.namespace.as_str());
        writer.text(3, self.name.as_str());
    }
}

impl Decode for ContestId {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 kind: number, 2 namespace: parse, 3 name: parse);
        let kind = match required(kind, "kind")? {
            1 => ContestKind::Election,
            2 => ContestKind::Lock,
            other => return Err(DecodeError::unknown("kind", other)),
        };
        Ok(Self { kind, namespace: required(namespace, "namespace")?, name: required(name, "name")? })
    }
}

impl Encode for Fence {
    fn encode(&self, writer: &mut Writer) {
        writer.message(1, &self.contest);
        writer.number(2, self.token.get());
    }
}

impl Decode for Fence {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 contest: message, 2 token: number);
        Ok(Self { contest: required(contest, "contest")?, token: FencingToken::new(required(token, "token")?) })
    }
}

impl Encode for Grant {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.session.get());
        writer.number(2, self.token.get());
        writer.number(3, self.since.as_millis());
    }
}

impl Decode for Grant {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 session: number, 2 token: number, 3 since: number);
        Ok(Self {
            session: SessionId::new(required(session, "session")?),
            token: FencingToken::new(required(token, "token")?),
            since: Timestamp::from_millis(required(since, "since")?),
        })
    }
}

impl Encode for NewSession {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.ttl.as_millis());
        if let Some(client) = &self.client {
            writer.text(2, client.as_str());
        }
        encode_metadata(writer, 3, &self.metadata);
    }
}

impl Decode for NewSession {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut ttl, mut client, mut metadata) = (None, None, Metadata::new());
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => ttl = Some(decode_ttl(value)?),
                2 => client = Some(value.parse()?),
                3 => decode_datum(&mut metadata, value)?,
                _ => {}
            }
        }
        Ok(Self { ttl: required(ttl, "ttl")?, client, metadata })
    }
}

impl Encode for SilentSession {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.session.get());
        writer.number(2, self.overdue_ms);
    }
}

impl Decode for SilentSession {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 session: number, 2 overdue: number);
        Ok(Self { session: SessionId::new(required(session, "session")?), overdue_ms: required(overdue, "overdue")? })
    }
}

impl Encode for NewClaim {
    fn encode(&self, writer: &mut Writer) {
        if let Some(candidate) = &self.candidate {
            writer.text(1, candidate.as_str());
        }
        writer.number(2, from_signed(self.priority));
        match self.permits {
            Permits::Some(permits) => writer.number(3, u64::from(permits)),
            Permits::All => {}
        }
        if let Some(capacity) = self.capacity {
            writer.number(4, u64::from(capacity));
        }
        writer.number(5, u64::from(self.otherwise == Otherwise::Wait));
        encode_metadata(writer, 6, &self.metadata);
    }
}

impl Decode for NewClaim {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut candidate, mut priority, mut permits, mut capacity, mut waits) = (None, None, None, None, None);
        let mut metadata = Metadata::new();
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => candidate = Some(value.parse()?),
                2 => priority = Some(to_signed(value.small()?)),
                3 => permits = Some(value.small()?),
                4 => capacity = Some(value.small()?),
                5 => waits = Some(value.flag()?),
                6 => decode_datum(&mut metadata, value)?,
                _ => {}
            }
        }
        Ok(Self {
            candidate,
            priority: required(priority, "priority")?,
            permits: permits.map_or(Permits::All, Permits::Some),
            capacity,
            otherwise: if required(waits, "waits")? { Otherwise::Wait } else { Otherwise::Refuse },
            metadata,
        })
    }
}

impl Encode for ClaimLimits {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, u64::from(self.waiting));
        writer.number(2, u64::from(self.claims));
    }
}

impl Decode for ClaimLimits {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 waiting: small, 2 claims: small);
        Ok(Self { waiting: required(waiting, "waiting")?, claims: required(claims, "claims")? })
    }
}

impl Encode for ElectionSpec {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, u64::from(self.seats));
        if let Some(ttl) = self.session_ttl {
            writer.number(2, ttl.as_millis());
        }
    }
}

impl Decode for ElectionSpec {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut seats, mut session_ttl) = (None, None);
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => seats = Some(value.small()?),
                2 => session_ttl = Some(decode_ttl(value)?),
                _ => {}
            }
        }
        Ok(Self { seats: required(seats, "seats")?, session_ttl })
    }
}

impl Encode for ConsumerReport {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.version.get());
        writer.number(2, u64::from(self.ok));
        writer.text(3, &self.message);
    }
}

impl Decode for ConsumerReport {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 version: number, 2 ok: flag, 3 message: text);
        let version = Version::new(required(version, "version")?);
        Ok(Self { version, ok: required(ok, "ok")?, message: required(message, "message")? })
    }
}

/// The number of a cause that a client gives.
pub(super) fn encode_end(cause: EndCause) -> u64 {
    match cause {
        EndCause::GivenUp => 1,
        EndCause::ClientExited => 2,
    }
}

pub(super) fn decode_end(number: u64) -> Result<EndCause, DecodeError> {
    match number {
        1 => Ok(EndCause::GivenUp),
        2 => Ok(EndCause::ClientExited),
        other => Err(DecodeError::unknown("cause", other)),
    }
}

/// A session inside a row.
pub(in crate::machine) fn encode_session(record: &SessionRecord, writer: &mut Writer) {
    let SessionRecord { ttl, client, metadata, created_at } = record.clone();
    writer.message(1, &NewSession { ttl, client, metadata });
    writer.number(2, created_at.as_millis());
}

/// Reads what [`encode_session`] wrote.
pub(in crate::machine) fn decode_session(mut reader: Reader) -> Result<SessionRecord, DecodeError> {
    fields!(reader => 1 session: message, 2 created: number);
    let NewSession { ttl, client, metadata } = required(session, "session")?;
    Ok(SessionRecord { ttl, client, metadata, created_at: Timestamp::from_millis(required(created, "time")?) })
}

/// A claim inside a row.
pub(in crate::machine) fn encode_claim(claim: &ClaimRecord, writer: &mut Writer) {
    if let Some(candidate) = &claim.candidate {
        writer.text(1, candidate.as_str());
    }
    writer.number(2, from_signed(claim.priority));
    writer.number(3, u64::from(claim.permits));
    encode_metadata(writer, 4, &claim.metadata);
    match claim.place {
        Place::Waiting { since } => writer.nested(5, |w| w.number(1, since.get())),
        Place::Holding { token, since } => writer.nested(5, |w| {
            w.nested(2, |w| {
                w.number(1, token.get());
                w.number(2, since.as_millis());
            });
        }),
    }
}

/// Reads what [`encode_claim`] wrote.
pub(in crate::machine) fn decode_claim(mut reader: Reader) -> Result<ClaimRecord, DecodeError> {
    let (mut candidate, mut priority, mut permits, mut place) = (None, None, None, None);
    let mut metadata = Metadata::new();
    while let Some((field, value)) = reader.field()? {
        match field {
            1 => candidate = Some(value.parse()?),
            2 => priority = Some(to_signed(value.small()?)),
            3 => permits = Some(value.small()?),
            4 => decode_datum(&mut metadata, value)?,
            5 => place = Some(decode_place(value)?),
            _ => {}
        }
    }
    Ok(ClaimRecord {
        candidate,
        priority: required(priority, "priority")?,
        permits: required(permits, "permits")?,
        metadata,
        place: required(place, "place")?,
    })
}

fn decode_place(value: Value) -> Result<Place, DecodeError> {
    choice(Reader::new(value.bytes()?), "place", |variant, value| {
        Ok(Some(match variant {
            1 => Place::Waiting { since: Revision::new(value.number()?) },
            2 => {
                let mut reader = Reader::new(value.bytes()?);
                fields!(reader => 1 token: number, 2 since: number);
                let token = FencingToken::new(required(token, "token")?);
                Place::Holding { token, since: Timestamp::from_millis(required(since, "since")?) }
            }
            _ => return Ok(None),
        }))
    })
}

/// A contest inside a row.
pub(in crate::machine) fn encode_contest(record: &ContestRecord, writer: &mut Writer) {
    writer.number(1, u64::from(record.capacity));
    writer.number(2, u64::from(record.taken));
    writer.number(3, u64::from(record.waiting));
    if let Some(spec) = &record.spec {
        writer.message(4, spec);
    }
    writer.number(5, record.transitions);
    record.recent.iter().for_each(|transition| writer.message(6, transition));
}

/// Reads what [`encode_contest`] wrote.
pub(in crate::machine) fn decode_contest(mut reader: Reader) -> Result<ContestRecord, DecodeError> {
    let (mut capacity, mut taken, mut waiting, mut spec, mut transitions) = (None, None, None, None, None);
    let mut recent = Vec::new();
    while let Some((field, value)) = reader.field()? {
        match field {
            1 => capacity = Some(value.small()?),
            2 => taken = Some(value.small()?),
            3 => waiting = Some(value.small()?),
            4 => spec = Some(value.message()?),
            5 => transitions = Some(value.number()?),
            6 => recent.push(value.message()?),
            _ => {}
        }
    }
    Ok(ContestRecord {
        capacity: required(capacity, "capacity")?,
        taken: required(taken, "taken")?,
        waiting: required(waiting, "waiting")?,
        spec,
        transitions: required(transitions, "transitions")?,
        recent,
    })
}

impl Encode for Transition {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.at.as_millis());
        writer.number(2, self.cause.number());
        writer.number(3, self.token.get());
        if let Some(candidate) = &self.candidate {
            writer.text(4, candidate.as_str());
        }
        writer.number(5, self.overdue_ms);
        if let Some((token, vacant_ms)) = self.successor {
            writer.number(6, token.get());
            writer.number(7, vacant_ms);
        }
    }
}

impl Decode for Transition {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 at: number, 2 cause: number, 3 token: number, 4 candidate: parse, 5 overdue: number,
            6 successor: number, 7 vacant: number);
        Ok(Self {
            at: Timestamp::from_millis(required(at, "time")?),
            cause: Cause::from_number(required(cause, "cause")?)?,
            token: FencingToken::new(required(token, "token")?),
            candidate,
            overdue_ms: required(overdue, "overdue")?,
            successor: successor.map(FencingToken::new).zip(vacant),
        })
    }
}

fn encode_metadata(writer: &mut Writer, field: u32, metadata: &Metadata) {
    for (key, text) in metadata {
        writer.nested(field, |w| {
            w.text(1, key);
            w.text(2, text);
        });
    }
}

/// Reads one entry that [`encode_metadata`] wrote.
fn decode_datum(metadata: &mut BTreeMap<String, String>, value: Value) -> Result<(), DecodeError> {
    let mut reader = Reader::new(value.bytes()?);
    fields!(reader => 1 key: text, 2 text: text);
    metadata.insert(required(key, "key")?, required(text, "text")?);
    Ok(())
}

fn decode_ttl(value: Value) -> Result<Ttl, DecodeError> {
    Ttl::from_millis(value.number()?).map_err(|error| DecodeError::new(error.to_string()))
}

/// Small negative numbers as small numbers: 0, -1, 1, -2, ...
fn from_signed(number: i32) -> u64 {
    u64::from(((number << 1) ^ (number >> 31)) as u32)
}

fn to_signed(number: u32) -> i32 {
    (number >> 1) as i32 ^ -((number & 1) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Reader {
        let mut writer = Writer::default();
        write(&mut writer);
        Reader::new(writer.finish())
    }

    #[test]
    fn every_priority_is_read_back() {
        for priority in [0, 1, -1, 300, -300, i32::MAX, i32::MIN] {
            let place = Place::Waiting { since: Revision::new(7) };
            let claim = ClaimRecord { candidate: None, priority, permits: 1, metadata: Metadata::new(), place };
            assert_eq!(decode_claim(written(|writer| encode_claim(&claim, writer))), Ok(claim));
        }
        let written: Vec<_> = [0, -1, 1, -2, i32::MIN].map(from_signed).into();
        assert_eq!(written, [0, 1, 2, 3, u64::from(u32::MAX)]);
    }

    #[test]
    fn a_damaged_claim_is_refused() {
        let claim = |priority: u64, permits: u64, place: fn(&mut Writer)| {
            decode_claim(written(|writer| {
                writer.number(2, priority);
                writer.number(3, permits);
                writer.nested(5, place);
            }))
        };
        assert!(claim(1, 1, |place| place.number(1, 7)).is_ok());
        let holding: fn(&mut Writer) = |place| place.nested(2, |grant| grant.number(1, 7));
        let damaged = [
            (claim(1 << 32, 1, |place| place.number(1, 7)), "field 2 has more than 32 bits"),
            (claim(1, 1 << 32, |place| place.number(1, 7)), "field 3 has more than 32 bits"),
            (claim(1, 1, |_| ()), "place is empty"),
            (claim(1, 1, |place| place.number(3, 7)), "place 3 is not known to this release"),
            (claim(1, 1, holding), "field `since` is missing"),
        ];
        for (result, why) in damaged {
            assert_eq!(result, Err(DecodeError::new(why)));
        }
    }

    #[test]
    fn a_damaged_session_or_transition_is_refused() {
        let session = |ttl: u64| {
            decode_session(written(|writer| {
                writer.nested(1, |session| session.number(1, ttl));
                writer.number(2, 0);
            }))
        };
        assert!(session(500).is_ok());
        assert!(session(499).unwrap_err().to_string().contains("not 499 ms"));
        let transition = |cause: u64| {
            Transition::decode(written(|writer| {
                for (field, number) in [(1, 0), (2, cause), (3, 7), (5, 0)] {
                    writer.number(field, number);
                }
            }))
        };
        assert!(transition(5).is_ok());
        assert_eq!(transition(6), Err(DecodeError::unknown("cause", 6)));
    }
}
