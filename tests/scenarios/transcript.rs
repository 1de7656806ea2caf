//! What the machine said, in words.

use std::fmt::Write;

use bytes::Bytes;
use quorate::machine::command::{Care, ClusterSize, ConsumerReport, ContestId, Metadata, Steering};
use quorate::machine::config::{ConfigOwner, ConfigRecord};
use quorate::machine::contest::{ClaimRecord, ContestRecord, Grant};
use quorate::machine::event::Change;
use quorate::machine::keys::{KeyRange, KeyRecord};
use quorate::machine::outcome::{Claimed, Effect, KeyMeta, OperationResult, Origin};
use quorate::machine::session::SessionRecord;
use quorate::machine::{Applied, Machine};
use quorate::types::{ClientName, Key, SessionId, Timestamp, Version};

use super::language::Read;

pub fn applied(applied: &Applied) -> String {
    let answer = &applied.answer;
    let again = match answer.origin {
        Origin::Fresh => "",
        Origin::Remembered => " (remembered)",
    };
    let mut text = match &answer.outcome {
        Ok(effect) => format!("{}: {}{again}\n", answer.revision, self::effect(effect)),
        Err(rejection) => format!("{}: refused, {rejection}{again}\n", answer.revision),
    };
    // The last event is of the revision that the answer names, and there is no gap before it.
    let before = answer.revision.get() - applied.events.len() as u64;
    for (revision, event) in (before + 1..).zip(&applied.events) {
        assert_eq!(event.revision.get(), revision);
        for change in &event.changes {
            writeln!(text, "event {}: {}", event.revision, self::change(change)).unwrap();
        }
    }
    text
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::ClusterFounded => "founded".to_owned(),
        Effect::MemberAnnounced => "announced".to_owned(),
        Effect::MemberAllocated(member) => format!("member {member}"),
        Effect::MemberForgotten { existed: true } => "forgot the member".to_owned(),
        Effect::MemberForgotten { existed: false } => "there was no such member".to_owned(),
        Effect::SizeSet { changed: true } | Effect::Steered { changed: true } => "noted".to_owned(),
        Effect::SizeSet { changed: false } | Effect::Steered { changed: false } => "that was known".to_owned(),
        Effect::LeadershipBegun(leadership) => format!("leadership {leadership}"),
        Effect::KeyPut(meta) => format!("put, {}", self::meta(meta)),
        Effect::KeyDeleted(meta) => deleted(meta.as_ref()),
        Effect::Transacted { succeeded, results } => {
            let branch = if *succeeded { "then" } else { "else" };
            results.iter().fold(branch.to_owned(), |text, result| text + "\n  " + &self::result(result))
        }
        Effect::ConfigPut { version, revision, changed } => {
            let what = if *changed { "now" } else { "still" };
            format!("{what} version {version} of revision {revision}")
        }
        Effect::ConfigDeleted { existed: true } => "dropped".to_owned(),
        Effect::ConfigDeleted { existed: false } => "there was nothing to drop".to_owned(),
        Effect::ConsumerReported { changed: true } => "noted".to_owned(),
        Effect::ConsumerReported { changed: false } => "that was known".to_owned(),
        Effect::SessionCreated(session) => format!("session {session}"),
        Effect::SessionEnded { existed: true } => "ended".to_owned(),
        Effect::SessionEnded { existed: false } => "it had ended before".to_owned(),
        Effect::SessionsExpired { count } => format!("expired {count}"),
        Effect::Claimed(Claimed::Granted(grant)) => granted(grant),
        Effect::Claimed(Claimed::Waiting) => "waiting".to_owned(),
        Effect::Released { token: Some(token) } => format!("gave up token {token}"),
        Effect::Released { token: None } => "gave up no grant".to_owned(),
        Effect::Revoked { count } => format!("took away {count}"),
        Effect::ElectionSet => "set".to_owned(),
        Effect::RequestsForgotten { count } => format!("forgot {count}"),
        Effect::Compacted { through } => format!("compacted through {through}"),
    }
}

fn granted(grant: &Grant) -> String {
    format!("granted to session {} by token {} at {}", grant.session, grant.token, clock(grant.since))
}

/// The seconds of a story are the entries of its log.
fn clock(at: Timestamp) -> String {
    format!("{} s", at.as_millis() / 1000)
}

fn result(result: &OperationResult) -> String {
    match result {
        OperationResult::Got(None) => "got nothing".to_owned(),
        OperationResult::Got(Some((meta, value))) => format!("got {}, {}", shown(value), self::meta(meta)),
        OperationResult::Put(meta) => format!("put, {}", self::meta(meta)),
        OperationResult::Deleted(meta) => deleted(meta.as_ref()),
    }
}

