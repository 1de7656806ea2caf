//! One member's process: `quorate serve`, told everything by flags, with its log in a file.

use std::fmt;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::layout::Layout;
use crate::cli::Failure;
use crate::cli::output::or_dash;
use crate::tasks::{Exit, Tasks};

/// A process. When it is dropped, the process is killed; when this whole program is gone, in whatever way, the process
/// stops in order, because its standard input ends.
pub struct Child {
    pid: Option<Pid>,
    ended: oneshot::Receiver<Ended>,
    /// Dropped to kill it.
    keep: oneshot::Sender<()>,
}

/// The end of a process.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub number: usize,
    pub at: Instant,
    pub status: Option<ExitStatus>,
}

impl Ended {
    /// Whether it ended by itself with an error, so that its log says why.
    pub fn failed(&self) -> bool {
        self.status.and_then(|status| status.code()).is_some_and(|code| code != 0)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(status) = self.status else { return f.write_str("ended") };
        match (status.code(), status.signal()) {
            (Some(0), _) => f.write_str("stopped in order"),
            (Some(code), _) => write!(f, "failed with exit code {code}"),
            (None, Some(9)) => f.write_str("was killed (signal 9)"),
            (None, signal) => write!(f, "was ended by signal {}", signal.unwrap_or_default()),
        }
    }
}

impl Child {
    /// Starts the member of that number; `tell` is called when its process has ended.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start<F, T>(layout: &Layout, number: usize, tasks: &Tasks, tell: T) -> Result<Self, Failure>
    where
        T: FnOnce(Ended) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let mut process =
            command(layout, number)?.spawn().context("a member cannot be started").map_err(Failure::failed)?;
        let pid = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let (told, ended) = oneshot::channel();
        let (keep, dropped) = oneshot::channel();
        tasks.spawn("member process", Exit::Normal, async move {
            // Waiting would close it, and the member takes that as the end of this program.
            let input = process.stdin.take();
            let status = tokio::select! {
                status = process.wait() => status.ok(),
                _ = dropped => {
                    // It is gone already when this fails.
                    drop(process.kill().await);
                    return;
                }
            };
            drop(input);
            let end = Ended { number, at: Instant::now(), status };
            // Somebody listens only while the process is asked to stop.
            let _ = told.send(end);
            tell(end).await;
        });
        Ok(Self { pid, ended, keep })
    }

    /// What to give to `kill`.
    pub fn pid(&self) -> String {
        or_dash(self.pid.map(Pid::as_raw_pid))
    }

    /// Asks the process to stop, and kills it when it takes longer than `patience`; says how it ended.
    pub async fn stop(self, patience: Duration) -> String {
        if let Some(pid) = self.pid {
            // It is gone already when this fails.
            let _ = kill_process(pid, Signal::TERM);
        }
        let told = match tokio::time::timeout(patience, self.ended).await {
            Ok(Ok(ended)) => ended.to_string(),
            Ok(Err(_)) => "ended".to_owned(),
            Err(_) => format!("did not stop within {patience:?} and is killed"),
        };
        drop(self.keep);
        told
    }
}

fn command(layout: &Layout, number: usize) -> Result<Command, Failure> {
    let member = &layout.members[number];
    let program = std::env::current_exe().context("the path of this program is unknown").map_err(Failure::failed)?;
    let log = File::options().create(true).append(true).open(&member.log);
    let log = log.with_context(|| member.log.display().to_string()).map_err(Failure::failed)?;
    let mut command = Command::new(program);
    command
        .arg("serve")
        .args(["--name", &member.name])
        .arg("--data-dir")
        .arg(&member.data)
        .args(["--initial-cluster", &layout.initial_cluster()])
        .args(["--http", &member.http.to_string()])
        .args(["--health", &member.health.to_string()])
        .args(["--member-listen", &member.member.to_string()])
        .arg("--resources")
        .arg(&layout.resources)
        .arg("--stop-with-parent")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        // A group of its own: Ctrl-C on the terminal reaches only this program, which stops the members in order.
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}
