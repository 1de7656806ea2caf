//! A client of Quorate's HTTP API: one connection, one request at a time.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::peer::{Changes, Freshness, Peer};
use crate::api::wire;
use crate::client::events::Parser;

/// The longest that one call may wait for a grant.
const WAIT_MS: u64 = 60_000;

pub struct Quorate {
    http: SendRequest<Full<Bytes>>,
    host: String,
    _connection: AbortOnDropHandle<()>,
}

/// The events of a key.
pub struct Stream {
    body: Incoming,
    parser: Parser,
    /// Changes that have come and were not asked for yet.
    ready: usize,
    _connection: AbortOnDropHandle<()>,
}

impl Quorate {
    async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let request = Request::post(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(serde_json::to_vec(body)?))?;
        self.send(request).await
    }

    async fn send<T: DeserializeOwned>(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<T> {
        Ok(serde_json::from_slice(&self.exchange(request).await?)?)
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        self.http.ready().await?;
        let answer = self.http.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("Quorate answers {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// Whether this member leads, as far as it knows.
    pub async fn leads(&mut self) -> anyhow::Result<bool> {
        let request = Request::get("/v1/leader").header(header::HOST, &self.host);
        Ok(self.send::<wire::Leader>(request.body(Full::default())?).await?.this)
    }

    /// The term of the Raft leader that this member knows.
    pub async fn term(&mut self) -> anyhow::Result<u64> {
        let request = Request::get("/v1/leader").header(header::HOST, &self.host);
        Ok(self.send::<wire::Leader>(request.body(Full::default())?).await?.term)
    }

    /// Lets the most caught-up voter lead.
    pub async fn transfer(&mut self) -> anyhow::Result<()> {
        let transfer = wire::Transfer { to: None };
        self.post::<wire::Transferred>("/v1/cluster/transfer-leadership", &transfer).await.map(drop)
    }

    /// How many hold an election or wait for it.
    pub async fn candidates(&mut self, name: &str) -> anyhow::Result<usize> {
        let request = Request::get(format!("/v1/elections/bench/{name}")).header(header::HOST, &self.host);
        let election: wire::Election = self.send(request.body(Full::default())?).await?;
        Ok(election.leaders.len() + usize::try_from(election.waiting)?)
    }

    /// Whether a session lives, as far as this member knows; this is no sign of life.
    pub async fn lives(&mut self, session: &str) -> anyhow::Result<bool> {
        let request =
            Request::get(format!("/v1/sessions/{session}?consistency=stale")).header(header::HOST, &self.host);
        self.http.ready().await?;
        let answer = self.http.send_request(request.body(Full::default())?).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        Ok(status.is_success())
    }

    async fn release(&mut self, path: &str, session: &str, token: u64) -> anyhow::Result<()> {
        let cause = wire::ReleaseCause::Resigned;
        let release = wire::Release { session: session.to_owned(), fencing_token: Some(token), cause };
        self.post::<wire::Released>(path, &release).await.map(drop)
    }
}

impl Peer for Quorate {
    type Session = String;
    type Grant = u64;
    type Changes = Stream;

    async fn connect(url: &str) -> anyhow::Result<Self> {
        let host = url.strip_prefix("http://").context("the URL of a member begins with http://")?.to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        let (http, connection) = handshake(TokioIo::new(stream)).await?;
        #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { http, host, _connection: AbortOnDropHandle::new(connection) })
    }

    async fn begin_session(&mut self, ttl: Duration) -> anyhow::Result<String> {
        let ttl_ms = u64::try_from(ttl.as_millis())?;
        let session = wire::CreateSession { ttl_ms, client: None, metadata: Default::default() };
        Ok(self.post::<wire::SessionCreated>("/v1/sessions", &session).await?.session)
    }

    async fn keep_alive(&mut self, sessions: &[String]) -> anyhow::Result<()> {
        if let [session] = sessions {
            let request = Request::post(format!("/v1/sessions/{session}/keepalive")).header(header::HOST, &self.host);
            return self.send::<wire::KeptAlive>(request.body(Full::default())?).await.map(drop);
        }
        let body = wire::KeepAlive { sessions: sessions.to_vec() };
        let kept: wire::AllKeptAlive = self.post("/v1/sessions/keepalive", &body).await?;
        anyhow::ensure!(
            kept.alive.len() == sessions.len(),
            "Quorate has not kept every session alive: {:?}",
            kept.over
        );
        Ok(())
    }

    async fn lock(&mut self, name: &str, session: &String) -> anyhow::Result<u64> {
        let acquire =
            wire::Acquire { session: session.clone(), wait_ms: WAIT_MS, mode: None, permits: None, capacity: None };
        Ok(self.post::<wire::Granted>(&format!("/v1/locks/bench/{name}/acquire"), &acquire).await?.fencing_token)
    }

    async fn unlock(&mut self, name: &str, session: &String, token: u64) -> anyhow::Result<()> {
        self.release(&format!("/v1/locks/bench/{name}/release"), session, token).await
    }

    async fn campaign(&mut self, name: &str, session: &String) -> anyhow::Result<u64> {
        let campaign = wire::Campaign {
            session: session.clone(),
            candidate: None,
            priority: 0,
            wait_ms: WAIT_MS,
            release_on_disconnect: false,
            metadata: Default::default(),
        };
        Ok(self.post::<wire::Granted>(&format!("/v1/elections/bench/{name}/campaign"), &campaign).await?.fencing_token)
    }

    async fn resign(&mut self, name: &str, session: &String, token: u64) -> anyhow::Result<()> {
        self.release(&format!("/v1/elections/bench/{name}/resign"), session, token).await
    }

    async fn put(&mut self, key: &str, value: Bytes) -> anyhow::Result<()> {
        let request = Request::put(format!("/v1/kv/{key}")).header(header::HOST, &self.host);
        self.send::<wire::KeyPut>(request.body(Full::from(value))?).await.map(drop)
    }

    async fn get(&mut self, key: &str, freshness: Freshness) -> anyhow::Result<Bytes> {
        let consistency = match freshness {
            Freshness::Linearizable => "linearizable",
            Freshness::Stale => "stale",
        };
        let target = format!("/v1/kv/{key}?consistency={consistency}");
        let request = Request::get(target).header(header::HOST, &self.host);
        self.exchange(request.body(Full::default())?).await
    }

    async fn watch(mut self, key: &str) -> anyhow::Result<Stream> {
        let request = Request::get(format!("/v1/watch?prefix={key}")).header(header::HOST, &self.host);
        self.http.ready().await?;
        let answer = self.http.send_request(request.body(Full::default())?).await?;
        let status = answer.status();
        anyhow::ensure!(status.is_success(), "Quorate answers {status} to a watch");
        let body = answer.into_body();
        let mut stream = Stream { body, parser: Parser::default(), ready: 0, _connection: self._connection };
        // The state that the watch begins with.
        while !stream.take().await?.iter().any(|name| name == "snapshot") {}
        Ok(stream)
    }
}

impl Stream {
    /// The names of the events that come next.
    async fn take(&mut self) -> anyhow::Result<Vec<String>> {
        let frame = self.body.frame().await.context("Quorate has ended a watch")??;
        let Ok(bytes) = frame.into_data() else { return Ok(Vec::new()) };
        let events = self.parser.push(&bytes).context("Quorate sends no events")?;
        Ok(events.into_iter().map(|event| event.name).collect())
    }
}

impl Changes for Stream {
    async fn next(&mut self) -> anyhow::Result<()> {
        while self.ready == 0 {
            self.ready += self.take().await?.iter().filter(|name| *name == "put").count();
        }
        self.ready -= 1;
        Ok(())
    }
}
