//! One run of one member, from its start to its end. Whatever belongs to it asks here whether it is still alive: after a
//! crash nothing that it left behind may write to its disk, send a message or answer a client.

use tokio_util::sync::CancellationToken;

/// Clones share one life.
#[derive(Debug, Clone, Default)]
pub struct Life {
    over: CancellationToken,
}

impl Life {
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// From now on the disk and the network are gone for this life.
    pub fn end(&self) {
        self.over.cancel();
    }

    /// What `work` comes to, unless the life ends before.
    pub async fn outlives<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.over.run_until_cancelled(work).await.filter(|_| !self.is_over())
    }
}
