//! What must hold of every state, whatever was applied. Every test calls it, and no snapshot is restored without it.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::Machine;
use super::command::ContestKind;
use super::config::content_hash;
use super::contest::Place;
use super::granting::RECENT;
use super::keys::KeyRecord;
use super::session::Sessions;
use super::table::{Schema, Table};

/// An invariant that does not hold: a bug of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invariant `{name}` is broken: {details}")]
pub struct Violation {
    pub name: &'static str,
    pub details: String,
}

impl Machine {
    /// Checks every invariant; takes time in proportion to the state.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn check(&self) -> Result<(), Violation> {
        counted("members are counted right", &self.cluster.members)?;
        counted("keys are counted right", &self.keys.rows)?;
        counted("the past is counted right", self.keys.history.table())?;
        counted("configs are counted right", &self.configs.rows)?;
        counted("past configs are counted right", &self.configs.past)?;
        counted("requests are counted right", &self.requests.rows)?;
        counted("sessions are counted right", &self.sessions.rows)?;
        counted("ended sessions are counted right", &self.sessions.ended)?;
        counted("contests are counted right", &self.contests.rows)?;
        counted("claims are counted right", &self.contests.claims)?;
        counted("consumers are counted right", &self.consumers.rows)?;
        self.keys_are_not_newer_than_the_present()?;
        self.the_past_leads_to_the_present()?;
        self.past_configs_belong_to_a_config()?;
        self.configs_have_the_hash_of_their_data()?;
        self.leadership_began_in_the_log()?;
        self.no_member_is_beyond_the_newest()?;
        self.sessions_are_numbered_in_order()?;
        self.what_a_session_has_ends_with_it()?;
        self.consumers_run_what_was_there()?;
        self.claims_fit_into_their_contests()?;
        self.contests_are_as_their_claims()?;
        ensure("the history knows how many revisions it has", self.keys.history.is_consistent(), || {
            format!("{:?}", self.keys.history)
        })?;
        ensure("the requests' index matches their table", self.requests.is_consistent(), || {
            format!("{} requests, next {}", self.requests.len(), self.requests.next)
        })?;
        ensure("the window of the past ends at the present", self.compacted() <= self.revision(), || {
            format!("compacted {}, revision {}", self.compacted(), self.revision())
        })
    }

    fn keys_are_not_newer_than_the_present(&self) -> Result<(), Violation> {
        self.keys.rows.iter().try_for_each(|(key, record)| {
            let meta = record.meta;
            let ordered = meta.create_revision <= meta.mod_revision && meta.mod_revision <= self.revision();
            ensure("a key's revisions are in order", ordered && meta.version.get() > 0, || {
                format!("key {key}: {meta:?} at revision {}", self.revision())
            })
        })
    }

    /// What a key was before one change is what the change before it made.
    fn the_past_leads_to_the_present(&self) -> Result<(), Violation> {
        let mut next: BTreeMap<&str, Option<&KeyRecord>> = BTreeMap::new();
        self.keys.history.table().iter().rev().try_for_each(|((revision, key), before)| {
            let made = next.insert(key, before.as_ref()).unwrap_or_else(|| self.keys.rows.get(&**key));
            let fits = made.is_none_or(|record| record.meta.mod_revision == *revision);
            ensure("the past leads to the present", fits, || {
                format!("key {key} was changed at revision {revision}, and then stood at {:?}", made.map(|r| r.meta))
            })
        })
    }

    fn configs_have_the_hash_of_their_data(&self) -> Result<(), Violation> {
        let present = self.configs.rows.iter();
        let past = self.configs.past.iter().map(|((id, _), record)| (id, record));
        present.chain(past).try_for_each(|(id, record)| {
            let matches = record.content_hash == content_hash(&record.data) && record.revision <= self.revision();
            ensure("a config has the hash of its data", matches, || format!("config {id} version {}", record.version))
        })
    }

    fn leadership_began_in_the_log(&self) -> Result<(), Violation> {
        let Some(record) = self.leadership() else { return Ok(()) };
        let began = self.applied().is_some_and(|applied| record.leadership.get() <= applied.get());
        ensure("a leadership began at an entry of the log", began, || format!("{record:?}, applied {:?}", self.applied))
    }

    fn no_member_is_beyond_the_newest(&self) -> Result<(), Violation> {
        let newest = self.newest_member();
        let beyond = self.members().find(|(member, _)| *member > newest);
        ensure("no member is beyond the newest", beyond.is_none(), || format!("{beyond:?}, newest {newest}"))
    }

    fn sessions_are_numbered_in_order(&self) -> Result<(), Violation> {
        let Sessions { rows, ended, newest } = &self.sessions;
        let numbered = rows.iter().map(|(session, _)| session).chain(ended.iter().map(|(session, _)| session));
        let beyond = numbered.into_iter().find(|session| *session > newest);
        ensure("sessions are numbered in order", beyond.is_none(), || format!("{beyond:?}, newest {newest}"))?;
        let both = ended.iter().find(|(session, _)| self.sessions.get(**session).is_some());
        ensure("a session that has ended does not live", both.is_none(), || format!("{both:?}"))
    }

    /// Keys, claims and reports belong to sessions that live, and the indexes by session know them.
    fn what_a_session_has_ends_with_it(&self) -> Result<(), Violation> {
        let keys = self.keys.rows.iter().filter_map(|(key, record)| Some((record.session?, format!("key {key}"))));
        let claims = self.contests.claims.iter().map(|((contest, session), _)| (*session, format!("{contest}")));
        let reports = self.consumers.rows.iter().map(|((config, session), _)| (*session, format!("config {config}")));
        keys.chain(claims).chain(reports).try_for_each(|(session, what)| {
            ensure("what a session has ends with it", self.sessions.get(session).is_some(), || {
                format!("{what} is of session {session}")
            })
        })?;
        let known = self.keys.is_consistent() && self.contests.is_consistent() && self.consumers.is_consistent();
        ensure("the indexes by session match their tables", known, || "one of them differs".to_owned())
    }

    fn consumers_run_what_was_there(&self) -> Result<(), Violation> {
        self.consumers.rows.iter().try_for_each(|((config, session), record)| {
            let newest = self.configs.get(config).map(|config| config.version);
            let was_there = newest.is_some_and(|newest| record.report.version <= newest);
            ensure("a consumer runs a version that was there", was_there, || {
                format!("session {session} runs {:?} of config {config}, which is at {newest:?}", record.report)
            })
        })
    }

    fn claims_fit_into_their_contests(&self) -> Result<(), Violation> {
        let mut tokens = BTreeSet::new();
        self.contests.claims.iter().try_for_each(|((contest, session), claim)| {
            let details = || format!("{contest}, session {session}: {claim:?}");
            let record = self.contests.get(contest);
            ensure("a claim has a contest", record.is_some(), details)?;
            let most = match contest.kind {
                ContestKind::Election => 1,
                ContestKind::Lock => record.map_or(0, |record| record.capacity),
            };
            ensure("a claim fits into its contest", (1..=most).contains(&claim.permits), details)?;
            let (revision, is_own) = match claim.place {
                Place::Waiting { since } => (since.get(), true),
                Place::Holding { token, .. } => (token.get(), tokens.insert(token)),
            };
            ensure("a fencing token is of one grant", is_own, details)?;
            ensure(
                "a claim stands where it is since a revision of the past",
                revision <= self.revision().get(),
                details,
            )
        })
    }

    /// No more is held than there is, and nobody waits for what is free.
    fn contests_are_as_their_claims(&self) -> Result<(), Violation> {
        self.contests.rows.iter().try_for_each(|(contest, record)| {
            let taken: u64 = self.contests.holders(contest).map(|(_, claim)| u64::from(claim.permits)).sum();
            let waiting = self.contests.waiting(contest).count();
            let details = || format!("{contest}: {record:?}, held {taken}, waiting {waiting}");
            let counted = u64::from(record.taken) == taken && record.waiting as usize == waiting;
            ensure("a contest counts its claims right", counted, details)?;
            ensure("no more is held than there is", taken <= u64::from(record.capacity), details)?;
            let next = self.contests.waiting(contest).next();
            let free = u64::from(record.capacity).saturating_sub(taken);
            let served = next.is_none_or(|(_, next)| u64::from(next.permits) > free);
            ensure("nobody waits for what is free", served, details)?;
            let is_right = match contest.kind {
                ContestKind::Election => record.spec.is_none_or(|spec| record.capacity == spec.seats.max(1)),
                ContestKind::Lock => record.spec.is_none() && taken > 0,
            };
            ensure("an election has its seats and a lock a holder", is_right, details)?;
            let kept = record.recent.len();
            ensure("as many transitions as happened", kept <= RECENT && kept as u64 <= record.transitions, details)
        })
    }

    fn past_configs_belong_to_a_config(&self) -> Result<(), Violation> {
        self.configs.past.iter().try_for_each(|((id, version), _)| {
            let older = self.configs.get(id).is_some_and(|record| record.version > *version);
            ensure("a past version is older than the present one", older, || format!("config {id} version {version}"))
        })
    }
}

