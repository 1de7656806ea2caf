//! What people type, as written: nothing here checks more than clap can say in its own words.
//!
//! The settings of a member are texts here, because each may also come from the environment or from a file; `member.rs`
//! turns whichever was given into what is meant. The arguments of the other commands are used as they are.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use super::bench::{
    BenchCommand, CompareArgs, ExpiryArgs, FailoverArgs, FailoverRival, GrowthArgs, LoadArgs, Pace, PlotArgs, Rival,
    ShowArgs,
};
pub use super::timing::TimingArgs;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    about = "Leader election and replicated configuration",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 not found, 4 unavailable (try again), or lost. \
                  `run` and `lock -- COMMAND` have the command's, or 128 and the number of a signal that came before it began.",
    max_term_width = 110,
    // The last of several wins, as with other tools, so that a wrapper's flag can be overridden.
    args_override_self = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one member of a cluster
    Serve(Box<ServeArgs>),
    /// Run three members on this machine, with resources from a folder of YAML
    Dev(DevArgs),
    /// Show who leads, the members and the quorum; answers without a quorum too
    Status(StatusArgs),
    /// Read configs or keys
    #[command(subcommand)]
    Get(GetCommand),
    /// Write a config or a key
    #[command(subcommand)]
    Put(PutCommand),
    /// Follow changes until interrupted
    #[command(subcommand)]
    Watch(WatchCommand),
    /// Write the ReplicatedConfig documents of YAML files to the cluster over HTTP
    Apply(ApplyArgs),
    /// Campaign in an election, and lead until interrupted
    Elect(ElectArgs),
    /// Hold a lock until interrupted, or while a command runs
    Lock(LockArgs),
    /// Run a command only while leading an election
    Run(RunArgs),
    /// Move Raft leadership to another member
    Transfer(TransferArgs),
    /// Print the CRDs as YAML, or bring them to the API server
    Crds(CrdsArgs),
    /// Measure what a cluster of three does on this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Stand between a holder and its command
    #[command(hide = true)]
    Guard(GuardArgs),
}

/// The settings of one member. Precedence: flag, then environment, then settings file, then default.
#[derive(Debug, Default, Args)]
#[command(after_help = "Every setting may also stand in the file given by --settings, under its name in camel case \
                        (dataDir: /var/lib/quorate). Precedence: flag, environment, file, default.")]
pub struct ServeArgs {
    /// YAML file with settings
    #[arg(long, env = "QUORATE_SETTINGS", value_name = "FILE")]
    pub settings: Option<PathBuf>,

    /// Name of this member: a DNS label, the pod's name in Kubernetes
    #[arg(long, env = "QUORATE_NAME", value_name = "NAME", help_heading = "Identity")]
    pub name: Option<String>,
    /// Directory of this member's log, vote and snapshots [default: quorate-data/NAME]
    #[arg(long, env = "QUORATE_DATA_DIR", value_name = "DIR", help_heading = "Identity")]
    pub data_dir: Option<String>,
    /// All members that found the cluster, this one included, each with the address at which the others reach its member port;
    /// with --kubernetes it may be left out: the first pod founds, and the others join
    #[arg(long, env = "QUORATE_INITIAL_CLUSTER", value_name = "NAME=HOST:PORT,...", help_heading = "Identity")]
    pub initial_cluster: Option<String>,

    /// Where the HTTP API listens [default: 127.0.0.1:17400]
    #[arg(long, env = "QUORATE_HTTP", value_name = "IP:PORT", help_heading = "Addresses")]
    pub http: Option<String>,
    /// Where health and metrics are served [default: 127.0.0.1:17410]
    #[arg(long, env = "QUORATE_HEALTH", value_name = "IP:PORT", help_heading = "Addresses")]
    pub health: Option<String>,
    /// Where other members connect [default: 127.0.0.1:17420]
    #[arg(long, env = "QUORATE_MEMBER_LISTEN", value_name = "IP:PORT", help_heading = "Addresses")]
    pub member_listen: Option<String>,
    /// How applications reach the HTTP API [default: http:// and --http]
    #[arg(long, env = "QUORATE_ADVERTISE_HTTP", value_name = "URL", help_heading = "Addresses")]
    pub advertise_http: Option<String>,

