//! Candidates: each leads an election for a while, through any member, and acts only for as long as it was told that it may,
//! by a clock that is a little too fast or too slow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate::coordinator::{CoordinatorError, Write};
use quorate::machine::command::{ContestId, ContestKind, EndCause, Metadata, NewClaim, NewSession, Otherwise, Permits};
use quorate::machine::outcome::Rejection;
use quorate::types::{ContestName, FencingToken, Namespace, SessionId, Ttl};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Running};
use crate::violation::{Check, Violations};

/// Few, so that candidates meet.
const ELECTIONS: usize = 2;

/// How wrong the pace of a candidate's clock may be.
const DRIFT: f64 = 0.01;

/// A time in which a candidate led, as it saw it.
#[derive(Debug, Clone, Copy)]
struct Reign {
    session: SessionId,
    token: FencingToken,
    from: Instant,
    until: Instant,
}

/// The reigns of a run.
#[derive(Debug, Default)]
pub struct Reigns(Mutex<BTreeMap<usize, Vec<Reign>>>);

impl Reigns {
    fn add(&self, election: usize, reign: Reign) {
        self.0.lock().unwrap().entry(election).or_default().push(reign);
    }

    pub fn count(&self) -> u64 {
        self.0.lock().unwrap().values().map(|reigns| reigns.len() as u64).sum()
    }

    /// Holds them against the promise: one at a time, each with a greater token than the one before.
    pub fn judge(&self, violations: &Violations) {
        for (election, reigns) in &mut *self.0.lock().unwrap() {
            reigns.sort_by_key(|reign| reign.from);
            for pair in reigns.windows(2) {
                if pair[1].from < pair[0].until {
                    violations.add(Check::Exclusion, format!("two led election {election} at a time: {pair:?}"));
                }
                // A candidate that could not resign goes on with its grant.
                let goes_on = (pair[0].session, pair[0].token) == (pair[1].session, pair[1].token);
                if pair[1].token <= pair[0].token && !goes_on {
                    violations.add(Check::TokenOrder, format!("the token of election {election} went back: {pair:?}"));
                }
            }
        }
    }
}

pub struct Candidate {
    cluster: Arc<Cluster>,
    rng: SmallRng,
    election: usize,
    contest: ContestId,
    /// Seconds that pass for everybody while its clock counts one.
    pace: f64,
}

/// A session, and until when its client may act on it.
struct Session {
    id: SessionId,
    ttl: Duration,
    valid_until: Instant,
}

impl Candidate {
    pub fn new(number: usize, cluster: &Arc<Cluster>, mut rng: SmallRng) -> Self {
        let election = number % ELECTIONS;
        let namespace = Namespace::new("default").expect("a short name");
        let name = ContestName::new(format!("e{election}")).expect("a short name");
        let contest = ContestId { kind: ContestKind::Election, namespace, name };
        let pace = rng.random_range(1.0 - DRIFT..1.0 + DRIFT);
        Self { cluster: Arc::clone(cluster), rng, election, contest, pace }
    }

    /// Campaigns again and again, until it is dropped.
    pub async fn campaign_on(mut self) {
        loop {
            let Some(mut session) = self.begin().await else { continue };
            while let Some((token, from)) = self.win(&mut session).await {
                let until = self.lead(&mut session, token).await;
                self.cluster.reigns.add(self.election, Reign { session: session.id, token, from, until });
                if until == session.valid_until {
                    self.cluster.count(|counts| counts.reigns_to_the_deadline += 1);
                    break;
                }
                self.resign(&session, token).await;
            }
        }
    }

    async fn begin(&mut self) -> Option<Session> {
        let member = self.some_member().await?;
        let ttl = Ttl::from_millis(self.rng.random_range(500..1500)).expect("it is allowed");
        let (sent, write) = (Instant::now(), self.write());
        let new = NewSession { ttl, client: None, metadata: Metadata::new() };
        let created = member.life.outlives(member.coordinator.create_session(new, write)).await?.ok()?;
        let valid_until = sent + self.by_own_clock(created.effect.valid_for);
        Some(Session { id: created.effect.session, ttl: ttl.as_duration(), valid_until })
    }

