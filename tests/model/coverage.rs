//! Counts what the random commands reached, so that a run which never came to a rule does not pass for a test of it.

use std::collections::BTreeMap;

use quorate::machine::Applied;
use quorate::machine::command::{Action, Command};
use quorate::machine::event::{Cause, Change};
use quorate::machine::outcome::{Claimed, Effect, Measured, Origin, Rejection};

/// Everything that must be reached.
const ALL: [&str; 83] = [
    "answered again",
    "asked to found",
    "asked to announce",
    "asked to lead",
    "asked to allocate",
    "asked to forget a member",
    "asked for a size",
    "asked to steer",
    "asked to put a key",
    "asked to delete a key",
    "asked for a transaction",
    "asked to put a config",
    "asked to delete a config",
    "asked to forget",
    "asked to compact",
    "founded",
    "announced",
    "allocated",
    "member forgotten",
    "no member to forget",
    "size set",
    "size known",
    "steered",
    "steered so already",
    "led",
    "key put",
    "key deleted",
    "no key to delete",
    "transaction succeeded",
    "transaction took the other branch",
    "transaction without a change",
    "config changed",
    "config unchanged",
    "config deleted",
    "no config to delete",
    "forgot",
    "compacted",
    "refused: founded already",
    "refused: not founded",
    "refused: older volume",
    "refused: superseded",
    "refused: key mismatch",
    "refused: config mismatch",
    "refused: managed",
    "refused: no such version",
    "refused: request reused",
    "refused: written twice",
    "refused: state full",
    "refused: cannot compact",
    "forgotten early",
    "asked to report",
    "asked for a session",
    "asked to end a session",
    "asked to expire sessions",
    "asked to claim",
    "asked to release",
    "asked to revoke",
    "asked to set an election",
    "report noted",
    "report known",
    "session created",
    "session ended",
    "session ended before",
    "several sessions expired",
    "expired",
    "granted",
    "waiting",
    "released",
    "nothing to release",
    "revoked",
    "nothing to revoke",
    "election set",
    "refused: no such session",
    "refused: session over",
    "refused: too many sessions",
    "refused: too many wait",
    "refused: too many claims",
    "refused: held",
    "refused: other capacity",
    "refused: too many permits",
    "refused: not held",
    "several grants at once",
    "allocated again",
];

#[derive(Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub fn note(&mut self, command: &Command, applied: &Applied) {
        self.add(asked(&command.action));
        if applied.answer.origin == Origin::Remembered {
            return self.add("answered again");
        }
        match &applied.answer.outcome {
            Ok(effect) => {
                self.add(done(effect));
                if matches!(effect, Effect::Transacted { .. }) && applied.events.is_empty() {
                    self.add("transaction without a change");
                }
                if matches!(effect, Effect::MemberAllocated(_)) && applied.events.is_empty() {
                    self.add("allocated again");
                }
                if applied.events.len() > 1 {
                    self.add("several grants at once");
                }
                applied.events.iter().flat_map(|event| &event.changes).for_each(|change| {
                    if let Change::Lost { cause, .. } = change {
                        self.add(lost(*cause));
                    }
                });
            }
            Err(rejection) => self.add(refused(rejection)),
        }
    }

    pub fn add(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// Fails unless everything was reached often enough to mean something.
    pub fn assert_complete(&self) {
        let all: Vec<_> = ALL.into_iter().chain(measures()).chain(Cause::ALL.map(lost)).collect();
        let unknown: Vec<_> = self.counts.keys().filter(|what| !all.contains(what)).collect();
        assert!(unknown.is_empty(), "missing in the list of everything: {unknown:?}");
        for what in all {
            let count = self.counts.get(what).copied().unwrap_or(0);
            println!("{count:>8} {what}");
            assert!(count >= 20, "only {count} times: {what}");
        }
    }
}

fn measures() -> [&'static str; 4] {
    [Measured::ValueBytes, Measured::ConfigBytes, Measured::Operations, Measured::HistoryLimit].map(measure)
}

fn measure(what: Measured) -> &'static str {
    match what {
        Measured::ValueBytes => "refused: value too large",
        Measured::ConfigBytes => "refused: config too large",
        Measured::Operations => "refused: transaction too large",
        Measured::HistoryLimit => "refused: history too large",
    }
}

fn lost(cause: Cause) -> &'static str {
    match cause {
        Cause::Resigned => "lost: resigned",
        Cause::SessionExpired => "lost: session expired",
        Cause::SessionEnded => "lost: session ended",
        Cause::ClientExited => "lost: client exited",
        Cause::Removed => "lost: removed",
    }
}

