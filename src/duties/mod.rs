//! Work that only the Raft leader does, because it depends on time: what a clock decides is proposed as a command, so that
//! every member does the same.
//!
//! The duties of a leadership begin when its first command is applied on this member, and are dropped where they wait as
//! soon as this member knows of another Raft leader. Every command names the leadership in which it was decided; the machine
//! refuses it once a newer one has begun. A duty never does anything but propose.

mod ageing;
mod session_expiry;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use ageing::Ages;

use crate::coordinator::Coordinator;
use crate::machine::Machine;
use crate::machine::command::Action;
use crate::tasks::{Exit, Tasks};
use crate::types::{Leadership, Revision};

/// How long the outcome of a request is remembered, so that a retry gets it again.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// How long the past can be read, if there is room for it.
const READABLE: Duration = Duration::from_secs(60 * 60);

/// Between two looks: what is due is done at most so much late.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How long one command may take; then the next look tries again.
const COMMAND: Duration = Duration::from_secs(5);

/// Runs the duties whenever this member leads.
pub fn start(coordinator: Coordinator, tasks: &Tasks) {
    let stopping = tasks.stopping();
    tasks.spawn("duties", Exit::Fatal, async move {
        let serving = coordinator.in_each_leadership(|leadership| serve(&coordinator, leadership));
        stopping.run_until_cancelled(serving).await;
    });
}

/// The duties of one leadership, until it is dropped.
async fn serve(coordinator: &Coordinator, leadership: Leadership) {
    tokio::join!(keep_house(coordinator, leadership), session_expiry::serve(coordinator, leadership));
}

/// Forgets what nobody needs any more.
async fn keep_house(coordinator: &Coordinator, leadership: Leadership) {
    let (mut requests, mut revisions) = (Ages::new(REMEMBERED), Ages::new(READABLE));
    loop {
        let (state, now) = (coordinator.state(), Instant::now());
        let forget = requests.look(now, state.requests().next_number());
        let compact = revisions.look(now, state.revision().get());
        for action in due(&state, forget, compact) {
            let proposed = coordinator.propose_duty(leadership, action, Instant::now() + COMMAND).await;
            if let Err(error) = proposed {
                tracing::warn!(%error, %leadership, "a duty is not done yet");
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What to propose when requests numbered below `forget` and revisions up to `compact` are old enough.
fn due(state: &Arc<Machine>, forget: Option<u64>, compact: Option<u64>) -> Vec<Action> {
    let mut actions = Vec::new();
    let oldest = state.requests().next_number().saturating_sub(state.requests().len() as u64);
    if let Some(first_kept) = forget.filter(|first_kept| *first_kept > oldest) {
        actions.push(Action::ForgetRequests { through: first_kept - 1 });
    }
    if let Some(through) = compact.map(Revision::new).filter(|through| *through > state.compacted()) {
        actions.push(Action::Compact { through });
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Limits;
    use crate::machine::command::{Author, Command, KeyCondition};
    use crate::types::{IdempotencyKey, Key, LogIndex, Timestamp};

    /// A state after so many commands, each with an idempotency key.
    fn state(commands: u64) -> Arc<Machine> {
        let mut machine = Machine::new(Limits::default());
        for index in 0..commands {
            let author = Author::Client(Some(IdempotencyKey::new(format!("request-{index}")).unwrap()));
            let key = Key::new("k").unwrap();
            let action =
                Action::PutKey { key, value: bytes::Bytes::new(), session: None, only_if: KeyCondition::Always };
            machine.apply(LogIndex::new(index), &Command { at: Timestamp::from_millis(0), author, action });
        }
        Arc::new(machine)
    }

    #[test]
    fn only_what_is_old_and_still_there_is_proposed() {
        let state = state(10);
        assert_eq!(due(&state, None, None), []);
        assert_eq!(due(&state, Some(0), Some(0)), [], "nothing is that old");
        let (forget, compact) = (Action::ForgetRequests { through: 6 }, Action::Compact { through: Revision::new(4) });
        assert_eq!(due(&state, Some(7), Some(4)), [forget.clone(), compact.clone()]);

        let mut machine = Machine::clone(&state);
        for (index, action) in [(10, forget), (11, compact)] {
            let command = Command { at: Timestamp::from_millis(0), author: Author::Client(None), action };
            assert!(machine.apply(LogIndex::new(index), &command).answer.outcome.is_ok());
        }
        assert_eq!(due(&Arc::new(machine), Some(7), Some(4)), [], "it is done");
    }
}
