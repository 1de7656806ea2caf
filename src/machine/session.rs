//! Sessions: the liveness of clients. When a session ends, everything that it holds ends with it.
//!
//! There is no clock here. How long a client has been silent is watched by the Raft leader, in memory, and that a session
//! has expired is a command like any other.

use std::ops::Bound;

use super::codec::{decode_session, encode_session};
use super::command::{Metadata, NewSession};
use super::event::Cause;
use super::outcome::Rejection;
use super::table::{Schema, Table};
use crate::encoding::{DecodeError, Reader, Writer, fields, required};
use crate::types::{ClientName, SessionId, Timestamp, Ttl};

/// A session that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    pub ttl: Ttl,
    pub client: Option<ClientName>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
}

pub(super) struct SessionRows;

impl Schema for SessionRows {
    type Key = SessionId;
    type Value = SessionRecord;
    const NUMBER: u32 = 8;

    fn encode(session: &SessionId, record: &SessionRecord, writer: &mut Writer) {
        writer.number(1, session.get());
        writer.nested(2, |writer| encode_session(record, writer));
    }

    fn decode(mut reader: Reader) -> Result<(SessionId, SessionRecord), DecodeError> {
        fields!(reader => 1 session: number, 2 record: bytes);
        let record = decode_session(Reader::new(required(record, "record")?))?;
        Ok((SessionId::new(required(session, "session")?), record))
    }
}

pub(super) struct EndedRows;

impl Schema for EndedRows {
    type Key = SessionId;
    type Value = Cause;
    const NUMBER: u32 = 9;

    fn encode(session: &SessionId, cause: &Cause, writer: &mut Writer) {
        writer.number(1, session.get());
        writer.number(2, cause.number());
    }

    fn decode(mut reader: Reader) -> Result<(SessionId, Cause), DecodeError> {
        fields!(reader => 1 session: number, 2 cause: number);
        Ok((SessionId::new(required(session, "session")?), Cause::from_number(required(cause, "cause")?)?))
    }
}

/// Sessions of which it is remembered why they ended.
const REMEMBERED: usize = 10_000;

/// All sessions, and why the last ones ended.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    pub(super) rows: Table<SessionRows>,
    pub(super) ended: Table<EndedRows>,
    /// The one that was created last.
    pub(super) newest: SessionId,
}

impl Sessions {
    /// A session that lives.
    pub fn get(&self, session: SessionId) -> Option<&SessionRecord> {
        self.rows.get(&session)
    }

    /// Every session that lives, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &SessionRecord)> {
        self.rows.iter().map(|(session, record)| (*session, record))
    }

    /// The sessions that live and were created after that one, the oldest first.
    pub fn newer_than(&self, session: SessionId) -> impl Iterator<Item = (SessionId, &SessionRecord)> {
        self.rows.range((Bound::Excluded(session), Bound::Unbounded)).map(|(session, record)| (*session, record))
    }

    /// The one that was created last.
    pub fn newest(&self) -> SessionId {
        self.newest
    }

    /// How many sessions live.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no session lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Why a session has ended, unless it lives, never was, or ended long ago.
    pub fn cause(&self, session: SessionId) -> Option<Cause> {
        self.ended.get(&session).copied()
    }

    /// A session that must live.
    ///
    /// # Errors
    /// When it has ended, or never was.
    pub fn alive(&self, session: SessionId) -> Result<&SessionRecord, Rejection> {
        match self.get(session) {
            Some(record) => Ok(record),
            None if session == SessionId::ZERO || session > self.newest => Err(Rejection::NoSuchSession { session }),
            None => Err(Rejection::SessionOver { session, cause: self.cause(session) }),
        }
    }

    pub(super) fn create(&mut self, session: &NewSession, at: Timestamp) -> SessionId {
        let NewSession { ttl, client, metadata } = session.clone();
        self.newest = self.newest.next();
        self.rows.insert(self.newest, SessionRecord { ttl, client, metadata, created_at: at });
        self.newest
    }

    /// Ends a session; whether it lived.
    pub(super) fn end(&mut self, session: SessionId, cause: Cause) -> bool {
        let lived = self.rows.remove(&session).is_some();
        if lived {
            self.ended.insert(session, cause);
        }
        while self.ended.len() > REMEMBERED {
            let oldest = self.ended.first().map(|(session, _)| *session);
            self.ended.remove(&oldest.expect("there are more than none"));
        }
        lived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_session_ended_is_forgotten_when_many_have_ended_since() {
        let mut sessions = Sessions::default();
        let new = NewSession { ttl: Ttl::USUAL, client: None, metadata: Metadata::new() };
        for _ in 0..=REMEMBERED {
            let session = sessions.create(&new, Timestamp::default());
            assert!(sessions.end(session, Cause::SessionEnded));
        }
        let cause = |number: u64| match sessions.alive(SessionId::new(number)) {
            Err(Rejection::SessionOver { cause, .. }) => cause,
            other => panic!("{other:?}"),
        };
        assert_eq!((cause(1), cause(2)), (None, Some(Cause::SessionEnded)));
        assert_eq!(sessions.ended.len(), REMEMBERED);
        let (never, session) = (sessions.alive(SessionId::new(10_002)), SessionId::new(10_002));
        assert_eq!(never, Err(Rejection::NoSuchSession { session }));
    }
}