fn asked(action: &Action) -> &'static str {
    match action {
        Action::FoundCluster { .. } => "asked to found",
        Action::AnnounceMember { .. } => "asked to announce",
        Action::BeginLeadership { .. } => "asked to lead",
        Action::AllocateMember { .. } => "asked to allocate",
        Action::ForgetMember { .. } => "asked to forget a member",
        Action::SetSize(_) => "asked for a size",
        Action::Steer(_) => "asked to steer",
        Action::PutKey { .. } => "asked to put a key",
        Action::DeleteKey { .. } => "asked to delete a key",
        Action::Transact(_) => "asked for a transaction",
        Action::PutConfig { .. } => "asked to put a config",
        Action::DeleteConfig { .. } => "asked to delete a config",
        Action::ForgetRequests { .. } => "asked to forget",
        Action::Compact { .. } => "asked to compact",
        Action::ReportConsumer { .. } => "asked to report",
        Action::CreateSession { .. } => "asked for a session",
        Action::EndSession { .. } => "asked to end a session",
        Action::ExpireSessions(_) => "asked to expire sessions",
        Action::Claim { .. } => "asked to claim",
        Action::Release { .. } => "asked to release",
        Action::Revoke { .. } => "asked to revoke",
        Action::SetElection { .. } => "asked to set an election",
    }
}

fn done(effect: &Effect) -> &'static str {
    match effect {
        Effect::ClusterFounded => "founded",
        Effect::MemberAnnounced => "announced",
        Effect::MemberAllocated(_) => "allocated",
        Effect::MemberForgotten { existed: true } => "member forgotten",
        Effect::MemberForgotten { existed: false } => "no member to forget",
        Effect::SizeSet { changed: true } => "size set",
        Effect::SizeSet { changed: false } => "size known",
        Effect::Steered { changed: true } => "steered",
        Effect::Steered { changed: false } => "steered so already",
        Effect::LeadershipBegun(_) => "led",
        Effect::KeyPut(_) => "key put",
        Effect::KeyDeleted(Some(_)) => "key deleted",
        Effect::KeyDeleted(None) => "no key to delete",
        Effect::Transacted { succeeded: true, .. } => "transaction succeeded",
        Effect::Transacted { succeeded: false, .. } => "transaction took the other branch",
        Effect::ConfigPut { changed: true, .. } => "config changed",
        Effect::ConfigPut { changed: false, .. } => "config unchanged",
        Effect::ConfigDeleted { existed: true } => "config deleted",
        Effect::ConfigDeleted { existed: false } => "no config to delete",
        Effect::RequestsForgotten { .. } => "forgot",
        Effect::Compacted { .. } => "compacted",
        Effect::ConsumerReported { changed: true } => "report noted",
        Effect::ConsumerReported { changed: false } => "report known",
        Effect::SessionCreated(_) => "session created",
        Effect::SessionEnded { existed: true } => "session ended",
        Effect::SessionEnded { existed: false } => "session ended before",
        Effect::SessionsExpired { count: 0..2 } => "expired",
        Effect::SessionsExpired { .. } => "several sessions expired",
        Effect::Claimed(Claimed::Granted(_)) => "granted",
        Effect::Claimed(Claimed::Waiting) => "waiting",
        Effect::Released { token: Some(_) } => "released",
        Effect::Released { token: None } => "nothing to release",
        Effect::Revoked { count: 0 } => "nothing to revoke",
        Effect::Revoked { .. } => "revoked",
        Effect::ElectionSet => "election set",
    }
}

fn refused(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::AlreadyFounded { .. } => "refused: founded already",
        Rejection::NotFounded => "refused: not founded",
        Rejection::OlderVolume { .. } => "refused: older volume",
        Rejection::Superseded { .. } => "refused: superseded",
        Rejection::KeyMismatch { .. } => "refused: key mismatch",
        Rejection::ConfigMismatch { .. } => "refused: config mismatch",
        Rejection::Managed { .. } => "refused: managed",
        Rejection::NoSuchVersion { .. } => "refused: no such version",
        Rejection::RequestReused { .. } => "refused: request reused",
        Rejection::WrittenTwice { .. } => "refused: written twice",
        Rejection::TooLarge { what, .. } => measure(*what),
        Rejection::StateFull { .. } => "refused: state full",
        Rejection::CannotCompact { .. } => "refused: cannot compact",
        Rejection::NoSuchSession { .. } => "refused: no such session",
        Rejection::SessionOver { .. } => "refused: session over",
        Rejection::TooManySessions { .. } => "refused: too many sessions",
        Rejection::TooManyWaiting { .. } => "refused: too many wait",
        Rejection::TooManyClaims { .. } => "refused: too many claims",
        Rejection::Held { .. } => "refused: held",
        Rejection::OtherCapacity { .. } => "refused: other capacity",
        Rejection::TooManyPermits { .. } => "refused: too many permits",
        Rejection::NotHeld { .. } => "refused: not held",
    }
}
