//! Candidates of many elections, who do exactly what the API says of `validForMs`, and what must be true of their reigns.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const TTL_MS: u64 = 3000;

/// Between two signs of life of a leader.
const BEAT: Duration = Duration::from_millis(300);

/// How long a member may take for a sign of life: three of them fit into a TTL.
const SIGN: Duration = Duration::from_secs(1);

/// How long a candidate waits in a member's queue before it asks again, and how long the member may take for it in all.
const QUEUE: Duration = Duration::from_secs(1);
const CAMPAIGN: Duration = Duration::from_secs(2);

/// What a call may take on its way, beyond what the member may take for it.
const WAY: Duration = Duration::from_millis(500);

/// Who campaigns for what.
#[derive(Debug, Clone)]
pub struct Contest {
    /// The elections are `work-0`, `work-1` and so on in this namespace.
    pub namespace: String,
    pub elections: usize,
    /// Of each election.
    pub candidates: usize,
    /// How long a candidate leads at most before it resigns.
    pub longest_reign: Duration,
}

/// A time in which a candidate led, as it saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reign {
    token: u64,
    /// When it began to campaign.
    asked: Instant,
    from: Instant,
    /// Until when it has led, or may act if it leads still.
    until: Instant,
}

/// What the candidates of each election have written down.
#[derive(Debug)]
struct Record(Vec<Mutex<Vec<Reign>>>);

impl Record {
    /// Notes a grant; where it stands.
    fn begin(&self, election: usize, reign: Reign) -> usize {
        let mut reigns = self.0[election].lock().unwrap();
        reigns.push(reign);
        reigns.len() - 1
    }

    fn set_end(&self, election: usize, at: usize, until: Instant) {
        self.0[election].lock().unwrap()[at].until = until;
    }

    /// The reigns of an election, one after the other.
    fn of(&self, election: usize) -> Vec<Reign> {
        let mut reigns = self.0[election].lock().unwrap().clone();
        reigns.sort_by_key(|reign| reign.from);
        reigns
    }
}

