//! Which members have which version of a config, as the Raft leader sees it.

use std::collections::BTreeMap;

use crate::coordinator::RaftStatus;
use crate::machine::Machine;
use crate::machine::command::ConfigId;
use crate::types::{LogIndex, MemberId, Version};

/// What one leadership has seen.
#[derive(Debug, Default)]
pub(super) struct Replication {
    /// For each config, the version that is served and a log index at which it was there.
    versions: BTreeMap<ConfigId, (Version, LogIndex)>,
    /// How far each member's log goes.
    members: BTreeMap<MemberId, Option<LogIndex>>,
}

impl Replication {
    /// Takes in what there is now.
    pub(super) fn observe(&mut self, state: &Machine, status: &RaftStatus) {
        let members = status.voters.keys().chain(status.learners.keys());
        let reach = |member: &MemberId| match Some(*member) == status.member {
            true => status.applied,
            false => status.matched.get(member).copied().flatten(),
        };
        self.members = members.map(|member| (*member, reach(member))).collect();
        let Some(applied) = state.applied() else { return };
        self.versions.retain(|config, _| state.configs().get(config).is_some());
        for (config, record) in state.configs().list(None) {
            let known = self.versions.get(config).is_some_and(|(version, _)| *version == record.version);
            if !known {
                self.versions.insert(config.clone(), (record.version, applied));
            }
        }
    }

    /// How many members have a version, and how many there are. What was `told` of all of them stays true for as long as they
    /// are as many: a new leader knows less than the one before.
    pub(super) fn of(&self, config: &ConfigId, version: Version, told: Option<(Version, usize)>) -> (usize, usize) {
        let all = self.members.len();
        if told == Some((version, all)) {
            return (all, all);
        }
        let Some((_, since)) = self.versions.get(config).filter(|(known, _)| *known == version) else {
            return (0, all);
        };
        (self.members.values().filter(|reach| **reach >= Some(*since)).count(), all)
    }
}
