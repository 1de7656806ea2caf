//! Watches: server-sent events that can prove that they missed nothing.
//!
//! An event's id is `EPOCH-REVISION`; the epoch is the cluster's identity, so that a client of a restored cluster starts
//! again. When one revision changed several things, only the last of its events has an id: a client that was cut off in
//! between resumes before the revision and gets it whole.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;
use axum::response::sse::Event as SseEvent;
use futures::Stream;
use serde::Serialize;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::configs::{config_id, config_of};
use super::contests::contest;
use super::elections::{election_of, leader_of};
use super::extract::{Names, Query, header_text};
use super::keys::{LARGEST_PAGE, bounded, key_value, numbered, take_range};
use super::leader::leader_json;
use super::metrics::WatchGuard;
use super::problem::{Problem, ProblemKind};
use super::reply::{Reply, events};
use super::{Api, wire};
use crate::coordinator::{CoordinatorError, Read, Unavailable};
use crate::machine::Machine;
use crate::machine::command::{ConfigId, ContestId, ContestKind};
use crate::machine::event::Change;
use crate::machine::keys::KeyRange;
use crate::types::{Key, Revision, Version};
use crate::watch::{Filter, Next, Notice, Subscription};

/// How often a quiet watch says that it is alive and complete.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Watches that one member serves at a time.
pub const WATCHES: usize = 10_000;

/// Watch keys.
#[utoipa::path(
    get, path = "/v1/watch", tag = "keys",
    params(
        ("prefix" = Option<String>, Query, description = "keys that start with it; all when absent"),
        ("start" = Option<String>, Query, description = "instead of `prefix`: from this key on"),
        ("end" = Option<String>, Query, description = "with `start`: up to but without this key"),
        ("fromRevision" = Option<u64>, Query, description = "the first revision that is wanted; without it, or when this member does not keep it any more, a snapshot comes first"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default): begin with a state that is as new as any; `stale`: with what this member has"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait for the beginning, 1 to 60000, default 5000"),
        ("Last-Event-ID" = Option<String>, Header, description = "resume behind this event"),
    ),
    responses(
        (status = 200, description = "events `snapshot` (KeySnapshot), `put` and `delete` (KeyEvent), `heartbeat` (Heartbeat)", body = wire::KeyEvent, content_type = "text/event-stream"),
    )
)]
pub async fn keys(State(api): State<Api>, mut query: Query, headers: HeaderMap) -> Result<Response, Problem> {
    let topic = Topic::Keys(take_range(&mut query)?);
    let (from, read) = (query.take_number("fromRevision")?, query.take_read()?);
    query.finish()?;
    start(api, topic, from, read, &headers).await
}

/// Watch the Raft leader.
#[utoipa::path(
    get, path = "/v1/leader/watch", tag = "cluster",
    params(
        ("fromRevision" = Option<u64>, Query, description = "the first revision that is wanted; without it, or when this member does not keep it any more, a snapshot comes first"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default): begin with a state that is as new as any; `stale`: with what this member has"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait for the beginning, 1 to 60000, default 5000"),
        ("Last-Event-ID" = Option<String>, Header, description = "resume behind this event"),
    ),
    responses(
        (status = 200, description = "events `snapshot` and `leader` (LeaderEvent), `heartbeat` (Heartbeat)", body = wire::LeaderEvent, content_type = "text/event-stream"),
    )
)]
pub async fn leader(State(api): State<Api>, mut query: Query, headers: HeaderMap) -> Result<Response, Problem> {
    let (from, read) = (query.take_number("fromRevision")?, query.take_read()?);
    query.finish()?;
    start(api, Topic::Leader, from, read, &headers).await
}

