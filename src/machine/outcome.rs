//! What became of a command: an effect or a refusal. Both are outcomes: the command was applied, and every member came to
//! the same one.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::command::ConfigId;
use crate::types::{ClusterId, IdempotencyKey, Key, Leadership, Revision, Version};

/// The machine's answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The revision in which the command took effect; for one that changed nothing, the revision then.
    pub revision: Revision,
    /// Whether this is the remembered answer to an earlier command with the same idempotency key.
    pub origin: Origin,
    pub outcome: Outcome,
}

/// Whether an outcome is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Fresh,
    Remembered,
}

/// What became of a command.
pub type Outcome = Result<Effect, Rejection>;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    ClusterFounded,
    MemberAnnounced,
    LeadershipBegun(Leadership),
    KeyPut(KeyMeta),
    /// The key as it was; `None` when there was none, which changes nothing.
    KeyDeleted(Option<KeyMeta>),
    Transacted {
        succeeded: bool,
        results: Vec<OperationResult>,
    },
    /// `changed` is false when the content was there already.
    ConfigPut {
        version: Version,
        revision: Revision,
        changed: bool,
    },
    ConfigDeleted {
        existed: bool,
    },
    RequestsForgotten {
        count: u64,
    },
    Compacted {
        through: Revision,
    },
}

/// A key's numbers, as in etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMeta {
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// 1 when created, +1 with each put since.
    pub version: Version,
}

/// What one operation of a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationResult {
    Got(Option<(KeyMeta, Bytes)>),
    Put(KeyMeta),
    Deleted(Option<KeyMeta>),
}

/// Why a command changed nothing. The text says what was there and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    #[error("this is cluster {cluster} already; a cluster is founded once")]
    AlreadyFounded { cluster: ClusterId },
    #[error(
        "decided in leadership {named}, but leadership {current} has begun: decide again on the present Raft leader"
    )]
    Superseded { named: Leadership, current: Leadership },
    #[error("key \"{key}\" is not in the state that the request requires: {}", describe_key(.current))]
    KeyMismatch { key: Key, current: Option<KeyMeta> },
    #[error("config {config} is not in the state that the request requires: {}", describe_config(.current))]
    ConfigMismatch { config: ConfigId, current: Option<Version> },
    #[error("config {config} is owned by a custom resource: change the resource instead")]
    Managed { config: ConfigId },
    #[error("config {config} has no version {version} to roll back to: {}", describe_versions(*.oldest, *.newest))]
    /// The versions that there are; both zero when there is no such config.
    NoSuchVersion { config: ConfigId, version: Version, oldest: Version, newest: Version },
    #[error("idempotency key \"{key}\" was used for another request: use a new key for a new request")]
    RequestReused { key: IdempotencyKey },
    #[error("key \"{key}\" is written twice in one transaction: write each key once")]
    WrittenTwice { key: Key },
    #[error("{what}: {actual}, more than the limit of {limit}")]
    TooLarge { what: Measured, actual: u64, limit: u64 },
    #[error(
        "the state holds {used} bytes and the limit is {limit}: delete something first (deletes are always accepted)"
    )]
    StateFull { used: u64, limit: u64 },
    #[error("revision {revision} is not between the compacted {compacted} and the present {present}")]
    CannotCompact { revision: Revision, compacted: Revision, present: Revision },
}

/// What was too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    ValueBytes,
    ConfigBytes,
    Operations,
    HistoryLimit,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ValueBytes => "bytes in the value",
            Self::ConfigBytes => "bytes in the config's data",
            Self::Operations => "compares and operations in the transaction",
            Self::HistoryLimit => "versions to keep of the config",
        })
    }
}

fn describe_key(current: &Option<KeyMeta>) -> String {
    match current {
        Some(meta) => format!("it was last changed at revision {}", meta.mod_revision),
        None => "it does not exist".to_owned(),
    }
}

fn describe_versions(oldest: Version, newest: Version) -> String {
    match newest {
        Version::ZERO => "it does not exist".to_owned(),
        _ => format!("it keeps versions {oldest} to {newest}"),
    }
}

fn describe_config(current: &Option<Version>) -> String {
    match current {
        Some(version) => format!("it is at version {version}"),
        None => "it does not exist".to_owned(),
    }
}