fn counted<S: Schema>(name: &'static str, table: &Table<S>) -> Result<(), Violation> {
    let (kept, counted) = ((table.digest(), table.bytes()), table.recount());
    ensure(name, kept == counted, || format!("kept {kept:?}, counted {counted:?}"))
}

fn ensure(name: &'static str, holds: bool, details: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { name, details: details() }) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::encoding::Writer;
    use crate::machine::command::{
        Action, Author, ClaimLimits, Command, ConfigCondition, ConfigDocument, ConfigId, ConsumerReport, ContestId,
        ElectionSpec, EndCause, KeyCondition, MemberRecord, NewClaim, NewSession, Otherwise, Permits,
    };
    use crate::machine::contest::{ClaimRecord, ContestRecord};
    use crate::machine::event::Cause;
    use crate::machine::keys::KeyRecord;
    use crate::types::{
        FeatureLevel, FencingToken, IdempotencyKey, Incarnation, Key, Leadership, LogIndex, MemberId, Revision,
        SessionId, Term, Timestamp, Ttl, Version,
    };

    /// A state with something in every table.
    fn sound() -> Machine {
        let mut machine = Machine::default();
        let put = |value: &'static str| Action::PutKey {
            key: key(),
            value: value.into(),
            session: None,
            only_if: KeyCondition::Always,
        };
        let put_config = |text: &str| Action::PutConfig {
            config: config(),
            document: ConfigDocument {
                data: [("k".parse().unwrap(), text.to_owned())].into(),
                history_limit: 5,
                rollback_to: None,
            },
            only_if: ConfigCondition::Always,
        };
        let lead = Action::BeginLeadership { member: MemberId::new(1), term: Term::new(1) };
        let record = MemberRecord {
            name: "a".parse().unwrap(),
            incarnation: Incarnation::from_random(1),
            url: String::new(),
            version: String::new(),
            features: FeatureLevel::new(1),
            life: None,
        };
        let announce = Action::AnnounceMember { member: MemberId::new(1), record, before: Vec::new() };
        let actions =
            [lead, put("1"), put("2"), put_config("1"), put_config("2")].into_iter().chain(holding()).chain([announce]);
        for (index, action) in (0..).zip(actions) {
            let author = Author::Client(Some(IdempotencyKey::new(format!("{index}")).unwrap()));
            let applied = machine.apply(LogIndex::new(index), &Command { at: Timestamp::default(), author, action });
            assert!(applied.answer.outcome.is_ok(), "{applied:?}");
        }
        machine.check().unwrap();
        machine
    }

    /// Sessions 1 and 2 live and 3 has ended. The first leads the election and holds the lock, for which the second waits.
    fn holding() -> Vec<Action> {
        let new = NewSession { ttl: Ttl::USUAL, client: None, metadata: [].into() };
        let create = || Action::CreateSession { session: new.clone(), limit: 10 };
        let claim = |contest: ContestId, session: u64| Action::Claim {
            contest,
            session: SessionId::new(session),
            claim: NewClaim {
                candidate: None,
                priority: 0,
                permits: Permits::Some(2),
                capacity: Some(3),
                otherwise: Otherwise::Wait,
                metadata: [].into(),
            },
            limits: ClaimLimits { waiting: 10, claims: 10 },
        };
        let report = ConsumerReport { version: Version::new(1), ok: true, message: String::new() };
        vec![
            create(),
            create(),
            create(),
            claim(election(), 3),
            claim(election(), 1),
            Action::EndSession { session: SessionId::new(3), cause: EndCause::GivenUp },
            claim(lock(), 1),
            claim(lock(), 2),
            Action::ReportConsumer { config: config(), session: SessionId::new(1), report },
        ]
    }

    fn election() -> ContestId {
        ContestId { kind: ContestKind::Election, namespace: "a".parse().unwrap(), name: "b".parse().unwrap() }
    }

    fn lock() -> ContestId {
        ContestId { kind: ContestKind::Lock, ..election() }
    }

    fn config() -> ConfigId {
        ConfigId { namespace: "a".parse().unwrap(), name: "b".parse().unwrap() }
    }

    fn key() -> Key {
        "k".parse().unwrap()
    }

    fn broken(name: &str, breaks: impl FnOnce(&mut Machine)) {
        let mut machine = sound();
        breaks(&mut machine);
        assert_eq!(machine.check().unwrap_err().name, name);
    }

    fn stored(machine: &Machine) -> KeyRecord {
        machine.keys.get(&key()).unwrap().clone()
    }

    #[test]
    fn each_invariant_finds_what_breaks_it() {
        broken("a key's revisions are in order", |machine| {
            let mut record = stored(machine);
            record.meta.mod_revision = Revision::new(99);
            machine.keys.rows.insert(key(), record);
        });
        broken("the past leads to the present", |machine| {
            let mut record = stored(machine);
            record.meta.mod_revision = record.meta.create_revision;
            machine.keys.rows.insert(key(), record);
        });
        broken("the past leads to the present", |machine| {
            let before = Some(KeyRecord { value: Bytes::new(), ..stored(machine) });
            machine.keys.history.record(&key(), Revision::new(4), before);
        });
        broken("a past version is older than the present one", |machine| {
            let (id, record) = machine.configs.rows.first().map(|(id, r)| (id.clone(), Arc::clone(r))).unwrap();
            machine.configs.past.insert((id, Version::new(7)), record);
        });
        broken("a config has the hash of its data", |machine| {
            let (id, record) = machine.configs.rows.first().map(|(id, r)| (id.clone(), Arc::clone(r))).unwrap();
            let mut record = Arc::unwrap_or_clone(record);
            record.data.clear();
            machine.configs.rows.insert(id, Arc::new(record));
        });
        broken("a leadership began at an entry of the log", |machine| {
            machine.cluster.leadership.as_mut().unwrap().leadership = Leadership::new(99);
        });
        broken("no member is beyond the newest", |machine| {
            machine.cluster.newest_member = MemberId::ZERO;
        });
        broken("the history knows how many revisions it has", |machine| {
            let mut writer = Writer::default();
            writer.text(1, "other");
            writer.number(2, 90);
            machine.keys.history.load(writer.finish()).unwrap();
        });
        broken("the requests' index matches their table", |machine| machine.requests.next = 1);
        broken("the window of the past ends at the present", |machine| machine.keys.history.compact(Revision::new(99)));
    }

    /// Changes the row of a contest.
    fn with_contest(contest: ContestId, change: impl FnOnce(&mut ContestRecord)) -> impl FnOnce(&mut Machine) {
        move |machine| {
            let mut record = machine.contests.get(&contest).unwrap().clone();
            change(&mut record);
            machine.contests.rows.insert(contest, record);
        }
    }

    /// Changes the row of a claim, and makes the indexes anew, as a restored snapshot would.
    fn with_claim(
        contest: ContestId,
        session: u64,
        change: impl FnOnce(&mut ClaimRecord),
    ) -> impl FnOnce(&mut Machine) {
        move |machine| {
            let session = SessionId::new(session);
            let mut claim = machine.contests.claim(&contest, session).unwrap().clone();
            change(&mut claim);
            machine.contests.claims.insert((contest, session), claim);
            machine.contests.finish_loading();
        }
    }

    #[test]
    fn each_invariant_of_sessions_finds_what_breaks_it() {
        broken("sessions are numbered in order", |machine| machine.sessions.newest = SessionId::new(2));
        broken("a session that has ended does not live", |machine| {
            machine.sessions.ended.insert(SessionId::new(1), Cause::SessionEnded);
        });
        broken("what a session has ends with it", |machine| drop(machine.sessions.rows.remove(&SessionId::new(2))));
        broken("what a session has ends with it", |machine| {
            machine.keys.rows.insert(key(), KeyRecord { session: Some(SessionId::new(3)), ..stored(machine) });
        });
        broken("the indexes by session match their tables", |machine| {
            machine.keys.rows.insert(key(), KeyRecord { session: Some(SessionId::new(1)), ..stored(machine) });
        });
        broken("a consumer runs a version that was there", |machine| {
            let report = ConsumerReport { version: Version::new(3), ok: true, message: String::new() };
            machine.consumers.report(&config(), SessionId::new(1), &report, Timestamp::default());
        });
    }

    #[test]
    fn each_invariant_of_contests_finds_what_breaks_it() {
        broken("a claim has a contest", |machine| drop(machine.contests.rows.remove(&election())));
        broken("a claim fits into its contest", with_claim(election(), 1, |claim| claim.permits = 2));
        broken("a claim fits into its contest", with_claim(lock(), 2, |claim| claim.permits = 4));
        broken("a claim fits into its contest", with_claim(lock(), 2, |claim| claim.permits = 0));
        let holds = |token: u64| Place::Holding { token: FencingToken::new(token), since: Timestamp::default() };
        broken("a fencing token is of one grant", |machine| {
            let token = machine.contests.holders(&lock()).next().unwrap().0.token;
            with_claim(election(), 1, |claim| claim.place = holds(token.get()))(machine);
        });
        let name = "a claim stands where it is since a revision of the past";
        broken(name, with_claim(election(), 1, |claim| claim.place = holds(99)));
        broken(name, with_claim(lock(), 2, |claim| claim.place = Place::Waiting { since: Revision::new(99) }));
        broken("the indexes by session match their tables", |machine| machine.contests.by_rank.clear());
        broken("a contest counts its claims right", with_contest(lock(), |record| record.taken = 3));
        broken("a contest counts its claims right", with_contest(lock(), |record| record.waiting = 0));
        broken("no more is held than there is", |machine| {
            with_contest(lock(), |record| (record.taken, record.waiting) = (4, 0))(machine);
            with_claim(lock(), 2, |claim| claim.place = holds(1))(machine);
        });
        broken("nobody waits for what is free", with_contest(lock(), |record| record.capacity = 4));
        let name = "an election has its seats and a lock a holder";
        let spec = Some(ElectionSpec { seats: 2, session_ttl: None });
        broken(name, with_contest(election(), |record| record.spec = spec));
        broken(name, with_contest(lock(), |record| record.spec = spec));
        broken(name, |machine| {
            let record = machine.contests.get(&lock()).unwrap().clone();
            let other = ContestId { name: "other".parse().unwrap(), ..lock() };
            machine.contests.rows.insert(other, ContestRecord { taken: 0, waiting: 0, ..record });
        });
        broken("as many transitions as happened", with_contest(election(), |record| record.transitions = 0));
        broken(
            "as many transitions as happened",
            with_contest(election(), |record| {
                record.recent = vec![record.recent[0].clone(); 21];
                record.transitions = 21;
            }),
        );
    }
}
