//! Quorate's own flags, environment and file: as written (`args.rs`), then as meant (`member.rs`, `timing.rs`,
//! `resources.rs`, `session.rs`, `log.rs`).
//!
//! A member starts only with settings that are right as a whole; whatever is wrong is told at once, each with the names
//! under which it can be set and with what is allowed. Nothing else in Quorate reads the command line or the environment.

pub mod args;
mod bench;
mod log;
mod member;
mod reader;
mod resources;
mod session;
mod timing;

use std::time::Duration;

pub use log::{LogFormat, LogSettings};
pub use member::{Founding, MemberSettings};
pub use reader::{InvalidSettings, Problem};
pub use resources::{Pod, Resources};
pub use session::SessionSettings;
pub use timing::{FastFailover, Timing};

/// Reads a duration such as `100ms`, `10s` or `5m`.
///
/// # Errors
/// When it is written in another way; the text says what is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong =
        || format!("{text:?} is not a duration: write a whole number and its unit, such as 100ms, 10s, 5m or 1h");
    let millis_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_millis(u64::from(number) * millis_per_unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_with_a_unit() {
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "10", "ms", "-1s", "1.5s", "1 s", "1d", "99999999999s", "1sms"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
