//! A campaign as a stream: it says where the candidate stands, and keeps its session alive, for as long as it is open.
//!
//! So it must not stay open for a client that is gone. One that closes the connection is gone at once. One whose host has lost
//! power or network acknowledges nothing, and the connection breaks after a TTL of that. One that is stopped, or behind a
//! proxy that takes everything, is found out only when it does not campaign again: the stream ends after some TTLs, and a new
//! campaign of the same session continues its grant.
//!
//! `validForMs` counts from when the client sent the request, so with every second of the stream the bound of clock drift
//! takes more of it away. The stream ends before that is felt.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::Response;
use axum::response::sse::Event as SseEvent;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::line::Line;
use super::problem::Problem;
use super::reply::{self, millis};
use super::{Api, wire};
use crate::coordinator::{CoordinatorError, ErrorKind, Following, Standing, Unavailable, Write};
use crate::machine::command::{ContestId, EndCause, NewClaim};
use crate::machine::contest::Grant;
use crate::tasks::Exit;
use crate::types::{FencingToken, SessionId};

/// A stream is as long as so many TTLs of its session: one that nobody reads keeps a dead leader in office for no longer.
const LENGTH: u32 = 5;

/// How long one look may take; then the next is tried.
const LOOK: Duration = Duration::from_secs(5);

/// Events that may wait for a slow client; it needs only the last.
const EVENTS: usize = 4;

/// How a stream is bound to its connection.
#[derive(Debug)]
pub struct Bond {
    /// The connection, where there is one.
    pub line: Option<Line>,
    /// Whether the grant is given up when the client closes the stream.
    pub release: bool,
}

/// Claims, and says from there on where the claim stands.
///
/// # Errors
/// When the claim is refused.
pub async fn stream(
    api: Api,
    contest: ContestId,
    session: SessionId,
    claim: NewClaim,
    bond: Bond,
    write: Write,
) -> Result<Response, Problem> {
    let permit = api.admit_wait()?;
    let following = api.coordinator.claim(contest.clone(), session, claim, write).await?;
    let (events, receiver) = mpsc::channel(EVENTS);
    let streaming = Streaming { api: api.clone(), contest, session, events, granted: None, _permit: permit };
    if let Some(line) = bond.line {
        line.break_after(streaming.ttl());
    }
    api.tasks.spawn("campaign", Exit::Normal, streaming.run(following, bond.release));
    Ok(reply::events(ReceiverStream::new(receiver).map(Ok::<_, Infallible>)))
}

/// A stream on its way.
struct Streaming {
    api: Api,
    contest: ContestId,
    session: SessionId,
    events: mpsc::Sender<SseEvent>,
    granted: Option<Grant>,
    _permit: OwnedSemaphorePermit,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By the client, or because it does not read.
    Disconnected,
    /// It is long enough, or there is nothing more to say.
    Over,
}

impl Streaming {
    async fn run(mut self, following: Following, release: bool) {
        let stopping = self.api.stopping.clone();
        // The end of this member is not the end of its clients: then nothing is released.
        let Some(end) = stopping.run_until_cancelled(self.follow(following)).await else { return };
        if let Some(grant) = self.granted.filter(|_| release && end == End::Disconnected) {
            let write = Write { key: None, deadline: Instant::now() + LOOK };
            let (contest, token) = (self.contest.clone(), Some(grant.token));
            let coordinator = &self.api.coordinator;
            if let Err(error) = coordinator.release(contest, self.session, token, EndCause::ClientExited, write).await {
                tracing::info!(%error, contest = %self.contest, "a grant whose stream was closed is not released");
            }
        }
    }

    async fn follow(&mut self, mut following: Following) -> End {
        let end = Instant::now() + self.ttl() * LENGTH;
        while Instant::now() < end {
            let told = match following.look(Instant::now() + LOOK).await {
                Ok((_, standing)) => self.tell(standing).await,
                // Another member can say more.
                Err(CoordinatorError::NotDone(Unavailable::Removed)) => return End::Over,
                // It may be able to say more next time, and the client knows its deadline.
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => Ok(()),
                Err(error) => {
                    tracing::debug!(%error, contest = %self.contest, "a campaign has ended");
                    drop(self.send("lost", &self.loss()).await);
                    return End::Over;
                }
            };
            if told.is_err() {
                return End::Disconnected;
            }
            tokio::select! {
                () = self.events.closed() => return End::Disconnected,
                _ = following.changed(end) => {}
            }
        }
        End::Over
    }

    /// That of the session; none when it has ended already.
    fn ttl(&self) -> Duration {
        let ttl = self.api.coordinator.state().sessions().get(self.session).map(|record| record.ttl.as_duration());
        ttl.unwrap_or_default()
    }

    async fn tell(&mut self, standing: Standing) -> Result<(), Disconnected> {
        match standing {
            Standing::Waiting { ahead } => self.send("waiting", &wire::StillWaiting { ahead: ahead as u64 }).await,
            Standing::Holding { grant, valid_for } => {
                let kind = if self.granted.replace(grant).is_some() { "heartbeat" } else { "granted" };
                let body = wire::Granted {
                    fencing_token: grant.token.get(),
                    since: grant.since.to_string(),
                    valid_for_ms: millis(valid_for),
                };
                self.send(kind, &body).await
            }
        }
    }

    /// Sends an event. A client that does not read is as good as gone: it must not be kept alive.
    async fn send(&self, kind: &str, body: &impl Serialize) -> Result<(), Disconnected> {
        let data = serde_json::to_string(body).expect("shapes of the API have only text keys");
        let event = SseEvent::default().event(kind).data(data);
        match timeout(LOOK, self.events.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Disconnected),
        }
    }

    /// Why the session or the grant has ended, as far as it is known still.
    fn loss(&self) -> wire::ClaimLost {
        let token = self.granted.map(|grant| grant.token);
        let state = self.api.coordinator.state();
        let recent = state.contests().get(&self.contest).map(|record| record.recent.as_slice()).unwrap_or_default();
        let transition = recent.iter().find(|transition| Some(transition.token) == token);
        let cause = transition.map(|transition| transition.cause).or_else(|| state.sessions().cause(self.session));
        wire::ClaimLost { cause: cause.map(|cause| cause.to_string()), fencing_token: token.map(FencingToken::get) }
    }
}

/// The client is gone.
struct Disconnected;
