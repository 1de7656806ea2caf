//! Elections of applications: one candidate holds, another one waits, and the time counts until that one is granted.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::contestant::Contestant;
use super::report::Fault;
use crate::cli::bench::etcd::Etcd;
use crate::cli::bench::peer::Peer;
use crate::cli::bench::quorate::Quorate;
use crate::cli::group::Group;

/// How long a holder lives without a sign of life: the least that etcd grants with its default settings.
const TTL: Duration = Duration::from_secs(2);

/// Between two signs of life, as etcd's own client has it.
const BEAT: Duration = Duration::from_millis(2000 / 3);

/// Which part of that has passed when a holder is killed, so that its signs of life do not fall in step with the rounds.
const PARTS: [f64; 9] = [0.1, 0.7, 0.4, 0.9, 0.2, 0.6, 0.3, 0.8, 0.5];

/// The one that waits lives for longer than a round takes.
const WAITS: Duration = Duration::from_mins(10);

/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks whether the other candidate waits.
const LOOK: Duration = Duration::from_millis(10);

/// A side whose elections are measured.
pub(super) trait Candidates: Contestant {
    /// What leads an election as an application does.
    type Application;

    /// Starts it; it leads when this returns.
    async fn lead(urls: &[String], election: &str) -> anyhow::Result<Self::Application>;

    /// Kills it, so long after a sign of life; when that was.
    async fn kill(application: &mut Self::Application, after: Duration) -> anyhow::Result<Instant>;

    /// Waits until nothing is left of it.
    async fn bury(application: Self::Application) -> anyhow::Result<()>;
}

/// How long it took from the end of a holder until the next one was granted. One that is silent counts from its last sign of life.
pub(super) async fn hand_on<C: Candidates>(urls: &[String], fault: Fault, round: usize) -> anyhow::Result<Duration> {
    let election = format!("{fault:?}-{round}").to_lowercase();
    match fault {
        Fault::HolderKilled => {
            let mut application = C::lead(urls, &election).await?;
            let waiter = Waiter::start::<C>(urls, &election).await?;
            let killed = C::kill(&mut application, BEAT.mul_f64(PARTS[round % PARTS.len()])).await?;
            let took = waiter.granted_after(killed).await?;
            C::bury(application).await?;
            Ok(took)
        }
        Fault::HolderReleased => {
            let (mut holder, session, grant) = hold::<C>(urls, &election).await?;
            let waiter = Waiter::start::<C>(urls, &election).await?;
            let released = Instant::now();
            holder.resign(&election, &session, grant).await?;
            waiter.granted_after(released).await
        }
        Fault::HolderExpired => {
            let (mut holder, session, _) = hold::<C>(urls, &election).await?;
            let waiter = Waiter::start::<C>(urls, &election).await?;
            holder.keep_alive(std::slice::from_ref(&session)).await?;
            waiter.granted_after(Instant::now()).await
        }
        Fault::Kill | Fault::Stop | Fault::Pause | Fault::Transfer | Fault::KillUnderLoad => {
            bail!("no election's holder is {fault}")
        }
    }
}

/// A client of the first member that leads.
async fn hold<C: Peer>(urls: &[String], election: &str) -> anyhow::Result<(C, C::Session, C::Grant)> {
    let mut peer = C::connect(&urls[0]).await?;
    let session = peer.begin_session(TTL).await?;
    let grant = peer.campaign(election, &session).await?;
    Ok((peer, session, grant))
}

/// A client of the second member that waits until it leads, and says when it does.
struct Waiter(JoinSet<anyhow::Result<Instant>>);

impl Waiter {
    async fn start<C: Contestant>(urls: &[String], election: &str) -> anyhow::Result<Self> {
        let mut peer = C::connect(&urls[1]).await?;
        let session = peer.begin_session(WAITS).await?;
        let (mut waiter, name) = (JoinSet::new(), election.to_owned());
        waiter.spawn(async move {
            peer.campaign(&name, &session).await?;
            Ok(Instant::now())
        });
        let (mut witness, deadline) = (C::connect(&urls[1]).await?, Instant::now() + PATIENCE);
        while witness.candidates(election).await? < 2 {
            ensure!(Instant::now() < deadline, "the other candidate does not wait");
            sleep(LOOK).await;
        }
        Ok(Self(waiter))
    }

    async fn granted_after(mut self, ended: Instant) -> anyhow::Result<Duration> {
        let granted = timeout(PATIENCE, self.0.join_next()).await.context("the other candidate is not granted")?;
        let granted = granted.context("nobody waits")???;
        ensure!(granted >= ended, "the other candidate was granted before the holder was harmed");
        Ok(granted - ended)
    }
}

/// A command under `quorate run`, which gives up what it holds when the command is gone.
pub(super) struct Command {
    run: Group,
    pid: Pid,
}

impl Candidates for Quorate {
    type Application = Command;

    async fn lead(urls: &[String], election: &str) -> anyhow::Result<Command> {
        let program = std::env::current_exe()?.display().to_string();
        let (endpoints, election) = (urls.join(","), format!("bench/{election}"));
        let run = [&program, "run", "--endpoints", &endpoints, "--election", &election, "--"];
        // It says who it is, and is the same process afterwards.
        let command = ["sh", "-c", "echo $$; exec sleep 3600"];
        let words: Vec<_> = run.into_iter().chain(command).map(str::to_owned).collect();
        let mut command = Group::command(&words).map_err(|failure| failure.error)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut run = Group::start(command).map_err(|failure| failure.error)?;
        let said = run.stdout().context("the output of the command is a pipe")?;
        let line = timeout(PATIENCE, BufReader::new(said).lines().next_line()).await;
        let line = line.context("`quorate run` does not lead")??.context("`quorate run` has ended")?;
        let pid = Pid::from_raw(line.trim().parse()?).context("the command has no process id")?;
        Ok(Command { run, pid })
    }

    async fn kill(command: &mut Command, _: Duration) -> anyhow::Result<Instant> {
        let killed = Instant::now();
        kill_process(command.pid, Signal::KILL)?;
        Ok(killed)
    }

    async fn bury(mut command: Command) -> anyhow::Result<()> {
        let ended = timeout(PATIENCE, command.run.ended()).await.context("`quorate run` does not end")?;
        ended.map(drop).map_err(|failure| failure.error)
    }
}

impl Candidates for Etcd {
    /// It has nobody who would give up anything for it.
    type Application = (Self, i64);

    async fn lead(urls: &[String], election: &str) -> anyhow::Result<(Self, i64)> {
        let (peer, lease, _) = hold::<Self>(urls, election).await?;
        Ok((peer, lease))
    }

    async fn kill((peer, lease): &mut (Self, i64), after: Duration) -> anyhow::Result<Instant> {
        peer.keep_alive(std::slice::from_ref(lease)).await?;
        sleep(after).await;
        Ok(Instant::now())
    }

    async fn bury(_: (Self, i64)) -> anyhow::Result<()> {
        Ok(())
    }
}
