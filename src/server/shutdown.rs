//! Why a process stops, and in which order its parts do. A second signal exits at once.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::Member;

/// Who asks to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Terminate,
    Interrupt,
    /// Standard input has ended, as it does when the parent process is gone.
    ParentGone,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "asked to stop (SIGTERM)",
            Self::Interrupt => "interrupted (SIGINT)",
            Self::ParentGone => "the parent process is gone",
        })
    }
}

/// Hears everybody who asks to stop.
#[derive(Debug)]
pub struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    /// From now on, signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Stop {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Stop::Terminate,
            _ = self.interrupt.recv() => Stop::Interrupt,
        }
    }
}

/// Waits until standard input has ended.
pub(super) async fn parent_gone() -> Stop {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    // Whatever the parent writes means nothing; an error means that there is nothing to read from.
    while let Ok(1..) = input.read(&mut ignored).await {}
    Stop::ParentGone
}

/// Stops a member. For `delay` it serves on, not ready and without leading, until whoever sends requests has heard of it. Then it
/// ends within `patience`: first what takes requests, so that every one that was taken is answered; then Raft, which hands
/// leadership over before it ends; the health port last. A second signal ends the process at once.
pub(super) async fn in_order(member: &Member, delay: Duration, patience: Duration, mut stops: Stops) {
    let ends = Instant::now() + delay;
    let deadline = ends + patience;
    let order = async {
        member.readiness.stop();
        member.raft.stand_back();
        if !delay.is_zero() {
            member.raft.hand_over(ends).await;
            sleep_until(ends).await;
        }
        member.front.stop(patience / 2).await;
        member.raft.shutdown(deadline).await;
        member.back.stop(deadline.saturating_duration_since(Instant::now())).await;
    };
    tokio::select! {
        biased;
        stop = stops.next() => {
            tracing::warn!(why = %stop, "asked again: exiting at once");
            std::process::exit(AT_ONCE);
        }
        () = order => {}
    }
}

/// What a shell gives a process that was ended by SIGINT.
const AT_ONCE: i32 = 130;
