//! How large things may be. The limits decide outcomes, so they are part of what every member computes: they are the same
//! everywhere and change only with a feature level.

use super::outcome::{Measured, Rejection};

/// Bounds of the state and of what one command may bring. Tests take small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one key's value.
    pub value_bytes: u64,
    /// Bytes of one config's data, keys included.
    pub config_bytes: u64,
    /// Versions that a config may ask to keep.
    pub config_versions: u64,
    /// Compares and operations of one transaction.
    pub operations: u64,
    /// Bytes of the whole state; growth is refused from nine tenths of it.
    pub state_bytes: u64,
    /// Revisions in the window of the past.
    pub history_revisions: usize,
    /// Bytes in the window of the past.
    pub history_bytes: u64,
    /// Requests whose outcomes are remembered.
    pub requests: usize,
    /// Bytes of remembered outcomes.
    pub request_bytes: u64,
}

const MIB: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: MIB,
            config_bytes: MIB,
            config_versions: 100,
            operations: 128,
            state_bytes: 256 * MIB,
            history_revisions: 10_000,
            history_bytes: 32 * MIB,
            requests: 100_000,
            request_bytes: 32 * MIB,
        }
    }
}

impl Limits {
    /// Whether a value of so many bytes is allowed.
    pub(super) fn check_value(&self, bytes: u64) -> Result<(), Rejection> {
        check(Measured::ValueBytes, bytes, self.value_bytes)
    }

    /// Whether a config's data may have so many bytes and ask for so many versions.
    pub(super) fn check_config(&self, bytes: u64, versions: u64) -> Result<(), Rejection> {
        check(Measured::ConfigBytes, bytes, self.config_bytes)?;
        check(Measured::HistoryLimit, versions, self.config_versions)
    }

    /// Whether a state of `used` bytes may grow.
    pub(super) fn check_growth(&self, used: u64) -> Result<(), Rejection> {
        let limit = self.state_bytes / 10 * 9;
        if used < limit { Ok(()) } else { Err(Rejection::StateFull { used, limit }) }
    }
}

fn check(what: Measured, actual: u64, limit: u64) -> Result<(), Rejection> {
    if actual <= limit { Ok(()) } else { Err(Rejection::TooLarge { what, actual, limit }) }
}