/// Candidates at work.
pub struct Candidates {
    contest: Contest,
    record: Arc<Record>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Candidates {
    /// Lets them campaign at the members at `urls`.
    pub fn start(http: &Client, urls: &[String], contest: &Contest) -> Self {
        let record = Arc::new(Record((0..contest.elections).map(|_| Mutex::default()).collect()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..contest.elections * contest.candidates {
            let candidate = Candidate {
                http: http.clone(),
                urls: urls.to_vec(),
                asked: number,
                number,
                requests: 0,
                rng: SmallRng::seed_from_u64(number as u64),
                contest: contest.clone(),
                record: Arc::clone(&record),
                stop: Arc::clone(&stop),
            };
            tasks.spawn(candidate.campaign_on());
        }
        Self { contest: contest.clone(), record, stop, tasks }
    }

    /// How many times anybody was granted anything.
    pub fn reigns(&self) -> usize {
        self.record.0.iter().map(|reigns| reigns.lock().unwrap().len()).sum()
    }

    /// The elections that nobody leads now.
    pub fn vacant(&self) -> Vec<usize> {
        let now = Instant::now();
        let is_led = |election: &usize| self.record.of(*election).iter().any(|reign| reign.until > now);
        (0..self.contest.elections).filter(|election| !is_led(election)).collect()
    }

    /// The longest time without a leader of each election, from the last one before `moment` on until now.
    pub fn longest_gaps_since(&self, moment: Instant) -> Vec<Duration> {
        let now = Instant::now();
        (0..self.contest.elections).map(|election| longest_gap(&self.record.of(election), moment, now)).collect()
    }

    /// Ends it, and holds everything that they were told against the promises; how many reigns there were.
    pub async fn judge(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        judge(&self.record)
    }
}

/// Nobody leads beside another, and no token is given twice or goes back, in whichever election.
fn judge(record: &Record) -> usize {
    let mut all = Vec::new();
    for election in 0..record.0.len() {
        let reigns = record.of(election);
        all.extend_from_slice(&reigns);
        for pair in reigns.windows(2) {
            assert!(pair[0].until <= pair[1].from, "two led election {election} at a time: {pair:?}");
            assert!(pair[0].token < pair[1].token, "the token of election {election} went back: {pair:?}");
        }
    }
    let tokens: BTreeSet<_> = all.iter().map(|reign| reign.token).collect();
    assert_eq!(tokens.len(), all.len(), "a token was given twice");
    for reign in &all {
        let known = all.iter().filter(|other| other.from < reign.asked).max_by_key(|other| other.token);
        assert!(known.is_none_or(|known| known.token < reign.token), "{reign:?} was granted after {known:?}");
    }
    all.len()
}

/// The longest time without a leader between the last reign that began before `since`, if there is one, and `now`.
fn longest_gap(reigns: &[Reign], since: Instant, now: Instant) -> Duration {
    let first = reigns.partition_point(|reign| reign.from < since).saturating_sub(1);
    let mut led_until = reigns.get(first).map_or(since, |reign| reign.until);
    let mut longest = Duration::ZERO;
    for reign in reigns.iter().skip(first + 1) {
        longest = longest.max(reign.from.saturating_duration_since(led_until));
        led_until = reign.until;
    }
    longest.max(now.saturating_duration_since(led_until))
}

/// One that leads for a while, resigns, and wants to lead again.
struct Candidate {
    http: Client,
    urls: Vec<String>,
    /// The member that is asked.
    asked: usize,
    number: usize,
    requests: usize,
    rng: SmallRng,
    contest: Contest,
    record: Arc<Record>,
    stop: Arc<AtomicBool>,
}

/// A session, and until when its client may act on it.
struct Session {
    name: String,
    valid_until: Instant,
}

impl Candidate {
    async fn campaign_on(mut self) {
        while !self.is_over() {
            let Some(mut session) = self.begin().await else { break };
            loop {
                let asked = Instant::now();
                let Some((token, from)) = self.win(&mut session).await else { break };
                let reign = Reign { token, asked, from, until: session.valid_until };
                let at = self.record.begin(self.election(), reign);
                let until = self.lead(&mut session, token, at).await;
                self.record.set_end(self.election(), at, until);
                if until == session.valid_until {
                    break;
                }
                self.resign(&session, token).await;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn election(&self) -> usize {
        self.number % self.contest.elections
    }

    fn path(&self) -> String {
        format!("/v1/elections/{}/work-{}", self.contest.namespace, self.election())
    }

    async fn begin(&mut self) -> Option<Session> {
        while !self.is_over() {
            let sent = Instant::now();
            let answer = self.post("/v1/sessions", &json!({ "ttlMs": TTL_MS }), SIGN).await;
            if let Some((StatusCode::CREATED, body)) = answer {
                let name = body["session"].as_str().unwrap().to_owned();
                return Some(Session { name, valid_until: sent + valid_for(&body) });
            }
        }
        None
    }

    /// Waits for the grant; `None` when the session has ended, or everything.
    async fn win(&mut self, session: &mut Session) -> Option<(u64, Instant)> {
        let campaign = format!("{}/campaign", self.path());
        while !self.is_over() {
            let (sent, waiting) = (Instant::now(), json!({"session": session.name, "waitMs": QUEUE.as_millis()}));
            match self.post(&campaign, &waiting, CAMPAIGN).await {
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
    async fn lead(&mut self, session: &mut Session, token: u64, at: usize) -> Instant {
        let enough = Instant::now() + self.rng.random_range(Duration::from_millis(200)..self.contest.longest_reign);
        while Instant::now() < enough && !self.is_over() {
            let sent = Instant::now();
            match self.post(&format!("/v1/sessions/{}/keepalive", session.name), &Value::Null, SIGN).await {
                Some((StatusCode::OK, body)) => {
                    let holds = body["holds"].as_array().unwrap();
                    let holds_it = holds.iter().any(|hold| token_of(hold) == token);
                    assert!(holds_it, "candidate {} lost {token} while its session lives: {body}", self.number);
                    session.valid_until = session.valid_until.max(sent + valid_for(&body));
                    self.record.set_end(self.election(), at, session.valid_until);
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
        let resign = format!("{}/resign", self.path());
        let body = json!({"session": session.name, "fencingToken": token});
        // The session may have ended, or an earlier try may have come through.
        let done = [StatusCode::OK, StatusCode::GONE, StatusCode::CONFLICT];
        while !self.is_over() {
            let answer = self.post(&resign, &body, SIGN).await;
            if answer.is_some_and(|(status, _)| done.contains(&status)) {
                return;
            }
        }
    }

    /// Nobody may end a session for which its client was told that it lives still.
    fn expect_silence(&self, session: &Session, answer: &Value) {
        let now = Instant::now();
        let (number, left) = (self.number, session.valid_until.saturating_duration_since(now));
        assert!(left.is_zero(), "the session of candidate {number} ended {left:?} too early: {answer}");
    }

    /// Asks a member, which may take `within` for it; after a failure the next. `None` when there was no answer.
    async fn post(&mut self, path: &str, body: &Value, within: Duration) -> Option<(StatusCode, Value)> {
        self.requests += 1;
        let asked = &self.urls[self.asked % self.urls.len()];
        let url = format!("{asked}{path}?timeoutMs={}", within.as_millis());
        let request = self.http.post(url).timeout(within + WAY);
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
            Ok((StatusCode::GATEWAY_TIMEOUT, _)) if within == CAMPAIGN => None,
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
