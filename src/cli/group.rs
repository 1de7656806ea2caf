//! A command that runs for a holder: in a process group of its own, which can be ended at any moment, and which ends when
//! this process does, however that comes about.
//!
//! Between this process and the command stands `quorate guard`, the leader of the group. It is told by the kernel when this
//! process is gone, even by SIGKILL, and then kills the group.

use std::process::ExitStatus;

use anyhow::Context;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process_group};
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Failure;
use crate::settings::args::GuardArgs;

/// What is passed on to the command.
const PASSED: [Signal; 6] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// A command that runs.
pub struct Group {
    guard: Child,
    leader: Pid,
}

impl Group {
    /// How a command is started that is to run in a group; its environment and its files are those of the command.
    ///
    /// # Errors
    /// When the path of this program is unknown.
    pub fn command(command: &[String]) -> Result<Command, Failure> {
        let program =
            std::env::current_exe().context("the path of this program is unknown").map_err(Failure::failed)?;
        let mut guard = Command::new(program);
        guard.args(["guard", &getpid().as_raw_nonzero().to_string(), "--"]).args(command).process_group(0);
        Ok(guard)
    }

    /// Starts such a command.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn start(mut command: Command) -> Result<Self, Failure> {
        let guard = command.spawn()?;
        let leader = guard.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let leader = leader.context("the command has no process id").map_err(Failure::failed)?;
        Ok(Self { guard, leader })
    }

    /// What the command prints, when its standard output is a pipe; it is there once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.guard.stdout.take()
    }

    /// The process that stands between this one and the command.
    pub fn guard(&self) -> Option<u32> {
        self.guard.id()
    }

    /// Sends a signal to the command and everything that it has started.
    pub fn signal(&self, signal: Signal) {
        // Nobody may be left to hear it.
        let _ = kill_process_group(self.leader, signal);
    }

    /// Waits until the command has ended, and ends whatever it has left behind; its exit code.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub async fn ended(&mut self) -> Result<u8, Failure> {
        let status = self.guard.wait().await?;
        self.signal(Signal::KILL);
        Ok(code(status))
    }

    /// Whether the command runs still, as far as this process was told.
    pub fn runs(&mut self) -> bool {
        self.guard.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Ends the command and everything that it has started at once.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        // It cannot stay: nobody ignores this signal.
        drop(self.guard.wait().await);
    }
}

/// As shells have it: the command's code, or 128 and the number of the signal that ended it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}

/// The signals that came for the command.
pub struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// From now on they come here instead of ending this process.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn new() -> Result<Self, Failure> {
        let (told, signals) = mpsc::channel(PASSED.len());
        for passed in PASSED {
            let (mut heard, told) = (signal(SignalKind::from_raw(passed.as_raw()))?, told.clone());
            #[expect(clippy::disallowed_methods, reason = "it ends with the process, and has nothing that could fail")]
            drop(tokio::spawn(async move {
                while heard.recv().await.is_some() {
                    if told.send(passed).await.is_err() {
                        return;
                    }
                }
            }));
        }
        Ok(Self(signals))
    }

    /// Waits for the next.
    pub async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// `quorate guard PARENT -- COMMAND`: the leader of the group. Signals for the group reach the command by themselves; here
/// they only ask whether the parent is there still.
pub async fn guard(args: GuardArgs) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).map_err(std::io::Error::from)?;
    let is_orphaned = || getppid().map(Pid::as_raw_nonzero).map(std::num::NonZeroI32::get) != Some(args.parent);
    // It may have died before the kernel was asked to tell.
    if is_orphaned() {
        return Err(Failure::failed(anyhow::anyhow!("the process that wanted this command is gone")));
    }
    let (program, arguments) = args.command.split_first().expect("clap requires a command");
    let mut command =
        Command::new(program).args(arguments).spawn().with_context(|| program.clone()).map_err(Failure::failed)?;
    loop {
        tokio::select! {
            ended = command.wait() => return Ok(code(ended?)),
            _ = signals.next() => {
                if is_orphaned() {
                    let _ = kill_process_group(getpid(), Signal::KILL);
                }
            }
        }
    }
}
