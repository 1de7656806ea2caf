//! `quorate elect`, `quorate lock` and `quorate run`: wait for a grant, and hold it for a person, a script or a command.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::group::{Group, Signals};
use super::output::print_event;
use super::{Exit, Failure, connect, parse_contest};
use crate::api::wire::{LockMode, ReleaseCause};
use crate::client::{Candidacy, Client, ClientError, Grant, LockWish, NotGranted, Patience, Session};
use crate::settings::args::{ElectArgs, LockArgs, Output, RunArgs, SessionOptions};
use crate::types::{ContestName, Namespace};

/// A session's TTL where neither the command line nor the election says another.
const TTL: Duration = Duration::from_secs(3);

/// How long giving up may take; then the session ends by itself.
const PARTING: Duration = Duration::from_secs(2);

/// Campaigns, says when it leads, and leads until it is stopped.
pub async fn elect(args: ElectArgs) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    match campaign(&mut signals, &args.name, args.priority, &args.session).await? {
        Waited::Granted(session, grant) => {
            keep(&mut signals, session, grant, &args.name, args.session.client.output).await
        }
        Waited::Signalled(_) => Ok(0),
    }
}

/// Runs a command while it leads.
pub async fn run(args: RunArgs) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    match campaign(&mut signals, &args.election, args.priority, &args.session).await? {
        Waited::Granted(session, grant) => {
            run_while_held(&mut signals, session, grant, &args.command, args.session.grace).await
        }
        Waited::Signalled(signal) => Ok(never_ran(signal)),
    }
}

/// Holds a lock until it is stopped, or for as long as a command runs.
pub async fn lock(args: LockArgs) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    match (acquire(&mut signals, &args).await?, args.command.is_empty()) {
        (Waited::Granted(session, grant), true) => {
            keep(&mut signals, session, grant, &args.name, args.session.client.output).await
        }
        (Waited::Granted(session, grant), false) => {
            run_while_held(&mut signals, session, grant, &args.command, args.session.grace).await
        }
        (Waited::Signalled(_), true) => Ok(0),
        (Waited::Signalled(signal), false) => Ok(never_ran(signal)),
    }
}

/// The exit code when a signal came before the command could begin: what shells say of a command that a signal has ended, since
/// 0 would mean that it was done.
fn never_ran(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).expect("a signal's number is less than 65")
}

/// How waiting for a grant ended.
#[expect(clippy::large_enum_variant, reason = "there is one of it, and it is taken apart at once")]
enum Waited {
    Granted(Session, Grant),
    /// It is not wanted any more.
    Signalled(Signal),
}

async fn campaign(
    signals: &mut Signals,
    election: &str,
    priority: i32,
    options: &SessionOptions,
) -> Result<Waited, Failure> {
    let (namespace, name) = parse_contest(election)?;
    let candidacy = Candidacy { name: options.candidate.clone(), priority, metadata: BTreeMap::new() };
    let ask = async |session: &Session| session.campaign(&namespace, &name, &candidacy).await;
    wait(signals, options, Some((&namespace, &name)), None, ask).await
}

async fn acquire(signals: &mut Signals, args: &LockArgs) -> Result<Waited, Failure> {
    let (namespace, name) = parse_contest(&args.name)?;
    let mode = args.shared.then_some(LockMode::Shared);
    let wish = LockWish { mode, permits: args.permits, capacity: args.capacity };
    let options = &args.session;
    if args.wait == Some(Duration::ZERO) {
        let ask =
            async |session: &Session| session.try_lock(&namespace, &name, wish).await.map_err(NotGranted::Refused);
        return wait(signals, options, None, None, ask).await;
    }
    let ask = async |session: &Session| session.lock(&namespace, &name, wish).await;
    wait(signals, options, None, args.wait, ask).await
}

/// Which election a session is for.
type Election<'a> = (&'a Namespace, &'a ContestName);

async fn begin(client: &Client, options: &SessionOptions, election: Option<Election<'_>>) -> Result<Session, Failure> {
    let ttl = match (options.ttl, election) {
        (Some(ttl), _) => ttl,
        (None, Some(election)) => declared_ttl(client, election).await?.unwrap_or(TTL),
        (None, None) => TTL,
    };
    if options.grace.is_some_and(|grace| grace >= ttl) {
        return Err(Failure::usage(anyhow!("--grace must be shorter than the session's TTL, {ttl:?} (--ttl)")));
    }
    Ok(client.begin_session(ttl, options.candidate.clone(), BTreeMap::new()).await?)
}

