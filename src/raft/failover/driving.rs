//! Looks, asks and acts: from the first suspicion to the next Raft leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::ServerState;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::evidence::{Evidence, Inconclusive, Sight};
use super::verdict::{Account, Verdict, judge};
use crate::encoding::Encode;
use crate::raft::fitness::Fitness;
use crate::raft::member::{Member, Raft};
use crate::raft::messages::{Reply, Request};
use crate::raft::metrics::Suspicion;
use crate::raft::transport::{Lane, Peer};
use crate::raft::type_config::{LogId, Vote};
use crate::settings::FastFailover;
use crate::types::MemberId;

/// How long one look takes at most: a process that dies closes its sockets one by one, the listening one among them.
const LOOK: Duration = Duration::from_millis(50);

/// How long one connection may take within a look, and the pause before the next: doubled from the first on.
const PROBE: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// How long another voter may take to say what it sees: a look of its own, and the way there and back.
const ASK: Duration = Duration::from_millis(100);

/// How long to wait for the other voters once a majority agrees. All of them should name the same successor, and the one that
/// answers last may have the longest log.
const STRAGGLERS: Duration = Duration::from_millis(10);

/// How often, and how long each time, to try until there is a Raft leader. Then the usual timeouts are soon over, too.
const ROUNDS: u32 = 3;
const ROUND: Duration = Duration::from_millis(200);

/// What is known when a suspicion is taken up.
struct Case {
    raft: Raft,
    own: MemberId,
    suspect: MemberId,
    peer: Peer,
    /// The vote by which the suspect leads.
    vote: Vote,
    voters: Vec<BTreeSet<MemberId>>,
}

/// What a member's Raft says of itself.
struct Standing {
    leads: bool,
    vote: Vote,
    last_log: Option<LogId>,
    voters: Vec<BTreeSet<MemberId>>,
}

/// Follows up one suspicion after the other. Never ends: the member itself keeps the other end.
pub(in crate::raft) async fn driving(member: Arc<Member>, mut suspicions: mpsc::Receiver<MemberId>) {
    while let Some(suspect) = suspicions.recv().await {
        let Some(case) = member.open(suspect).await else { continue };
        let outcome = member.investigate(&case).await;
        member.metrics.suspected(outcome);
        tracing::info!(%suspect, name = case.peer.name(), ?outcome, "looked whether the Raft leader is there");
    }
}

impl Member {
    /// Answers another voter that asks what this one sees of the Raft leader with that vote. It may be this member itself.
    pub(in crate::raft) async fn give_account(&self, of: Vote) -> Result<Account, String> {
        let suspect = of.leader_id.node_id;
        let raft = self.running().map_err(|cause| cause.to_string())?;
        let peer = self.peers().into_iter().find(|(member, _)| *member == suspect);
        let sight = match (self.failover.setting, peer) {
            (FastFailover::On, Some((_, peer))) => {
                self.failover.suspect(suspect);
                self.look(&of, &peer).await
            }
            (FastFailover::On, None) | (FastFailover::Off, _) => Sight::Unsure,
        };
        if sight == Sight::Dead {
            self.failover.see_dead();
        }
        // Afterwards, so that it has what came from the suspect before it died.
        let Standing { vote, last_log, leads, .. } = stand(&raft).await?;
        let of_itself = if leads && vote == of { Sight::Alive } else { Sight::Dead };
        let is_itself = self.status().member == Some(suspect);
        let sight = if is_itself { of_itself } else { sight };
        Ok(Account { sight, vote, last_log, fitness: self.fitness() })
    }

    /// Looks whether the Raft leader with that vote is there, over fresh connections.
    pub(super) async fn look(&self, of: &Vote, peer: &Peer) -> Sight {
        let until = Instant::now() + LOOK;
        let (mut evidence, mut pause) = (Evidence::default(), FIRST_PAUSE);
        let question = Request::Look { vote: *of }.to_bytes();
        let inconclusive = loop {
            let probe = self.network.probe(peer, question.clone(), (Instant::now() + PROBE).min(until)).await;
            if let Some(sight) = evidence.add(probe) {
                self.note_word(of.leader_id.node_id, peer);
                return sight;
            }
            if Instant::now() + pause >= until {
                break evidence.give_up();
            }
            sleep(pause).await;
            pause *= 2;
        };
        if inconclusive == Inconclusive::Mute {
            self.note_mute(of.leader_id.node_id, peer);
        }
        Sight::Unsure
    }

    /// Something takes connections to a member and says nothing.
    fn note_mute(&self, member: MemberId, peer: &Peer) {
        let address = peer.address().to_owned();
        let was_proxied = self.metrics.proxied.get();
        self.failover.mute().entry((member, address)).or_insert_with(Instant::now);
        let proxied = i64::try_from(self.failover.proxied()).unwrap_or(i64::MAX);
        self.metrics.proxied.set(proxied);
        if proxied > was_proxied {
            tracing::warn!(
                peer = peer.name(),
                address = peer.address(),
                "connections are taken by something that is not this member, a proxy perhaps: if it fails, an election \
                 timeout passes before another one leads"
            );
        }
    }

    /// Whatever is at a member's address can be told from the member.
    fn note_word(&self, member: MemberId, peer: &Peer) {
        let was_mute = self.failover.mute().remove(&(member, peer.address().to_owned())).is_some();
        if was_mute {
            self.metrics.proxied.set(i64::try_from(self.failover.proxied()).unwrap_or(i64::MAX));
        }
    }

