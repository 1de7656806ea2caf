//! What members compare: a number that is equal wherever the same commands were applied.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

/// 128 bits over a set of rows, whatever the order in which they came: the wrapping sum of their hashes. It finds
/// divergence, not forgery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(u128);

impl Digest {
    /// Of one row.
    pub(super) fn of(row: &[u8]) -> Self {
        Self(xxh3_128(row))
    }

    /// Of both sets together.
    #[must_use]
    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// Of this set without the rows of `other`.
    #[must_use]
    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    /// Its last 48 bits, which every number of a metric can hold exactly.
    pub fn short(self) -> i64 {
        i64::try_from(self.0 & ((1 << 48) - 1)).expect("48 of 64 bits")
    }

    /// From its number, which came from another member.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Its number, for another member.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