/// What the election's `LeaderElection` says.
async fn declared_ttl(client: &Client, (namespace, name): Election<'_>) -> Result<Option<Duration>, ClientError> {
    match client.election(namespace, name).await {
        Ok(election) => Ok(election.body.session_ttl_ms.map(Duration::from_millis)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for a grant until the limit or a signal, with another session when one is over.
async fn wait(
    signals: &mut Signals,
    options: &SessionOptions,
    election: Option<Election<'_>>,
    limit: Option<Duration>,
    ask: impl AsyncFn(&Session) -> Result<Grant, NotGranted>,
) -> Result<Waited, Failure> {
    let end = limit.map(|limit| Instant::now() + limit);
    let client = connect(&options.client)?;
    loop {
        // A session whose beginning is interrupted holds nothing, and ends by itself.
        let mut begun = None;
        let asking = async {
            let session = begin(&client, options, election).await?;
            begun = Some(session.clone());
            let asked = ask(&session).await;
            Ok::<_, Failure>((session, asked))
        };
        let (session, asked) = tokio::select! {
            biased;
            signal = signals.next() => {
                part_if_begun(begun, "client-exited").await;
                return Ok(Waited::Signalled(signal));
            }
            () = reached(end) => {
                part_if_begun(begun, "session-ended").await;
                let error = anyhow!("it was not granted within {:?}", limit.unwrap_or_default());
                return Err(Failure { exit: Exit::Failed, error });
            }
            asked = asking => asked?,
        };
        match asked {
            Ok(grant) => return Ok(Waited::Granted(session, grant)),
            Err(NotGranted::Over(why)) => say(&format!("it waits with a new session: {why}")),
            Err(NotGranted::Refused(error)) => {
                part(session, "session-ended").await;
                return Err(error.into());
            }
        }
    }
}

/// Waits until that time; for ever when there is none.
async fn reached(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Says that it is held, holds it until a signal comes, and gives it up.
async fn keep(
    signals: &mut Signals,
    session: Session,
    grant: Grant,
    name: &str,
    output: Output,
) -> Result<u8, Failure> {
    let token = grant.fencing_token();
    let granted = json!({ "event": "granted", "name": name, "fencingToken": token, "session": session.name() });
    print_event(output, &granted, |_: &Value| format!("{name} is held, with fencing token {token}"))?;
    let why = tokio::select! {
        why = grant.lost() => Some(why),
        _ = signals.next() => None,
    };
    match why {
        None => {
            // When it cannot be given up, its session is not kept alive any more.
            drop(timeout(PARTING, grant.release(ReleaseCause::Resigned)).await);
            part(session, "session-ended").await;
            Ok(0)
        }
        Some(why) => Err(lost(name, &why)),
    }
}

fn lost(name: &str, why: &str) -> Failure {
    Failure { exit: Exit::Unavailable, error: anyhow!("{name} is lost: {why}") }
}

/// Runs a command until it ends, or until the grant is not certain any more: then it is asked to end, and ended in any case
/// before another can be granted.
async fn run_while_held(
    signals: &mut Signals,
    session: Session,
    grant: Grant,
    command: &[String],
    grace: Option<Duration>,
) -> Result<u8, Failure> {
    let ttl = session.ttl();
    let (grace, margin) = (grace.unwrap_or(ttl / 3), (ttl / 20).min(MARGIN));
    let mut command = Group::command(command)?;
    command.env("QUORATE_FENCING_TOKEN", grant.fencing_token().to_string());
    let mut group = Group::start(command)?;
    let mut is_asked = false;
    let why = loop {
        tokio::select! {
            biased;
            why = grant.lost() => break why,
            () = nearly_over(&grant, margin) => break "no member has confirmed it in time".to_owned(),
            ended = group.ended() => {
                part(session, "client-exited").await;
                // What it says of itself is of no interest when it was asked to end.
                return if is_asked { Err(lost(NEEDED, "no member has confirmed it in time")) } else { ended };
            }
            () = nearly_over(&grant, grace.max(margin)), if !is_asked => {
                say("no member confirms what is held: the command is asked to end");
                is_asked = true;
                group.signal(Signal::TERM);
            }
            signal = signals.next() => group.signal(signal),
        }
    };
    group.kill().await;
    part(session, "session-ended").await;
    Err(lost(NEEDED, &why))
}

const NEEDED: &str = "what the command needs";

/// The kernel must have the time to end the command before the deadline.
const MARGIN: Duration = Duration::from_millis(100);

/// Waits until less than `rest` is left of what is known to be held.
async fn nearly_over(grant: &Grant, rest: Duration) {
    loop {
        let until = grant.valid_until().checked_sub(rest).unwrap_or_else(Instant::now);
        if Instant::now() >= until {
            return;
        }
        sleep_until(until).await;
    }
}

async fn part_if_begun(session: Option<Session>, cause: &str) {
    if let Some(session) = session {
        part(session, cause).await;
    }
}

/// Ends a session, so that the next one need not wait; if that fails, it ends by itself.
async fn part(session: Session, cause: &str) {
    let session = session.with_patience(Patience::Until(PARTING));
    if let Err(error) = session.end(cause).await {
        say(&format!("the session is not ended, and ends by itself after its TTL: {error}"));
    }
}

#[expect(clippy::print_stderr, reason = "standard output belongs to the command")]
fn say(text: &str) {
    eprintln!("quorate: {text}");
}