    /// What a suspicion is about, if it is about the Raft leader that this voter follows.
    async fn open(&self, suspect: MemberId) -> Option<Case> {
        let raft = self.running().ok()?;
        let (own, (_, peer)) = {
            let status = self.status();
            let follows = status.raft_leader == Some(suspect) && status.member != Some(suspect);
            let own = status.member.filter(|own| follows && status.voters.contains_key(own))?;
            (own, self.peers().into_iter().find(|(member, _)| *member == suspect)?)
        };
        let Standing { vote, voters, .. } = stand(&raft).await.ok()?;
        let leads = vote.committed && vote.leader_id.node_id == suspect;
        leads.then_some(Case { raft, own, suspect, peer, vote, voters })
    }

    async fn investigate(&self, case: &Case) -> Suspicion {
        if self.failover.is_proxied(case.suspect, case.peer.address()) {
            return Suspicion::Proxied;
        }
        match self.look(&case.vote, &case.peer).await {
            Sight::Alive => return Suspicion::Alive,
            Sight::Unsure => return Suspicion::Unsure,
            Sight::Dead => self.failover.see_dead(),
        }
        let mut outcome = Suspicion::Outvoted;
        for round in 0..ROUNDS {
            let until = Instant::now() + ROUND;
            match self.ask_around(case).await {
                Verdict::Superseded => return Suspicion::Superseded,
                Verdict::Undecided => {}
                Verdict::Gone { successor, fitness: _ } => {
                    outcome = Suspicion::Gone;
                    self.succeed(case, successor, round, until).await;
                }
            }
            if self.has_another_leader(case, until).await {
                return Suspicion::Gone;
            }
        }
        outcome
    }

    /// Asks the other voters what they see, all at once. A voter that says nothing in time is a voter that has seen nothing.
    async fn ask_around(&self, case: &Case) -> Verdict {
        let mut accounts = BTreeMap::new();
        if let Ok(Standing { vote, last_log, .. }) = stand(&case.raft).await {
            accounts.insert(case.own, Account { sight: Sight::Dead, vote, last_log, fitness: self.fitness() });
        }
        let mut deadline = Instant::now() + ASK;
        let voters = self.status().voters.clone();
        let others = voters.into_iter().filter(|(member, _)| *member != case.own && *member != case.suspect);
        let request = Request::Look { vote: case.vote };
        let mut asked: FuturesUnordered<_> = others
            .map(|(member, node)| {
                let (peer, request) = (Peer::Member(member, node), &request);
                async move { (member, self.ask_on(Lane::Control, &peer, request, deadline).await) }
            })
            .collect();
        let mut verdict = judge(&case.vote, &case.voters, &accounts);
        while let Ok(Some((member, answer))) = timeout_at(deadline, asked.next()).await {
            if let Ok(Reply::Account(account)) = answer {
                accounts.insert(member, account);
            }
            let before = verdict;
            verdict = judge(&case.vote, &case.voters, &accounts);
            match (before, verdict) {
                (_, Verdict::Superseded) => return verdict,
                (
                    Verdict::Undecided | Verdict::Gone { fitness: Fitness::Unfit, .. },
                    Verdict::Gone { fitness: Fitness::Fit, .. },
                ) => {
                    deadline = deadline.min(Instant::now() + STRAGGLERS);
                }
                // One that has not answered yet may be fit.
                (Verdict::Gone { .. } | Verdict::Undecided | Verdict::Superseded, _) => {}
            }
        }
        verdict
    }

    /// Lets the successor campaign. Each survivor does this for itself: it drops the promise that it gave the dead leader by
    /// following it, and only the named one campaigns.
    async fn succeed(&self, case: &Case, successor: MemberId, round: u32, until: Instant) {
        tracing::info!(suspect = %case.suspect, %successor, round, "the Raft leader's process is gone");
        let request = TransferLeaderRequest::new(case.vote, successor, None);
        let campaign = async {
            // In a later round nobody has won the one before, and the successor's vote may be a newer one by now.
            let is_done = round == 0 && matches!(case.raft.handle_transfer_leader(request.clone()).await, Ok(Ok(())));
            match (is_done, successor == case.own) {
                (true, _) => {}
                // Where its Raft has ended, there is nothing to be done.
                (false, true) => drop(case.raft.trigger().elect(WITHOUT_PRE_VOTE).await),
                (false, false) => drop(case.raft.handle_transfer_leader(request).await),
            }
        };
        // The first call waits when this member has nothing yet from the leader that it follows; the next round does not.
        drop(timeout_at(until, campaign).await);
    }

    /// Waits until another member leads.
    async fn has_another_leader(&self, case: &Case, until: Instant) -> bool {
        let mut status = self.status.subscribe();
        let another = status.wait_for(|status| status.raft_leader.is_some_and(|leader| leader != case.suspect));
        matches!(timeout_at(until, another).await, Ok(Ok(_)))
    }
}

/// The others have dropped their promise as well, so there is nothing to ask before.
const WITHOUT_PRE_VOTE: bool = false;

/// Asks Raft itself, whose answer comes after everything that it was given before.
async fn stand(raft: &Raft) -> Result<Standing, String> {
    let standing = raft.with_raft_state(|state| Standing {
        leads: state.server_state == ServerState::Leader,
        vote: *state.vote_ref(),
        last_log: state.log_ids.last().copied(),
        voters: state.membership_state.effective().membership().get_joint_config().clone(),
    });
    standing.await.map_err(|fatal| fatal.to_string())
}
