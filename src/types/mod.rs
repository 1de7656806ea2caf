//! Values whose only behaviour is their own validity.
//!
//! A value of one of these types was checked once, at the border where it came in, and is right ever after.
//! Nothing here reads a clock, a file or the network, and nothing here imports another module of Quorate.

mod life;
mod names;
mod numbers;
mod time;

pub use life::Life;
pub use names::{
    ClientName, ClusterId, ConfigName, ContestName, DocumentKey, IdempotencyKey, Incarnation, InvalidName, Key,
    MemberName, Namespace, SessionName,
};
pub use numbers::{FeatureLevel, FencingToken, Leadership, LogIndex, MemberId, Revision, SessionId, Term, Version};
pub use time::{ClockDrift, InvalidTimestamp, InvalidTtl, Timestamp, Ttl};