fn deleted(meta: Option<&KeyMeta>) -> String {
    match meta {
        Some(meta) => format!("deleted, was {}", self::meta(meta)),
        None => "there was nothing to delete".to_owned(),
    }
}

fn meta(meta: &KeyMeta) -> String {
    format!("created {} changed {} version {}", meta.create_revision, meta.mod_revision, meta.version)
}

fn shown(value: &Bytes) -> String {
    if value.len() > 20 { format!("{} bytes", value.len()) } else { format!("{value:?}")[1..].to_owned() }
}

fn change(change: &Change) -> String {
    match change {
        Change::KeyPut { key, meta, value } => format!("{key} = {}, {}", shown(value), self::meta(meta)),
        Change::KeyDeleted { key } => format!("{key} is gone"),
        Change::ConfigPut { config, record } => format!("{config} {}", self::record(record)),
        Change::ConfigDeleted { config } => format!("{config} is gone"),
        Change::SessionCreated { session } => format!("session {session} begins"),
        Change::SessionEnded { session, cause } => format!("session {session} ends: {cause}"),
        Change::Waiting { contest, session } => format!("session {session} waits for {contest}"),
        Change::Granted { contest, grant, .. } => format!("{contest} is {}", granted(grant)),
        Change::Lost { contest, grant, cause } => {
            format!("session {} loses {contest} by token {}: {cause}", grant.session, grant.token)
        }
        Change::Withdrawn { contest, session } => format!("session {session} waits for {contest} no more"),
        Change::ElectionSet { election } => format!("{election} is set"),
        Change::ConsumerReported { config, session } => format!("session {session} reports of {config}"),
        Change::LeadershipBegun { leadership, member, term } => {
            format!("leadership {leadership} of member {member} in term {term}")
        }
        Change::MemberAnnounced { member, record } => {
            format!("member {member} is {} at {}, level {}", record.name, record.url, record.features)
        }
        Change::MemberForgotten { member } => format!("member {member} is forgotten"),
        Change::SizeSet(size) => format!("the cluster should have {}", self::size(*size)),
        Change::Steered(steering) => self::steering(steering),
        Change::ClusterFounded => "the cluster is founded".to_owned(),
        Change::Compacted { through } => format!("compacted through {through}"),
    }
}

fn record(record: &ConfigRecord) -> String {
    let data: Vec<_> =
        record.data.iter().map(|(key, text)| format!("{key}={}", shown(&Bytes::from(text.clone())))).collect();
    let rollback = record.rollback_of.map_or(String::new(), |version: Version| format!(", a rollback to {version}"));
    let owner = match record.owner {
        ConfigOwner::Clients => "",
        ConfigOwner::Resource => ", owned by a resource",
    };
    let hash = &record.content_hash[..8];
    format!(
        "version {} of revision {}: {{{}}} hash {hash}{rollback}{owner}",
        record.version,
        record.revision,
        data.join(" ")
    )
}

pub fn read(machine: &Machine, read: Read) -> String {
    match read {
        Read::Get { key, at: None } => got(&key, machine.keys().get(&key)),
        Read::Get { key, at: Some(revision) } => match machine.keys().get_at(&key, revision) {
            Ok(record) => got(&key, record),
            Err(outside) => format!("refused, {outside}"),
        },
        Read::Range { prefix, after, limit, at } => {
            let (range, keys) = (KeyRange::Prefix(prefix), machine.keys());
            let page = match at {
                None => Ok(keys.range(&range, after.as_ref(), limit)),
                Some(revision) => keys.range_at(&range, after.as_ref(), limit, revision),
            };
            match page {
                Ok(page) => {
                    let rows = page.keys.iter().map(|(key, record)| got(key, Some(record)));
                    lines(rows.chain(page.more.then(|| "and more".to_owned())))
                }
                Err(outside) => format!("refused, {outside}"),
            }
        }
        Read::Configs(namespace) => {
            lines(machine.configs().list(namespace.as_ref()).map(|(id, it)| format!("{id} {}", record(it))))
        }
        Read::History(config) => lines(machine.configs().history(&config).map(|it| record(it))),
        Read::Cluster => cluster(machine),
        Read::Sessions => lines(machine.sessions().iter().map(|(session, it)| self::session(machine, session, it))),
        Read::Contest(id) => match machine.contests().get(&id) {
            Some(record) => contest(machine, &id, record),
            None => "nothing".to_owned(),
        },
        Read::Consumers(config) => lines(machine.consumers().of(&config).map(|(session, it)| {
            let ConsumerReport { version, ok, message } = &it.report;
            let verb = if *ok { "runs" } else { "failed with" };
            format!("session {session} {verb} version {version} at {} {message:?}", clock(it.at))
        })),
        Read::Numbers => {
            let requests = machine.requests();
            format!(
                "revision {}, compacted {}, requests {} (next {}, forgotten early {})",
                machine.revision(),
                machine.compacted(),
                requests.len(),
                requests.next_number(),
                requests.forgotten_early()
            )
        }
    }
}

