//! Who runs which version of a config: what consumers say, for as long as their sessions live.

use super::by_session::BySession;
use super::command::{ConfigId, ConsumerReport};
use super::table::{Schema, Table};
use crate::encoding::{DecodeError, Reader, Writer, fields, required};
use crate::types::{SessionId, Timestamp};

/// What a consumer said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    pub report: ConsumerReport,
    pub at: Timestamp,
}

pub(super) struct ConsumerRows;

impl Schema for ConsumerRows {
    type Key = (ConfigId, SessionId);
    type Value = ConsumerRecord;
    const NUMBER: u32 = 12;

    fn encode((config, session): &Self::Key, record: &ConsumerRecord, writer: &mut Writer) {
        writer.message(1, config);
        writer.number(2, session.get());
        writer.message(3, &record.report);
        writer.number(4, record.at.as_millis());
    }

    fn decode(mut reader: Reader) -> Result<(Self::Key, ConsumerRecord), DecodeError> {
        fields!(reader => 1 config: message, 2 session: number, 3 report: message, 4 at: number);
        let at = Timestamp::from_millis(required(at, "time")?);
        let key = (required(config, "config")?, SessionId::new(required(session, "session")?));
        Ok((key, ConsumerRecord { report: required(report, "report")?, at }))
    }
}

/// All consumers of all configs.
#[derive(Debug, Clone, Default)]
pub struct Consumers {
    pub(super) rows: Table<ConsumerRows>,
    by_session: BySession<ConfigId>,
}

impl Consumers {
    /// The consumers of a config.
    pub fn of<'a>(&'a self, config: &ConfigId) -> impl Iterator<Item = (SessionId, &'a ConsumerRecord)> + use<'a> {
        let all = (config.clone(), SessionId::ZERO)..=(config.clone(), SessionId::new(u64::MAX));
        self.rows.range(all).map(|((_, session), record)| (*session, record))
    }

    /// Notes what a consumer says; whether that is new.
    pub(super) fn report(
        &mut self,
        config: &ConfigId,
        session: SessionId,
        report: &ConsumerReport,
        at: Timestamp,
    ) -> bool {
        let key = (config.clone(), session);
        let is_new = self.rows.get(&key).is_none_or(|known| known.report != *report);
        if is_new {
            self.by_session.add(session, config.clone());
            self.rows.insert(key, ConsumerRecord { report: report.clone(), at });
        }
        is_new
    }

    /// Forgets what a session that ends has said.
    pub(super) fn forget(&mut self, session: SessionId) {
        let configs: Vec<_> = self.by_session.of(session).cloned().collect();
        for config in configs {
            self.by_session.remove(session, &config);
            self.rows.remove(&(config, session));
        }
    }

    /// Forgets what was said of a config that is no more.
    pub(super) fn forget_config(&mut self, config: &ConfigId) {
        let sessions: Vec<_> = self.of(config).map(|(session, _)| session).collect();
        for session in sessions {
            self.by_session.remove(session, config);
            self.rows.remove(&(config.clone(), session));
        }
    }

    /// Makes what is derived, once every row of a snapshot is back.
    pub(super) fn finish_loading(&mut self) {
        self.by_session = self.index();
    }

    /// Whether the index says the same as the table.
    pub(super) fn is_consistent(&self) -> bool {
        self.by_session == self.index()
    }

    fn index(&self) -> BySession<ConfigId> {
        self.rows.iter().map(|((config, session), _)| (*session, config.clone())).collect()
    }
}
