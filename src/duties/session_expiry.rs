//! Ends the sessions of clients that have been silent for too long.
//!
//! Every session has its whole time from the moment when this leadership saw it first, and again from each sign of life. So a
//! session never ends early, and at most its whole time late after a change of the Raft leader.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::COMMAND;
use crate::coordinator::{Attendance, Coordinator};
use crate::machine::Machine;
use crate::machine::command::{Action, SilentSession};
use crate::types::{ClockDrift, Leadership, SessionId, Ttl};

/// How long a new session may go unnoticed; it lives so much longer.
const NOTICED: Duration = Duration::from_millis(50);

/// Sessions that one command ends: more would keep other commands waiting.
const BATCH: usize = 512;

/// How long to wait after a proposal that failed, as others will have.
const AGAIN: Duration = Duration::from_millis(200);

/// Ends sessions for as long as the leadership lasts.
pub(super) async fn serve(coordinator: &Coordinator, leadership: Leadership) {
    let attendance = coordinator.attendance();
    attendance.forget_all();
    let mut deadlines = Deadlines::new(coordinator.clock_drift());
    loop {
        let (state, now) = (coordinator.state(), Instant::now());
        deadlines.notice(&state, now);
        let silent = deadlines.silent(&state, attendance, now);
        if silent.is_empty() {
            sleep_until(deadlines.next().map_or(now + NOTICED, |next| next.min(now + NOTICED))).await;
            continue;
        }
        let action = Action::ExpireSessions(silent.iter().map(|(_, silent)| *silent).collect());
        match coordinator.propose_duty(leadership, action, now + COMMAND).await {
            Ok(_) => silent.iter().for_each(|(_, silent)| attendance.forget(silent.session)),
            // It may still come about, so nobody may be told that one of them lives until a proposal behind it has.
            Err(error) => {
                tracing::warn!(%error, %leadership, sessions = silent.len(), "silent sessions are not ended yet");
                deadlines.put_back(&silent);
                sleep(AGAIN).await;
            }
        }
    }
}

/// When each session will have been silent for too long, unless it is heard of before.
struct Deadlines {
    drift: ClockDrift,
    /// The newest session that has been noticed.
    newest: SessionId,
    by_time: BTreeSet<(Instant, SessionId)>,
}

impl Deadlines {
    fn new(drift: ClockDrift) -> Self {
        Self { drift, newest: SessionId::ZERO, by_time: BTreeSet::new() }
    }

    /// Gives every session that has not been noticed its whole time from now on.
    fn notice(&mut self, state: &Machine, now: Instant) {
        for (session, record) in state.sessions().newer_than(self.newest) {
            self.by_time.insert((now + self.drift.patient(record.ttl.as_duration()), session));
        }
        self.newest = state.sessions().newest();
    }

    fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The sessions whose time is over, and when it was, if they were not heard of in it; from here on they are not heard
    /// any more.
    fn silent(&mut self, state: &Machine, attendance: &Attendance, now: Instant) -> Vec<(Instant, SilentSession)> {
        let mut silent = Vec::new();
        while let Some((at, session)) = self.by_time.first().copied().filter(|(at, _)| *at <= now) {
            if silent.len() == BATCH {
                break;
            }
            self.by_time.remove(&(at, session));
            let Some(record) = state.sessions().get(session) else {
                attendance.forget(session);
                continue;
            };
            let patience = self.drift.patient(record.ttl.as_duration());
            let began = at.checked_sub(patience).unwrap_or(at);
            match attendance.heard_after(session, began) {
                Some(heard) => drop(self.by_time.insert((heard + patience, session))),
                None => {
                    let overdue_ms = self.overdue(record.ttl, began, now);
                    silent.push((at, SilentSession { session, overdue_ms }));
                }
            }
        }
        silent
    }

    /// How long ago the client of a session had to stop, when its last sign of life was at `heard`.
    fn overdue(&self, ttl: Ttl, heard: Instant, now: Instant) -> u64 {
        let stopped = heard + self.drift.valid(ttl.as_duration());
        u64::try_from(now.saturating_duration_since(stopped).as_millis()).unwrap_or(u64::MAX)
    }

