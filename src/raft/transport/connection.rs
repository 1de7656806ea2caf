//! What both ends of a connection have in common: the times after which the other end counts as gone, and the writer that
//! turns queued frames into few large writes.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::frame::Frame;

/// How long the other end may take to connect and to say its hello or welcome.
pub(super) const HELLO_TIME: Duration = Duration::from_secs(2);

/// How long a connection may be silent before its client asks for a sign of life.
pub(super) const PING_AFTER: Duration = Duration::from_secs(2);

/// How long a connection may be silent before its other end counts as gone: several pings.
pub(super) const SILENCE: Duration = Duration::from_secs(8);

/// How long one write may take before the other end counts as stuck.
pub(super) const WRITE_TIME: Duration = Duration::from_secs(5);

/// Requests to one peer on one lane that may wait to be sent, and as many that wait for their reply: more than a member's
/// callers can have in flight (see `proposals.rs`), so that a question for a status is not stuck behind commands that wait
/// for a quorum. What they hold is bounded by those callers, and by openraft for appends.
pub(super) const WINDOW: usize = 4096;

/// Frames that may wait to be written. Few, because a full queue is how the network's slowness reaches those who send.
pub(super) const QUEUE: usize = 64;

/// How many bytes are gathered into one write.
const GATHER: usize = 256 << 10;

/// Why a connection cannot be written any more.
#[derive(Debug, Error)]
pub(super) enum WriteError {
    #[error("the connection cannot be written: {0}")]
    Broken(io::Error),
    #[error("the other end does not read")]
    Stuck,
}

/// Writes what is in `queue`, until nobody can put anything there any more or the connection breaks.
pub(super) async fn write_frames<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut queue: mpsc::Receiver<Frame>,
) -> Result<(), WriteError> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        let mut long = frame.gather(&mut buffer);
        while long.is_none() && buffer.len() < GATHER {
            match queue.try_recv() {
                Ok(frame) => long = frame.gather(&mut buffer),
                Err(_) => break,
            }
        }
        write_all(&mut stream, &buffer, long).await?;
        buffer.clear();
    }
    Ok(())
}

/// Writes one frame.
pub(super) async fn write_frame<W: AsyncWrite + Unpin>(stream: &mut W, frame: Frame) -> Result<(), WriteError> {
    let mut buffer = BytesMut::new();
    let long = frame.gather(&mut buffer);
    write_all(stream, &buffer, long).await
}

/// Writes what was gathered, and the long body of the last frame.
async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    gathered: &[u8],
    long: Option<Bytes>,
) -> Result<(), WriteError> {
    let write = async {
        stream.write_all(gathered).await?;
        if let Some(body) = long {
            stream.write_all(&body).await?;
        }
        stream.flush().await
    };
    match timeout_at(Instant::now() + WRITE_TIME, write).await {
        Ok(written) => written.map_err(WriteError::Broken),
        Err(_) => Err(WriteError::Stuck),
    }
}
