//! Both ends of a connection: the answering end on a pair of pipes with a clock that the test turns, the asking end over
//! loopback.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;

use super::connection::{HELLO_TIME, SILENCE, WRITE_TIME, write_frame};
use super::frame::{BODY_LIMIT, Frame, FrameReader, HELLO_LIMIT, Kind};
use super::metrics::{Closed, TransportMetrics};
use super::server::Server;
use super::tls::Layer;
use super::*;
use crate::encoding::{Decode, Encode};
use crate::types::{ClusterId, Incarnation};

/// Answers every request with itself; the first poll is what takes it.
struct Echo {
    introduction: Mutex<Introduction>,
    taken: Arc<Mutex<Vec<Bytes>>>,
    /// While set, requests are taken and not answered.
    holding: Arc<Notify>,
    hold: bool,
    welcomed: AtomicUsize,
}

fn introduction(name: &str, member: u64) -> Introduction {
    Introduction {
        name: MemberName::new(name).unwrap(),
        incarnation: Incarnation::from_random(1),
        seat: Some(Seat { cluster: ClusterId::from_random(1), member: MemberId::new(member) }),
        life: None,
    }
}

fn peer(network: &TcpNetwork) -> Peer {
    let incarnation = Incarnation::from_random(1).to_string();
    Peer::Member(
        MemberId::new(2),
        MemberNode { name: "b".to_owned(), address: network.address().to_string(), incarnation },
    )
}

impl Echo {
    fn new(name: &str, member: u64, hold: bool) -> Arc<Self> {
        Arc::new(Self {
            introduction: Mutex::new(introduction(name, member)),
            taken: Arc::default(),
            holding: Arc::default(),
            hold,
            welcomed: AtomicUsize::new(0),
        })
    }
}

impl Inbox for Echo {
    fn introduction(&self) -> Introduction {
        self.introduction.lock().unwrap().clone()
    }

    fn welcome(&self, hello: &Hello) -> Result<Introduction, Refusal> {
        self.welcomed.fetch_add(1, Ordering::Relaxed);
        hello::admit(&self.introduction(), Known::default(), hello)?;
        Ok(self.introduction())
    }

    fn identify(&self, _: &Introduction) -> Result<(), Refusal> {
        Ok(())
    }

    fn handle(&self, _: Arc<Introduction>, _: Lane, request: Bytes) -> BoxFuture<'static, Bytes> {
        let (taken, holding, hold) = (Arc::clone(&self.taken), Arc::clone(&self.holding), self.hold);
        Box::pin(async move {
            taken.lock().unwrap().push(request.clone());
            if hold {
                holding.notified().await;
            }
            request
        })
    }
}

/// The caller's end of a connection that is being served, and where its end is told.
async fn served(inbox: Arc<Echo>, room: usize) -> (DuplexStream, tokio::sync::oneshot::Receiver<Result<(), Closed>>) {
    let (tasks, _failures) = Tasks::new();
    let metrics = TransportMetrics::register(&Registry::new()).unwrap();
    let server = Server { layer: Layer::Plain, inbox, metrics, tasks: tasks.clone() };
    let (near, far) = duplex(room);
    let (ended, end) = tokio::sync::oneshot::channel();
    tasks.spawn("served", crate::tasks::Exit::Normal, async move {
        // A test that does not care for the end has dropped the other side.
        ended.send(server.serve(Box::new(far)).await).ok();
    });
    (near, end)
}

async fn say_hello(stream: &mut DuplexStream) {
    let wanted = Peer::Initial { name: MemberName::new("b").unwrap(), address: "b:1".to_owned() };
    let hello = Hello::new(introduction("a", 1), &wanted, Lane::Forward);
    write_frame(stream, Frame { kind: Kind::Hello, number: 0, body: hello.to_bytes() }).await.unwrap();
    let welcome = FrameReader::new(stream).next(HELLO_LIMIT).await.unwrap().unwrap();
    assert_eq!(welcome.kind, Kind::Welcome);
    assert_eq!(Introduction::from_bytes(welcome.body), Ok(introduction("b", 2)));
}

