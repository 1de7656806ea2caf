//! Settings of Raft's pace: how soon a Raft leader that is gone is missed, and how.

use std::time::Duration;

use clap::Args;

use super::member::{between, parse_bool};
use super::reader::{Reader, Setting};

pub(super) const HEARTBEAT: Setting = Setting("heartbeat");
pub(super) const ELECTION_MIN: Setting = Setting("election-min");
pub(super) const ELECTION_MAX: Setting = Setting("election-max");
pub(super) const FAST_FAILOVER: Setting = Setting("fast-failover");

/// Raft's pace, as written.
#[derive(Debug, Default, Args)]
pub struct TimingArgs {
    /// Pause between the Raft leader's heartbeats [default: 100ms]
    #[arg(long, env = "QUORATE_HEARTBEAT", value_name = "DURATION", help_heading = "Timing")]
    pub heartbeat: Option<String>,
    /// Shortest election timeout, at least twice the heartbeat [default: 250ms]
    #[arg(long, env = "QUORATE_ELECTION_MIN", value_name = "DURATION", help_heading = "Timing")]
    pub election_min: Option<String>,
    /// Longest election timeout, more than the shortest [default: 500ms]
    #[arg(long, env = "QUORATE_ELECTION_MAX", value_name = "DURATION", help_heading = "Timing")]
    pub election_max: Option<String>,
    /// Elect at once when most voters find that nobody listens at the Raft leader's address any more; without it, and where
    /// a proxy answers for a member that is gone, an election timeout has to pass [default: true]
    #[arg(
        long,
        env = "QUORATE_FAST_FAILOVER",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Timing"
    )]
    pub fast_failover: Option<String>,
}

/// Raft's pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat: Duration,
    /// An election timeout is drawn anew between this and `election_max`.
    pub election_min: Duration,
    pub election_max: Duration,
    pub fast_failover: FastFailover,
}

/// Whether the Raft leader's broken connection is a reason to look whether it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FastFailover {
    On,
    /// Only silence is.
    Off,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(500),
            fast_failover: FastFailover::On,
        }
    }
}

/// What was written, as meant.
pub(super) fn read(reader: &mut Reader, args: TimingArgs) -> Option<Timing> {
    let default = Timing::default();
    let range = |text: &str| between(text, Duration::from_millis(10), Duration::from_mins(1));
    let heartbeat = reader.read(HEARTBEAT, args.heartbeat, default.heartbeat, range);
    let election_min = reader.read(ELECTION_MIN, args.election_min, default.election_min, range);
    let election_max = reader.read(ELECTION_MAX, args.election_max, default.election_max, range);
    let fast_failover = reader.read(FAST_FAILOVER, args.fast_failover, default.fast_failover, |text| {
        parse_bool(text).map(|is_on| if is_on { FastFailover::On } else { FastFailover::Off })
    });
    let timing = Timing {
        heartbeat: heartbeat?,
        election_min: election_min?,
        election_max: election_max?,
        fast_failover: fast_failover?,
    };
    if timing.election_min < timing.heartbeat * 2 {
        let what = format!(
            "{:?} is too short for a heartbeat of {:?}; allowed: at least twice the heartbeat",
            timing.election_min, timing.heartbeat
        );
        reader.problem(ELECTION_MIN, &what);
    }
    if timing.election_max <= timing.election_min {
        let what = format!(
            "{:?} leaves nothing to draw from; allowed: more than --election-min, {:?}",
            timing.election_max, timing.election_min
        );
        reader.problem(ELECTION_MAX, &what);
    }
    Some(timing)
}
