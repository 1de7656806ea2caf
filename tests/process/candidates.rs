//! Candidates of many elections, who do exactly what the API says of `validForMs`, while the Raft leader is killed again and
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::alone;
use crate::support::effort::Effort;
use crate::trio::{SIZE, Trio, wait_for};

const ELECTIONS: usize = 20;
const CANDIDATES: usize = 3;
const TTL_MS: u64 = 3000;

/// Between two signs of life of a leader.
const BEAT: Duration = Duration::from_millis(300);

/// A time in which a candidate led, as it saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reign {
    token: u64,
    from: Instant,
    until: Instant,
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_raft_leader_every_second_overlaps_no_reigns_and_ends_none_that_is_kept_alive() {
    let _alone = alone().await;
    let rounds = Effort::from_environment().pick(12, 60);
    let mut trio = Trio::running().await;
    let stop = Arc::new(AtomicBool::new(false));
    let candidates = (0..ELECTIONS * CANDIDATES).map(|number| {
        let candidate = Candidate::new(&trio, number, Arc::clone(&stop));
        tokio::spawn(candidate.campaign_on())
    });
    let candidates: Vec<_> = candidates.collect();
    for _ in 0..rounds {
        let next = Instant::now() + Duration::from_secs(1);
        let leader = trio.leader().await;
        trio.kill(leader);
        trio.start(leader);
        sleep_until(next).await;
    }
    for member in 0..SIZE {
        trio.wait_until_ready(member).await;
    }
    for election in 0..ELECTIONS {
        wait_for(&format!("election {election} has no leader"), async || {
            let seen = trio.get_json(0, &path(election)).await?;
            seen["leaders"].as_array().is_some_and(|leaders| !leaders.is_empty()).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let reigns = join_all(candidates).await.into_iter().map(|reigns| reigns.expect("no candidate has a complaint"));
    judge(reigns.enumerate().map(|(number, reigns)| (number % ELECTIONS, reigns)), rounds);
}

fn judge(reigns: impl Iterator<Item = (usize, Vec<Reign>)>, rounds: usize) {
    let mut elections: BTreeMap<usize, Vec<Reign>> = BTreeMap::new();
    for (election, reigns) in reigns {
        elections.entry(election).or_default().extend(reigns);
    }
    let count: usize = elections.values().map(Vec::len).sum();
    println!("{count} reigns in {ELECTIONS} elections while the Raft leader was killed {rounds} times");
    assert!(count > ELECTIONS * CANDIDATES, "only {count} reigns");
    let tokens: BTreeSet<u64> = elections.values().flatten().map(|reign| reign.token).collect();
    assert_eq!(tokens.len(), count, "a token was given twice");
    for (election, reigns) in &mut elections {
        reigns.sort_by_key(|reign| reign.from);
        for pair in reigns.windows(2) {
            assert!(pair[0].until <= pair[1].from, "two led election {election} at a time: {pair:?}");
            assert!(pair[0].token < pair[1].token, "the token of election {election} went back: {pair:?}");
        }
    }
}

fn path(election: usize) -> String {
    format!("/v1/elections/default/work-{election}")
}

/// One that leads for a while, resigns, and wants to lead again.
struct Candidate {
    http: reqwest::Client,
    urls: Vec<String>,
    /// The member that is asked.
    asked: usize,
    number: usize,
    requests: usize,
    rng: SmallRng,
    stop: Arc<AtomicBool>,
    reigns: Vec<Reign>,
}

/// A session, and until when its client may act on it.
struct Session {
    name: String,
    valid_until: Instant,
}

impl Candidate {
    fn new(trio: &Trio, number: usize, stop: Arc<AtomicBool>) -> Self {
        let rng = SmallRng::seed_from_u64(number as u64);
        let (http, urls) = (trio.http.clone(), trio.urls());
        Self { http, urls, asked: number, number, requests: 0, rng, stop, reigns: Vec::new() }
    }

    async fn campaign_on(mut self) -> Vec<Reign> {
        while !self.is_over() {
            let Some(mut session) = self.begin().await else { break };
            while let Some((token, from)) = self.win(&mut session).await {
                let until = self.lead(&mut session, token).await;
                self.reigns.push(Reign { token, from, until });
                if until == session.valid_until {
                    break;
                }
                self.resign(&session, token).await;
            }
        }
        self.reigns
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn begin(&mut self) -> Option<Session> {
        while !self.is_over() {
            let sent = Instant::now();
            let answer = self.post("/v1/sessions", &json!({ "ttlMs": TTL_MS })).await;
            if let Some((StatusCode::CREATED, body)) = answer {
                let name = body["session"].as_str().unwrap().to_owned();
                return Some(Session { name, valid_until: sent + valid_for(&body) });
            }
        }
        None
    }

    /// Waits for the grant; `None` when the session has ended, or everything.
    async fn win(&mut self, session: &mut Session) -> Option<(u64, Instant)> {
        let campaign = format!("{}/campaign", path(self.number % ELECTIONS));
        while !self.is_over() {
            let sent = Instant::now();
            match self.post(&campaign, &json!({"session": session.name, "waitMs": 1000})).await {
                Some((StatusCode::OK, body)) => {
                    let valid_until = sent + valid_for(&body);
                    session.valid_until = session.valid_until.max(valid_until);
                    return Some((token_of(&body), Instant::now())).filter(|(_, from)| *from < session.valid_until);
                }
                Some((StatusCode::GONE, body)) => {
                    self.expect_silence(session, &body);
                    return None;
                }
                Some(_) | None => {}
            }
        }
        None
    }

    /// Leads for some time; until when.
    async fn lead(&mut self, session: &mut Session, token: u64) -> Instant {
        let enough = Instant::now() + Duration::from_millis(self.rng.random_range(200..3000));
        while Instant::now() < enough && !self.is_over() {
            let sent = Instant::now();
            match self.post(&format!("/v1/sessions/{}/keepalive", session.name), &Value::Null).await {
                Some((StatusCode::OK, body)) => {
                    let holds = body["holds"].as_array().unwrap();
                    let holds_it = holds.iter().any(|hold| token_of(hold) == token);
                    assert!(holds_it, "candidate {} lost {token} while its session lives: {body}", self.number);
                    session.valid_until = session.valid_until.max(sent + valid_for(&body));
                    sleep(BEAT).await;
                }
                Some((StatusCode::GONE, body)) => {
                    self.expect_silence(session, &body);
                    return session.valid_until;
                }
                Some(_) | None => {}
            }
            if Instant::now() >= session.valid_until {
                return session.valid_until;
            }
        }
        Instant::now().min(session.valid_until)
    }

    async fn resign(&mut self, session: &Session, token: u64) {
        let resign = format!("{}/resign", path(self.number % ELECTIONS));
        let body = json!({"session": session.name, "fencingToken": token});
        // The session may have ended, or an earlier try may have come through.
        let done = [StatusCode::OK, StatusCode::GONE, StatusCode::CONFLICT];
        while !self.is_over() && !self.post(&resign, &body).await.is_some_and(|(status, _)| done.contains(&status)) {}
    }

    /// Nobody may end a session for which its client was told that it lives still.
    fn expect_silence(&self, session: &Session, answer: &Value) {
        let now = Instant::now();
        let (number, left) = (self.number, session.valid_until.saturating_duration_since(now));
        assert!(left.is_zero(), "the session of candidate {number} ended {left:?} too early: {answer}");
    }

    /// Asks a member; after a failure the next. `None` when there was no answer.
    async fn post(&mut self, path: &str, body: &Value) -> Option<(StatusCode, Value)> {
        self.requests += 1;
        let url = format!("{}{path}?timeoutMs=2000", self.urls[self.asked % SIZE]);
        let request = self.http.post(url).timeout(Duration::from_secs(3));
        let request = if body.is_null() {
            request
        } else {
            request.json(body).header("idempotency-key", format!("candidate-{}-{}", self.number, self.requests))
        };
        let answer = async {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.json().await?))
        };
        match answer.await {
            Ok((status, body)) if !status.is_server_error() => Some((status, body)),
            // A place in the queue is kept; everything else is for another member to do.
            Ok((StatusCode::GATEWAY_TIMEOUT, _)) => None,
            Ok(_) | Err(_) => {
                self.asked += 1;
                sleep(Duration::from_millis(20)).await;
                None
            }
        }
    }
}

fn valid_for(body: &Value) -> Duration {
    Duration::from_millis(body["validForMs"].as_u64().unwrap())
}

fn token_of(body: &Value) -> u64 {
    body["fencingToken"].as_u64().unwrap()
}
