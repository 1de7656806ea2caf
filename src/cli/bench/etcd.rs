//! A client of etcd's gRPC API (v3): keys, leases, and the locks and elections that etcd offers on top of them.
//!
//! The messages are the few that are needed, with the fields that are used, under the numbers of etcd's own definitions:
//! `rpc.proto`, `v3lock.proto` and `v3election.proto` of etcd 3.6.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::Streaming;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, client};
use tonic_prost::ProstCodec;

use super::peer::{Changes, Freshness, Peer};

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    /// All keys from the first up to this one; none for the first alone.
    #[prost(bytes = "bytes", tag = "2")]
    range_end: Bytes,
    /// Whether the answer may be of the state of whoever is asked.
    #[prost(bool, tag = "7")]
    serializable: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create_request: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct WatchResponse {
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bool, tag = "4")]
    canceled: bool,
    #[prost(message, repeated, tag = "11")]
    events: Vec<Ignored>,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseGrantRequest {
    /// Seconds.
    #[prost(int64, tag = "1")]
    ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(string, tag = "4")]
    error: String,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseKeepAliveRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseKeepAliveResponse {
    #[prost(int64, tag = "2")]
    id: i64,
    /// Seconds; none when the lease has ended.
    #[prost(int64, tag = "3")]
    ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LockRequest {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(int64, tag = "2")]
    lease: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LockResponse {
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct UnlockRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct CampaignRequest {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(int64, tag = "2")]
    lease: i64,
}

/// What was won, under a name.
#[derive(Clone, PartialEq, Message)]
pub struct LeaderKey {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(int64, tag = "3")]
    rev: i64,
    #[prost(int64, tag = "4")]
    lease: i64,
}

#[derive(Clone, PartialEq, Message)]
struct CampaignResponse {
    #[prost(message, optional, tag = "2")]
    leader: Option<LeaderKey>,
}

#[derive(Clone, PartialEq, Message)]
struct ResignRequest {
    #[prost(message, optional, tag = "1")]
    leader: Option<LeaderKey>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MoveLeaderRequest {
    #[prost(uint64, tag = "1")]
    target_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// What is of no interest in an answer.
#[derive(Clone, PartialEq, Message)]
struct Ignored {}

pub struct Etcd {
    grpc: client::Grpc<Channel>,
    beats: Option<Beats>,
}

/// The one stream on which a client keeps leases alive.
struct Beats {
    send: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl Etcd {
    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> anyhow::Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.grpc.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = self.grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await;
        Ok(answer.context("etcd refuses a call")?.into_inner())
    }

    /// Whether this member leads, as far as it knows.
    pub async fn leads(&mut self) -> anyhow::Result<bool> {
        let status = self.status().await?;
        Ok(status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader))
    }

    /// The number of this member.
    pub async fn member(&mut self) -> anyhow::Result<u64> {
        Ok(self.status().await?.header.context("etcd does not say who it is")?.member_id)
    }

    async fn status(&mut self) -> anyhow::Result<StatusResponse> {
        self.call("/etcdserverpb.Maintenance/Status", Ignored {}).await
    }

    /// Lets that member lead, when this one does.
    pub async fn move_leader(&mut self, target_id: u64) -> anyhow::Result<()> {
        let request = MoveLeaderRequest { target_id };
        self.call::<_, Ignored>("/etcdserverpb.Maintenance/MoveLeader", request).await.map(drop)
    }

    /// How many hold an election or wait for it: each has a key below its name.
    pub async fn candidates(&mut self, name: &str) -> anyhow::Result<usize> {
        let [key, range_end] = [format!("{name}/"), format!("{name}0")].map(Bytes::from);
        let request = RangeRequest { key, range_end, serializable: false };
        Ok(self.call::<_, RangeResponse>("/etcdserverpb.KV/Range", request).await?.kvs.len())
    }

    /// The same connection for another call at the same time.
    pub fn share(&self) -> Self {
        Self { grpc: self.grpc.clone(), beats: None }
    }

    /// Opens the stream. etcd says nothing before it has a request, so one for no lease at all goes first.
    async fn open_beats(&mut self) -> anyhow::Result<Beats> {
        let (send, requests) = mpsc::channel(IN_FLIGHT);
        send.send(LeaseKeepAliveRequest { id: 0 }).await?;
        self.grpc.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        let requests = Request::new(ReceiverStream::new(requests));
        let mut answers = self.grpc.streaming(requests, path, ProstCodec::default()).await?.into_inner();
        let _: LeaseKeepAliveResponse = answers.next().await.context("etcd has closed the stream")??;
        Ok(Beats { send, answers })
    }
}

/// The events of a key.
pub struct Stream {
    answers: Streaming<WatchResponse>,
    /// Changes that have come and were not asked for yet.
    ready: usize,
    /// etcd ends the watch with the stream of requests.
    _requests: mpsc::Sender<WatchRequest>,
}

impl Stream {
    async fn take(&mut self) -> anyhow::Result<WatchResponse> {
        let answer = self.answers.next().await.context("etcd has closed a watch")??;
        anyhow::ensure!(!answer.canceled, "etcd has ended a watch");
        Ok(answer)
    }
}

impl Changes for Stream {
    async fn next(&mut self) -> anyhow::Result<()> {
        while self.ready == 0 {
            self.ready += self.take().await?.events.len();
        }
        self.ready -= 1;
        Ok(())
    }
}

/// Requests that wait to be sent.
const IN_FLIGHT: usize = 1000;

impl Peer for Etcd {
    type Session = i64;
    type Grant = LeaderKey;
    type Changes = Stream;