    /// Folder of YAML with ReplicatedConfig documents to replicate; the same on every member
    #[arg(long, env = "QUORATE_RESOURCES", value_name = "DIR", help_heading = "Resources")]
    pub resources: Option<String>,
    /// Take resources from the Kubernetes API server, and write their status [default: false]
    #[arg(
        long,
        env = "QUORATE_KUBERNETES",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Resources"
    )]
    pub kubernetes: Option<String>,
    /// Kubernetes namespace of this member's pod; needed with --kubernetes
    #[arg(long, env = "QUORATE_NAMESPACE", value_name = "NAME", help_heading = "Resources")]
    pub namespace: Option<String>,
    /// Which resources are served: those whose spec.cluster is this name [default: default]
    #[arg(long, env = "QUORATE_CLUSTER", value_name = "NAME", help_heading = "Resources")]
    pub cluster: Option<String>,

    #[command(flatten)]
    pub timing: TimingArgs,
    /// How long this member, asked to stop, serves on without leading, until whoever sends requests has heard of it [default: 0s]
    #[arg(long, env = "QUORATE_STOP_DELAY", value_name = "DURATION", help_heading = "Timing")]
    pub stop_delay: Option<String>,
    /// How long an orderly stop may take after that [default: 10s]
    #[arg(long, env = "QUORATE_STOP_TIMEOUT", value_name = "DURATION", help_heading = "Timing")]
    pub stop_timeout: Option<String>,
    /// Stop when standard input ends, as it does when the parent process is gone [default: false]
    #[arg(
        long,
        env = "QUORATE_STOP_WITH_PARENT",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Timing"
    )]
    pub stop_with_parent: Option<String>,

    #[command(flatten)]
    pub sessions: SessionArgs,

    /// Least level that is logged, and per module: info,quorate::raft=debug [default: info]
    #[arg(long, env = "QUORATE_LOG", value_name = "LEVEL,MODULE=LEVEL,...", help_heading = "Logs")]
    pub log: Option<String>,
    /// Form of the log: text or json [default: text]
    #[arg(long, env = "QUORATE_LOG_FORMAT", value_name = "FORMAT", help_heading = "Logs")]
    pub log_format: Option<String>,
}

/// What sessions may have.
#[derive(Debug, Default, Args)]
pub struct SessionArgs {
    /// How much faster or slower than the members' clocks a client's may run [default: 1%]
    #[arg(long, env = "QUORATE_CLOCK_DRIFT", value_name = "PERCENT", help_heading = "Sessions")]
    pub clock_drift: Option<String>,
    /// Sessions in the cluster [default: 200000]
    #[arg(long, env = "QUORATE_MAX_SESSIONS", value_name = "NUMBER", help_heading = "Sessions")]
    pub max_sessions: Option<String>,
    /// Elections and locks that one session may hold or wait for [default: 1024]
    #[arg(long, env = "QUORATE_MAX_HOLDS", value_name = "NUMBER", help_heading = "Sessions")]
    pub max_holds: Option<String>,
    /// Candidates or waiters in the queue of one election or lock [default: 10000]
    #[arg(long, env = "QUORATE_MAX_WAITING", value_name = "NUMBER", help_heading = "Sessions")]
    pub max_waiting: Option<String>,
    /// Bytes of metadata that a session or a candidate may bring [default: 4096]
    #[arg(long, env = "QUORATE_MAX_METADATA", value_name = "BYTES", help_heading = "Sessions")]
    pub max_metadata: Option<String>,
}

/// `quorate dev`
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Folder of YAML with ReplicatedConfig documents
    #[arg(default_value = "examples", value_name = "DIR")]
    pub resources: PathBuf,
    /// Where the members keep their data and logs
    #[arg(long, default_value = ".quorate/dev", value_name = "DIR")]
    pub state: PathBuf,
    /// Empty the state folder first
    #[arg(long)]
    pub fresh: bool,
    /// First of the ports: HTTP on this and the next two, health 10 and members 20 further up
    #[arg(long, default_value_t = 17_400, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    pub base_port: u16,
}

/// How to reach a cluster, and how to print what it says.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// HTTP URLs of members; any member will do, the others are tried when one does not answer
    #[arg(
        long,
        env = "QUORATE_ENDPOINTS",
        value_name = "URL,...",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:17400,http://127.0.0.1:17401,http://127.0.0.1:17402",
        global = true,
        help_heading = "Cluster"
    )]
    pub endpoints: Vec<String>,
    /// How long to wait for an answer, all endpoints together; each of them gets its share, half a second at least
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = super::duration, global = true, help_heading = "Cluster")]
    pub timeout: Duration,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT", global = true, help_heading = "Cluster")]
    pub output: Output,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
    Yaml,
}

