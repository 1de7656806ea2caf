//! The arguments of `quorate bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::args::Output;

/// `quorate bench`
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// What clients get done in a second, and how long they wait for it
    Load(LoadArgs),
    /// What others notice when many sessions end together
    Expiry(ExpiryArgs),
    /// How long nothing is written when the leader is killed, stopped or paused
    Failover(FailoverArgs),
}

/// `quorate bench load`
#[derive(Debug, Args)]
#[command(
    after_help = "Starts three members on loopback, and three of the rival, with default settings, and lets both do the \
                        same in turns: the same number of connections from the same machine, to all members alike."
)]
pub struct LoadArgs {
    /// What to compare with
    #[arg(long, value_enum, value_name = "RIVAL")]
    pub against: Option<Rival>,
    /// etcd's program, version 3.6
    #[arg(long, default_value = "etcd", value_name = "PROGRAM")]
    pub etcd: PathBuf,
    /// How often each side does it; the median is told
    #[arg(long, default_value_t = 5, value_name = "NUMBER", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub rounds: usize,
    /// How long a round takes
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = super::duration)]
    pub duration: Duration,
    /// Only what has this text in its description
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    pub only: String,
    /// Where both keep their data, for as long as it lasts [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,
}

/// `quorate bench expiry`
#[derive(Debug, Args)]
pub struct ExpiryArgs {
    /// How many
    #[arg(long, default_value_t = 100_000, value_name = "NUMBER", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=200_000))]
    pub sessions: usize,
    /// Where the members keep their data, for as long as it lasts [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,
}

/// What Quorate is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    Etcd,
}

/// `quorate bench failover`
#[derive(Debug, Args)]
#[command(
    after_help = "Starts three members on loopback with default settings, and three of etcd with its defaults and three that \
                        are tuned (heartbeat 50 ms, election timeout 250 ms, pre-vote), and harms whoever leads, in turns. \
                        What is told is the longest time after the harm in which no write to one of the other two was \
                        acknowledged."
)]
pub struct FailoverArgs {
    /// What to compare with
    #[arg(long, value_enum, value_name = "RIVAL,...", value_delimiter = ',')]
    pub against: Vec<FailoverRival>,
    /// etcd's program, version 3.6
    #[arg(long, default_value = "etcd", value_name = "PROGRAM")]
    pub etcd: PathBuf,
    /// How often each is harmed in each way
    #[arg(long, default_value_t = 30, value_name = "NUMBER", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub rounds: usize,
    /// Where all keep their data, for as long as it lasts [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// How to print; json has every sample
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,
}

/// What a fail-over is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailoverRival {
    Etcd,
    /// A Kubernetes Lease with client-go's default settings
    Lease,
}
