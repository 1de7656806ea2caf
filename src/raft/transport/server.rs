//! The end of a connection that answers. A stranger costs a slot for two seconds and a few kilobytes, then a counter.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::unconstrained;
use tokio::time::{sleep, timeout};

use super::connection::{HELLO_TIME, QUEUE, SILENCE, WINDOW, WriteError, write_frame, write_frames};
use super::frame::{BODY_LIMIT, Frame, FrameError, FrameReader, HELLO_LIMIT, Kind};
use super::hello::{Hello, Introduction, Refusal};
use super::metrics::{Closed, TransportMetrics};
use super::tls::{Layer, Stream};
use super::{Inbox, Lane};
use crate::encoding::{Decode, Encode};
use crate::tasks::{Exit, Tasks};

/// Connections at once: four lanes of each of six other members, several times over while they reconnect.
const CONNECTIONS: usize = 128;

/// How long to wait after a connection could not be accepted, for instance because the process has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) layer: Layer,
    pub(super) inbox: Arc<dyn Inbox>,
    pub(super) metrics: TransportMetrics,
    pub(super) tasks: Tasks,
}

impl Server {
    /// Accepts connections until the member stops.
    pub(super) async fn accept(self, listener: TcpListener) {
        let stopping = self.tasks.stopping();
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        while let Some(accepted) = stopping.run_until_cancelled(listener.accept()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the member port");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                self.metrics.closed(Closed::TooMany);
                continue;
            };
            let server = self.clone();
            self.tasks.spawn("member connection", Exit::Normal, async move {
                server.metrics.connections.inc();
                let stopping = server.tasks.stopping();
                if let Some(Err(cause)) = stopping.run_until_cancelled(server.serve_tcp(stream)).await {
                    server.metrics.closed(cause);
                }
                server.metrics.connections.dec();
                drop(slot);
            });
        }
    }

    async fn serve_tcp(&self, stream: TcpStream) -> Result<(), Closed> {
        // Without it a small frame waits for the one before; the connection works all the same.
        drop(stream.set_nodelay(true));
        match timeout(HELLO_TIME, self.layer.accept(stream)).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(_)) => Err(Closed::Tls),
            Err(_) => Err(Closed::SlowHello),
        }
    }

    /// Serves one connection until its caller closes it; says why this member did.
    pub(super) async fn serve(&self, stream: Box<dyn Stream>) -> Result<(), Closed> {
        let opened = timeout(HELLO_TIME, self.open(stream)).await.map_err(|_| Closed::SlowHello)?;
        let Some((caller, lane, reader, writer)) = opened? else { return Ok(()) };
        let (frames, to_write) = mpsc::channel(QUEUE);
        tokio::select! {
            biased;
            read = self.answer(caller, lane, reader, frames) => read,
            written = write_frames(writer, to_write) => match written {
                Ok(()) | Err(WriteError::Broken(_)) => Ok(()),
                Err(WriteError::Stuck) => Err(Closed::Stuck),
            },
        }
    }

    /// Reads the hello and answers it. `None` when the caller left before it said anything.
    async fn open(
        &self,
        stream: Box<dyn Stream>,
    ) -> Result<Option<(Introduction, Lane, FrameReader<ReadHalf<Box<dyn Stream>>>, WriteHalf<Box<dyn Stream>>)>, Closed>
    {
        let (reader, mut writer) = split(stream);
        let mut reader = FrameReader::new(reader);
        let frame = match reader.next(HELLO_LIMIT).await {
            Ok(Some(frame)) if frame.kind == Kind::Hello => frame,
            Ok(None) | Err(FrameError::Broken(_)) => return Ok(None),
            Ok(Some(_)) | Err(_) => return Err(Closed::Garbage),
        };
        let hello = Hello::from_bytes(frame.body).map_err(|_| Closed::Garbage)?;
        let (answer, refused) = match self.inbox.welcome(&hello) {
            Ok(introduction) => (Frame { kind: Kind::Welcome, number: 0, body: introduction.to_bytes() }, None),
            Err(refusal) => (Frame { kind: Kind::Refusal, number: 0, body: refusal.to_bytes() }, Some(refusal)),
        };
        // When it cannot be written, the connection ends at the next read.
        drop(write_frame(&mut writer, answer).await);
        match refused {
            None => Ok(Some((hello.from, hello.lane, reader, writer))),
            Some(Refusal { cause, text }) => {
                tracing::debug!(caller = %hello.from, lane = %hello.lane, text, "refused a connection");
                Err(Closed::Refused(cause))
            }
        }
    }

    /// Hands requests to the inbox, in order, and their replies to the writer, as they come.
    async fn answer(
        &self,
        caller: Introduction,
        lane: Lane,
        mut reader: FrameReader<ReadHalf<Box<dyn Stream>>>,
        frames: mpsc::Sender<Frame>,
    ) -> Result<(), Closed> {
        let caller = Arc::new(caller);
        let mut working = FuturesUnordered::new();
        loop {
            let frame = tokio::select! {
                biased;
                Some(reply) = working.next(), if !working.is_empty() => {
                    if frames.send(reply).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                frame = timeout(SILENCE, reader.next(BODY_LIMIT)), if working.len() < WINDOW => frame,
            };
            let frame = match frame {
                Err(_) => return Err(Closed::Silent),
                Ok(Ok(None) | Err(FrameError::Broken(_) | FrameError::Cut)) => return Ok(()),
                Ok(Err(_)) => return Err(Closed::Garbage),
                Ok(Ok(Some(frame))) => frame,
            };
            match frame.kind {
                Kind::Request => {
                    let reply = self.inbox.handle(Arc::clone(&caller), lane, frame.body);
                    // Outside of tokio's budget, which would put off a first poll and let later requests overtake.
                    let reply = unconstrained(reply);
                    working.push(async move { Frame { kind: Kind::Reply, number: frame.number, body: reply.await } });
                }
                Kind::Ping => {
                    let pong = Frame { kind: Kind::Pong, number: 0, body: Bytes::new() };
                    if frames.send(pong).await.is_err() {
                        return Ok(());
                    }
                }
                Kind::Hello | Kind::Welcome | Kind::Refusal | Kind::Reply | Kind::Pong => return Err(Closed::Garbage),
            }
        }
    }
}
