//! The settings of one member, as meant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::args::ServeArgs;
use super::duration;
use super::log::{self, LOG, LOG_FORMAT, LogSettings};
use super::reader::{InvalidSettings, Reader, Setting};
use super::resources::{self, KUBERNETES, NAMESPACE, RESOURCES, Resources};
use super::session::{self, CLOCK_DRIFT, MAX_HOLDS, MAX_METADATA, MAX_SESSIONS, MAX_WAITING, SessionSettings};
use super::timing::{self, ELECTION_MAX, ELECTION_MIN, FAST_FAILOVER, HEARTBEAT, Timing};
use crate::types::{MemberName, Namespace};

pub(super) const NAME: Setting = Setting("name");
const DATA_DIR: Setting = Setting("data-dir");
const INITIAL_CLUSTER: Setting = Setting("initial-cluster");
const HTTP: Setting = Setting("http");
const HEALTH: Setting = Setting("health");
const MEMBER_LISTEN: Setting = Setting("member-listen");
const ADVERTISE_HTTP: Setting = Setting("advertise-http");
const CLUSTER: Setting = Setting("cluster");
const STOP_DELAY: Setting = Setting("stop-delay");
const STOP_TIMEOUT: Setting = Setting("stop-timeout");
const STOP_WITH_PARENT: Setting = Setting("stop-with-parent");

/// What a settings file may have.
const SETTINGS: [Setting; 25] = [
    NAME,
    DATA_DIR,
    INITIAL_CLUSTER,
    HTTP,
    HEALTH,
    MEMBER_LISTEN,
    ADVERTISE_HTTP,
    RESOURCES,
    KUBERNETES,
    NAMESPACE,
    CLUSTER,
    HEARTBEAT,
    ELECTION_MIN,
    ELECTION_MAX,
    FAST_FAILOVER,
    STOP_DELAY,
    STOP_TIMEOUT,
    STOP_WITH_PARENT,
    CLOCK_DRIFT,
    MAX_SESSIONS,
    MAX_HOLDS,
    MAX_WAITING,
    MAX_METADATA,
    LOG,
    LOG_FORMAT,
];

/// Everything that a member is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSettings {
    pub name: MemberName,
    pub data_dir: PathBuf,
    pub founding: Founding,
    pub http: SocketAddr,
    pub health: SocketAddr,
    pub member_listen: SocketAddr,
    /// Base URL of the HTTP API for others.
    pub advertise_http: String,
    pub resources: Option<Resources>,
    /// Resources of other clusters are left alone.
    pub cluster: Namespace,
    pub timing: Timing,
    /// Between being asked to stop and beginning to.
    pub stop_delay: Duration,
    pub stop_timeout: Duration,
    /// Whether the end of standard input stops the member.
    pub stop_with_parent: bool,
    pub sessions: SessionSettings,
    pub log: LogSettings,
}

/// How the cluster begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Founding {
    /// Every founding member and the `host:port` of its member port, this member included.
    Together(BTreeMap<MemberName, String>),
    /// The first pod of the StatefulSet founds, and the others join.
    FromOnePod,
}