    async fn connect(url: &str) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?;
        Ok(Self { grpc: client::Grpc::new(channel), beats: None })
    }

    async fn begin_session(&mut self, ttl: Duration) -> anyhow::Result<i64> {
        let ttl = i64::try_from(ttl.as_secs())?;
        let granted: LeaseGrantResponse =
            self.call("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { ttl }).await?;
        anyhow::ensure!(granted.error.is_empty(), "etcd grants no lease: {}", granted.error);
        Ok(granted.id)
    }

    /// Sends a request for each lease before it takes the first answer.
    async fn keep_alive(&mut self, leases: &[i64]) -> anyhow::Result<()> {
        let requests = leases.iter().map(|lease| LeaseKeepAliveRequest { id: *lease });
        let beats = match &mut self.beats {
            Some(beats) => beats,
            None => {
                let beats = self.open_beats().await?;
                self.beats.insert(beats)
            }
        };
        for request in requests {
            beats.send.send(request).await?;
        }
        for lease in leases {
            let answer = beats.answers.next().await.context("etcd has closed the stream")??;
            anyhow::ensure!(answer.id == *lease && answer.ttl > 0, "etcd has not kept lease {lease} alive");
        }
        Ok(())
    }

    async fn lock(&mut self, name: &str, lease: &i64) -> anyhow::Result<LeaderKey> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let request = LockRequest { name: name.clone(), lease: *lease };
        let LockResponse { key } = self.call("/v3lockpb.Lock/Lock", request).await?;
        Ok(LeaderKey { name, key, rev: 0, lease: *lease })
    }

    async fn unlock(&mut self, _: &str, _: &i64, grant: LeaderKey) -> anyhow::Result<()> {
        self.call::<_, Ignored>("/v3lockpb.Lock/Unlock", UnlockRequest { key: grant.key }).await.map(drop)
    }

    async fn campaign(&mut self, name: &str, lease: &i64) -> anyhow::Result<LeaderKey> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let request = CampaignRequest { name, lease: *lease };
        let won: CampaignResponse = self.call("/v3electionpb.Election/Campaign", request).await?;
        won.leader.context("etcd does not say what was won")
    }

    async fn resign(&mut self, _: &str, _: &i64, leader: LeaderKey) -> anyhow::Result<()> {
        let request = ResignRequest { leader: Some(leader) };
        self.call::<_, Ignored>("/v3electionpb.Election/Resign", request).await.map(drop)
    }

    async fn put(&mut self, key: &str, value: Bytes) -> anyhow::Result<()> {
        let request = PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), value };
        self.call::<_, Ignored>("/etcdserverpb.KV/Put", request).await.map(drop)
    }

    async fn get(&mut self, key: &str, freshness: Freshness) -> anyhow::Result<Bytes> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let request = RangeRequest { key, range_end: Bytes::new(), serializable: freshness == Freshness::Stale };
        let found: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        found.kvs.into_iter().next().map(|kv| kv.value).context("etcd does not have a key that was written")
    }

    async fn watch(mut self, key: &str) -> anyhow::Result<Stream> {
        let (send, requests) = mpsc::channel(1);
        let key = Bytes::copy_from_slice(key.as_bytes());
        send.send(WatchRequest { create_request: Some(WatchCreateRequest { key }) }).await?;
        self.grpc.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let requests = Request::new(ReceiverStream::new(requests));
        let answers = self.grpc.streaming(requests, path, ProstCodec::default()).await?.into_inner();
        let mut stream = Stream { answers, ready: 0, _requests: send };
        while !stream.take().await?.created {}
        Ok(stream)
    }
}
