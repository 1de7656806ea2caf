//! What may be concluded from looking at a Raft leader. Plain rules, without a clock.

use crate::encoding::Decode;
use crate::raft::Unavailable;
use crate::raft::messages::Reply;
use crate::raft::transport::Probe;

/// What a member has come to think of the process that is its Raft leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) enum Sight {
    /// Its host said that nobody listens at its address. Or another process does by now, and says itself that it does not lead.
    Dead,
    /// It said so itself, on a fresh connection.
    Alive,
    /// Neither, for as long as there was time to look. That is no evidence.
    Unsure,
}

/// What is known of one member while it is being looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    probes: u32,
    mutes: u32,
}

/// What looking came to when the time for it was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inconclusive {
    /// Every connection was taken, and nobody on it said who they are. A process that ends or begins does that for a moment, a
    /// proxy for ever.
    Mute,
    Unclear,
}

impl Evidence {
    /// Takes in what one more connection met. `None`: look again.
    pub(super) fn add(&mut self, probe: Probe) -> Option<Sight> {
        self.probes += 1;
        match probe {
            Probe::Refused => Some(Sight::Dead),
            Probe::Answered(answer) => Some(own_word(Reply::from_bytes(answer).ok())),
            Probe::Mute => {
                self.mutes += 1;
                None
            }
            Probe::Nothing => None,
        }
    }

    /// What it is when there is no time to look again.
    pub(super) fn give_up(self) -> Inconclusive {
        if self.probes > 0 && self.mutes == self.probes { Inconclusive::Mute } else { Inconclusive::Unclear }
    }
}

/// What a member says of itself. One whose Raft does not run leads nobody; an older release does not know the question, but it
/// is there.
fn own_word(reply: Option<Reply>) -> Sight {
    match reply {
        Some(Reply::Account(account)) => account.sight,
        Some(Reply::NotDone(
            Unavailable::Waiting(_) | Unavailable::Stopping | Unavailable::Removed | Unavailable::Failed(_),
        )) => Sight::Dead,
        Some(_) | None => Sight::Alive,
    }
}

#[cfg(test)]
mod tests {
    use Probe::{Mute, Nothing, Refused};

    use super::*;
    use crate::encoding::Encode;
    use crate::raft::failover::Account;
    use crate::raft::fitness::Fitness;
    use crate::raft::type_config::Vote;
    use crate::types::MemberId;

    fn says(reply: &Reply) -> Probe {
        Probe::Answered(reply.to_bytes())
    }

    #[test]
    fn only_a_refusal_and_its_own_word_settle_it_and_everything_else_is_looked_at_again() {
        let vote = Vote::new_committed(4, MemberId::new(1));
        let of_itself = |sight| says(&Reply::Account(Account { sight, vote, last_log: None, fitness: Fitness::Fit }));
        let starting = says(&Reply::NotDone(Unavailable::Waiting("it is starting".to_owned())));
        let unknown_question = says(&Reply::Refused("request 21 is not known to this release".to_owned()));
        let cases: [(&str, &[Probe], Result<Sight, Inconclusive>); 12] = [
            ("nobody listens", &[Refused], Ok(Sight::Dead)),
            ("it leads", &[of_itself(Sight::Alive)], Ok(Sight::Alive)),
            ("it was started again and leads no more", &[of_itself(Sight::Dead)], Ok(Sight::Dead)),
            ("it is being started again", &[Mute, starting], Ok(Sight::Dead)),
            ("it is of an older release", &[unknown_question], Ok(Sight::Alive)),
            ("it says what nobody can read", &[Probe::Answered(b"?".as_slice().into())], Ok(Sight::Alive)),
            ("it is closing its sockets one by one", &[Mute, Mute, Refused], Ok(Sight::Dead)),
            ("its answer was lost at first", &[Nothing, of_itself(Sight::Alive)], Ok(Sight::Alive)),
            ("a proxy takes every connection", &[Mute, Mute, Mute], Err(Inconclusive::Mute)),
            ("the host is gone", &[Nothing, Nothing], Err(Inconclusive::Unclear)),
            ("the network is bad", &[Mute, Nothing, Mute], Err(Inconclusive::Unclear)),
            ("nobody had time to look", &[], Err(Inconclusive::Unclear)),
        ];
        for (case, probes, expected) in cases {
            let mut evidence = Evidence::default();
            let settled = probes.iter().find_map(|probe| evidence.add(probe.clone()));
            assert_eq!(settled.ok_or_else(|| evidence.give_up()), expected, "{case}");
        }
    }
}
