//! Numbers that must not be mistaken for one another; there is no arithmetic between kinds.

use std::fmt;

/// Declares a newtype over `u64` that orders, prints and converts, and does nothing else.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The value before the first one.
            pub const ZERO: Self = Self(0);

            /// Wraps a plain number that crossed a border.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The plain number, for a border.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The number that follows this one.
            ///
            /// # Panics
            /// After 2^64 - 1, which nothing that counts from zero reaches.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Cluster-wide counter, +1 for each command that changed something; the cursor of every watch.
    Revision
}
number! {
    /// Per-key or per-config counter, +1 for each change of that key or config; used in preconditions.
    Version
}
number! {
    /// One incarnation of one pod in the cluster, allocated by the cluster and never used twice. Never zero.
    MemberId
}
number! {
    /// A client's session: counted from 1 in each cluster and never used twice.
    SessionId
}
number! {
    /// The revision at which a grant was made. Compared, never computed: of two grants, the greater token is the newer.
    FencingToken
}
number! {
    /// Raft's election number. Two Raft leaders can share one, so it is never a fencing token.
    Term
}
number! {
    /// Position in the Raft log; the first entry has index 0.
    LogIndex
}
number! {
    /// The log index of a Raft leader's first committed command; strictly increases from leader to leader.
    Leadership
}
number! {
    /// What a member's state machine understands; a command is proposed only once every member has its level.
    FeatureLevel
}