fn cluster(machine: &Machine) -> String {
    let id = machine.cluster().map_or("no cluster yet".to_owned(), |id| format!("cluster {id}"));
    let leadership = machine.leadership().map(|it| {
        format!("leadership {} of member {} in term {} since {}", it.leadership, it.member, it.term, it.since)
    });
    let members =
        machine.members().map(|(member, it)| format!("member {member} is {}, level {}", it.name, it.features));
    let level = format!("every member understands level {}", machine.feature_level());
    let newest = format!("the newest member is {}", machine.newest_member());
    let size = machine.size().map(|size| format!("it should have {}", self::size(size)));
    let steering = Some(machine.steering()).filter(|steering| **steering != Steering::default()).map(steering);
    lines([id].into_iter().chain(leadership).chain(members).chain([level, newest]).chain(size).chain(steering))
}

fn size(ClusterSize { voters, learners }: ClusterSize) -> String {
    format!("{voters} voters and {learners} learners")
}

fn steering(Steering { preferred_leader, care }: &Steering) -> String {
    let care = match care {
        Care::Active => "the members are cared for",
        Care::Paused => "the members stay as they are",
    };
    let preferred = preferred_leader.as_ref().map(|member| format!(", and {member} should lead"));
    format!("{care}{}", preferred.unwrap_or_default())
}

fn session(machine: &Machine, session: SessionId, record: &SessionRecord) -> String {
    let SessionRecord { ttl, client, metadata, created_at } = record;
    let claims = machine.contests().of_session(session).map(|(contest, claim)| match claim.grant(session) {
        Some(grant) => format!("; holds {contest} by token {}", grant.token),
        None => format!("; waits for {contest}"),
    });
    let (client, ttl) = (called(client.as_ref()), ttl.as_millis());
    let claims: String = claims.collect();
    format!("session {session}{client} since {}, ttl {ttl} ms{}{claims}", clock(*created_at), pairs(metadata))
}

fn contest(machine: &Machine, id: &ContestId, record: &ContestRecord) -> String {
    let ContestRecord { capacity, taken, waiting, spec, transitions, recent } = record;
    let spec = spec.map_or(String::new(), |spec| {
        let ttl = spec.session_ttl.map_or(String::new(), |ttl| format!(" and ttl {} ms", ttl.as_millis()));
        format!(", by a resource with {} seats{ttl}", spec.seats)
    });
    let (taken, capacity) = (permits(*taken), permits(*capacity));
    let summary = format!("{taken} of {capacity} taken, {waiting} waiting, {transitions} transitions{spec}");
    let claim = |claim: &ClaimRecord| {
        let ClaimRecord { candidate, priority, permits, metadata, .. } = claim;
        let priority = if *priority == 0 { String::new() } else { format!(", priority {priority}") };
        format!("{}, permits {}{priority}{}", called(candidate.as_ref()), self::permits(*permits), pairs(metadata))
    };
    let holders = machine.contests().holders(id).map(|(grant, it)| {
        format!("session {} holds by token {} since {}{}", grant.session, grant.token, clock(grant.since), claim(it))
    });
    let waiting = machine.contests().waiting(id).map(|(session, it)| format!("session {session} waits{}", claim(it)));
    let transitions = recent.iter().map(|it| {
        let who = called(it.candidate.as_ref());
        let next = it.successor.map_or("nobody yet".to_owned(), |(token, ms)| format!("token {token} after {ms} ms"));
        let overdue = if it.overdue_ms == 0 { String::new() } else { format!(", {} ms overdue", it.overdue_ms) };
        format!("token {}{who} ended at {}: {}{overdue}, then {next}", it.token, clock(it.at), it.cause)
    });
    lines([summary].into_iter().chain(holders).chain(waiting).chain(transitions))
}

/// How many permits; a lock that is no semaphore has more than anybody counts.
fn permits(count: u32) -> String {
    if count == u32::MAX { "all".to_owned() } else { count.to_string() }
}

fn called(name: Option<&ClientName>) -> String {
    name.map_or(String::new(), |name| format!(" as {name}"))
}

fn pairs(metadata: &Metadata) -> String {
    metadata.iter().map(|(key, text)| format!(", {key}={text}")).collect()
}

fn got(key: &Key, record: Option<&KeyRecord>) -> String {
    match record {
        Some(record) => {
            let session = record.session.map_or(String::new(), |session| format!(", with session {session}"));
            format!("{key} = {}, {}{session}", shown(&record.value), meta(&record.meta))
        }
        None => format!("{key} is not there"),
    }
}

fn lines(rows: impl Iterator<Item = String>) -> String {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() { "nothing".to_owned() } else { rows.join("\n") }
}
