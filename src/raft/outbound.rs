//! openraft's calls to other members, as messages on lanes. Every call has a deadline of its own.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use openraft::OptionalSend;
use openraft::alias::SnapshotOf;
use openraft::errors::{NetworkError as NetworkTrouble, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::time::{Instant, timeout};

use super::guard::Guard;
use super::messages::{Reply, Request};
use super::snapshot_store::SnapshotFile;
use super::status::MemberNode;
use super::transport::{Lane, Network, NetworkError, Peer};
use super::type_config::{TypeConfig, Vote};
use super::volume::{Volume, blocking};
use crate::encoding::{Decode, Encode};
use crate::types::MemberId;

/// Appends on their way to one member. Measured in the prototype: more brings nothing on one network, and each holds up to
/// 4 MiB.
const PIPELINE: usize = 32;

/// How long a member may take to make entries durable before the append is sent again: a slow disk, not a lost message,
/// since a broken connection is noticed at once.
const APPEND_TIME: Duration = Duration::from_secs(2);

/// The size of a snapshot's parts, and how long each may take.
const PART: u64 = 1 << 20;
const PART_TIME: Duration = Duration::from_secs(10);

/// How long a member may take to check and install a snapshot.
const INSTALL_TIME: Duration = Duration::from_secs(120);

/// Makes a client a member.
#[derive(Clone)]
pub(super) struct Outbound {
    pub(super) network: Arc<dyn Network>,
    pub(super) volume: Arc<dyn Volume>,
    pub(super) guard: Arc<Guard>,
}

/// Calls to one member.
pub(super) struct Client {
    outbound: Outbound,
    target: MemberId,
    peer: Peer,
    /// The lane of appends: heartbeats have one of their own.
    appends: Lane,
}

impl RaftNetworkFactory<TypeConfig> for Outbound {
    type Network = Client;

    async fn new_client(&mut self, target: MemberId, node: &MemberNode) -> Client {
        Client { outbound: self.clone(), target, peer: Peer::Member(target, node.clone()), appends: Lane::Replication }
    }

    async fn new_heartbeat_client(&mut self, target: MemberId, node: &MemberNode) -> Client {
        Client { appends: Lane::Control, ..self.new_client(target, node).await }
    }
}

/// A message that was answered, but not with what was asked for.
fn unexpected(peer: &Peer, reply: &Reply) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(format!("{} answered {reply}", peer.name())))
}

/// What was not sent will not be sent at once either; what was lost may be tried again.
fn trouble(error: &NetworkError) -> RPCError<TypeConfig> {
    match error {
        NetworkError::NotSent { .. } => RPCError::Unreachable(Unreachable::new(error)),
        NetworkError::Lost { .. } => RPCError::Network(NetworkTrouble::new(error)),
    }
}

impl Client {
    async fn call(&self, lane: Lane, request: Request, within: Duration) -> Result<Reply, RPCError<TypeConfig>> {
        if !self.outbound.guard.is_open() {
            return Err(RPCError::Unreachable(Unreachable::from_string("this member does not take part yet")));
        }
        let deadline = Instant::now() + within;
        let call = self.outbound.network.call(&self.peer, lane, request.to_bytes(), deadline);
        let bytes = call.await.map_err(|error| trouble(&error))?;
        Reply::from_bytes(bytes).map_err(|error| RPCError::Network(NetworkTrouble::new(&error)))
    }

    /// Sends one append, at once, so that appends leave in order; the future waits for the reply.
    fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        within: Duration,
    ) -> impl Future<Output = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> + Send + use<> {
        let (previous, peer, vote) = (request.prev_log_id, self.peer.clone(), request.vote);
        let (guard, target) = (Arc::clone(&self.outbound.guard), self.target);
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        let deadline = Instant::now() + within;
        let call = self.outbound.network.call(&peer, self.appends, Request::Append(request).to_bytes(), deadline);
        async move {
            let bytes = call.await.map_err(|error| trouble(&error))?;
            match Reply::from_bytes(bytes) {
                Ok(Reply::Appended(AppendEntriesResponse::Conflict)) if previous.is_none() => {
                    let text = format!("{} has a conflict before the first log entry", peer.name());
                    Err(RPCError::Unreachable(Unreachable::from_string(text)))
                }
                Ok(Reply::Appended(response)) => {
                    match &response {
                        AppendEntriesResponse::Success => guard.promised(target, &vote, last),
                        AppendEntriesResponse::PartialSuccess(upto) => guard.promised(target, &vote, *upto),
                        AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => {}
                    }
                    Ok(response.into_stream_result(previous, last))
                }
                Ok(other) => Err(unexpected(&peer, &other)),
                Err(error) => Err(RPCError::Network(NetworkTrouble::new(&error))),
            }
        }
    }

    /// Sends a snapshot part by part.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let unreadable = |error: std::io::Error| StreamingError::Unreachable(Unreachable::new(&error));
        let file = Arc::new(snapshot.snapshot);
        let length = file.length().map_err(unreadable)?;
        let begin = Request::BeginSnapshot { vote, meta: snapshot.meta, length };
        let transfer = match self.call(Lane::Snapshot, begin, PART_TIME).await? {
            Reply::SnapshotBegun { transfer } => transfer,
            other => return Err(unexpected(&self.peer, &other).into()),
        };
        let mut offset = 0;
        while offset < length {
            let mut bytes = vec![0; usize::try_from(PART.min(length - offset)).expect("at most one part")];
            let part = Arc::clone(&file);
            let read = blocking(&*self.outbound.volume, move || part.read_at(offset, &mut bytes).map(|()| bytes));
            let bytes = read.await.and_then(|read| read).map_err(unreadable)?;
            let next = offset + bytes.len() as u64;
            let part = Request::SnapshotPart { transfer, offset, bytes: bytes.into() };
            match self.call(Lane::Snapshot, part, PART_TIME).await? {
                Reply::SnapshotPartTaken => offset = next,
                other => return Err(unexpected(&self.peer, &other).into()),
            }
        }
        match self.call(Lane::Snapshot, Request::EndSnapshot { transfer }, INSTALL_TIME).await? {
            Reply::SnapshotInstalled(response) => Ok(response),
            other => Err(unexpected(&self.peer, &other).into()),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.append(request, option.hard_ttl()).await.map(AppendEntriesResponse::from)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let within = if self.appends == Lane::Control { option.hard_ttl() } else { APPEND_TIME };
        let results = requests.map(move |request| self.append(request, within)).buffered(PIPELINE);
        futures::future::ready(Ok(results.boxed())).boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let vote = request.vote;
        match self.call(Lane::Control, Request::Vote(request), option.hard_ttl()).await? {
            Reply::Voted(response) => {
                if response.vote_granted {
                    self.outbound.guard.promised(self.target, &vote, None);
                }
                Ok(response)
            }
            other => Err(unexpected(&self.peer, &other)),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Lane::Control, Request::PreVote(request), option.hard_ttl()).await? {
            Reply::Voted(response) => Ok(response),
            other => Err(unexpected(&self.peer, &other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let cancel = pin!(cancel);
        let sending = timeout(option.hard_ttl(), self.send_snapshot(vote, snapshot));
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => match sent {
                Ok(sent) => sent,
                Err(_) => {
                    let text = format!("a snapshot did not reach {} within {:?}", self.peer.name(), option.hard_ttl());
                    Err(StreamingError::Network(NetworkTrouble::from_string(text)))
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Lane::Control, Request::MakeWay(request), option.hard_ttl()).await? {
            Reply::MadeWay(response) => Ok(response),
            other => Err(unexpected(&self.peer, &other)),
        }
    }
}
