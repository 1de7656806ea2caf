//! The status of a `ReplicatedConfig`: what became of what is declared, and who has it.

use std::sync::Arc;

use super::{Acceptance, Refusals, Writer, acceptance, finding};
use crate::machine::Machine;
use crate::machine::command::{ConfigDocument, ConfigId};
use crate::machine::config::ConfigRecord;
use crate::operator::kubernetes::index::Seen;
use crate::operator::kubernetes::replication::Replication;
use crate::operator::plan::{ResourceId, is_met};
use crate::operator::resources::{
    ConditionType, ConsumersStatus, Finding, ReplicatedConfig, ReplicatedConfigStatus, Truth, conditions,
};
use crate::types::Version;

/// Consumers that are named in a status at most.
const MOST_STRAGGLERS: usize = 20;

impl Writer {
    /// The status of a config; `None` when the one that it has says the same.
    pub(in crate::operator::kubernetes) fn of_config(
        &self,
        id: &ConfigId,
        seen: &Seen<ReplicatedConfig>,
        state: &Machine,
        replication: &Replication,
        refusals: &Refusals,
    ) -> Option<ReplicatedConfigStatus> {
        let former = seen.status.as_ref();
        let record = state.configs().get(id);
        // What another cluster has told says nothing of these members.
        let told = former.filter(|former| former.cluster_id == self.cluster_id()).and_then(told_replicated);
        let replicated_to = record.map(|record| replication.of(id, record.version, told));
        let consumers = record.map(|record| Consumers::of(id, record, state));
        let mut findings = found(acceptance(&seen.wanted, refusals.get(&ResourceId::Config(id.clone()))), id, state);
        findings.push(replicated(replicated_to));
        findings.push(applied(record, consumers.as_ref()));
        let number = |number: u64| i64::try_from(number).ok();
        let status = ReplicatedConfigStatus {
            cluster_id: self.cluster_id(),
            observed_leadership: None,
            observed_generation: seen.generation,
            revision: record.and_then(|record| number(record.revision.get())),
            version: record.and_then(|record| number(record.version.get())),
            content_hash: record.map(|record| record.content_hash.clone()),
            replicated_to: replicated_to.map(|(have, all)| format!("{have}/{all}")),
            consumers: consumers.as_ref().map(Consumers::counts),
            stragglers: consumers.map(|consumers| consumers.stragglers).unwrap_or_default(),
            conditions: conditions(
                former.map_or(&[], |former| &former.conditions),
                &findings,
                seen.generation,
                self.now,
            ),
        };
        self.if_news(former, status)
    }
}

/// Whether what is declared is taken and served.
fn found(acceptance: Acceptance<'_, (ConfigId, ConfigDocument)>, id: &ConfigId, state: &Machine) -> Vec<Finding> {
    use ConditionType::{Accepted, Ready, Stalled};
    let served = match state.configs().get(id) {
        Some(record) => format!("version {} is served", record.version),
        None => "nothing is served".to_owned(),
    };
    let valid = || finding(Accepted, Truth::True, "Valid", "it is valid".to_owned());
    match acceptance {
        Acceptance::Refused { reason, message } => vec![
            finding(Ready, Truth::False, reason, format!("{served}; {message}")),
            finding(Stalled, Truth::True, reason, message.clone()),
            finding(Accepted, Truth::False, reason, message),
        ],
        Acceptance::NoRoom { message } => {
            vec![finding(Ready, Truth::False, "NoRoom", format!("{served}; {message}")), valid()]
        }
        Acceptance::Wanted((_, document)) if is_met(id, document, state.configs()) => {
            vec![finding(Ready, Truth::True, "Committed", served), valid()]
        }
        Acceptance::Wanted(_) => {
            vec![finding(Ready, Truth::Unknown, "Committing", "it is being committed".to_owned()), valid()]
        }
    }
}

/// Of how many members it was said that all of them have the version.
fn told_replicated(status: &ReplicatedConfigStatus) -> Option<(Version, usize)> {
    let (have, all) = status.replicated_to.as_deref()?.split_once('/')?;
    let version = status.version.and_then(|version| u64::try_from(version).ok())?;
    let all = all.parse().ok().filter(|_| have == all)?;
    Some((Version::new(version), all))
}

fn replicated(count: Option<(usize, usize)>) -> Finding {
    let kind = ConditionType::Replicated;
    match count {
        None => finding(kind, Truth::False, "NotCommitted", "no version is committed".to_owned()),
        Some((have, all)) if have == all => {
            finding(kind, Truth::True, "OnEveryMember", format!("all {all} members have it"))
        }
        Some((have, all)) => finding(kind, Truth::False, "OnSomeMembers", format!("{have} of {all} members have it")),
    }
}

/// Who says that it runs a config.
struct Consumers {
    registered: usize,
    applied: usize,
    stragglers: Vec<String>,
}

impl Consumers {
    fn of(id: &ConfigId, record: &ConfigRecord, state: &Machine) -> Self {
        let (mut registered, mut applied, mut stragglers) = (0, 0, Vec::new());
        for (session, said) in state.consumers().of(id) {
            registered += 1;
            if said.report.ok && said.report.version == record.version {
                applied += 1;
            } else if stragglers.len() < MOST_STRAGGLERS {
                let client = state.sessions().get(session).and_then(|known| known.client.as_ref());
                stragglers.push(client.map_or_else(|| session.to_string(), ToString::to_string));
            }
        }
        Self { registered, applied, stragglers }
    }

    fn counts(&self) -> ConsumersStatus {
        let [registered, applied] =
            [self.registered, self.applied].map(|count| i32::try_from(count).unwrap_or(i32::MAX));
        ConsumersStatus { registered, applied }
    }
}

fn applied(record: Option<&Arc<ConfigRecord>>, consumers: Option<&Consumers>) -> Finding {
    let kind = ConditionType::Applied;
    match (record, consumers) {
        (Some(_), Some(Consumers { registered: 0, .. })) => {
            finding(kind, Truth::True, "NoConsumers", "nobody reports which version it runs".to_owned())
        }
        (Some(record), Some(Consumers { registered, applied, .. })) => {
            let message = format!("{applied} of {registered} consumers run version {}", record.version);
            match applied == registered {
                true => finding(kind, Truth::True, "ByEveryConsumer", message),
                false => finding(kind, Truth::False, "BySomeConsumers", message),
            }
        }
        (None, _) | (_, None) => finding(kind, Truth::False, "NotCommitted", "no version is committed".to_owned()),
    }
}
