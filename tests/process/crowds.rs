//! Crowds of clients that connect and do not get to the point: they cost the others nothing.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::alone;
use crate::trio::{SIZE, Trio};

/// Connections on which nothing is ever sent.
const IDLE: usize = 5_000;

/// Requests whose head stops half-way, and as many with a body that does.
const SLOW: usize = 1_500;

/// Writes that are timed before the crowd comes, and at least as many beside it.
const CALLS: usize = 300;

/// What the slowest call beside the crowd may take more than the slowest one without it: less than an election takes, and far
/// less than a client's patience.
const COST: Duration = Duration::from_millis(250);

/// A member gives a request's head ten seconds.
const GIVEN_UP: Duration = Duration::from_secs(20);

const HALF: &[u8] = b"PUT /v1/kv/half HTTP/1.1\r\nHost: quorate\r\nContent-Length: 1000\r\n\r\nthis is not all";

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_slow_heads_and_half_requests_touch_neither_members_nor_other_clients() {
    let _alone = alone().await;
    let trio = Trio::running().await;
    let leader = trio.leader().await;
    let term = trio.get_json(leader, "/v1/leader").await.unwrap()["term"].clone();
    let members = trio.metric(leader, "quorate_member_connections").await;
    let port = trio.http_port(leader);
    let connect = async |first: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(first).await.unwrap();
        stream
    };
    let mut longest_before = Duration::ZERO;
    for _ in 0..CALLS / SIZE {
        longest_before = longest_before.max(write_everywhere(&trio).await);
    }
    let began = Instant::now();
    let mut crowd = Vec::new();
    for number in 0..IDLE {
        crowd.push(connect(b"").await);
        if number < SLOW {
            crowd.push(connect(b"GET /v1/leader HTTP/1.1\r\nHost").await);
            crowd.push(connect(HALF).await);
        }
    }
    println!("{} connections after {:.1?}", crowd.len(), began.elapsed());
    let (mut calls, mut longest) = (0, Duration::ZERO);
    while began.elapsed() < GIVEN_UP / 4 || calls < CALLS {
        longest = longest.max(write_everywhere(&trio).await);
        calls += SIZE;
    }
    println!("{calls} writes with a read each took at most {longest:.1?} beside them, {longest_before:.1?} before");
    assert!(longest <= longest_before + COST, "{longest:?} beside the crowd, {longest_before:?} without");
    assert_eq!(trio.get_json(leader, "/v1/leader").await.unwrap()["term"], term, "another leadership");
    assert!(trio.metric(leader, "quorate_member_connections").await >= members, "members are not connected");

    // Whoever does not send a head is shown out; the halves have more time for their bodies.
    let ended = crowd.into_iter().enumerate().filter(|(number, _)| !(*number < 3 * SLOW && number % 3 == 2));
    let ended = ended.map(async |(number, mut stream)| {
        let mut answer = Vec::new();
        let closed = timeout(GIVEN_UP, stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "connection {number} is open still");
    });
    join_all(ended).await;
}

/// How long the slowest member took for a write and a read.
async fn write_everywhere(trio: &Trio) -> Duration {
    let took = join_all((0..SIZE).map(|member| write_and_read(trio, member))).await;
    took.into_iter().max().expect("there are members")
}

/// How long it took to write a key through a member and to read it.
async fn write_and_read(trio: &Trio, member: usize) -> Duration {
    let began = Instant::now();
    let url = format!("{}/v1/kv/beside-{member}", trio.url(member));
    let written = trio.http.put(&url).body("value").send().await.unwrap();
    assert!(written.status().is_success(), "{written:?}");
    assert_eq!(trio.http.get(&url).send().await.unwrap().text().await.unwrap(), "value");
    began.elapsed()
}