/// Watch an election.
#[utoipa::path(
    get, path = "/v1/elections/{namespace}/{name}/watch", tag = "elections",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("fromRevision" = Option<u64>, Query, description = "the first revision that is wanted; without it, or when this member does not keep it any more, a snapshot comes first"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default): begin with a state that is as new as any; `stale`: with what this member has"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait for the beginning, 1 to 60000, default 5000"),
        ("Last-Event-ID" = Option<String>, Header, description = "resume behind this event"),
    ),
    responses(
        (status = 200, description = "events `snapshot`, `granted` and `lost` (ElectionEvent), `heartbeat` (Heartbeat)", body = wire::ElectionEvent, content_type = "text/event-stream"),
    )
)]
pub async fn election(
    State(api): State<Api>,
    Names((namespace, name)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let contest = contest(ContestKind::Election, &namespace, &name)?;
    let (from, read) = (query.take_number("fromRevision")?, query.take_read()?);
    query.finish()?;
    start(api, Topic::Election(contest), from, read, &headers).await
}

/// Watch a config, as a stream or, with `waitMs` and `version`, once until it is another version.
#[utoipa::path(
    get, path = "/v1/config/{namespace}/{name}/watch", tag = "configuration",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("fromRevision" = Option<u64>, Query, description = "the first revision that is wanted; without it, or when this member does not keep it any more, a snapshot comes first"),
        ("waitMs" = Option<u64>, Query, description = "long poll: answer when the version is another one, or 304 after so long, 0 to 60000"),
        ("version" = Option<u64>, Query, description = "with `waitMs`: the version that the client has, 0 for none"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default): begin with a state that is as new as any; `stale`: with what this member has"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait for the beginning, 1 to 60000, default 5000"),
        ("Last-Event-ID" = Option<String>, Header, description = "resume behind this event"),
    ),
    responses(
        (status = 200, description = "events `snapshot`, `config` and `delete` (ConfigEvent), `heartbeat` (Heartbeat); for a long poll the config", body = wire::ConfigEvent, content_type = "text/event-stream"),
        (status = 304, description = "a long poll has ended without a change"),
    )
)]
pub async fn config(
    State(api): State<Api>,
    Names((namespace, config)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = config_id(&namespace, &config)?;
    let (from, wait) = (query.take_number("fromRevision")?, query.take_number("waitMs")?);
    let (version, read) = (query.take_number("version")?.map(Version::new), query.take_read()?);
    query.finish()?;
    match (wait, version) {
        (None, None) => start(api, Topic::Config(id), from, read, &headers).await,
        (Some(wait @ 0..=60_000), version) => {
            long_poll(api, id, version.unwrap_or_default(), Duration::from_millis(wait), read).await
        }
        (Some(_), _) => Err(Problem::invalid("waitMs", "it is a number from 0 to 60000")),
        (None, Some(_)) => Err(Problem::invalid("version", "it needs `waitMs`")),
    }
}

/// Waits for another version than `known`. The first look is made as `read` says, so that a client that goes from one member
/// to another is not sent back in time; from there on this member's state only grows.
async fn long_poll(api: Api, id: ConfigId, known: Version, wait: Duration, read: Read) -> Result<Response, Problem> {
    let _guard = admit(&api)?;
    let deadline = Instant::now() + wait;
    let mut state = api.coordinator.read(read).await?;
    loop {
        let record = state.configs().get(&id);
        let version = record.map_or(Version::ZERO, |record| record.version);
        if version != known {
            let record = record.ok_or_else(|| Problem::not_found(format!("config {id}")))?;
            return Ok(Reply::read(state.revision(), &read, config_of(record)).tag(version.get()).json());
        }
        let mut subscription = api.coordinator.watch(Filter::Config(id.clone()), state.revision());
        tokio::select! {
            biased;
            () = api.stopping.cancelled() => return Err(CoordinatorError::NotDone(Unavailable::Stopping).into()),
            changed = timeout_at(deadline, subscription.next()) => if changed.is_err() {
                return Ok(Reply::read(state.revision(), &read, ()).tag(known.get()).not_modified().empty());
            },
        }
        state = api.coordinator.state();
    }
}

/// What is watched.
#[derive(Debug, Clone)]
enum Topic {
    Keys(KeyRange),
    Config(ConfigId),
    Election(ContestId),
    Leader,
}

fn admit(api: &Api) -> Result<WatchGuard, Problem> {
    let full = || {
        let detail = format!("this member serves {WATCHES} watches already: watch another member");
        Problem::new(ProblemKind::Unavailable, detail).retry_after(Duration::from_secs(1))
    };
    api.watches.clone().try_acquire_owned().map(|permit| api.metrics.watch(permit)).map_err(|_| full())
}

async fn start(
    api: Api,
    topic: Topic,
    from: Option<u64>,
    read: Read,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let guard = admit(&api)?;
    let epoch = epoch(&api);
    let malformed = || Problem::invalid("Last-Event-ID", "it is EPOCH-REVISION");
    let last = header_text(headers, &LAST_EVENT_ID)?;
    let resumed = last.map(|id| parse_id(id).ok_or_else(malformed)).transpose()?;
    let seen = match (resumed, from) {
        // Another cluster's revisions mean nothing here.
        (Some((known, _)), _) if known != epoch => None,
        (Some((_, revision)), _) => Some(revision),
        (None, Some(from)) => Some(Revision::new(from.saturating_sub(1))),
        (None, None) => None,
    };
    // A member that has just started may hold less than the client has seen: a watch never goes back.
    api.coordinator.read(Read { min_revision: read.min_revision.max(seen), ..read }).await?;
    let place = seen.map_or(Place::Anew, |seen| Place::Events(api.coordinator.watch(topic.filter(), seen)));
    let walk = Walk { place, api, topic, epoch, guard };
    Ok(events(walk.stream()))
}

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The first part of every event's id.
fn epoch(api: &Api) -> String {
    let status = api.coordinator.status();
    status.cluster.as_ref().map_or_else(|| "0".to_owned(), |cluster| cluster.as_str()[..8].to_owned())
}

fn parse_id(id: &str) -> Option<(String, Revision)> {
    let (epoch, revision) = id.split_once('-')?;
    Some((epoch.to_owned(), Revision::new(revision.parse().ok()?)))
}

/// One watch on its way.
struct Walk {
    place: Place,
    api: Api,
    topic: Topic,
    epoch: String,
    /// Counts this watch as long as it lives.
    guard: WatchGuard,
}

/// Where a watch is.
enum Place {
    /// A snapshot of the present must come next.
    Anew,
    /// In the snapshot of this state, behind this key.
    Snapshot(Arc<Machine>, Key),
    /// Behind a snapshot, or where the client asked to begin.
    Events(Subscription),
}

impl Walk {
    fn stream(self) -> impl Stream<Item = Result<SseEvent, Infallible>> {
        use futures::StreamExt;
        let batches = futures::stream::unfold(self, |mut walk| async move {
            let batch = walk.next().await?;
            Some((futures::stream::iter(batch.into_iter().map(Ok)), walk))
        });
        batches.flatten()
    }

    /// The events that come next, together; `None` when the watch must end.
    async fn next(&mut self) -> Option<Vec<SseEvent>> {
        let stopping = self.api.stopping.clone();
        let subscription = match &mut self.place {
            Place::Events(subscription) => subscription,
            Place::Anew => {
                let state = self.api.coordinator.state();
                return Some(vec![self.snapshot(&state, None)]);
            }
            Place::Snapshot(state, after) => {
                let (state, after) = (Arc::clone(state), after.clone());
                return Some(vec![self.snapshot(&state, Some(&after))]);
            }
        };
        let next = tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            next = timeout(HEARTBEAT, subscription.next()) => next,
        };
        match next {
            Ok(Next::Notice(notice)) => Some(self.notice(&notice)),
            Ok(Next::Behind) => {
                self.place = Place::Anew;
                Some(Vec::new())
            }
            Ok(Next::Gap { expected, found }) => {
                self.guard.count_gap();
                tracing::error!(%expected, %found, "a watch has missed an event and ends; this is a bug");
                None
            }
            Err(_) => {
                let revision = subscription.seen();
                Some(vec![self.event("heartbeat", &wire::Heartbeat { revision: revision.get() }, Some(revision))])
            }
        }
    }

    /// One event of a snapshot. Each is made when the one before has been taken, so that a large state is never here whole.
    fn snapshot(&mut self, state: &Arc<Machine>, after: Option<&Key>) -> SseEvent {
        let revision = state.revision();
        self.place = Place::Events(self.api.coordinator.watch(self.topic.filter(), revision));
        match &self.topic {
            Topic::Keys(range) => {
                let page = bounded(state.keys().range(range, after, LARGEST_PAGE));
                let kvs = page.keys.iter().map(|(key, record)| key_value(key, record)).collect();
                let body = wire::KeySnapshot { revision: revision.get(), kvs, more: page.more };
                let event = self.event("snapshot", &body, (!page.more).then_some(revision));
                if let Some((last, _)) = page.keys.last().filter(|_| page.more) {
                    self.place = Place::Snapshot(Arc::clone(state), last.clone());
                }
                event
            }
            Topic::Config(id) => {
                let config = state.configs().get(id).map(|record| config_of(record));
                let body = wire::ConfigEvent { revision: revision.get(), prev_revision: revision.get(), config };
                self.event("snapshot", &body, Some(revision))
            }
            Topic::Election(contest) => {
                let body = wire::ElectionEvent {
                    revision: revision.get(),
                    prev_revision: revision.get(),
                    leader: None,
                    lost: None,
                    election: election_of(&self.api, state, contest),
                };
                self.event("snapshot", &body, Some(revision))
            }
            Topic::Leader => {
                let leader = self.api.coordinator.leader().map(leader_json);
                let body = wire::LeaderEvent { revision: revision.get(), prev_revision: revision.get(), leader };
                self.event("snapshot", &body, Some(revision))
            }
        }
    }

    fn notice(&self, notice: &Notice) -> Vec<SseEvent> {
        let last = notice.changes.len().saturating_sub(1);
        let events = notice.changes.iter().enumerate().map(|(index, change)| {
            let id = (index == last).then_some(notice.revision);
            self.change(notice, change, id)
        });
        events.collect()
    }

    fn change(&self, notice: &Notice, change: &Change, id: Option<Revision>) -> SseEvent {
        let (revision, prev_revision) = (notice.revision.get(), notice.previous.get());
        match change {
            Change::KeyPut { key, meta, value } => {
                let kv = Some(numbered(key.as_str(), meta, value));
                let body = wire::KeyEvent { revision, prev_revision, key: key.to_string(), kv };
                self.event("put", &body, id)
            }
            Change::KeyDeleted { key } => {
                let body = wire::KeyEvent { revision, prev_revision, key: key.to_string(), kv: None };
                self.event("delete", &body, id)
            }
            Change::ConfigPut { record, .. } => {
                let body = wire::ConfigEvent { revision, prev_revision, config: Some(config_of(record)) };
                self.event("config", &body, id)
            }
            Change::ConfigDeleted { .. } => {
                self.event("delete", &wire::ConfigEvent { revision, prev_revision, config: None }, id)
            }
            Change::LeadershipBegun { member, term, .. } => {
                let state = self.api.coordinator.state();
                let record = state.member(*member);
                let leader = wire::Leader {
                    name: self.api.coordinator.name_of(*member).unwrap_or_default(),
                    member_id: member.get(),
                    url: record.map(|record| record.url.clone()),
                    term: term.get(),
                    since: Some(notice.at.to_string()),
                    this: self.api.coordinator.status().member == Some(*member),
                };
                self.event("leader", &wire::LeaderEvent { revision, prev_revision, leader: Some(leader) }, id)
            }
            Change::Granted { grant, claim, .. } => {
                let leader = Some(leader_of(&self.api, grant, claim));
                let body = wire::ElectionEvent { revision, prev_revision, leader, lost: None, election: None };
                self.event("granted", &body, id)
            }
            Change::Lost { grant, cause, .. } => {
                let fencing_token = Some(grant.token.get());
                let lost = Some(wire::ClaimLost { cause: Some(cause.to_string()), fencing_token });
                let body = wire::ElectionEvent { revision, prev_revision, leader: None, lost, election: None };
                self.event("lost", &body, id)
            }
            Change::SessionCreated { .. }
            | Change::SessionEnded { .. }
            | Change::Waiting { .. }
            | Change::Withdrawn { .. }
            | Change::ElectionSet { .. }
            | Change::ConsumerReported { .. }
            | Change::MemberAnnounced { .. }
            | Change::MemberForgotten { .. }
            | Change::SizeSet(_)
            | Change::Steered(_)
            | Change::ClusterFounded
            | Change::Compacted { .. } => {
                unreachable!("no topic asks for it")
            }
        }
    }

    fn event(&self, kind: &str, body: &impl Serialize, id: Option<Revision>) -> SseEvent {
        let data = serde_json::to_string(body).expect("shapes of the API have only text keys");
        let event = SseEvent::default().event(kind).data(data);
        match id {
            Some(revision) => event.id(format!("{}-{revision}", self.epoch)),
            None => event,
        }
    }
}

impl Topic {
    fn filter(&self) -> Filter {
        match self {
            Self::Keys(range) => Filter::Keys(range.clone()),
            Self::Config(id) => Filter::Config(id.clone()),
            Self::Election(contest) => Filter::Grants(contest.clone()),
            Self::Leader => Filter::Leadership,
        }
    }
}
