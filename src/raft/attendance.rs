//! When this member, as the Raft leader, has heard of each session last. In memory only: what it knows is worth nothing to
//! another leader, which begins by giving every session its whole time anew.
//!
//! A session is heard of only after a round has confirmed that this member leads, or before a command is proposed that is
//! known to be committed before anybody is told that the session lives. Whoever finds that a session has been silent for too
//! long says so here before it proposes the end: from then on nobody can be told that the session lives, until that proposal
//! has come to an end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

use crate::types::SessionId;

/// What is known of the sessions that were heard of.
#[derive(Debug, Default)]
pub struct Attendance(Mutex<BTreeMap<SessionId, Sign>>);

#[derive(Debug, Clone, Copy)]
enum Sign {
    Heard(Instant),
    /// Its end is proposed.
    Ending,
}

impl Attendance {
    /// Notes sessions that gave a sign of life before `now`; gives back those whose end is proposed, which are not noted.
    pub fn hear(&self, sessions: &[SessionId], now: Instant) -> Vec<SessionId> {
        let mut signs = self.signs();
        let is_ending = |session: &SessionId| match signs.entry(*session).or_insert(Sign::Heard(now)) {
            Sign::Heard(at) => {
                *at = now;
                None
            }
            Sign::Ending => Some(*session),
        };
        sessions.iter().filter_map(is_ending).collect()
    }

    /// When a session was heard of last, if that was after `since`. If not, its end may be proposed: until
    /// [`Attendance::forget`] it is not heard any more.
    pub fn heard_after(&self, session: SessionId, since: Instant) -> Option<Instant> {
        let mut signs = self.signs();
        match signs.get(&session) {
            Some(Sign::Heard(at)) if *at > since => Some(*at),
            Some(Sign::Heard(_) | Sign::Ending) | None => {
                signs.insert(session, Sign::Ending);
                None
            }
        }
    }

    /// Forgets a session that has ended, or whose end was not brought about.
    pub fn forget(&self, session: SessionId) {
        self.signs().remove(&session);
    }

    /// Forgets everything: a leadership begins.
    pub fn forget_all(&self) {
        self.signs().clear();
    }

    fn signs(&self) -> MutexGuard<'_, BTreeMap<SessionId, Sign>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_whose_end_is_proposed_is_not_heard_until_that_is_over() {
        let (attendance, session, start) = (Attendance::default(), SessionId::new(7), Instant::now());
        let second = |number| start + Duration::from_secs(number);
        assert_eq!(attendance.hear(&[session], second(1)), []);
        assert_eq!(attendance.heard_after(session, second(0)), Some(second(1)));
        assert_eq!(attendance.heard_after(session, second(1)), None, "it has been silent since");
        assert_eq!(attendance.hear(&[session, SessionId::new(8)], second(2)), [session]);
        attendance.forget(session);
        assert_eq!(attendance.hear(&[session], second(3)), []);
        assert_eq!(attendance.heard_after(session, second(2)), Some(second(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_was_never_heard_of_may_end() {
        let attendance = Attendance::default();
        assert_eq!(attendance.heard_after(SessionId::new(7), Instant::now()), None);
        assert_eq!(attendance.hear(&[SessionId::new(7)], Instant::now()), [SessionId::new(7)]);
    }
}
