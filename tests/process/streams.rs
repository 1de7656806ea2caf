//! Leaders who lead by a stream, and are lost without closing it: the next one must not wait for long.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::alone;
use crate::trio::{PATIENCE, Trio, wait_for};

/// What a machine that is busy with other tests adds to what is promised.
const BUSY: Duration = Duration::from_secs(2);

/// The bound of clock drift for a TTL, and the time in which a new session may go unnoticed, are well below a tenth of it.
const PATIENT: f64 = 1.1;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_host_falls_silent_is_succeeded_although_its_stream_was_never_closed() {
    let _alone = alone().await;
    let (trio, ttl) = (Trio::running().await, Duration::from_millis(1500));
    let session = begin(&trio, ttl).await;
    let mut stream = TcpStream::connect(("127.0.0.1", trio.http_port(0))).await.unwrap();
    stream.write_all(campaign(&session).as_bytes()).await.unwrap();
    assert!(hears(&mut stream, "event: granted").await);
    let waiting = next_leader(&trio).await;
    // It says nothing for twice its TTL, and leads on, because its host acknowledges what comes.
    let began = Instant::now();
    while began.elapsed() < 2 * ttl {
        assert!(hears(&mut stream, "event: heartbeat").await);
    }
    assert!(!waiting.is_finished(), "it has lost, and its host was well");

    fall_silent(&stream);
    let silent = Instant::now();
    let granted = waiting.await.unwrap();
    let took = silent.elapsed();
    println!("with a TTL of {ttl:?}, the next one led {took:.1?} after the host of the leader fell silent");
    assert!(granted["fencingToken"].is_u64(), "{granted}");
    let promised = ttl.mul_f64(1.0 / 3.0 + 1.0 + PATIENT);
    assert!(took < promised + BUSY, "the next one leads after {took:?}, and {promised:?} are promised");
    assert!(!hears(&mut stream, "event").await, "something came through");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_process_is_stopped_is_succeeded_when_its_stream_has_come_to_its_end() {
    let _alone = alone().await;
    let (trio, ttl) = (Trio::running().await, Duration::from_millis(800));
    let body = json!({ "session": begin(&trio, ttl).await }).to_string();
    let url = format!("{}/v1/elections/default/main/campaign", trio.url(0));
    let mut curl = Command::new("curl");
    curl.args(["-sN", &url, "--json", &body, "-H", "accept: text/event-stream"]).kill_on_drop(true);
    let began = Instant::now();
    let mut leader = curl.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(leader.stdout.take().unwrap()).lines();
    assert_eq!(timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().as_deref(), Some("event: granted"));
    let waiting = next_leader(&trio).await;

    let pid = Pid::from_raw(i32::try_from(leader.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let granted = waiting.await.unwrap();
    let took = began.elapsed();
    println!(
        "with a TTL of {ttl:?}, the next one led {took:.1?} after a stream began that a stopped process does not read"
    );
    assert!(granted["fencingToken"].is_u64(), "{granted}");
    assert!(took > 3 * ttl, "its kernel takes what comes for {took:?} only, so something else has broken the stream");
    assert!(took < ttl.mul_f64(5.0 + PATIENT) + BUSY, "the next one leads after {took:?}");
}

/// The head and the body of a campaign as a stream.
fn campaign(session: &str) -> String {
    let body = json!({ "session": session }).to_string();
    let head = "POST /v1/elections/default/main/campaign HTTP/1.1\r\nHost: quorate\r\nAccept: text/event-stream";
    format!("{head}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Whether a text comes within two seconds.
async fn hears(stream: &mut TcpStream, text: &str) -> bool {
    let mut heard = String::new();
    let hearing = async {
        let mut buffer = [0; 4096];
        while !heard.contains(text) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return false,
                Ok(bytes) => heard.push_str(std::str::from_utf8(&buffer[..bytes]).unwrap()),
            }
        }
        true
    };
    timeout(Duration::from_secs(2), hearing).await.unwrap_or(false)
}

/// From here on whatever is sent to this end is dropped before it is acknowledged, as on the way to a host without power.
fn fall_silent(stream: &TcpStream) {
    const RETURN: u16 = 6;
    let take_nothing = SockFilter::new(RETURN, 0, 0, 0);
    SockRef::from(stream).attach_filter(&[take_nothing]).unwrap();
}

/// Lets a candidate wait for its turn; what it is granted in the end.
async fn next_leader(trio: &Trio) -> tokio::task::JoinHandle<Value> {
    let body = json!({"session": begin(trio, Duration::from_secs(60)).await, "waitMs": 30_000});
    let request = trio.http.post(format!("{}/v1/elections/default/main/campaign", trio.url(1)));
    let request = request.json(&body).timeout(Duration::from_secs(31));
    let waiting = tokio::spawn(async move { request.send().await.unwrap().json().await.unwrap() });
    wait_for("nobody waits", async || {
        (trio.get_json(0, "/v1/elections/default/main").await?["waiting"] == 1).then_some(())
    })
    .await;
    waiting
}

/// The name of a new session.
async fn begin(trio: &Trio, ttl: Duration) -> String {
    let body = json!({ "ttlMs": u64::try_from(ttl.as_millis()).unwrap() });
    let answer = trio.http.post(format!("{}/v1/sessions", trio.url(0))).json(&body).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["session"].as_str().unwrap().to_owned()
}
