//! A Kubernetes Lease: candidates that are processes with client-go, of which the one that waits takes over.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::time::{Instant, timeout};

use super::report::Fault;
use crate::cli::group::Group;

/// How long a candidate may take: several times the 15 s that a Lease is kept for one that is gone.
const PATIENCE: Duration = Duration::from_secs(90);

/// A Lease with a holder.
pub(super) struct Lease {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// So many candidates have been started; and it tells this run's Lease from those of others.
    started: usize,
    name: String,
    holder: Candidate,
}

struct Candidate {
    process: Group,
    says: Lines<BufReader<ChildStdout>>,
}

impl Candidate {
    /// Waits until it says that word.
    async fn says(&mut self, word: &str) -> anyhow::Result<Instant> {
        let said = async {
            while let Some(line) = self.says.next_line().await? {
                if line == word {
                    return Ok(Instant::now());
                }
            }
            bail!("it has ended; does it reach the API server of --kubeconfig?")
        };
        timeout(PATIENCE, said).await.with_context(|| format!("a candidate for the Lease does not say {word:?}"))?
    }
}

impl Lease {
    /// Lets a first candidate have it.
    pub(super) async fn start(program: &Path, kubeconfig: &Path) -> anyhow::Result<Self> {
        let name = format!("quorate-bench-{}", std::process::id());
        let mut holder = candidate(program, kubeconfig, &name, 0)?;
        holder.says("granted").await.context("the first candidate for the Lease")?;
        Ok(Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned(), started: 1, name, holder })
    }

    /// How long it took from the end of the holder until the next one was granted.
    pub(super) async fn hand_on(&mut self, fault: Fault, rest: Duration) -> anyhow::Result<Duration> {
        let signal = match fault {
            Fault::HolderKilled => Signal::KILL,
            Fault::HolderReleased => Signal::TERM,
            Fault::Kill
            | Fault::Stop
            | Fault::Pause
            | Fault::Transfer
            | Fault::KillUnderLoad
            | Fault::HolderExpired => {
                bail!("a Lease's holder is not {fault}")
            }
        };
        let mut next = candidate(&self.program, &self.kubeconfig, &self.name, self.started)?;
        self.started += 1;
        next.says("waiting").await?;
        tokio::time::sleep(rest).await;
        let ended = Instant::now();
        self.holder.process.signal(signal);
        let granted = next.says("granted").await?;
        let before = std::mem::replace(&mut self.holder, next);
        before.process.kill().await;
        Ok(granted - ended)
    }

    pub(super) async fn stop(self) {
        self.holder.process.kill().await;
    }
}

fn candidate(program: &Path, kubeconfig: &Path, name: &str, number: usize) -> anyhow::Result<Candidate> {
    let words = [
        program.display().to_string(),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--name={name}"),
        format!("--identity=candidate-{number}"),
    ];
    let mut command = Group::command(&words).map_err(|failure| failure.error)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Group::start(command).map_err(|failure| failure.error)?;
    let said = process.stdout().context("the output of a candidate is a pipe")?;
    Ok(Candidate { process, says: BufReader::new(said).lines() })
}