/// `quorate status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Fail unless, within the timeout, every endpoint answers and all name the same leader, confirmed by a quorum
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `quorate get`
#[derive(Debug, Subcommand)]
pub enum GetCommand {
    /// One config (NAMESPACE/NAME), or all of a namespace (NAMESPACE)
    Config {
        #[arg(value_name = "NAMESPACE[/NAME]")]
        target: String,
        /// Read an older version that is still kept
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// One key, or all that begin with a prefix
    Kv {
        #[arg(value_name = "KEY", required_unless_present = "prefix", conflicts_with = "prefix")]
        key: Option<String>,
        /// List the keys that begin so; "" lists every key
        #[arg(long, value_name = "PREFIX")]
        prefix: Option<String>,
        #[command(flatten)]
        read: ReadArgs,
    },
}

/// How fresh a read must be.
#[derive(Debug, Clone, Args)]
pub struct ReadArgs {
    /// Answer from the asked member's own state, at once, even without a quorum
    #[arg(long)]
    pub stale: bool,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `quorate put`
#[derive(Debug, Subcommand)]
pub enum PutCommand {
    /// Write a config that no custom resource owns
    Config {
        #[arg(value_name = "NAMESPACE/NAME")]
        target: String,
        /// The whole data: KEY=TEXT, or KEY=@FILE for the text of a file
        #[arg(value_name = "KEY=TEXT", required = true)]
        data: Vec<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Write a key
    Kv {
        #[arg(value_name = "KEY")]
        key: String,
        /// The value, or - to read it from standard input
        #[arg(value_name = "VALUE")]
        value: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// `quorate watch`
#[derive(Debug, Subcommand)]
pub enum WatchCommand {
    /// Changes of one config
    Config {
        #[arg(value_name = "NAMESPACE/NAME")]
        target: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Changes of keys
    Kv {
        /// Only keys that begin so
        #[arg(long, value_name = "PREFIX", default_value = "")]
        prefix: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Changes of the Raft leader
    Leader {
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// `quorate apply`
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// YAML file, or folder of YAML files, with ReplicatedConfig documents
    #[arg(short, long, required = true, value_name = "PATH")]
    pub filename: Vec<PathBuf>,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// The session by which something is held.
#[derive(Debug, Args)]
pub struct SessionOptions {
    /// How long the members wait for a sign of life before the next one is granted: 500ms to 24h [default: what the election's LeaderElection says, or 3s]
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    pub ttl: Option<Duration>,
    /// What to be called, for people
    #[arg(long, env = "QUORATE_CANDIDATE", value_name = "NAME")]
    pub candidate: Option<String>,
    /// How long before the deadline a command is asked to end by SIGTERM; at the deadline it is killed [default: a third of --ttl]
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    pub grace: Option<Duration>,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `quorate elect`
#[derive(Debug, Args)]
pub struct ElectArgs {
    #[arg(value_name = "NAMESPACE/NAME")]
    pub name: String,
    /// The greater leads first
    #[arg(long, default_value_t = 0, value_name = "NUMBER", allow_negative_numbers = true)]
    pub priority: i32,
    #[command(flatten)]
    pub session: SessionOptions,
}

/// `quorate lock`
#[derive(Debug, Args)]
#[command(
    after_help = "Without a command it is held until a signal comes. With one, everything is as `quorate run --help` says."
)]
pub struct LockArgs {
    #[arg(value_name = "NAMESPACE/NAME")]
    pub name: String,
    /// Share it with others who share it
    #[arg(long, conflicts_with_all = ["permits", "capacity"])]
    pub shared: bool,
    /// Take so many permits of a semaphore
    #[arg(long, value_name = "NUMBER", requires = "capacity")]
    pub permits: Option<u32>,
    /// How many permits the semaphore has
    #[arg(long, value_name = "NUMBER")]
    pub capacity: Option<u32>,
    /// How long to wait for it, 0s to try once [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    pub wait: Option<Duration>,
    #[command(flatten)]
    pub session: SessionOptions,
    /// What to run while it is held, with the fencing token in QUORATE_FENCING_TOKEN
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `quorate run`
#[derive(Debug, Args)]
#[command(
    after_help = "The command runs in a process group of its own, with the fencing token in QUORATE_FENCING_TOKEN. Signals \
                        are passed on, and its exit code is this command's; a signal that comes before it begins makes it 128 \
                        and the signal's number. When leadership is not certain any more it gets SIGTERM, and its whole \
                        group SIGKILL before another can lead; then the exit code is 4. When this process is killed, so \
                        is the group."
)]
pub struct RunArgs {
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub election: String,
    /// The greater leads first
    #[arg(long, default_value_t = 0, value_name = "NUMBER", allow_negative_numbers = true)]
    pub priority: i32,
    #[command(flatten)]
    pub session: SessionOptions,
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `quorate guard`
#[derive(Debug, Args)]
pub struct GuardArgs {
    /// The process that wants the command
    pub parent: i32,
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// `quorate transfer`
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// Name of the member that should lead [default: the most caught-up voter]
    #[arg(value_name = "MEMBER")]
    pub to: Option<String>,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `quorate crds`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CrdsArgs {
    #[command(subcommand)]
    pub command: Option<CrdsCommand>,
}

/// What to do with the CRDs, other than to print them.
#[derive(Debug, Subcommand)]
pub enum CrdsCommand {
    /// Apply them to the API server that kubectl would use (or that of the pod), and wait until they are served
    #[command(
        after_help = "It is a server-side apply that takes every field over. It needs the verbs get, create and patch for \
                            customresourcedefinitions. CRDs of a newer release are left alone."
    )]
    Apply {
        /// In whose name: that of whoever applies them as well, such as helm, or the other one will find a conflict
        #[arg(long, default_value = "quorate-crds", value_name = "NAME")]
        field_manager: String,
        /// How long to wait, all CRDs together
        #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = super::duration)]
        timeout: Duration,
    },
}
