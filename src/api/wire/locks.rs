//! Locks and semaphores.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A lock. One that nobody holds is the same as one that never was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// The oldest grant first.
    pub holders: Vec<LockHolder>,
    /// How many permits a semaphore has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 3)]
    pub capacity: Option<u32>,
    /// How many wait.
    #[schema(example = 3)]
    pub waiting: u32,
    /// The first of them in the order in which they will be served, at most 100.
    pub queue: Vec<LockWaiter>,
}

/// A holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockHolder {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    #[schema(example = "pod-a")]
    pub client: Option<String>,
    #[schema(example = 17)]
    pub fencing_token: u64,
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub since: String,
    pub mode: LockMode,
    /// How many permits of a semaphore it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    pub permits: Option<u32>,
}

/// One that waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockWaiter {
    #[schema(example = "5d3c1a2b-18")]
    pub session: String,
    #[schema(example = "pod-b")]
    pub client: Option<String>,
    pub mode: LockMode,
    /// How many permits of a semaphore it wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    pub permits: Option<u32>,
}

/// Whether a holder is alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum LockMode {
    /// Nobody else holds it.
    #[default]
    Exclusive,
    /// Others may hold it, if they share it too.
    Shared,
}

/// What is wanted of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"session": "5d3c1a2b-17", "waitMs": 30000, "mode": "exclusive"}))]
pub struct Acquire {
    #[schema(example = "5d3c1a2b-17")]
    pub session: String,
    /// How long to wait for it, 0 to 60000; with 0 the answer is a `conflict` when it is held.
    #[serde(default)]
    #[schema(example = 0, maximum = 60000)]
    pub wait_ms: u64,
    /// Exclusive unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LockMode>,
    /// How many permits of a semaphore; instead of `mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1, minimum = 1)]
    pub permits: Option<u32>,
    /// How many permits the semaphore has; the first use fixes it, until nobody holds it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 3, minimum = 1)]
    pub capacity: Option<u32>,
}

/// What was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// How many grants.
    #[schema(example = 1)]
    pub revoked: u64,
    #[schema(example = 120)]
    pub revision: u64,
}
