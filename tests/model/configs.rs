//! Configs and reports of their consumers, in the manner of the model: every kept version is a whole one in a list.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use quorate::machine::command::{Author, Command, ConfigCondition, ConfigDocument, ConfigId, ConsumerReport};
use quorate::machine::config::{ConfigOwner, ConfigRecord};
use quorate::machine::event::Change;
use quorate::machine::outcome::{Effect, Measured, Rejection};
use quorate::types::{DocumentKey, SessionId, Version};
use sha2::{Digest, Sha256};

use super::model::{Draft, Model, at_most};

impl Model {
    pub fn check_report(
        &self,
        config: &ConfigId,
        session: SessionId,
        report: &ConsumerReport,
    ) -> Result<(), Rejection> {
        self.holdings.alive(session)?;
        let versions = self.configs.get(config).map_or(&[][..], Vec::as_slice);
        if versions.last().is_some_and(|newest| report.version <= newest.version) {
            return Ok(());
        }
        Err(no_such_version(config, versions, report.version))
    }

    pub fn draft_config(
        &self,
        config: &ConfigId,
        document: &ConfigDocument,
        only_if: ConfigCondition,
        command: &Command,
        used: u64,
    ) -> Draft {
        let size: usize = document.data.iter().map(|(key, text)| key.as_str().len() + text.len()).sum();
        at_most(Measured::ConfigBytes, size as u64, self.bounds.config_bytes)?;
        at_most(Measured::HistoryLimit, u64::from(document.history_limit), self.bounds.config_versions)?;
        let owner = owner(command);
        self.check_config(config, only_if, owner)?;
        let versions = self.configs.get(config).map_or(&[][..], Vec::as_slice);
        let present = versions.last();
        let data = match document.rollback_to {
            None => &document.data,
            Some(wanted) => {
                let done = present.filter(|record| record.rollback_of == Some(wanted));
                match done.or_else(|| versions.iter().find(|record| record.version == wanted)) {
                    Some(record) => &record.data,
                    None => return Err(no_such_version(config, versions, wanted)),
                }
            }
        };
        if let Some(record) = present.filter(|record| record.data == *data && record.owner == owner) {
            let (version, revision) = (record.version, record.revision);
            return Ok((Effect::ConfigPut { version, revision, changed: false }, vec![]));
        }
        self.room(used)?;
        let record = ConfigRecord {
            data: data.clone(),
            version: present.map_or(Version::new(1), |record| Version::new(record.version.get() + 1)),
            revision: self.revision.next(),
            content_hash: content_hash(data),
            updated_at: command.at,
            rollback_of: document.rollback_to,
            owner,
        };
        let effect = Effect::ConfigPut { version: record.version, revision: record.revision, changed: true };
        Ok((effect, vec![Change::ConfigPut { config: config.clone(), record: Arc::new(record) }]))
    }

    pub fn check_config(
        &self,
        config: &ConfigId,
        only_if: ConfigCondition,
        author: ConfigOwner,
    ) -> Result<(), Rejection> {
        let present = self.configs.get(config).and_then(|versions| versions.last());
        let managed = present.is_some_and(|record| record.owner == ConfigOwner::Resource);
        if managed && author == ConfigOwner::Clients {
            return Err(Rejection::Managed { config: config.clone() });
        }
        let current = present.map(|record| record.version);
        let holds = match only_if {
            ConfigCondition::Always => true,
            ConfigCondition::Absent => current.is_none(),
            ConfigCondition::Present => current.is_some(),
            ConfigCondition::VersionIs(version) => current == Some(version),
        };
        if holds { Ok(()) } else { Err(Rejection::ConfigMismatch { config: config.clone(), current }) }
    }
}

pub fn owner(command: &Command) -> ConfigOwner {
    match command.author {
        Author::Duty(_) => ConfigOwner::Resource,
        Author::Client(_) | Author::Member => ConfigOwner::Clients,
    }
}

/// SHA-256 over each key and text, each behind its length as eight big-endian bytes.
fn content_hash(data: &BTreeMap<DocumentKey, String>) -> String {
    let mut bytes = Vec::new();
    for (key, text) in data {
        for part in [key.as_str(), text.as_str()] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
    }
    Sha256::digest(&bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn no_such_version(config: &ConfigId, versions: &[Arc<ConfigRecord>], version: Version) -> Rejection {
    let of = |record: Option<&Arc<ConfigRecord>>| record.map_or(Version::ZERO, |record| record.version);
    let (oldest, newest) = (of(versions.first()), of(versions.last()));
    Rejection::NoSuchVersion { config: config.clone(), version, oldest, newest }
}
