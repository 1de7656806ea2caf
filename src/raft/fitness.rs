//! A member whose pod is ending, or whose node takes no pods any more, lets others lead: it does not campaign while another can.
//!
//! It says so where that counts: to voters that look for the next Raft leader (`failover/verdict.rs`), and to a Raft leader that
//! hands over (`transfer.rs`, `tending.rs`). It votes, follows and takes a leadership that is given to it as ever, so nothing of
//! this is about safety. Whoever is the last that can lead does lead: at once where the others say that their logs are behind,
//! and else when nobody has been heard to lead for long enough.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::member::Member;

/// Between two looks at how long nobody has led.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// After so many of the longest election timeouts without a sign of a Raft leader, an unfit member campaigns as well. During the
/// first nobody can be elected, in the second every other voter begins to campaign, and the third is for it to win.
const TIMEOUTS: u32 = 3;

/// Whether a member should lead while another can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fitness {
    #[default]
    Fit,
    /// Its pod is ending, or its node takes no pods any more.
    Unfit,
}

/// Whether a member campaigns when it hears of no Raft leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ambition {
    Campaigns,
    LetsOthersLead,
}

/// Decides for a member that may have `rivals`, other voters, and has heard of no Raft leader for so long.
fn ambition(fitness: Fitness, rivals: usize, silent: Duration, election_max: Duration) -> Ambition {
    match fitness {
        Fitness::Unfit if rivals > 0 && silent < election_max * TIMEOUTS => Ambition::LetsOthersLead,
        Fitness::Unfit | Fitness::Fit => Ambition::Campaigns,
    }
}

impl Member {
    /// Whether it should lead while another can. To lead for the moment until it stops helps nobody.
    pub(super) fn fitness(&self) -> Fitness {
        if self.stands_back() { Fitness::Unfit } else { *self.fitness.borrow() }
    }

    /// Keeps this member from campaigning for as long as it should not. Never ends: the member itself keeps the other end.
    pub(super) async fn let_others_lead(self: Arc<Self>) {
        let (began, mut fitness, mut known) = (Instant::now(), self.fitness.subscribe(), Ambition::Campaigns);
        loop {
            let present = *fitness.borrow_and_update();
            let silent = self.metrics.last_heard().unwrap_or(began).max(began).elapsed();
            let ambition = ambition(present, self.rivals(), silent, self.lease);
            if ambition != known {
                self.take_up(ambition, present);
                known = ambition;
            }
            tokio::select! {
                biased;
                changed = fitness.changed() => if changed.is_err() { return },
                () = sleep(LOOK_EVERY), if present == Fitness::Unfit => {}
            }
        }
    }

    /// How many other voters there are.
    fn rivals(&self) -> usize {
        let status = self.status.borrow();
        status.voters.keys().filter(|voter| Some(**voter) != status.member).count()
    }

    fn take_up(&self, ambition: Ambition, fitness: Fitness) {
        let Ok(raft) = self.running() else { return };
        match (ambition, fitness) {
            (Ambition::LetsOthersLead, _) => {
                tracing::info!("this member does not campaign while another one can lead");
            }
            (Ambition::Campaigns, Fitness::Fit) => tracing::info!("this member campaigns again"),
            (Ambition::Campaigns, Fitness::Unfit) => {
                tracing::warn!(
                    "nobody has led for three election timeouts, so this member campaigns although it is unfit"
                );
            }
        }
        raft.runtime_config().elect(ambition == Ambition::Campaigns);
        // It may have been told to stop at the same moment, which is for good.
        if self.stands_back() {
            raft.runtime_config().elect(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unfit_member_lets_others_lead_and_only_while_there_may_be_others_that_can() {
        use Ambition::{Campaigns, LetsOthersLead};
        use Fitness::{Fit, Unfit};
        let election_max = Duration::from_millis(600);
        let cases = [
            ("fit", Fit, 2, 0, Campaigns),
            ("unfit, and somebody leads", Unfit, 2, 0, LetsOthersLead),
            ("unfit, and every other one has begun to campaign", Unfit, 2, 1_200, LetsOthersLead),
            ("unfit, and nobody was there to win", Unfit, 2, 1_800, Campaigns),
            ("unfit, and alone", Unfit, 0, 0, Campaigns),
        ];
        for (case, fitness, rivals, silent, expected) in cases {
            assert_eq!(ambition(fitness, rivals, Duration::from_millis(silent), election_max), expected, "{case}");
        }
    }
}
