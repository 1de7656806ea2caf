//! What must hold of every state, whatever was applied. Every test calls it; a member calls it when it has restored a
//! snapshot.

use thiserror::Error;

use super::Machine;
use super::config::content_hash;
use super::table::{Schema, Table};

/// An invariant that does not hold: a bug of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invariant `{name}` is broken: {details}")]
pub struct Violation {
    pub name: &'static str,
    pub details: String,
}

impl Machine {
    /// Checks every invariant; takes time in proportion to the state.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn check(&self) -> Result<(), Violation> {
        counted("members are counted right", &self.cluster.members)?;
        counted("keys are counted right", &self.keys.rows)?;
        counted("the past is counted right", self.keys.history.table())?;
        counted("configs are counted right", &self.configs.rows)?;
        counted("past configs are counted right", &self.configs.past)?;
        counted("requests are counted right", &self.requests.rows)?;
        self.keys_are_not_newer_than_the_present()?;
        self.the_past_leads_to_the_present()?;
        self.past_configs_belong_to_a_config()?;
        self.configs_have_the_hash_of_their_data()?;
        self.leadership_began_in_the_log()?;
        self.windows_keep_to_their_limits()?;
        ensure("the history's index matches its table", self.keys.history.is_consistent(), || {
            format!("{:?}", self.keys.history)
        })?;
        ensure("the requests' index matches their table", self.requests.is_consistent(), || {
            format!("{} requests, next {}", self.requests.len(), self.requests.next)
        })?;
        ensure("the window of the past ends at the present", self.compacted() <= self.revision(), || {
            format!("compacted {}, revision {}", self.compacted(), self.revision())
        })
    }

    fn keys_are_not_newer_than_the_present(&self) -> Result<(), Violation> {
        self.keys.rows.iter().try_for_each(|(key, record)| {
            let meta = record.meta;
            let ordered = meta.create_revision <= meta.mod_revision && meta.mod_revision <= self.revision();
            ensure("a key's revisions are in order", ordered && meta.version.get() > 0, || {
                format!("key {key}: {meta:?} at revision {}", self.revision())
            })
        })
    }

    /// What a key was before one change is what the change before it made.
    fn the_past_leads_to_the_present(&self) -> Result<(), Violation> {
        let mut changes = self.keys.history.table().iter().peekable();
        while let Some(((key, revision), _)) = changes.next() {
            let made = match changes.peek() {
                Some(((next, _), before)) if next == key => before.as_ref(),
                Some(_) | None => self.keys.rows.get(key.as_str()),
            };
            let fits = made.is_none_or(|record| record.meta.mod_revision == *revision);
            ensure("the past leads to the present", fits, || {
                format!("key {key} was changed at revision {revision}, and then stood at {:?}", made.map(|r| r.meta))
            })?;
        }
        Ok(())
    }

    fn configs_have_the_hash_of_their_data(&self) -> Result<(), Violation> {
        let present = self.configs.rows.iter();
        let past = self.configs.past.iter().map(|((id, _), record)| (id, record));
        present.chain(past).try_for_each(|(id, record)| {
            let matches = record.content_hash == content_hash(&record.data) && record.revision <= self.revision();
            ensure("a config has the hash of its data", matches, || format!("config {id} version {}", record.version))
        })
    }

    fn leadership_began_in_the_log(&self) -> Result<(), Violation> {
        let Some(record) = self.leadership() else { return Ok(()) };
        let began = self.applied().is_some_and(|applied| record.leadership.get() <= applied.get());
        ensure("a leadership began at an entry of the log", began, || format!("{record:?}, applied {:?}", self.applied))
    }

    fn windows_keep_to_their_limits(&self) -> Result<(), Violation> {
        let (past, requests) = (self.keys.history.table(), &self.requests.rows);
        let within = past.bytes() <= self.limits.history_bytes
            && requests.len() <= self.limits.requests
            && requests.bytes() <= self.limits.request_bytes;
        ensure("windows keep to their limits", within, || format!("past {past:?}, requests {requests:?}"))
    }

    fn past_configs_belong_to_a_config(&self) -> Result<(), Violation> {
        self.configs.past.iter().try_for_each(|((id, version), _)| {
            let older = self.configs.get(id).is_some_and(|record| record.version > *version);
            ensure("a past version is older than the present one", older, || format!("config {id} version {version}"))
        })
    }
}

fn counted<S: Schema>(name: &'static str, table: &Table<S>) -> Result<(), Violation> {
    let (kept, counted) = ((table.digest(), table.bytes()), table.recount());
    ensure(name, kept == counted, || format!("kept {kept:?}, counted {counted:?}"))
}

fn ensure(name: &'static str, holds: bool, details: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { name, details: details() }) }
}