    /// What could not be ended.
    fn put_back(&mut self, silent: &[(Instant, SilentSession)]) {
        self.by_time.extend(silent.iter().map(|(at, silent)| (*at, silent.session)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Limits;
    use crate::machine::command::{Author, Command, Metadata, NewSession};
    use crate::types::{LogIndex, Timestamp};

    /// A state with sessions that live so many milliseconds each.
    fn state(ttls: &[u64]) -> Machine {
        let mut machine = Machine::new(Limits::default());
        for (index, ttl) in (0..).zip(ttls) {
            let session = NewSession { ttl: Ttl::from_millis(*ttl).unwrap(), client: None, metadata: Metadata::new() };
            let action = Action::CreateSession { session, limit: 2000 };
            let command = Command { at: Timestamp::default(), author: Author::Client(None), action };
            machine.apply(LogIndex::new(index), &command).answer.outcome.unwrap();
        }
        machine
    }

    fn ids(silent: &[(Instant, SilentSession)]) -> Vec<u64> {
        silent.iter().map(|(_, silent)| silent.session.get()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_it_was_silent_for_its_time_and_the_drift_and_never_before() {
        let (state, attendance, start) = (state(&[1000, 2000]), Attendance::default(), Instant::now());
        let mut deadlines = Deadlines::new(ClockDrift::USUAL);
        deadlines.notice(&state, start);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(deadlines.next(), Some(at(1010)));
        assert_eq!(ids(&deadlines.silent(&state, &attendance, at(1009))), [0; 0]);
        attendance.hear(&[SessionId::new(1)], at(900));
        assert_eq!(ids(&deadlines.silent(&state, &attendance, at(1010))), [0; 0], "it was heard of");
        assert_eq!(deadlines.next(), Some(at(1910)));
        let silent = deadlines.silent(&state, &attendance, at(1930));
        assert_eq!(silent, [(at(1910), SilentSession { session: SessionId::new(1), overdue_ms: 40 })]);
        assert_eq!(attendance.hear(&[SessionId::new(1)], at(1931)), [SessionId::new(1)], "it comes too late");
        assert_eq!(ids(&deadlines.silent(&state, &attendance, at(2020))), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_come_about_still_is_tried_again_and_not_heard_of_meanwhile() {
        let (state, attendance, start) = (state(&[1000, 1000]), Attendance::default(), Instant::now());
        let mut deadlines = Deadlines::new(ClockDrift::USUAL);
        deadlines.notice(&state, start);
        let at = |millis| start + Duration::from_millis(millis);
        let silent = deadlines.silent(&state, &attendance, at(1010));
        assert_eq!(ids(&silent), [1, 2]);
        deadlines.put_back(&silent);
        assert_eq!(attendance.hear(&[SessionId::new(2)], at(1100)), [SessionId::new(2)]);
        let again = deadlines.silent(&state, &attendance, at(1210));
        assert_eq!(ids(&again), [1, 2]);
        assert_eq!(again[0].1.overdue_ms, 220, "it counts from the deadline of its client");
    }

    #[tokio::test(start_paused = true)]
    async fn many_sessions_end_in_batches_and_new_ones_get_their_whole_time() {
        let (all, attendance, start) = (state(&[500; 1000]), Attendance::default(), Instant::now());
        let mut deadlines = Deadlines::new(ClockDrift::USUAL);
        deadlines.notice(&all, start);
        let late = start + Duration::from_secs(1);
        assert_eq!(deadlines.silent(&all, &attendance, late).len(), BATCH);
        assert_eq!(deadlines.silent(&all, &attendance, late).len(), 1000 - BATCH);
        let more = state(&[500; 1001]);
        deadlines.notice(&more, late);
        assert_eq!(deadlines.silent(&more, &attendance, late), []);
        assert_eq!(deadlines.next(), Some(late + Duration::from_millis(505)));
    }
}
