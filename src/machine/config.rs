//! Replicated configuration documents: versions, history, rollback.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::codec::{decode_config_record, encode_config_record};
use super::command::{ConfigCondition, ConfigDocument, ConfigId};
use super::outcome::Rejection;
use super::table::{Schema, Table};
use crate::encoding::{DecodeError, Encode, Reader, Writer, fields, required};
use crate::types::{DocumentKey, Namespace, Revision, Timestamp, Version};

/// One version of a config, as served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRecord {
    pub data: BTreeMap<DocumentKey, String>,
    pub version: Version,
    /// The revision in which this version was made.
    pub revision: Revision,
    /// SHA-256 over the data, in hexadecimal.
    pub content_hash: String,
    pub updated_at: Timestamp,
    /// The version whose content this is, when it was made by a rollback.
    pub rollback_of: Option<Version>,
    pub owner: ConfigOwner,
}

/// Who may change a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOwner {
    /// Written over HTTP.
    Clients,
    /// Written for a custom resource; HTTP is refused.
    Resource,
}

pub(super) struct ConfigRows;

impl Schema for ConfigRows {
    type Key = ConfigId;
    type Value = Arc<ConfigRecord>;
    const NUMBER: u32 = 5;

    fn encode(id: &ConfigId, record: &Arc<ConfigRecord>, writer: &mut Writer) {
        writer.message(1, id);
        writer.nested(2, |writer| encode_config_record(record, writer));
    }

    fn decode(mut reader: Reader) -> Result<(ConfigId, Arc<ConfigRecord>), DecodeError> {
        fields!(reader => 1 id: message, 2 record: bytes);
        let record = decode_config_record(Reader::new(required(record, "record")?))?;
        Ok((required(id, "config")?, Arc::new(record)))
    }
}

pub(super) struct PastConfigRows;

impl Schema for PastConfigRows {
    type Key = (ConfigId, Version);
    type Value = Arc<ConfigRecord>;
    const NUMBER: u32 = 6;

    fn encode((id, _): &Self::Key, record: &Arc<ConfigRecord>, writer: &mut Writer) {
        id.encode(writer);
        writer.nested(3, |writer| encode_config_record(record, writer));
    }

    fn decode(mut reader: Reader) -> Result<(Self::Key, Arc<ConfigRecord>), DecodeError> {
        fields!(reader => 1 namespace: parse, 2 name: parse, 3 record: bytes);
        let id = ConfigId { namespace: required(namespace, "namespace")?, name: required(name, "name")? };
        let record = decode_config_record(Reader::new(required(record, "record")?))?;
        Ok(((id, record.version), Arc::new(record)))
    }
}

/// What a put would do, decided before anything changes.
pub(super) enum ConfigPlan {
    /// The content is there already.
    Unchanged(Arc<ConfigRecord>),
    Replace(Arc<ConfigRecord>),
}

/// All configs with their histories.
#[derive(Debug, Clone, Default)]
pub struct Configs {
    pub(super) rows: Table<ConfigRows>,
    pub(super) past: Table<PastConfigRows>,
}

impl Configs {
    /// The version that is served.
    pub fn get(&self, id: &ConfigId) -> Option<&Arc<ConfigRecord>> {
        self.rows.get(id)
    }

    /// One version, when it is kept still.
    pub fn version(&self, id: &ConfigId, version: Version) -> Option<&Arc<ConfigRecord>> {
        self.get(id).filter(|record| record.version == version).or_else(|| self.past.get(&(id.clone(), version)))
    }

    /// All versions that are kept, the newest first.
    pub fn history(&self, id: &ConfigId) -> impl Iterator<Item = &Arc<ConfigRecord>> {
        self.get(id).into_iter().chain(self.past_of(id).rev())
    }

