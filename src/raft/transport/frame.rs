//! Frames: a length, a kind, a number that pairs a reply with its request, and a body.
//!
//! ```text
//! length of the rest: u32 | kind: u8 | number: u64 | body            (big endian)
//! ```
//!
//! A reader takes memory for what has arrived, never for what a length promises, and refuses a length above its limit.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What comes in front of a body: length, kind and number.
const LENGTH: usize = 4;
const HEADER: usize = 1 + 8;

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// Bodies of so many bytes are not gathered.
const LONG: usize = 64 << 10;

/// With less room than this in the buffer, a new one is taken.
const LEAST: usize = 4 << 10;

/// The longest body of a hello, a welcome or a refusal: names, ids and one sentence.
pub(super) const HELLO_LIMIT: usize = 4 << 10;

/// The longest body of a message: entries are sent in parts of at most 4 MiB, or one entry, which is a little longer than
/// the largest request (1.5 MiB).
pub(super) const BODY_LIMIT: usize = 16 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Hello,
    Welcome,
    Refusal,
    Request,
    Reply,
    /// Asks for a pong, when nothing else was said for a while.
    Ping,
    Pong,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Welcome => 2,
            Self::Refusal => 3,
            Self::Request => 4,
            Self::Reply => 5,
            Self::Ping => 6,
            Self::Pong => 7,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Refusal,
            4 => Self::Request,
            5 => Self::Reply,
            6 => Self::Ping,
            7 => Self::Pong,
            _ => return None,
        })
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) body: Bytes,
}

impl Frame {
    /// Adds the frame's bytes to `buffer`, but not those of a long body: it is given back, to be written next from where it is.
    ///
    /// # Panics
    /// When the body is longer than any limit, which senders check.
    pub(super) fn gather(self, buffer: &mut BytesMut) -> Option<Bytes> {
        let Self { kind, number, body } = self;
        let length = u32::try_from(HEADER + body.len()).expect("bodies are limited to some MiB");
        buffer.put_u32(length);
        buffer.put_u8(kind.number());
        buffer.put_u64(number);
        if body.len() >= LONG {
            return Some(body);
        }
        buffer.put_slice(&body);
        None
    }
}

/// Why no frame can be read any more.
#[derive(Debug, Error)]
pub(super) enum FrameError {
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the connection ended inside a frame")]
    Cut,
    #[error("a frame of {length} bytes, where {limit} are allowed")]
    TooLong { length: usize, limit: usize },
    #[error("a frame of {0} bytes, too few for its header")]
    TooShort(usize),
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
}

/// Takes frames out of a stream of bytes. Waiting for a frame may be given up and taken up again.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next frame, whose body has at most `limit` bytes; `None` when the stream ends between frames.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = take(&mut self.buffer, limit)? {
                return Ok(Some(frame));
            }
            if self.buffer.capacity() - self.buffer.len() < LEAST {
                self.buffer.reserve(CHUNK);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
            }
        }
    }
}

/// Takes the first frame out of `buffer`, when it is whole.
fn take(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length < HEADER {
        return Err(FrameError::TooShort(length));
    }
    if length > HEADER + limit {
        return Err(FrameError::TooLong { length, limit });
    }
    if let Some(kind) = buffer.get(LENGTH).filter(|kind| Kind::from_number(**kind).is_none()) {
        return Err(FrameError::UnknownKind(*kind));
    }
    if buffer.len() < LENGTH + length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(LENGTH + length).freeze();
    frame.advance(LENGTH);
    let kind = frame.get_u8();
    let kind = Kind::from_number(kind).ok_or(FrameError::UnknownKind(kind))?;
    let number = frame.get_u64();
    Ok(Some(Frame { kind, number, body: frame }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(frame: &Frame) -> BytesMut {
        let mut buffer = BytesMut::new();
        assert_eq!(frame.clone().gather(&mut buffer), None);
        buffer
    }

    fn request() -> Frame {
        Frame { kind: Kind::Request, number: 7, body: Bytes::from_static(b"body") }
    }

    #[test]
    fn a_frame_has_the_same_bytes_in_every_release() {
        assert_eq!(bytes(&request()).as_ref(), b"\0\0\0\x0d\x04\0\0\0\0\0\0\0\x07body");
        let kinds = [Kind::Hello, Kind::Welcome, Kind::Refusal, Kind::Request, Kind::Reply, Kind::Ping, Kind::Pong];
        assert_eq!(kinds.map(Kind::number), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_long_body_is_not_copied() {
        let (body, mut gathered) = (Bytes::from(vec![7; LONG]), bytes(&request()));
        let long = Frame { body: body.clone(), ..request() }.gather(&mut gathered).expect("it is long");
        assert_eq!(long.as_ptr(), body.as_ptr());
        gathered.extend_from_slice(&long);
        let mut whole = bytes(&request());
        whole.put_u32(u32::try_from(HEADER + LONG).unwrap());
        whole.extend_from_slice(&bytes(&request())[LENGTH..][..HEADER]);
        whole.extend_from_slice(&body);
        assert_eq!(gathered, whole);
    }

    #[tokio::test]
    async fn frames_are_read_back_whatever_the_pieces_in_which_they_arrive() {
        let ping = Frame { kind: Kind::Ping, number: 0, body: Bytes::new() };
        let mut buffer = bytes(&request());
        assert_eq!(ping.clone().gather(&mut buffer), None);
        for size in 1..=buffer.len() {
            let mut stream = tokio_test_pieces(&buffer, size);
            let mut reader = FrameReader::new(&mut stream);
            assert_eq!(reader.next(4).await.unwrap(), Some(request()));
            assert_eq!(reader.next(4).await.unwrap(), Some(ping.clone()));
            assert_eq!(reader.next(4).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let whole = bytes(&request());
        for end in 1..whole.len() {
            let mut reader = FrameReader::new(&whole[..end]);
            assert!(matches!(reader.next(4).await, Err(FrameError::Cut)), "cut at {end}");
        }
    }

    #[tokio::test]
    async fn garbage_and_giant_lengths_are_refused_before_they_take_memory() {
        let too_long = reader_error(b"\x7f\xff\xff\xff").await;
        assert!(matches!(too_long, FrameError::TooLong { length: 0x7fff_ffff, limit: 4 }), "{too_long}");
        let too_short = reader_error(b"\0\0\0\x08").await;
        assert!(matches!(too_short, FrameError::TooShort(8)), "{too_short}");
        let unknown = reader_error(b"\0\0\0\x09\x63").await;
        assert!(matches!(unknown, FrameError::UnknownKind(0x63)), "{unknown}");
        let http = reader_error(b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(matches!(http, FrameError::TooLong { .. }), "{http}");
    }

    async fn reader_error(bytes: &[u8]) -> FrameError {
        FrameReader::new(bytes).next(4).await.unwrap_err()
    }

    /// A stream that gives `size` bytes at a time.
    fn tokio_test_pieces(bytes: &[u8], size: usize) -> impl AsyncRead + Unpin {
        let pieces: Vec<_> = bytes.chunks(size).map(|piece| io::Result::Ok(Bytes::copy_from_slice(piece))).collect();
        tokio_util::io::StreamReader::new(futures::stream::iter(pieces))
    }
}
