//! Why a call failed: did it happen, may the caller try again, whose fault.

use thiserror::Error;

use crate::machine::OutsideHistory;
use crate::machine::outcome::Rejection;
use crate::raft::{ProposeError, TransferError, Unavailable};
use crate::types::{IdempotencyKey, MemberName, Revision, SessionName};

/// Whether a failed call has changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    No,
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
            Self::Rejected { .. } | Self::CannotTransfer(_) => ErrorKind::Rejected,
            Self::NotDone(Unavailable::Timeout) | Self::MaybeDone { .. } | Self::NotThereYet { .. } => {
                ErrorKind::Timeout
            }
            Self::NotDone(_) => ErrorKind::Unavailable,
            Self::OutsideHistory(_) => ErrorKind::Gone,
            Self::NoSuchMember(_) | Self::ForeignSession(_) => ErrorKind::NotFound,
        }
    }

    /// Whether it happened all the same.
    pub fn happened(&self) -> Happened {
        match self {
            Self::MaybeDone { .. } => Happened::Unknown,
            Self::Rejected { .. }
            | Self::NotDone(_)
            | Self::OutsideHistory(_)
            | Self::NotThereYet { .. }
            | Self::NoSuchMember(_)
            | Self::ForeignSession(_)
            | Self::CannotTransfer(_) => Happened::No,
        }
    }

    /// Whether the same call may succeed later, and does no harm if it is made again.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::NotDone(_) | Self::NotThereYet { .. } => true,
            Self::Rejected { rejection, .. } => rejection.wants_room(),
            Self::MaybeDone { key, .. } => key.is_some(),
            Self::OutsideHistory(_) | Self::NoSuchMember(_) | Self::ForeignSession(_) | Self::CannotTransfer(_) => {
                false
            }
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
            TransferError::NotAVoter(_) | TransferError::NobodyElse => Self::CannotTransfer(error),
        }
    }
}