impl MemberSettings {
    /// What was written, as meant.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn read(args: ServeArgs) -> Result<Self, InvalidSettings> {
        let mut reader = Reader::new(args.settings.as_deref(), &SETTINGS);
        let name = reader.require(NAME, args.name, MemberName::RULE, parse_name);
        let data_dir = read_data_dir(&mut reader, args.data_dir, name.as_ref());
        let http = reader.read(HTTP, args.http, loopback(17_400), parse_listen);
        let health = reader.read(HEALTH, args.health, loopback(17_410), parse_listen);
        let member_listen = reader.read(MEMBER_LISTEN, args.member_listen, loopback(17_420), parse_listen);
        check_listeners(&mut reader, [(HTTP, http), (HEALTH, health), (MEMBER_LISTEN, member_listen)]);
        let advertise_http = read_advertise_http(&mut reader, args.advertise_http, http);
        let resources = resources::read(&mut reader, args.resources, args.kubernetes, args.namespace, name.as_ref());
        let founding = match (&resources, reader.text(INITIAL_CLUSTER, args.initial_cluster)) {
            // What is wrong with the resources is told already.
            (Some(Some(Resources::Kubernetes(_))) | None, None) => Some(Founding::FromOnePod),
            (_, given) => read_initial_cluster(&mut reader, given, name.as_ref()).map(Founding::Together),
        };
        let cluster = Namespace::new("default").expect("it is a DNS label");
        let cluster = reader.read(CLUSTER, args.cluster, cluster, parse_label);
        let timing = timing::read(&mut reader, args.timing);
        let stop_delay = reader.read(STOP_DELAY, args.stop_delay, Duration::ZERO, |text| {
            between(text, Duration::ZERO, Duration::from_mins(10))
        });
        let stop_timeout = reader.read(STOP_TIMEOUT, args.stop_timeout, Duration::from_secs(10), |text| {
            between(text, Duration::from_secs(1), Duration::from_mins(10))
        });
        let stop_with_parent = reader.read(STOP_WITH_PARENT, args.stop_with_parent, false, parse_bool);
        let sessions = session::read(&mut reader, args.sessions);
        let log = log::read(&mut reader, args.log, args.log_format);
        if !reader.is_clean() {
            return Err(reader.finish());
        }
        let settings = || {
            Some(Self {
                name: name?,
                data_dir: data_dir?,
                founding: founding?,
                http: http?,
                health: health?,
                member_listen: member_listen?,
                advertise_http: advertise_http?,
                resources: resources?,
                cluster: cluster?,
                timing: timing?,
                stop_delay: stop_delay?,
                stop_timeout: stop_timeout?,
                stop_with_parent: stop_with_parent?,
                sessions: sessions?,
                log: log?,
            })
        };
        Ok(settings().expect("a setting is absent only with a problem that says so"))
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn parse_name(text: &str) -> Result<MemberName, String> {
    MemberName::new(text).map_err(|error| error.to_string())
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) | Err(_) => {
            Err(format!("{text:?} is not an address to listen on; allowed: IP:PORT, such as 127.0.0.1:17400"))
        }
    }
}

/// A `host:port` that others dial: the host is resolved then, so only its form is checked.
fn parse_address(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not an address; allowed: HOST:PORT, such as quorate-0.quorate:7400");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_ip_6 = host.starts_with('[') && host.ends_with(']') && host.contains(':');
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if (is_ip_6 || is_host) && port != 0 { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn read_initial_cluster(
    reader: &mut Reader,
    given: Option<String>,
    own: Option<&MemberName>,
) -> Option<BTreeMap<MemberName, String>> {
    let needed = "NAME=HOST:PORT of every founding member, separated by commas, this member included";
    let cluster = reader.require(INITIAL_CLUSTER, given, needed, parse_initial_cluster)?;
    match own {
        Some(own) if !cluster.contains_key(own) => {
            let names: Vec<_> = cluster.keys().map(MemberName::as_str).collect();
            reader.problem(
                INITIAL_CLUSTER,
                &format!("it names {} but not this member, {own}; allowed: {needed}", names.join(", ")),
            );
            None
        }
        Some(_) | None => Some(cluster),
    }
}

fn parse_initial_cluster(text: &str) -> Result<BTreeMap<MemberName, String>, String> {
    let mut cluster = BTreeMap::new();
    for entry in text.split(',') {
        let (name, address) =
            entry.split_once('=').ok_or_else(|| format!("{entry:?} is not allowed; allowed: NAME=HOST:PORT"))?;
        let (name, address) = (parse_name(name)?, parse_address(address)?);
        if cluster.values().any(|other| *other == address) {
            return Err(format!("two members have the address {address}; allowed: one address each"));
        }
        if cluster.insert(name.clone(), address).is_some() {
            return Err(format!("member {name} comes twice; allowed: one entry each"));
        }
    }
    // More voters only make every write wait for more disks.
    if cluster.len() > 7 {
        return Err(format!("{} members; allowed: 1 to 7", cluster.len()));
    }
    Ok(cluster)
}

fn read_data_dir(reader: &mut Reader, given: Option<String>, name: Option<&MemberName>) -> Option<PathBuf> {
    let default = PathBuf::from("quorate-data").join(name.map_or("", MemberName::as_str));
    reader.read(DATA_DIR, given, default, parse_directory)
}

pub(super) fn parse_directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("it is empty; allowed: the path of a directory".to_owned()) } else { Ok(text.into()) }
}

fn check_listeners(reader: &mut Reader, listeners: [(Setting, Option<SocketAddr>); 3]) {
    for (position, (setting, address)) in listeners.iter().enumerate() {
        let same = listeners[..position].iter().find(|(_, earlier)| address.is_some() && earlier == address);
        if let (Some((other, _)), Some(address)) = (same, address) {
            reader.problem(*setting, &format!("{address} is also {}; allowed: an address of its own", other.flag()));
        }
    }
}

