//! The end of a connection that asks: one line a peer and lane, which is a queue and the task that empties it into a
//! connection. The line dials when there is something to send, dials again after a bounded pause when that fails, and tells
//! every caller whether its request has left this member.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connection::{HELLO_TIME, PING_AFTER, QUEUE, SILENCE, WINDOW, write_frame, write_frames};
use super::frame::{BODY_LIMIT, Frame, FrameReader, HELLO_LIMIT, Kind};
use super::hello::{Hello, Introduction, Refusal, recognize};
use super::metrics::TransportMetrics;
use super::reachability::Reachability;
use super::tls::{Layer, Stream};
use super::{Inbox, Lane, NetworkError, Peer};
use crate::encoding::{Decode, DecodeError, Encode};

/// How long a line waits before it dials again: doubled after each failure between these bounds. The upper one is about an
/// election timeout, so that a member that comes back is heard before it starts an election.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A connection that lived so long was a good one: the next dial does not wait.
const GOOD_LIFE: Duration = Duration::from_secs(1);

/// How long a line without calls keeps its connection, and how long it then lives on.
const UNUSED: Duration = Duration::from_secs(60);

/// A request on its way to the line.
pub(super) struct Call {
    request: Bytes,
    ticket: Arc<Ticket>,
    reply: oneshot::Sender<Result<Bytes, NetworkError>>,
}

/// Decides between the caller that gives up and the line that sends: only one of them can take it.
#[derive(Debug, Default)]
struct Ticket(AtomicBool);

impl Ticket {
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Where calls to one peer on one lane are put.
#[derive(Clone)]
pub(super) struct Line {
    peer: String,
    queue: mpsc::Sender<Call>,
}

impl Line {
    /// A line and its task's future.
    pub(super) fn new(dialler: Dialler) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, queue) = mpsc::channel(WINDOW);
        let line = Self { peer: dialler.peer.name().to_owned(), queue: sender };
        (line, run(dialler, queue))
    }

    /// Whether its task has ended, so that a new line is needed.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Puts a request into the queue, at once, so that requests leave in the order of the calls; the future waits for the
    /// reply.
    pub(super) fn call(
        self,
        request: Bytes,
        deadline: Instant,
    ) -> impl Future<Output = Result<Bytes, NetworkError>> + Send {
        let ticket = Arc::new(Ticket::default());
        let (reply, answer) = oneshot::channel();
        let queued = if request.len() > BODY_LIMIT {
            Err("the message is longer than a frame may be")
        } else {
            let call = Call { request, ticket: Arc::clone(&ticket), reply };
            self.queue.try_send(call).map_err(|error| match error {
                TrySendError::Full(_) => "too many messages wait to be sent",
                TrySendError::Closed(_) => CLOSED,
            })
        };
        async move {
            let not_sent = |cause: &str| NetworkError::NotSent { peer: self.peer.clone(), cause: cause.to_owned() };
            let lost = |cause: &str| NetworkError::Lost { peer: self.peer.clone(), cause: cause.to_owned() };
            queued.map_err(not_sent)?;
            match timeout_at(deadline, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) if ticket.take() => Err(not_sent(CLOSED)),
                Ok(Err(_)) => Err(lost("the connection broke")),
                Err(_) if ticket.take() => Err(not_sent("no connection in time")),
                Err(_) => Err(lost("no reply in time")),
            }
        }
    }
}

const CLOSED: &str = "this member closed the connection";

impl Call {
    fn fail(self, peer: &Peer, cause: &str) {
        let error = NetworkError::NotSent { peer: peer.name().to_owned(), cause: cause.to_owned() };
        // The caller may have given up.
        drop(self.reply.send(Err(error)));
    }
}

/// What a line needs to connect.
pub(super) struct Dialler {
    pub(super) peer: Peer,
    pub(super) lane: Lane,
    pub(super) layer: Layer,
    pub(super) inbox: Arc<dyn Inbox>,
    pub(super) metrics: TransportMetrics,
    pub(super) reachability: Reachability,
    pub(super) stopping: CancellationToken,
}

pub(super) struct Connected {
    introduction: Introduction,
    /// Who is at the other end.
    answered: Introduction,
    reader: FrameReader<ReadHalf<Box<dyn Stream>>>,
    writer: WriteHalf<Box<dyn Stream>>,
}

impl Connected {
    /// Asks one question, and ends the connection.
    pub(super) async fn ask_once(mut self, request: Bytes) -> Option<Bytes> {
        write_frame(&mut self.writer, Frame { kind: Kind::Request, number: 1, body: request }).await.ok()?;
        let frame = self.reader.next(BODY_LIMIT).await.ok()??;
        (frame.kind == Kind::Reply).then_some(frame.body)
    }
}

