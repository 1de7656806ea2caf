//! Settings of sessions and of what they hold: bounds, and how far clocks are trusted.

use super::args::SessionArgs;
use super::reader::{Reader, Setting};
use crate::types::ClockDrift;

pub const CLOCK_DRIFT: Setting = Setting("clock-drift");
pub const MAX_SESSIONS: Setting = Setting("max-sessions");
pub const MAX_HOLDS: Setting = Setting("max-holds");
pub const MAX_WAITING: Setting = Setting("max-waiting");
pub const MAX_METADATA: Setting = Setting("max-metadata");

/// What sessions may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSettings {
    pub clock_drift: ClockDrift,
    /// Sessions of the cluster.
    pub max_sessions: u32,
    /// What one session may hold or wait for.
    pub max_holds: u32,
    /// Claims that wait for one election or lock.
    pub max_waiting: u32,
    /// Bytes of the metadata of a session or a claim.
    pub max_metadata: u32,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            clock_drift: ClockDrift::USUAL,
            max_sessions: 200_000,
            max_holds: 1024,
            max_waiting: 10_000,
            max_metadata: 4096,
        }
    }
}

/// What was written, as meant.
pub fn read(reader: &mut Reader, args: SessionArgs) -> Option<SessionSettings> {
    let default = SessionSettings::default();
    let clock_drift = reader.read(CLOCK_DRIFT, args.clock_drift, default.clock_drift, parse_drift);
    let max_sessions = reader.read(MAX_SESSIONS, args.max_sessions, default.max_sessions, up_to(1_000_000));
    let max_holds = reader.read(MAX_HOLDS, args.max_holds, default.max_holds, up_to(100_000));
    let max_waiting = reader.read(MAX_WAITING, args.max_waiting, default.max_waiting, up_to(1_000_000));
    let max_metadata = reader.read(MAX_METADATA, args.max_metadata, default.max_metadata, up_to(65_536));
    Some(SessionSettings {
        clock_drift: clock_drift?,
        max_sessions: max_sessions?,
        max_holds: max_holds?,
        max_waiting: max_waiting?,
        max_metadata: max_metadata?,
    })
}

fn up_to(most: u32) -> impl Fn(&str) -> Result<u32, String> {
    move |text| match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("{text:?} is not allowed; allowed: 1 to {most}")),
    }
}

fn parse_drift(text: &str) -> Result<ClockDrift, String> {
    let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.parse().ok());
    let millionths = percent.filter(|percent| (0.0..=20.0).contains(percent)).map(|percent| (percent * 1e4).round());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 200,000")]
    millionths
        .map(|millionths| ClockDrift::from_millionths(millionths as u32))
        .ok_or_else(|| format!("{text:?} is not a share of time; allowed: 0% to 20%, such as 1% or 0.05%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_is_a_percentage() {
        assert_eq!(parse_drift("1%"), Ok(ClockDrift::USUAL));
        assert_eq!(parse_drift("0.05%"), Ok(ClockDrift::from_millionths(500)));
        assert_eq!(parse_drift("0%"), Ok(ClockDrift::from_millionths(0)));
        for wrong in ["", "1", "%", "-1%", "21%", "NaN%", "inf%", "1 %"] {
            assert!(parse_drift(wrong).is_err(), "{wrong:?}");
        }
    }
}
