//! The wire between members: whole messages on lanes, behind the trait [`Network`].
//!
//! The seam is the message, not the byte: [`TcpNetwork`] carries messages in frames over TCP, the simulator delays, loses,
//! doubles and reorders them, and both hand them to the same [`Inbox`]. What a message means is not known here; see
//! `messages.rs` one level up. Each lane to a peer has a connection of its own, so that a large append or a snapshot cannot
//! delay a heartbeat. The layers, from the bottom: `tls.rs` (bytes, maybe encrypted), `frame.rs` (frames), `hello.rs` (who
//! may talk to whom), `client.rs` and `server.rs` (the two ends of a connection), `probe.rs` (is anybody there?).

mod client;
mod connection;
mod frame;
pub mod hello;
mod metrics;
mod probe;
mod reachability;
mod server;
mod tcp;
#[cfg(test)]
mod tests;
pub mod tls;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::time::Instant;

pub use hello::{Hello, Introduction, Known, Refusal, RefusalCause, Seat};
pub use probe::Probe;
pub use tcp::{BindError, TcpNetwork};
pub use tls::Layer;

use super::status::MemberNode;
use crate::tasks::Tasks;
use crate::types::{MemberId, MemberName};

/// What carries messages between members.
pub trait Network: Send + Sync + 'static {
    /// Begins to deliver what other members send to `inbox`, and to introduce this member as the inbox says. Called once,
    /// before any call.
    fn open(&self, inbox: Arc<dyn Inbox>, tasks: &Tasks);

    /// Sends a request and waits for its reply until `deadline`. Requests on one lane to one peer arrive in the order of
    /// the calls (not of their first polls), as long as the connection lives.
    fn call(
        &self,
        peer: &Peer,
        lane: Lane,
        request: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>>;

    /// Looks whether `peer` is there: asks it on the control lane, over a connection of its own and until `deadline`.
    fn probe(&self, peer: &Peer, question: Bytes, deadline: Instant) -> BoxFuture<'static, Probe>;
}

/// Where a network delivers what other members send.
pub trait Inbox: Send + Sync + 'static {
    /// Who this member is now, as its hellos say.
    fn introduction(&self) -> Introduction;

    /// Whether the one who has answered a hello is the member that this one knows, as far as both are in one cluster.
    ///
    /// # Errors
    /// Why it is not.
    fn identify(&self, answered: &Introduction) -> Result<(), Refusal>;

    /// Lets a caller in and says who this member is, or refuses it.
    ///
    /// # Errors
    /// Why the caller may not use that lane of this member.
    fn welcome(&self, hello: &Hello) -> Result<Introduction, Refusal>;

    /// Answers one request. The first poll takes the request in, so that requests polled in order are taken in order.
    fn handle(&self, from: Arc<Introduction>, lane: Lane, request: Bytes) -> BoxFuture<'static, Bytes>;
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats, votes and transfers: small, and late is as bad as lost.
    Control,
    /// Log entries.
    Replication,
    /// Whole states.
    Snapshot,
    /// Proposals, reads and questions of one member to another; the only lane of members that have no seat yet.
    Forward,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Replication => "replication",
            Self::Snapshot => "snapshot",
            Self::Forward => "forward",
        })
    }
}

/// Another member, as it is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A member of the cluster.
    Member(MemberId, MemberNode),
    /// Whoever answers at that address, when one of the two has no place in a cluster yet.
    Initial { name: MemberName, address: String },
}

impl Peer {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Member(_, node) => &node.name,
            Self::Initial { name, .. } => name.as_str(),
        }
    }

    /// `host:port` of its member port.
    pub fn address(&self) -> &str {
        match self {
            Self::Member(_, node) => &node.address,
            Self::Initial { address, .. } => address,
        }
    }
}

/// Why a call has no reply. What matters is whether the request may have arrived.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// It has not left this member and never will.
    #[error("not sent to {peer}: {cause}")]
    NotSent { peer: String, cause: String },
    /// It may have arrived. Told at once when the connection breaks.
    #[error("no reply from {peer}: {cause}")]
    Lost { peer: String, cause: String },
}