fn request(number: u64, body: &'static [u8]) -> Frame {
    Frame { kind: Kind::Request, number, body: Bytes::from_static(body) }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_hello_is_closed_in_time() {
    let began = Instant::now();
    let (_near, end) = served(Echo::new("b", 2, false), 1024).await;
    assert_eq!(end.await.unwrap(), Err(Closed::SlowHello));
    assert_eq!(began.elapsed(), HELLO_TIME);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_other_end_vanished_is_closed_and_one_that_pings_is_kept() {
    let (mut near, end) = served(Echo::new("b", 2, false), 1024).await;
    say_hello(&mut near).await;
    let began = Instant::now();
    for _ in 0..5 {
        tokio::time::sleep(SILENCE / 2).await;
        write_frame(&mut near, Frame { kind: Kind::Ping, number: 0, body: Bytes::new() }).await.unwrap();
        assert_eq!(FrameReader::new(&mut near).next(0).await.unwrap().unwrap().kind, Kind::Pong);
    }
    assert_eq!(end.await.unwrap(), Err(Closed::Silent));
    assert_eq!(began.elapsed(), SILENCE / 2 * 5 + SILENCE);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_its_replies_is_closed() {
    let (mut near, end) = served(Echo::new("b", 2, false), 1024).await;
    say_hello(&mut near).await;
    let began = Instant::now();
    write_frame(&mut near, request(1, &[7; 4000])).await.unwrap();
    assert_eq!(end.await.unwrap(), Err(Closed::Stuck));
    assert_eq!(began.elapsed(), WRITE_TIME);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_belong_after_a_hello_is_garbage() {
    let welcome = Frame { kind: Kind::Welcome, number: 0, body: Bytes::new() };
    let mut too_long = (u32::MAX).to_be_bytes().to_vec();
    too_long.push(4);
    let mut bytes = bytes::BytesMut::new();
    assert_eq!(welcome.gather(&mut bytes), None);
    for garbage in [bytes.to_vec(), too_long] {
        let (mut near, end) = served(Echo::new("b", 2, false), 1024).await;
        say_hello(&mut near).await;
        near.write_all(&garbage).await.unwrap();
        assert_eq!(end.await.unwrap(), Err(Closed::Garbage));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_caller_is_told_why() {
    let (mut near, end) = served(Echo::new("c", 2, false), 4096).await;
    let wanted = Peer::Initial { name: MemberName::new("b").unwrap(), address: "b:1".to_owned() };
    let hello = Hello::new(introduction("a", 1), &wanted, Lane::Forward);
    write_frame(&mut near, Frame { kind: Kind::Hello, number: 0, body: hello.to_bytes() }).await.unwrap();
    let refusal = FrameReader::new(&mut near).next(HELLO_LIMIT).await.unwrap().unwrap();
    assert_eq!(refusal.kind, Kind::Refusal);
    assert!(Refusal::from_bytes(refusal.body).unwrap().text.contains("this is c and not b"));
    assert_eq!(end.await.unwrap(), Err(Closed::Refused(RefusalCause::Member)));
    assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
}

/// A network that listens on loopback, and its owner.
async fn listening(inbox: Arc<Echo>, address: &str) -> (Arc<TcpNetwork>, Tasks) {
    let (tasks, _failures) = Tasks::new();
    let network = TcpNetwork::bind(address, Layer::Plain, &Registry::new()).await.unwrap();
    network.open(inbox, &tasks);
    (network, tasks)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test]
async fn calls_are_taken_in_order_and_many_share_one_connection() {
    let echo = Echo::new("b", 2, false);
    let (asking, _a) = listening(Echo::new("a", 1, false), "127.0.0.1:0").await;
    let (answering, _b) = listening(Arc::clone(&echo), "127.0.0.1:0").await;
    let peer = peer(&answering);
    let bodies: Vec<_> = (0..2000u32).map(|number| Bytes::copy_from_slice(&number.to_be_bytes())).collect();
    let calls = bodies.iter().map(|body| asking.call(&peer, Lane::Replication, body.clone(), soon()));
    let replies: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(replies == bodies, "each reply belongs to its request");
    assert!(*echo.taken.lock().unwrap() == bodies, "the requests were taken in order");
    assert_eq!(echo.welcomed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_call_knows_whether_it_has_left_this_member() {
    let (asking, _a) = listening(Echo::new("a", 1, false), "127.0.0.1:0").await;
    let holding = Echo::new("b", 2, true);
    let (answering, tasks) = listening(Arc::clone(&holding), "127.0.0.1:0").await;
    let peer = peer(&answering);
    let call = |within| asking.call(&peer, Lane::Forward, Bytes::from_static(b"x"), Instant::now() + within);

    let unanswered = call(Duration::from_millis(200)).await;
    assert!(matches!(unanswered, Err(NetworkError::Lost { .. })), "{unanswered:?}");
    let (broken, ()) = tokio::join!(call(Duration::from_secs(10)), async {
        while holding.taken.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        tasks.abort();
    });
    assert!(matches!(broken, Err(NetworkError::Lost { .. })), "{broken:?}");
    let refused = call(Duration::from_secs(10)).await;
    assert!(matches!(refused, Err(NetworkError::NotSent { .. })), "{refused:?}");
    let huge = asking.call(&peer, Lane::Forward, Bytes::from(vec![0; BODY_LIMIT + 1]), soon()).await;
    assert!(matches!(huge, Err(NetworkError::NotSent { .. })), "{huge:?}");
}

#[tokio::test]
async fn a_line_connects_again_when_the_other_end_or_this_members_place_has_changed() {
    let own = Echo::new("a", 1, false);
    let (asking, _a) = listening(Arc::clone(&own), "127.0.0.1:0").await;
    let (answering, tasks) = listening(Echo::new("b", 2, false), "127.0.0.1:0").await;
    let (peer, address) = (peer(&answering), answering.address().to_string());
    let call = || asking.call(&peer, Lane::Forward, Bytes::from_static(b"x"), soon());
    call().await.unwrap();
    tasks.abort();
    drop(answering);

    let echo = Echo::new("b", 2, false);
    let restarted = async {
        loop {
            if let Ok(network) = TcpNetwork::bind(&address, Layer::Plain, &Registry::new()).await {
                return network;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let restarted = tokio::time::timeout_at(soon(), restarted).await.unwrap();
    let (tasks, _failures) = Tasks::new();
    restarted.open(Arc::clone(&echo) as Arc<dyn Inbox>, &tasks);
    let answered = async {
        while call().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout_at(soon(), answered).await.unwrap();
    assert_eq!(echo.welcomed.load(Ordering::Relaxed), 1);

    *own.introduction.lock().unwrap() = introduction("a", 9);
    call().await.unwrap();
    assert_eq!(echo.welcomed.load(Ordering::Relaxed), 2, "the new introduction is said in a new hello");
}
