//! The arguments of `quorate bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::args::Output;

/// `quorate bench`
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// What clients get done in a second, and how long they wait for it
    Load(LoadArgs),
    /// What others notice when many sessions end together
    Expiry(ExpiryArgs),
    /// How long nothing is written when the leader is harmed, and nobody leads an election when its holder is
    Failover(FailoverArgs),
    /// What more of everything costs: latency, memory, snapshots, a restart, and doing nothing at all
    Growth(GrowthArgs),
    /// Whether a second run of a benchmark agrees with the first
    Compare(CompareArgs),
    /// Print a result that was saved, as it would have been printed
    Show(ShowArgs),
    /// Draw a result
    Plot(PlotArgs),
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
    /// Settings of both sides; tuned: a heartbeat of 50 ms, and election timeouts to go with it
    #[arg(long, value_enum, default_value_t = Pace::Default, value_name = "PACE")]
    pub pace: Pace,
    /// How often each side does it; the median is told
    #[arg(long, default_value_t = 5, value_name = "NUMBER", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
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
    /// How to print; json has the machine and samples, for `compare` and `plot`
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,
}

/// `quorate bench expiry`
#[derive(Debug, Args)]
pub struct ExpiryArgs {
    /// How many
    #[arg(long, default_value_t = 100_000, value_name = "NUMBER", value_parser = RangedU64ValueParser::<usize>::new().range(1..=200_000))]
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

/// How soon members notice that their leader is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// As each program has it
    Default,
    /// As one would set it on a good network
    Tuned,
}

/// `quorate bench failover`
#[derive(Debug, Args)]
#[command(
    after_help = "Starts three members on loopback with default settings, and three of etcd with its defaults and three that \
                        are tuned (heartbeat 50 ms, election timeout 250 ms, pre-vote), and harms whoever leads, in turns. \
                        What is told is the longest time after the harm in which no write to one of the other two was \
                        acknowledged; of elections, the time until the candidate that waits is granted. A Lease has holders \
                        only: two candidates with client-go's default settings, one of which takes over from the other."
)]
pub struct FailoverArgs {
    /// What to compare with
    #[arg(long, value_enum, value_name = "RIVAL,...", value_delimiter = ',')]
    pub against: Vec<FailoverRival>,
    /// etcd's program, version 3.6
    #[arg(long, default_value = "etcd", value_name = "PROGRAM")]
    pub etcd: PathBuf,
    /// The candidate for a Lease, which `tests/kube/lease` is made into
    #[arg(long, default_value = "lease", value_name = "PROGRAM")]
    pub lease_program: PathBuf,
    /// How candidates for a Lease reach the API server
    #[arg(long, value_name = "FILE", required_if_eq("against", "lease"))]
    pub kubeconfig: Option<PathBuf>,
    /// How often each is harmed in each way
    #[arg(long, default_value_t = 30, value_name = "NUMBER", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub rounds: usize,
    /// Only what has this text in its description, such as "told to hand over" or "holder"
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    pub only: String,
    /// Nothing that has this text in its description
    #[arg(long, value_name = "TEXT")]
    pub skip: Option<String>,
    /// How many clients write without a pause while a leader is killed under load
    #[arg(long, default_value_t = 32, value_name = "NUMBER", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    pub writers: usize,
    /// Where all keep their data, for as long as it lasts [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// How to print; json has every sample, for `compare` and `plot`
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

/// `quorate bench growth`
#[derive(Debug, Args)]
#[command(
    after_help = "Starts three members on loopback for each kind of thing, makes more and more of them, and asks one client \
                        what it notices and each member what memory it has. Then it fills the state, writes while \
                        snapshots are taken of it, and starts a member anew; and it lets three members do nothing."
)]
pub struct GrowthArgs {
    /// Only what has this text in its description: keys, sessions, watchers, elections, snapshot or idle
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    pub only: String,
    /// At most so many of each; of watchers and elections never more than 10000
    #[arg(long, default_value_t = 100_000, value_name = "NUMBER", value_parser = RangedU64ValueParser::<usize>::new().range(10..=100_000))]
    pub most: usize,
    /// How long is measured at each size
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = super::duration)]
    pub duration: Duration,
    /// MiB of values of which snapshots are taken; a cluster refuses to grow from 230 MiB of state, its past included
    #[arg(long, default_value_t = 192, value_name = "MIB", value_parser = RangedU64ValueParser::<usize>::new().range(1..=230))]
    pub state: usize,
    /// How many snapshots are waited for
    #[arg(long, default_value_t = 3, value_name = "NUMBER", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub snapshots: usize,
    /// How long the members do nothing
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = super::duration)]
    pub idle: Duration,
    /// Where the members keep their data, for as long as it lasts [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,
}

/// `quorate bench compare`
#[derive(Debug, Args)]
#[command(after_help = "The exit code is 1 when a row differs by more, or is in one of the two only.")]
pub struct CompareArgs {
    /// A result, as `--output json` has printed it
    #[arg(value_name = "FIRST.json")]
    pub first: PathBuf,
    /// Another result of the same command
    #[arg(value_name = "SECOND.json")]
    pub second: PathBuf,
    /// By how many percent the larger of two figures may exceed the smaller one
    #[arg(long, default_value_t = 25, value_name = "PERCENT")]
    pub within: u32,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,
}

/// `quorate bench show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A result, as `--output json` has printed it
    #[arg(value_name = "RESULT.json")]
    pub result: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,
}

/// `quorate bench plot`
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// A result, as `--output json` has printed it
    #[arg(value_name = "RESULT.json")]
    pub result: PathBuf,
    /// Where the SVG files are written
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
}