fn read_advertise_http(reader: &mut Reader, given: Option<String>, http: Option<SocketAddr>) -> Option<String> {
    let unspecified = http.is_some_and(|http| http.ip().is_unspecified());
    if unspecified {
        let needed = "the URL at which applications reach it, because --http listens on every address";
        return reader.require(ADVERTISE_HTTP, given, needed, parse_url);
    }
    let default = http.map(|http| format!("http://{http}")).unwrap_or_default();
    reader.read(ADVERTISE_HTTP, given, default, parse_url)
}

fn parse_url(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not a base URL; allowed: http://HOST:PORT or https://HOST:PORT");
    let address = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or_else(wrong)?;
    parse_address(address).map_err(|_| wrong())?;
    Ok(text.to_owned())
}

pub(super) fn parse_label(text: &str) -> Result<Namespace, String> {
    Namespace::new(text).map_err(|error| error.to_string())
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is not allowed; allowed: true, false"))
}

pub(super) fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let given = duration(text)?;
    if (least..=most).contains(&given) {
        Ok(given)
    } else {
        Err(format!("{given:?} is out of range; allowed: {least:?} to {most:?}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::args::{Cli, Command};
    use super::*;

    fn read(flags: &[&str]) -> Result<MemberSettings, InvalidSettings> {
        let arguments = ["quorate", "serve"].iter().chain(flags);
        match Cli::try_parse_from(arguments).expect("clap takes every text").command {
            Command::Serve(args) => MemberSettings::read(*args),
            other => panic!("parsed as {other:?}"),
        }
    }

    const ENOUGH: [&str; 4] = ["--name", "a", "--initial-cluster", "a=localhost:1,b=localhost:2"];

    fn problem_with(more: &[&str]) -> String {
        let flags: Vec<_> = ENOUGH.iter().chain(more).copied().collect();
        let invalid = read(&flags).expect_err(&format!("{more:?} is wrong"));
        assert_eq!(invalid.problems().len(), 1, "{invalid}");
        invalid.problems()[0].to_string()
    }

    #[test]
    fn a_name_and_the_founding_members_are_enough() {
        let settings = read(&ENOUGH).expect("enough");
        assert_eq!(settings.http.to_string(), "127.0.0.1:17400");
        assert_eq!(settings.advertise_http, "http://127.0.0.1:17400");
        assert_eq!(settings.data_dir, PathBuf::from("quorate-data/a"));
        assert_eq!(settings.timing, Timing::default());
        assert_eq!(settings.sessions, SessionSettings::default());
        assert_eq!(settings.resources, None);
    }

    #[test]
    fn each_wrong_setting_is_named_in_its_three_forms_with_what_is_allowed() {
        let wrong: [(&[&str], &str, &str); 25] = [
            (&["--http", "nonsense"], "--http (QUORATE_HTTP, or http in the settings file)", "allowed: IP:PORT"),
            (&["--http", "127.0.0.1:0"], "--http", "allowed: IP:PORT"),
            (&["--health", "localhost:1"], "--health (QUORATE_HEALTH, or health", "allowed: IP:PORT"),
            (&["--health", "127.0.0.1:17400"], "--health", "is also --http; allowed: an address of its own"),
            (&["--member-listen", "1"], "--member-listen (QUORATE_MEMBER_LISTEN, or memberListen", "allowed: IP:PORT"),
            (&["--http", "0.0.0.0:80"], "--advertise-http (QUORATE_ADVERTISE_HTTP, or advertiseHttp", "is missing"),
            (&["--advertise-http", "a:1"], "--advertise-http", "allowed: http://HOST:PORT"),
            (&["--data-dir", ""], "--data-dir (QUORATE_DATA_DIR, or dataDir", "allowed: the path of a directory"),
            (&["--resources", ""], "--resources", "allowed: the path of a directory"),
            (&["--kubernetes=maybe"], "--kubernetes (QUORATE_KUBERNETES, or kubernetes", "allowed: true, false"),
            (&["--kubernetes"], "--namespace (QUORATE_NAMESPACE, or namespace", "the Kubernetes namespace of this"),
            (
                &["--kubernetes", "--resources", "here"],
                "--kubernetes",
                "allowed: --resources or --kubernetes, not both",
            ),
            (&["--cluster", "A"], "--cluster (QUORATE_CLUSTER, or cluster", "a DNS label"),
            (&["--heartbeat", "100"], "--heartbeat (QUORATE_HEARTBEAT, or heartbeat", "such as 100ms"),
            (&["--heartbeat", "1ms"], "--heartbeat", "allowed: 10ms to 60s"),
            (&["--heartbeat", "200ms"], "--election-min", "allowed: at least twice the heartbeat"),
            (&["--election-max", "250ms"], "--election-max", "allowed: more than --election-min, 250ms"),
            (&["--fast-failover=maybe"], "--fast-failover (QUORATE_FAST_FAILOVER", "allowed: true, false"),
            (&["--stop-with-parent=maybe"], "--stop-with-parent", "allowed: true, false"),
            (&["--clock-drift", "1"], "--clock-drift (QUORATE_CLOCK_DRIFT, or clockDrift", "allowed: 0% to 20%"),
            (&["--max-sessions", "0"], "--max-sessions", "allowed: 1 to 1000000"),
            (&["--max-holds=-1"], "--max-holds (QUORATE_MAX_HOLDS, or maxHolds", "allowed: 1 to 100000"),
            (&["--max-metadata", "1MiB"], "--max-metadata", "allowed: 1 to 65536"),
            (&["--log", "loud"], "--log (QUORATE_LOG, or log", "off, error, warn, info, debug, trace"),
            (&["--log-format", "xml"], "--log-format (QUORATE_LOG_FORMAT, or logFormat", "allowed: text, json"),
        ];
        for (flags, name, allowed) in wrong {
            let problem = problem_with(flags);
            assert!(problem.starts_with(name), "{flags:?}: {problem}");
            assert!(problem.contains(allowed), "{flags:?}: {problem}");
        }
    }

    #[test]
    fn a_wrong_initial_cluster_says_which_entry_is_wrong() {
        let wrong = [
            ("b=localhost:1", "names b but not this member, a"),
            ("a", "\"a\" is not allowed; allowed: NAME=HOST:PORT"),
            ("a=localhost", "allowed: HOST:PORT"),
            ("a=x:1,a=y:1", "member a comes twice"),
            ("a=x:1,b=x:1", "two members have the address x:1"),
            ("A=x:1", "a DNS label"),
        ];
        for (cluster, expected) in wrong {
            let problem = read(&["--name", "a", "--initial-cluster", cluster]).expect_err(cluster).to_string();
            assert!(problem.contains(expected), "{cluster}: {problem}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let invalid = read(&["--http", "x", "--heartbeat", "y", "--log", "z"]).expect_err("wrong");
        let text = invalid.to_string();
        assert!(text.starts_with("5 settings are wrong:\n"), "{text}");
        for name in ["--name", "--initial-cluster", "--http", "--heartbeat", "--log"] {
            assert!(text.contains(&format!("\n  {name} (")), "{name} in {text}");
        }
    }

    #[test]
    fn a_file_fills_in_what_no_flag_says() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("quorate.yaml");
        let text = "name: b\nhttp: 127.0.0.1:1\nhealth: 127.0.0.1:2\nstopWithParent: true\nlog: warn\n\
                    initialCluster:\n  a: localhost:1\n  b: localhost:2\n";
        std::fs::write(&path, text).expect("written");
        let path = path.to_str().expect("a UTF-8 path");
        let settings = read(&["--settings", path, "--http", "127.0.0.1:9"]).expect("right");
        assert_eq!((settings.http.port(), settings.health.port(), settings.member_listen.port()), (9, 2, 17_420));
        assert_eq!((settings.name.as_str(), settings.log.levels.as_str()), ("b", "warn"));
        assert!(settings.stop_with_parent);
    }

    #[test]
    fn a_wrong_file_is_told_with_everything_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("quorate.yaml");
        std::fs::write(&path, "nmae: b\nhttp: [1]\n").expect("written");
        let flags = ["--settings", path.to_str().expect("a UTF-8 path"), "--log", "loud"];
        let text = read(&flags.iter().chain(&ENOUGH).copied().collect::<Vec<_>>()).expect_err("wrong").to_string();
        for part in ["there is no setting \"nmae\"; allowed: name, dataDir", "http: write a plain text", "--log ("] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let missing = problem_with(&["--settings", "/nowhere/quorate.yaml"]);
        assert!(missing.starts_with("--settings (QUORATE_SETTINGS): /nowhere/quorate.yaml: "), "{missing}");
    }

    #[test]
    fn every_setting_is_a_flag_a_variable_and_a_key_of_the_file() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").expect("there is a command serve");
        let mut flags: Vec<_> = serve.get_arguments().filter_map(|arg| arg.get_long().zip(arg.get_env())).collect();
        flags.retain(|(flag, _)| *flag != "settings");
        assert_eq!(flags.len(), SETTINGS.len());
        for setting in SETTINGS {
            let (_, variable) = flags.iter().find(|(flag, _)| *flag == setting.0).expect(setting.0);
            assert_eq!(variable.to_str(), Some(setting.variable().as_str()));
        }
        command.debug_assert();
    }
}
