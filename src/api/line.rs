//! The connection of a client, as far as a call may rule over it: how long what was sent may go without an acknowledgement.
//!
//! A host that has lost power, or its network, says nothing any more, and a connection that only sends to it would stand for
//! a quarter of an hour. A call that answers for the client meanwhile must not wait for that.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection, as the calls that come over it see it: it is among the extensions of their requests.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// In milliseconds; zero leaves it to the system.
    patience: Arc<AtomicU32>,
}

impl Line {
    /// From what is sent next on, the connection breaks when the other end has acknowledged nothing of it for so long.
    pub fn break_after(&self, silence: Duration) {
        self.patience.store(u32::try_from(silence.as_millis()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

/// The connection itself.
#[derive(Debug)]
pub(super) struct Connected {
    stream: TcpStream,
    line: Line,
    /// What the system has been told.
    told: u32,
}

impl Connected {
    pub(super) fn new(stream: TcpStream, line: Line) -> Self {
        Self { stream, line, told: 0 }
    }

    /// Tells the system what a call has asked for since the last time.
    fn tell(&mut self) {
        let patience = self.line.patience.load(Ordering::Relaxed);
        if patience != self.told {
            self.told = patience;
            // Where it cannot be told, the length of a stream is the bound.
            #[cfg(target_os = "linux")]
            drop(
                socket2::SockRef::from(&self.stream).set_tcp_user_timeout(Some(Duration::from_millis(patience.into()))),
            );
        }
    }
}

impl AsyncRead for Connected {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Connected {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.tell();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tell();
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
