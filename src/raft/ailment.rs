//! What may ail a member so that another one should lead: its disk is stalled, or its process gets no processor. Plain rules;
//! `stepping_aside.rs` looks and acts.
//!
//! A member that ails answers heartbeats all the same, so nobody would ever depose it, and every write waits for it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// A sync that takes so long is a stall: two thousand times as long as on a good disk, and half an election timeout.
const SLOW: Duration = Duration::from_millis(250);

/// A task that is woken so late gets no processor.
const LATE: Duration = Duration::from_millis(250);

/// An ailment is one when it was found at every look for so long: shorter ones pass sooner than a change of the Raft leader
/// would help.
const LASTING: Duration = Duration::from_secs(3);

/// What ails a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ailment {
    SlowDisk,
    Starved,
}

/// How long the log's syncs take, told by whoever writes it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct DiskPulse(Arc<Mutex<Pulse>>);

#[derive(Debug, Default)]
struct Pulse {
    /// The sync that goes on.
    began: Option<Instant>,
    /// The longest one that ended since the last look.
    longest: Option<Duration>,
}

impl DiskPulse {
    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.0.lock().expect("nobody panics while holding it")
    }

    pub(super) fn begins(&self, now: Instant) {
        self.pulse().began = Some(now);
    }

    pub(super) fn ends(&self, now: Instant) {
        let mut pulse = self.pulse();
        let took = pulse.began.take().map(|began| now.saturating_duration_since(began));
        pulse.longest = pulse.longest.max(took);
    }

    /// The longest sync since the last look, one that goes on included; `None` when there was none.
    pub(super) fn look(&self, now: Instant) -> Option<Duration> {
        let mut pulse = self.pulse();
        let going_on = pulse.began.map(|began| now.saturating_duration_since(began));
        pulse.longest.take().max(going_on)
    }
}

/// What is found look after look.
#[derive(Debug, Default)]
pub(super) struct Course {
    slow_since: Option<Instant>,
    late_since: Option<Instant>,
}

impl Course {
    /// Whether something was found at the last look, so that leadership is not given to this member.
    pub(super) fn is_unwell(&self) -> bool {
        self.slow_since.is_some() || self.late_since.is_some()
    }

    /// Takes in one look: the longest sync, if there was one, and how late the looker was woken.
    pub(super) fn note(&mut self, sync: Option<Duration>, lateness: Duration, now: Instant) -> Option<Ailment> {
        match sync {
            Some(took) if took >= SLOW => {
                self.slow_since.get_or_insert(now);
            }
            Some(_) => self.slow_since = None,
            // A disk that nothing was asked of is as it was.
            None => {}
        }
        self.late_since = (lateness >= LATE).then(|| self.late_since.unwrap_or(now));
        let lasts = |since: Option<Instant>| since.is_some_and(|since| now.saturating_duration_since(since) >= LASTING);
        match (lasts(self.slow_since), lasts(self.late_since)) {
            // A process that gets no processor finds its disk slow, too.
            (_, true) => Some(Ailment::Starved),
            (true, false) => Some(Ailment::SlowDisk),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(500);
    const STALLED: Option<Duration> = Some(Duration::from_millis(300));
    const QUICK: Option<Duration> = Some(Duration::from_millis(2));
    const ON_TIME: Duration = Duration::ZERO;

    /// The longest sync, and how late the looker was woken.
    type Look = (Option<Duration>, Duration);

    /// What is found at the end of looks that are half a second apart.
    fn found(looks: &[Look]) -> Option<Ailment> {
        let (mut course, mut now, mut found) = (Course::default(), Instant::now(), None);
        for (sync, lateness) in looks {
            now += EVERY;
            found = course.note(*sync, *lateness, now);
        }
        found
    }

    #[test]
    fn what_lasts_for_seconds_is_an_ailment_and_what_passes_is_none() {
        let cases: [(&str, Vec<Look>, Option<Ailment>); 8] = [
            ("all is well", vec![(QUICK, ON_TIME); 20], None),
            ("nothing is written", vec![(None, ON_TIME); 20], None),
            ("the disk stalls for seconds", vec![(STALLED, ON_TIME); 7], Some(Ailment::SlowDisk)),
            ("for a little less", vec![(STALLED, ON_TIME); 6], None),
            (
                "with pauses in which nothing is written",
                [(STALLED, ON_TIME), (None, ON_TIME), (None, ON_TIME)].repeat(3),
                Some(Ailment::SlowDisk),
            ),
            (
                "it recovers in between",
                [[(STALLED, ON_TIME); 4].as_slice(), &[(QUICK, ON_TIME)]].concat().repeat(4),
                None,
            ),
            ("the process gets no processor", vec![(STALLED, LATE); 7], Some(Ailment::Starved)),
            ("it is late now and then", [(QUICK, LATE), (QUICK, ON_TIME)].repeat(10), None),
        ];
        for (case, looks, expected) in cases {
            assert_eq!(found(&looks), expected, "{case}");
        }
    }

    #[test]
    fn a_sync_that_does_not_end_is_seen_while_it_goes_on() {
        let (pulse, start) = (DiskPulse::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(pulse.look(at(0)), None);
        pulse.begins(at(0));
        pulse.ends(at(5));
        pulse.begins(at(10));
        pulse.ends(at(12));
        assert_eq!(pulse.look(at(20)), Some(Duration::from_millis(5)), "the longest");
        assert_eq!(pulse.look(at(30)), None, "each is told once");
        pulse.begins(at(40));
        assert_eq!(pulse.look(at(140)), Some(Duration::from_millis(100)));
        assert_eq!(pulse.look(at(240)), Some(Duration::from_millis(200)));
        pulse.ends(at(250));
        assert_eq!(pulse.look(at(260)), Some(Duration::from_millis(210)));
    }
}
