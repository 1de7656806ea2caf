//! Whether this member still leads, asked of a quorum: what writes to objects that no rule of the API server guards.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::coordinator::{Consistency, Coordinator, Read};
use crate::machine::Machine;
use crate::types::Leadership;

/// A quorum that does not answer within this counts as none until it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// The newest state, if no other leadership had begun after this was called: so a Raft leader that is cut off from the other
/// members, and does not know it yet, writes nothing.
pub(super) async fn confirmed(coordinator: &Coordinator, leadership: Leadership) -> Option<Arc<Machine>> {
    let deadline = Instant::now() + PATIENCE;
    let read = Read { consistency: Consistency::Linearizable, min_revision: None, deadline };
    let state = coordinator.read(read).await.ok()?;
    let newest = state.leadership().map(|record| record.leadership);
    (newest == Some(leadership) && coordinator.own_leadership() == newest).then_some(state)
}
