//! Why a call failed: did it happen, may the caller try again, whose fault.

use thiserror::Error;

use crate::machine::OutsideHistory;
use crate::machine::command::ContestId;
use crate::machine::outcome::Rejection;
use crate::raft::{ProposeError, TransferError, Unavailable};
use crate::types::{FencingToken, IdempotencyKey, MemberName, Revision, SessionId, SessionName};

/// Whether a failed call has changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    No,
    /// A part of it: the claim stands, and waits.
    Yes,
    /// It may have been applied, or may still be.
    Unknown,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CoordinatorError {
    /// The machine refused it, in the state of this revision.
    #[error("{rejection}")]
    Rejected { rejection: Box<Rejection>, revision: Revision },
    /// The cluster could not do it now; it was not done.
    #[error("{0}")]
    NotDone(Unavailable),
    /// The cluster did not say in time whether it was done. With a key, it does no harm to send it again.
    #[error("it is not known whether this was done: {cause}; {}", advice(key.as_ref()))]
    MaybeDone { cause: Unavailable, key: Option<IdempotencyKey> },
    #[error(transparent)]
    OutsideHistory(#[from] OutsideHistory),
    /// A read asked for a revision that did not come in time.
    #[error("revision {wanted} did not arrive in time; this member is at {present}")]
    NotThereYet { wanted: Revision, present: Revision },
    #[error("there is no member named {0}")]
    NoSuchMember(MemberName),
    #[error("session {0} is one of another cluster")]
    ForeignSession(SessionName),
    #[error("the metadata has {bytes} bytes, and at most {limit} are allowed")]
    MetadataTooLarge { bytes: usize, limit: u32 },
    /// There was no grant in time. The claim goes on waiting for as long as its session lives.
    #[error("{contest} was not granted in time: {ahead} are before you; you keep your place: ask again to go on")]
    StillWaiting { contest: ContestId, ahead: usize },
    /// The grant or the place in the queue is gone, though the session lives.
    #[error("session {session} has no claim on {contest} any more: it was given up, or taken away by an administrator")]
    ClaimOver { contest: ContestId, session: SessionId, token: Option<FencingToken> },
    #[error("{0}")]
    CannotTransfer(TransferError),
}

/// The kinds of failure, as metrics and status codes tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    Rejected,
    Unavailable,
    Timeout,
    Gone,
    NotFound,
}

impl CoordinatorError {
    /// Which kind it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Rejected { .. } | Self::CannotTransfer(_) | Self::MetadataTooLarge { .. } => ErrorKind::Rejected,
            Self::NotDone(Unavailable::Timeout)
            | Self::MaybeDone { .. }
            | Self::NotThereYet { .. }
            | Self::StillWaiting { .. } => ErrorKind::Timeout,
            Self::NotDone(Unavailable::NoRoom { .. }) => ErrorKind::Rejected,
            Self::NotDone(_) => ErrorKind::Unavailable,
            Self::OutsideHistory(_) | Self::ClaimOver { .. } => ErrorKind::Gone,
            Self::NoSuchMember(_) | Self::ForeignSession(_) => ErrorKind::NotFound,
        }
    }

    /// Whether it happened all the same.
    pub fn happened(&self) -> Happened {
        match self {
            Self::MaybeDone { .. } => Happened::Unknown,
            Self::StillWaiting { .. } => Happened::Yes,
            Self::Rejected { .. }
            | Self::NotDone(_)
            | Self::OutsideHistory(_)
            | Self::NotThereYet { .. }
            | Self::NoSuchMember(_)
            | Self::ForeignSession(_)
            | Self::MetadataTooLarge { .. }
            | Self::ClaimOver { .. }
            | Self::CannotTransfer(_) => Happened::No,
        }
    }

    /// Whether the same call may succeed later, and does no harm if it is made again.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::NotDone(_) | Self::NotThereYet { .. } | Self::StillWaiting { .. } => true,
            Self::Rejected { rejection, .. } => rejection.wants_room(),
            Self::MaybeDone { key, .. } => key.is_some(),
            Self::OutsideHistory(_)
            | Self::NoSuchMember(_)
            | Self::ForeignSession(_)
            | Self::MetadataTooLarge { .. }
            | Self::ClaimOver { .. }
            | Self::CannotTransfer(_) => false,
        }
    }

    /// Why a proposal that was made with this key has no outcome.
    pub(super) fn of_proposal(error: ProposeError, key: Option<IdempotencyKey>) -> Self {
        match error {
            ProposeError::NotApplied(cause) => Self::NotDone(cause),
            ProposeError::Unknown(cause) => Self::MaybeDone { cause, key },
        }
    }
}

/// What to do about an unknown outcome.
fn advice(key: Option<&IdempotencyKey>) -> &'static str {
    match key {
        Some(_) => "send it again with the same idempotency key",
        None => "read what is there before sending it again",
    }
}

impl From<TransferError> for CoordinatorError {
    fn from(error: TransferError) -> Self {
        match error {
            // It was begun, and may come about still.
            TransferError::Unavailable(cause @ Unavailable::Timeout) => Self::MaybeDone { cause, key: None },
            TransferError::Unavailable(cause) => Self::NotDone(cause),
            TransferError::NotAVoter(_) | TransferError::NobodyElse | TransferError::NotTaken { .. } => {
                Self::CannotTransfer(error)
            }
        }
    }
}
