//! Jepsen's recipe for locks: clients are paused in the middle of their work, for longer than they may hold what they hold.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::alone;
use crate::support::effort::Effort;
use crate::trio::Trio;

const CLIENTS: usize = 5;

/// From one pause of a client to the next.
const EVERY: Duration = Duration::from_secs(5);

/// How often it changes hands at least.
const HOLDERS: usize = 8;

/// How long it may take until enough has happened.
const LIMIT: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_paused_while_they_write_overlap_with_nobody_and_get_no_old_write_through() {
    let _alone = alone().await;
    let writes = Effort::from_environment().pick(1_000, 10_000);
    for ttl in [Duration::from_secs(2), Duration::from_millis(500)] {
        let store = Store { checks: true, ..Store::default() };
        let (store, mut reigns) =
            follow_recipe(ttl, store, |store| store.written >= writes && store.refused > 0 && store.holders > HOLDERS)
                .await;
        println!("TTL {ttl:?}: {} writes, {} refused, {} holders", store.written, store.refused, store.holders);
        assert_eq!(store.stale, 0, "a write with an older token came through");
        reigns.sort_by(|one, other| one.from.total_cmp(&other.from));
        // Those who are paused at the end have not told of theirs.
        assert!(reigns.len() > HOLDERS - CLIENTS, "{reigns:?}");
        for pair in reigns.windows(2) {
            assert!(pair[0].until <= pair[1].from, "two held it at a time: {pair:?}");
            assert!(pair[0].token < pair[1].token, "the token went back: {pair:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_check_tokens_takes_writes_of_those_who_hold_nothing_any_more() {
    let _alone = alone().await;
    let (store, _) = follow_recipe(Duration::from_millis(500), Store::default(), |store| store.stale > 0).await;
    println!("without the check: {} of {} writes were stale", store.stale, store.written);
}

/// A number behind fencing tokens, which are checked or not.
#[derive(Debug, Default)]
struct Store {
    checks: bool,
    newest: u64,
    number: u64,
    /// Tokens that have been here.
    holders: usize,
    written: usize,
    /// Writes with an older token than one that has been here.
    stale: usize,
    refused: usize,
}

impl Store {
    fn write(&mut self, token: u64, number: u64) -> StatusCode {
        if self.checks && token < self.newest {
            self.refused += 1;
            return StatusCode::CONFLICT;
        }
        self.written += 1;
        self.stale += usize::from(token < self.newest);
        self.holders += usize::from(token > self.newest);
        (self.newest, self.number) = (self.newest.max(token), number);
        StatusCode::OK
    }
}

type Shared = Arc<Mutex<Store>>;

async fn read(State(store): State<Shared>) -> String {
    store.lock().unwrap().number.to_string()
}

async fn write(State(store): State<Shared>, headers: HeaderMap, body: String) -> StatusCode {
    let token = headers["fencing-token"].to_str().unwrap().parse().unwrap();
    store.lock().unwrap().write(token, body.parse().unwrap())
}

/// A time in which a client held it, as it saw it, in seconds of the monotonic clock that all processes share.
#[derive(Debug)]
struct Reign {
    token: u64,
    from: f64,
    until: f64,
}

/// Lets clients add to the store, and pauses each of them again and again, until it is enough.
async fn follow_recipe(ttl: Duration, store: Store, is_enough: impl Fn(&Store) -> bool) -> (Store, Vec<Reign>) {
    let trio = Trio::running().await;
    let store: Shared = Arc::new(Mutex::new(store));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = Router::new().route("/", get(read).put(write)).with_state(Arc::clone(&store));
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let clients: Vec<_> = (0..CLIENTS).map(|number| client(number, &address, ttl, &trio.urls())).collect();
    let pausing: Vec<_> = clients.iter().enumerate().map(|(number, client)| pause(number, client, ttl)).collect();
    let deadline = Instant::now() + LIMIT;
    while !is_enough(&store.lock().unwrap()) {
        assert!(Instant::now() < deadline, "not enough within {LIMIT:?}: {:?}", store.lock().unwrap());
        sleep(Duration::from_millis(50)).await;
    }
    pausing.iter().for_each(tokio::task::JoinHandle::abort);
    let mut reigns = Vec::new();
    for client in clients {
        reigns.extend(reigns_of(client).await);
    }
    serving.abort();
    let store = std::mem::take(&mut *store.lock().unwrap());
    (store, reigns)
}

fn client(number: usize, store: &str, ttl: Duration, urls: &[String]) -> Child {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/guarded.py"));
    command.args([store, &format!("client-{number}"), &ttl.as_secs_f64().to_string()]).args(urls);
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Stops a client where it is, for longer than its TTL, once in every few seconds.
fn pause(number: usize, client: &Child, ttl: Duration) -> tokio::task::JoinHandle<()> {
    let pid = Pid::from_raw(i32::try_from(client.id().unwrap()).unwrap()).unwrap();
    let paused = ttl + Duration::from_millis(300);
    // Sometimes all are paused together, and sometimes one after the other.
    let mut rng = SmallRng::seed_from_u64(number as u64);
    tokio::spawn(async move {
        sleep(EVERY.mul_f64(rng.random())).await;
        loop {
            kill_process(pid, Signal::STOP).unwrap();
            sleep(paused).await;
            kill_process(pid, Signal::CONT).unwrap();
            sleep((EVERY - paused).mul_f64(rng.random_range(0.5..1.5))).await;
        }
    })
}

/// Ends a client; when it held what everybody wants.
async fn reigns_of(mut client: Child) -> Vec<Reign> {
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    client.kill().await.unwrap();
    let mut reigns = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let [token, from, until] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let [from, until] = [from, until].map(|text| text.parse().unwrap());
        reigns.push(Reign { token: token.parse().unwrap(), from, until });
    }
    reigns
}
