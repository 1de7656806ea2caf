//! What a member takes from outside and cannot compute: the time of day and chance.

use crate::types::Timestamp;

/// The seam for wall-clock time and randomness; the simulator has its own. Monotonic time is `tokio::time::Instant`.
pub trait Clock: Send + Sync + 'static {
    /// The time of day, for people; nothing is decided by it.
    fn wall(&self) -> Timestamp;

    /// 128 random bits, for identities.
    fn random(&self) -> u128;
}
