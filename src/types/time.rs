//! Wall-clock times, which are for people: stamped by the proposer, compared by nothing.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Milliseconds since 1970-01-01T00:00:00Z, between the years 1970 and 9999. Prints as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// The end of the year 9999 (less the hours that time zones need), the largest that `jiff` and RFC 3339 can say.
const LAST: u64 = 253_402_207_200_000;

impl Timestamp {
    /// From milliseconds since 1970; later than the year 9999 is taken as its end.
    pub const fn from_millis(millis: u64) -> Self {
        if millis > LAST { Self(LAST) } else { Self(millis) }
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).expect("at most the year 9999");
        let time = jiff::Timestamp::from_millisecond(millis).expect("between 1970 and 9999");
        write!(f, "{time:.3}")
    }
}

/// A text that is no RFC 3339 time after 1970.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an RFC 3339 time from 1970 on, such as 2026-01-31T12:00:00Z")]
pub struct InvalidTimestamp(String);

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let invalid = || InvalidTimestamp(text.chars().take(40).collect());
        let time: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
        u64::try_from(time.as_millisecond()).map(Self::from_millis).map_err(|_| invalid())
    }
}

/// How long a session lives without a sign of life: 500 ms to 24 h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(u64);

/// A time to live that no session can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a session lives {} to {} ms without a sign of life, not {millis} ms",
    Ttl::LEAST.as_millis(),
    Ttl::GREATEST.as_millis()
)]
pub struct InvalidTtl {
    millis: u64,
}

impl Ttl {
    /// Half a second: shorter ones would end by a busy machine alone.
    pub const LEAST: Self = Self(500);
    /// A day.
    pub const GREATEST: Self = Self(24 * 60 * 60 * 1000);
    /// What a session has that does not ask for another.
    pub const USUAL: Self = Self(3000);

    /// From milliseconds.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub const fn from_millis(millis: u64) -> Result<Self, InvalidTtl> {
        if millis < Self::LEAST.0 || millis > Self::GREATEST.0 { Err(InvalidTtl { millis }) } else { Ok(Self(millis)) }
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// How much faster or slower than another a clock may run, in millionths. With it a client stops a little early and the
/// cluster waits a little longer, so that the two never overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockDrift(u32);

impl ClockDrift {
    /// One in a hundred: far more than a working clock drifts.
    pub const USUAL: Self = Self(10_000);

    /// From millionths; a half and more is taken as a half.
    pub const fn from_millionths(millionths: u32) -> Self {
        if millionths > 500_000 { Self(500_000) } else { Self(millionths) }
    }

    /// How long a client may act on what it was told, by its own clock.
    pub fn valid(self, told: Duration) -> Duration {
        told.saturating_sub(self.of(told))
    }

    /// How long the cluster waits for the same, by the Raft leader's clock.
    pub fn patient(self, told: Duration) -> Duration {
        told.saturating_add(self.of(told))
    }

    fn of(self, told: Duration) -> Duration {
        told.mul_f64(f64::from(self.0) / 1e6)
    }
}

impl Ttl {
    /// As a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_prints_as_rfc_3339_and_is_read_back() {
        let time = Timestamp::from_millis(1_769_860_800_007);
        assert_eq!(time.to_string(), "2026-01-31T12:00:00.007Z");
        assert_eq!(time.to_string().parse(), Ok(time));
    }

    #[test]
    fn no_number_of_milliseconds_is_too_large_to_print() {
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn times_before_1970_and_other_texts_are_refused() {
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