    /// Every config, or those of one namespace, in order of name.
    pub fn list<'a>(
        &'a self,
        namespace: Option<&'a Namespace>,
    ) -> impl Iterator<Item = (&'a ConfigId, &'a Arc<ConfigRecord>)> {
        self.rows.iter().filter(move |(id, _)| namespace.is_none_or(|namespace| id.namespace == *namespace))
    }

    /// How many configs there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no configs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn past_of(&self, id: &ConfigId) -> impl DoubleEndedIterator<Item = &Arc<ConfigRecord>> {
        let all = (id.clone(), Version::ZERO)..=(id.clone(), Version::new(u64::MAX));
        self.past.range(all).map(|(_, record)| record)
    }

    /// Whether the author and the condition allow a change.
    pub(super) fn check(
        &self,
        id: &ConfigId,
        author: ConfigOwner,
        condition: ConfigCondition,
    ) -> Result<(), Rejection> {
        let current = self.get(id);
        if author == ConfigOwner::Clients && current.is_some_and(|record| record.owner == ConfigOwner::Resource) {
            return Err(Rejection::Managed { config: id.clone() });
        }
        let current = current.map(|record| record.version);
        let holds = match condition {
            ConfigCondition::Always => true,
            ConfigCondition::Absent => current.is_none(),
            ConfigCondition::Present => current.is_some(),
            ConfigCondition::VersionIs(version) => current == Some(version),
        };
        if holds { Ok(()) } else { Err(Rejection::ConfigMismatch { config: id.clone(), current }) }
    }

    /// What `document` makes of the config, in `revision`.
    pub(super) fn plan(
        &self,
        id: &ConfigId,
        document: &ConfigDocument,
        owner: ConfigOwner,
        revision: Revision,
        at: Timestamp,
    ) -> Result<ConfigPlan, Rejection> {
        let current = self.get(id);
        let rolled_back = current.filter(|record| record.rollback_of == document.rollback_to);
        let data = match (document.rollback_to, rolled_back) {
            (None, _) => &document.data,
            // The rollback was done, and the version that it names may have left the history since.
            (Some(_), Some(record)) => &record.data,
            (Some(version), None) => &self.version(id, version).ok_or_else(|| self.no_such_version(id, version))?.data,
        };
        let content_hash = content_hash(data);
        match current {
            Some(record) if record.content_hash == content_hash && record.owner == owner => {
                Ok(ConfigPlan::Unchanged(Arc::clone(record)))
            }
            Some(_) | None => Ok(ConfigPlan::Replace(Arc::new(ConfigRecord {
                data: data.clone(),
                version: current.map_or(Version::new(1), |record| record.version.next()),
                revision,
                content_hash,
                updated_at: at,
                rollback_of: document.rollback_to,
                owner,
            }))),
        }
    }

    /// Why a version that is not kept cannot be used.
    pub(super) fn no_such_version(&self, id: &ConfigId, version: Version) -> Rejection {
        let newest = self.get(id).map_or(Version::ZERO, |record| record.version);
        let oldest = self.past_of(id).next().map_or(newest, |record| record.version);
        Rejection::NoSuchVersion { config: id.clone(), version, oldest, newest }
    }

    /// Serves `record` from now on and keeps `versions` versions in all.
    pub(super) fn replace(&mut self, id: &ConfigId, record: Arc<ConfigRecord>, versions: u32) {
        if let Some(before) = self.rows.insert(id.clone(), record) {
            self.past.insert((id.clone(), before.version), before);
        }
        let kept = versions.max(1) as usize - 1;
        let excess = self.past_of(id).count().saturating_sub(kept);
        let dropped: Vec<_> = self.past_of(id).take(excess).map(|record| record.version).collect();
        for version in dropped {
            self.past.remove(&(id.clone(), version));
        }
    }

    /// Removes a config with its history; whether it was there.
    pub(super) fn delete(&mut self, id: &ConfigId) -> bool {
        let versions: Vec<_> = self.past_of(id).map(|record| record.version).collect();
        for version in versions {
            self.past.remove(&(id.clone(), version));
        }
        self.rows.remove(id).is_some()
    }
}

/// SHA-256 over every key and text, each with its length in front.
pub(super) fn content_hash(data: &BTreeMap<DocumentKey, String>) -> String {
    let mut hash = Sha256::new();
    for part in data.iter().flat_map(|(key, text)| [key.as_str(), text.as_str()]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(data: &[(&str, &str)]) -> String {
        content_hash(&data.iter().map(|(key, text)| (key.parse().unwrap(), (*text).to_owned())).collect())
    }

    #[test]
    fn the_content_hash_tells_keys_from_texts() {
        let hashes = [hash(&[]), hash(&[("a", "bc")]), hash(&[("ab", "c")]), hash(&[("a", "b"), ("c", "")])];
        for (index, one) in hashes.iter().enumerate() {
            assert_eq!(one.len(), 64);
            assert!(!hashes[..index].contains(one), "{hashes:?}");
        }
        assert_eq!(hash(&[]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