    /// Waits for the grant; `None` when the session has ended, or may not be acted on any more.
    async fn win(&mut self, session: &mut Session) -> Option<(FencingToken, Instant)> {
        loop {
            let Some(member) = self.some_member().await else { continue };
            let (sent, write) = (Instant::now(), self.write());
            let (limit, deadline) = (self.soon(), write.deadline);
            let (contest, claim) = (self.contest.clone(), self.claim());
            let granted = async {
                let mut following = member.coordinator.claim(contest, session.id, claim, write).await?;
                following.granted(limit, deadline).await
            };
            match member.life.outlives(granted).await {
                Some(Ok((_, grant, valid_for))) => {
                    session.valid_until = session.valid_until.max(sent + self.by_own_clock(valid_for));
                    let now = Instant::now();
                    return Some((grant.token, now)).filter(|_| now < session.valid_until);
                }
                Some(Err(error)) if has_ended(&error) => {
                    self.expect_silence(session, &error);
                    return None;
                }
                Some(Err(_)) | None => {}
            }
        }
    }

    /// Leads for some time; until when.
    async fn lead(&mut self, session: &mut Session, token: FencingToken) -> Instant {
        let enough = self.soon();
        while Instant::now() < enough {
            // Now and then for longer than the session lasts: it knows nothing meanwhile, and notices it afterwards.
            let pause = if self.rng.random_bool(0.1) { 1.5 } else { 0.2 };
            sleep(session.ttl.mul_f64(self.rng.random_range(0.0..pause))).await;
            if Instant::now() >= session.valid_until {
                return session.valid_until;
            }
            let Some(member) = self.some_member().await else { continue };
            let (sent, deadline) = (Instant::now(), self.write().deadline);
            match member.life.outlives(member.coordinator.keep_alive(session.id, deadline)).await {
                Some(Ok(alive)) => {
                    if !alive.holds().any(|(contest, grant)| *contest == self.contest && grant.token == token) {
                        let text = format!("session {} lives without {token} of {}", session.id, self.contest);
                        self.cluster.violations.add(Check::Kept, text);
                    }
                    session.valid_until = session.valid_until.max(sent + self.by_own_clock(alive.valid_for));
                }
                Some(Err(error)) if has_ended(&error) => {
                    self.expect_silence(session, &error);
                    return session.valid_until;
                }
                Some(Err(_)) | None => {}
            }
        }
        Instant::now().min(session.valid_until)
    }

    /// Resigns until it is certain: what may still come about must not meet the next campaign.
    async fn resign(&mut self, session: &Session, token: FencingToken) {
        loop {
            let Some(member) = self.some_member().await else { continue };
            let (contest, write) = (self.contest.clone(), self.write());
            let release = member.coordinator.release(contest, session.id, Some(token), EndCause::GivenUp, write);
            if let Some(Ok(_) | Err(CoordinatorError::Rejected { .. })) = member.life.outlives(release).await {
                return;
            }
        }
    }

    /// Nobody may end a session for which its client was told that it lives still.
    fn expect_silence(&self, session: &Session, error: &CoordinatorError) {
        let left = session.valid_until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            let text = format!("session {} has ended {left:?} before its client's deadline: {error}", session.id);
            self.cluster.violations.add(Check::Kept, text);
        }
    }

    /// A member that is up; time passes also when there is none.
    async fn some_member(&mut self) -> Option<Running> {
        sleep(Duration::from_micros(self.rng.random_range(100..30_000))).await;
        let member = self.rng.random_range(0..self.cluster.size());
        self.cluster.running(member)
    }

    fn claim(&mut self) -> NewClaim {
        NewClaim {
            candidate: None,
            priority: self.rng.random_range(0..3),
            permits: Permits::Some(1),
            capacity: None,
            otherwise: Otherwise::Wait,
            metadata: Metadata::new(),
        }
    }

    fn write(&mut self) -> Write {
        Write { key: None, deadline: Instant::now() + Duration::from_millis(self.rng.random_range(50..1500)) }
    }

    fn soon(&mut self) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.random_range(50..2000))
    }

    fn by_own_clock(&self, valid_for: Duration) -> Duration {
        valid_for.mul_f64(self.pace)
    }
}

/// Whether the session is over.
fn has_ended(error: &CoordinatorError) -> bool {
    let CoordinatorError::Rejected { rejection, .. } = error else { return false };
    matches!(**rejection, Rejection::SessionOver { .. } | Rejection::NoSuchSession { .. })
}