/// Why a connection ended.
enum Ended {
    /// It broke, or the other end is gone.
    Broken(String),
    /// Nobody has used it for long.
    Unused,
    /// This member has another introduction now, so this call needs a new connection.
    Outdated(Call),
}

async fn run(dialler: Dialler, mut queue: mpsc::Receiver<Call>) {
    let stopping = dialler.stopping.clone();
    stopping.run_until_cancelled(serve(&dialler, &mut queue)).await;
    queue.close();
    while let Some(call) = queue.recv().await {
        call.fail(&dialler.peer, CLOSED);
    }
}

/// Connects whenever there is something to send, until nothing was for long.
async fn serve(dialler: &Dialler, queue: &mut mpsc::Receiver<Call>) {
    let mut pause = FIRST_PAUSE;
    let mut next = None;
    loop {
        let call = match next.take() {
            Some(call) => call,
            None => match timeout(UNUSED, queue.recv()).await {
                Ok(Some(call)) => call,
                Ok(None) | Err(_) => return,
            },
        };
        let (peer, lane) = (dialler.peer.name(), dialler.lane);
        let dialled = timeout(HELLO_TIME, dialler.dial()).await;
        let began = Instant::now();
        let cause = match dialled.unwrap_or_else(|_| Err("nobody answered in time".to_owned())) {
            Ok(connected) => {
                if dialler.reachability.reached() {
                    tracing::info!(peer, %lane, "connected again");
                }
                match converse(dialler, connected, call, queue).await {
                    Ended::Unused => continue,
                    Ended::Outdated(call) => {
                        next = Some(call);
                        continue;
                    }
                    Ended::Broken(cause) => cause,
                }
            }
            Err(cause) => {
                dialler.metrics.failed_dials.inc();
                call.fail(&dialler.peer, &cause);
                cause
            }
        };
        pause = if began.elapsed() >= GOOD_LIFE { FIRST_PAUSE } else { pause };
        if dialler.reachability.lost(&cause) {
            tracing::warn!(peer, address = dialler.peer.address(), %lane, cause, "no connection");
        }
        refuse_until(&dialler.peer, &cause, queue, began.max(Instant::now()) + pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Fails what comes until it is time to dial again: a caller learns at once that there is no connection.
async fn refuse_until(peer: &Peer, cause: &str, queue: &mut mpsc::Receiver<Call>, until: Instant) {
    loop {
        tokio::select! {
            biased;
            () = sleep_until(until) => return,
            call = queue.recv() => match call {
                Some(call) => call.fail(peer, cause),
                None => return,
            },
        }
    }
}

impl Dialler {
    /// Connects and introduces this member.
    async fn dial(&self) -> Result<Connected, String> {
        let address = self.peer.address();
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        self.introduce(stream).await.map_err(|unwelcome| unwelcome.to_string())
    }

    /// Introduces this member on a new connection, and makes sure of who answers.
    pub(super) async fn introduce(&self, stream: TcpStream) -> Result<Connected, Unwelcome> {
        let mute = |error: std::io::Error| Unwelcome::Mute(error.to_string());
        stream.set_nodelay(true).map_err(mute)?;
        let stream = self.layer.connect(stream, self.peer.address()).await.map_err(mute)?;
        let (reader, mut writer) = split(stream);
        let introduction = self.inbox.introduction();
        let hello = Hello::new(introduction.clone(), &self.peer, self.lane);
        let frame = Frame { kind: Kind::Hello, number: 0, body: hello.to_bytes() };
        write_frame(&mut writer, frame).await.map_err(|error| Unwelcome::Mute(error.to_string()))?;
        let mut reader = FrameReader::new(reader);
        let answer = reader.next(HELLO_LIMIT).await.map_err(|error| Unwelcome::Mute(error.to_string()))?;
        let closed = || Unwelcome::Mute("the connection was closed without an answer to the hello".to_owned());
        let answer = answer.ok_or_else(closed)?;
        let garbled = |error: DecodeError| Unwelcome::Mute(error.to_string());
        match answer.kind {
            Kind::Welcome => {
                let answered = Introduction::from_bytes(answer.body).map_err(garbled)?;
                let recognized = recognize(&introduction, &self.peer, &answered);
                recognized
                    .and_then(|()| self.inbox.identify(&answered))
                    .map_err(|refusal| Unwelcome::Stranger(refusal.to_string()))?;
                Ok(Connected { introduction, answered, reader, writer })
            }
            Kind::Refusal => {
                let refusal = Refusal::from_bytes(answer.body).map_err(garbled)?;
                Err(Unwelcome::Stranger(format!("it was {refusal}")))
            }
            Kind::Hello | Kind::Request | Kind::Reply | Kind::Ping | Kind::Pong => {
                Err(Unwelcome::Mute(format!("a {:?} where a welcome was due", answer.kind)))
            }
        }
    }
}

/// Why a new connection is of no use.
#[derive(Debug, Error)]
pub(super) enum Unwelcome {
    /// Whoever took it has not said who it is: a process that ends, or something in between.
    #[error("{0}")]
    Mute(String),
    /// A member answered that is another one, or refused.
    #[error("{0}")]
    Stranger(String),
}

/// Requests that wait for their reply. Dropped with the connection, which tells their callers that the reply is lost.
struct Pending {
    replies: Mutex<BTreeMap<u64, oneshot::Sender<Result<Bytes, NetworkError>>>>,
    window: Semaphore,
}

impl Pending {
    fn replies(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Result<Bytes, NetworkError>>>> {
        self.replies.lock().expect("nobody panics while holding the replies")
    }
}

/// Sends calls and takes their replies, until the connection ends.
async fn converse(dialler: &Dialler, connected: Connected, first: Call, queue: &mut mpsc::Receiver<Call>) -> Ended {
    let pending = Pending { replies: Mutex::default(), window: Semaphore::new(WINDOW) };
    let (frames, to_write) = mpsc::channel(QUEUE);
    tokio::select! {
        biased;
        ended = receive(connected.reader, &pending) => ended,
        ended = send(dialler, (&connected.introduction, &connected.answered), first, queue, frames, &pending) => ended,
        written = write_frames(connected.writer, to_write) => Ended::Broken(match written {
            Ok(()) => "nobody writes to it any more".to_owned(),
            Err(error) => error.to_string(),
        }),
    }
}

async fn receive(mut reader: FrameReader<ReadHalf<Box<dyn Stream>>>, pending: &Pending) -> Ended {
    loop {
        let frame = match timeout(SILENCE, reader.next(BODY_LIMIT)).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return Ended::Broken("the other end closed the connection".to_owned()),
            Ok(Err(error)) => return Ended::Broken(error.to_string()),
            Err(_) => return Ended::Broken(format!("silent for {SILENCE:?}")),
        };
        match frame.kind {
            Kind::Reply => {
                let waiting = pending.replies().remove(&frame.number);
                let Some(waiting) = waiting else { return Ended::Broken("a reply that nobody asked for".to_owned()) };
                pending.window.add_permits(1);
                // The caller may have given up.
                drop(waiting.send(Ok(frame.body)));
            }
            Kind::Pong => {}
            Kind::Hello | Kind::Welcome | Kind::Refusal | Kind::Request | Kind::Ping => {
                return Ended::Broken(format!("a {:?} where a reply was due", frame.kind));
            }
        }
    }
}

async fn send(
    dialler: &Dialler,
    (introduction, answered): (&Introduction, &Introduction),
    first: Call,
    queue: &mut mpsc::Receiver<Call>,
    frames: mpsc::Sender<Frame>,
    pending: &Pending,
) -> Ended {
    let gone = || Ended::Broken("the connection cannot be written".to_owned());
    let (mut next, mut used, mut number) = (Some(first), Instant::now(), 0);
    loop {
        let call = match next.take() {
            Some(call) => call,
            None => match timeout(PING_AFTER, queue.recv()).await {
                Ok(Some(call)) => call,
                Ok(None) => return Ended::Unused,
                Err(_) if used.elapsed() >= UNUSED => return Ended::Unused,
                Err(_) => {
                    let ping = Frame { kind: Kind::Ping, number: 0, body: Bytes::new() };
                    if frames.send(ping).await.is_err() {
                        return gone();
                    }
                    continue;
                }
            },
        };
        used = Instant::now();
        if dialler.inbox.introduction() != *introduction {
            return Ended::Outdated(call);
        }
        // The next process of that member may have begun since.
        if let Err(refusal) = dialler.inbox.identify(answered) {
            call.fail(&dialler.peer, &refusal.text);
            return Ended::Broken(refusal.text);
        }
        let Ok(permit) = pending.window.acquire().await else { return gone() };
        permit.forget();
        if !call.ticket.take() {
            pending.window.add_permits(1);
            continue;
        }
        number += 1;
        pending.replies().insert(number, call.reply);
        if frames.send(Frame { kind: Kind::Request, number, body: call.request }).await.is_err() {
            return gone();
        }
    }
}
