//! What the machine said, in words.

use std::fmt::Write;

use bytes::Bytes;
use quorate::machine::config::{ConfigOwner, ConfigRecord};
use quorate::machine::event::Change;
use quorate::machine::keys::{KeyRange, KeyRecord};
use quorate::machine::outcome::{Effect, KeyMeta, OperationResult, Origin};
use quorate::machine::{Applied, Machine};
use quorate::types::{Key, Version};

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
    if let Some(event) = &applied.event {
        assert_eq!(event.revision, answer.revision);
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
        Effect::RequestsForgotten { count } => format!("forgot {count}"),
        Effect::Compacted { through } => format!("compacted through {through}"),
    }
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
        Change::LeadershipBegun { leadership, member, term } => {
            format!("leadership {leadership} of member {member} in term {term}")
        }
        Change::MemberAnnounced { member, record } => {
            format!("member {member} is {} at {}, level {}", record.name, record.url, record.features)
        }
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
    lines([id].into_iter().chain(leadership).chain(members).chain([level]))
}

fn got(key: &Key, record: Option<&KeyRecord>) -> String {
    match record {
        Some(record) => format!("{key} = {}, {}", shown(&record.value), meta(&record.meta)),
        None => format!("{key} is not there"),
    }
}

fn lines(rows: impl Iterator<Item = String>) -> String {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() { "nothing".to_owned() } else { rows.join("\n") }
}
