//! A network that counts what a member sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use quorate::raft::transport::{Inbox, Lane, Network, NetworkError, Peer, Probe};
use quorate::tasks::Tasks;
use tokio::time::Instant;

/// How many messages a member has sent, by lane. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Messages(Arc<[AtomicU64; 4]>);

impl Messages {
    pub fn sent(&self, lane: Lane) -> u64 {
        self.0[lane as usize].load(Ordering::Relaxed)
    }
}

pub struct Counted<N> {
    network: Arc<N>,
    messages: Messages,
}

impl<N> Counted<N> {
    pub fn new(network: Arc<N>, messages: &Messages) -> Self {
        Self { network, messages: messages.clone() }
    }
}

impl<N: Network> Network for Counted<N> {
    fn open(&self, inbox: Arc<dyn Inbox>, tasks: &Tasks) {
        self.network.open(inbox, tasks);
    }

    fn call(
        &self,
        peer: &Peer,
        lane: Lane,
        request: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        self.messages.0[lane as usize].fetch_add(1, Ordering::Relaxed);
        self.network.call(peer, lane, request, deadline)
    }

    fn probe(&self, peer: &Peer, question: Bytes, deadline: Instant) -> BoxFuture<'static, Probe> {
        self.network.probe(peer, question, deadline)
    }
}
