//! The durable form of commands and answers. Field and variant numbers are never used again for another meaning;
//! `tests/golden` holds the bytes of every release.
//!
//! A choice between variants is a nested value whose field number is the variant.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::command::{
    Action, Author, Command, Compare, CompareTarget, ConfigCondition, ConfigDocument, ConfigId, KeyCondition,
    KeyOperation, MemberRecord, Relation, Transaction,
};
use super::config::{ConfigOwner, ConfigRecord};
use super::keys::KeyRecord;
use super::outcome::{Answer, Effect, KeyMeta, Measured, OperationResult, Origin, Outcome, Rejection};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Value, Writer, fields, required};
use crate::types::{
    DocumentKey, FeatureLevel, IdempotencyKey, Key, Leadership, MemberId, Revision, Term, Timestamp, Version,
};

/// Reads the one field of a choice between variants and hands it to `take`; unknown variants are an error, because
/// skipping one would make members disagree.
pub(super) fn choice<T>(
    mut reader: Reader,
    name: &str,
    take: impl FnOnce(u32, Value) -> Result<Option<T>, DecodeError>,
) -> Result<T, DecodeError> {
    let (field, value) = reader.next()?.ok_or_else(|| DecodeError::new(format!("{name} is empty")))?;
    take(field, value)?.ok_or_else(|| DecodeError::unknown(name, u64::from(field)))
}

/// A nested value without fields.
struct Nothing;

impl Encode for Nothing {
    fn encode(&self, _: &mut Writer) {}
}

impl Encode for Command {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.at.as_millis());
        writer.message(2, &self.author);
        writer.message(3, &self.action);
    }
}

impl Decode for Command {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 at: number, 2 author: message, 3 action: message);
        Ok(Self {
            at: Timestamp::from_millis(required(at, "at")?),
            author: required(author, "author")?,
            action: required(action, "action")?,
        })
    }
}

impl Encode for Author {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Client(None) => writer.text(1, ""),
            Self::Client(Some(key)) => writer.text(1, key.as_str()),
            Self::Duty(leadership) => writer.number(2, leadership.get()),
            Self::Member => writer.number(3, 1),
        }
    }
}

impl Decode for Author {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "author", |variant, value| {
            Ok(Some(match variant {
                1 => {
                    let key = value.text()?;
                    let parsed = (!key.is_empty()).then(|| IdempotencyKey::new(key)).transpose();
                    Self::Client(parsed.map_err(|error| DecodeError::new(error.to_string()))?)
                }
                2 => Self::Duty(Leadership::new(value.number()?)),
                3 => Self::Member,
                _ => return Ok(None),
            }))
        })
    }
}

impl Encode for Action {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::FoundCluster { cluster } => writer.nested(1, |w| w.text(1, cluster.as_str())),
            Self::AnnounceMember { member, record } => writer.nested(2, |w| {
                w.number(1, member.get());
                w.message(2, record);
            }),
            Self::BeginLeadership { member, term } => writer.nested(3, |w| {
                w.number(1, member.get());
                w.number(2, term.get());
            }),
            Self::PutKey { key, value, only_if } => writer.nested(4, |w| {
                w.text(1, key.as_str());
                w.bytes(2, value);
                w.message(3, only_if);
            }),
            Self::DeleteKey { key, only_if } => writer.nested(5, |w| {
                w.text(1, key.as_str());
                w.message(2, only_if);
            }),
            Self::Transact(transaction) => writer.message(6, transaction),
            Self::PutConfig { config, document, only_if } => writer.nested(7, |w| {
                w.message(1, config);
                w.message(2, document);
                w.message(3, only_if);
            }),
            Self::DeleteConfig { config, only_if } => writer.nested(8, |w| {
                w.message(1, config);
                w.message(2, only_if);
            }),
            Self::ForgetRequests { through } => writer.nested(9, |w| w.number(1, *through)),
            Self::Compact { through } => writer.nested(10, |w| w.number(1, through.get())),
        }
    }
}

impl Decode for Action {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "action", |variant, value| {
            let mut reader = Reader::new(value.bytes()?);
            Ok(Some(match variant {
                1 => {
                    fields!(reader => 1 cluster: parse);
                    Self::FoundCluster { cluster: required(cluster, "cluster")? }
                }
                2 => {
                    fields!(reader => 1 member: number, 2 record: message);
                    let member = MemberId::new(required(member, "member")?);
                    Self::AnnounceMember { member, record: required(record, "record")? }
                }
                3 => {
                    fields!(reader => 1 member: number, 2 term: number);
                    let member = MemberId::new(required(member, "member")?);
                    Self::BeginLeadership { member, term: Term::new(required(term, "term")?) }
                }
                4 => {
                    fields!(reader => 1 key: parse, 2 value: bytes, 3 only_if: message);
                    let (key, value) = (required(key, "key")?, required(value, "value")?);
                    Self::PutKey { key, value, only_if: required(only_if, "condition")? }
                }
                5 => {
                    fields!(reader => 1 key: parse, 2 only_if: message);
                    Self::DeleteKey { key: required(key, "key")?, only_if: required(only_if, "condition")? }
                }
                6 => Self::Transact(Transaction::decode(reader)?),
                7 => {
                    fields!(reader => 1 config: message, 2 document: message, 3 only_if: message);
                    let (config, document) = (required(config, "config")?, required(document, "document")?);
                    Self::PutConfig { config, document, only_if: required(only_if, "condition")? }
                }
                8 => {
                    fields!(reader => 1 config: message, 2 only_if: message);
                    Self::DeleteConfig { config: required(config, "config")?, only_if: required(only_if, "condition")? }
                }
                9 => {
                    fields!(reader => 1 through: number);
                    Self::ForgetRequests { through: required(through, "through")? }
                }
                10 => {
                    fields!(reader => 1 through: number);
                    Self::Compact { through: Revision::new(required(through, "through")?) }
                }
                _ => return Ok(None),
            }))
        })
    }
}

impl Encode for MemberRecord {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, self.name.as_str());
        writer.text(2, self.incarnation.as_str());
        writer.text(3, &self.url);
        writer.text(4, &self.version);
        writer.number(5, self.features.get());
    }
}

impl Decode for MemberRecord {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 name: parse, 2 incarnation: parse, 3 url: text, 4 version: text, 5 features: number);
        Ok(Self {
            name: required(name, "name")?,
            incarnation: required(incarnation, "incarnation")?,
            url: required(url, "url")?,
            version: required(version, "version")?,
            features: FeatureLevel::new(required(features, "features")?),
        })
    }
}

impl Encode for ConfigId {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, self.namespace.as_str());
        writer.text(2, self.name.as_str());
    }
}

impl Decode for ConfigId {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 namespace: parse, 2 name: parse);
        Ok(Self { namespace: required(namespace, "namespace")?, name: required(name, "name")? })
    }
}

impl Encode for ConfigDocument {
    fn encode(&self, writer: &mut Writer) {
        encode_data(writer, 1, &self.data);
        writer.number(2, u64::from(self.history_limit));
        if let Some(version) = self.rollback_to {
            writer.number(3, version.get());
        }
    }
}

impl Decode for ConfigDocument {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut data, mut limit, mut rollback_to) = (BTreeMap::new(), None, None);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => decode_datum(&mut data, value)?,
                2 => limit = Some(value.number()?),
                3 => rollback_to = Some(Version::new(value.number()?)),
                _ => {}
            }
        }
        let history_limit = u32::try_from(required(limit, "history limit")?)
            .map_err(|_| DecodeError::new("the history limit is too large"))?;
        Ok(Self { data, history_limit, rollback_to })
    }
}

/// Writes each entry of a config's data as one nested field.
pub(super) fn encode_data(writer: &mut Writer, field: u32, data: &BTreeMap<DocumentKey, String>) {
    for (key, text) in data {
        writer.nested(field, |w| {
            w.text(1, key.as_str());
            w.text(2, text);
        });
    }
}

/// Reads what [`encode_data`] wrote, one entry a call.
pub(super) fn decode_datum(data: &mut BTreeMap<DocumentKey, String>, value: Value) -> Result<(), DecodeError> {
    let mut reader = Reader::new(value.bytes()?);
    fields!(reader => 1 key: parse, 2 text: text);
    data.insert(required(key, "key")?, required(text, "text")?);
    Ok(())
}

impl Encode for KeyCondition {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Always => writer.number(1, 1),
            Self::Absent => writer.number(2, 1),
            Self::Present => writer.number(3, 1),
            Self::ModifiedAt(revision) => writer.number(4, revision.get()),
        }
    }
}

impl Decode for KeyCondition {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "condition", |variant, value| {
            Ok(Some(match variant {
                1 => Self::Always,
                2 => Self::Absent,
                3 => Self::Present,
                4 => Self::ModifiedAt(Revision::new(value.number()?)),
                _ => return Ok(None),
            }))
        })
    }
}

impl Encode for ConfigCondition {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Always => writer.number(1, 1),
            Self::Absent => writer.number(2, 1),
            Self::Present => writer.number(3, 1),
            Self::VersionIs(version) => writer.number(4, version.get()),
        }
    }
}

impl Decode for ConfigCondition {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "condition", |variant, value| {
            Ok(Some(match variant {
                1 => Self::Always,
                2 => Self::Absent,
                3 => Self::Present,
                4 => Self::VersionIs(Version::new(value.number()?)),
                _ => return Ok(None),
            }))
        })
    }
}

impl Encode for Transaction {
    fn encode(&self, writer: &mut Writer) {
        self.compare.iter().for_each(|compare| writer.message(1, compare));
        self.success.iter().for_each(|operation| writer.message(2, operation));
        self.failure.iter().for_each(|operation| writer.message(3, operation));
    }
}

impl Decode for Transaction {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let mut transaction = Self { compare: Vec::new(), success: Vec::new(), failure: Vec::new() };
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => transaction.compare.push(value.message()?),
                2 => transaction.success.push(value.message()?),
                3 => transaction.failure.push(value.message()?),
                _ => {}
            }
        }
        Ok(transaction)
    }
}

impl Encode for Compare {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, self.key.as_str());
        writer.number(
            2,
            match self.relation {
                Relation::Equal => 1,
                Relation::NotEqual => 2,
                Relation::Less => 3,
                Relation::Greater => 4,
            },
        );
        writer.nested(3, |w| match &self.target {
            CompareTarget::Version(version) => w.number(1, version.get()),
            CompareTarget::CreateRevision(revision) => w.number(2, revision.get()),
            CompareTarget::ModRevision(revision) => w.number(3, revision.get()),
            CompareTarget::Value(value) => w.bytes(4, value),
        });
    }
}

impl Decode for Compare {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 key: parse, 2 relation: number, 3 target: bytes);
        let relation = match required(relation, "relation")? {
            1 => Relation::Equal,
            2 => Relation::NotEqual,
            3 => Relation::Less,
            4 => Relation::Greater,
            other => return Err(DecodeError::unknown("relation", other)),
        };
        let target = choice(Reader::new(required(target, "target")?), "target", |variant, value| {
            Ok(Some(match variant {
                1 => CompareTarget::Version(Version::new(value.number()?)),
                2 => CompareTarget::CreateRevision(Revision::new(value.number()?)),
                3 => CompareTarget::ModRevision(Revision::new(value.number()?)),
                4 => CompareTarget::Value(value.bytes()?),
                _ => return Ok(None),
            }))
        })?;
        Ok(Self { key: required(key, "key")?, relation, target })
    }
}

impl Encode for KeyOperation {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Get(key) => writer.text(1, key.as_str()),
            Self::Put { key, value } => writer.nested(2, |w| {
                w.text(1, key.as_str());
                w.bytes(2, value);
            }),
            Self::Delete(key) => writer.text(3, key.as_str()),
        }
    }
}

impl Decode for KeyOperation {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "operation", |variant, value| {
            Ok(Some(match variant {
                1 => Self::Get(value.parse()?),
                2 => {
                    let mut reader = Reader::new(value.bytes()?);
                    fields!(reader => 1 key: parse, 2 value: bytes);
                    Self::Put { key: required(key, "key")?, value: required(value, "value")? }
                }
                3 => Self::Delete(value.parse()?),
                _ => return Ok(None),
            }))
        })
    }
}

impl Encode for KeyMeta {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.create_revision.get());
        writer.number(2, self.mod_revision.get());
        writer.number(3, self.version.get());
    }
}

impl Decode for KeyMeta {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 created: number, 2 modified: number, 3 version: number);
        Ok(Self {
            create_revision: Revision::new(required(created, "create revision")?),
            mod_revision: Revision::new(required(modified, "mod revision")?),
            version: Version::new(required(version, "version")?),
        })
    }
}

impl Encode for Answer {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.revision.get());
        writer.number(2, u64::from(self.origin == Origin::Remembered));
        match &self.outcome {
            Ok(effect) => writer.message(3, effect),
            Err(rejection) => writer.message(4, rejection),
        }
    }
}

impl Decode for Answer {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 revision: number, 2 remembered: flag, 3 effect: message, 4 rejection: message);
        let outcome: Outcome = match (effect, rejection) {
            (Some(effect), None) => Ok(effect),
            (None, Some(rejection)) => Err(rejection),
            (None, None) | (Some(_), Some(_)) => return Err(DecodeError::new("an answer has one outcome")),
        };
        let origin = if required(remembered, "origin")? { Origin::Remembered } else { Origin::Fresh };
        Ok(Self { revision: Revision::new(required(revision, "revision")?), origin, outcome })
    }
}

/// Whether something was there, and what; absent is an empty nested value.
fn encode_maybe(writer: &mut Writer, field: u32, meta: Option<&KeyMeta>) {
    match meta {
        Some(meta) => writer.message(field, meta),
        None => writer.message(field, &Nothing),
    }
}

fn decode_maybe(value: Value) -> Result<Option<KeyMeta>, DecodeError> {
    let bytes = value.bytes()?;
    if bytes.is_empty() { Ok(None) } else { KeyMeta::from_bytes(bytes).map(Some) }
}

impl Encode for Effect {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::ClusterFounded => writer.number(1, 1),
            Self::MemberAnnounced => writer.number(2, 1),
            Self::LeadershipBegun(leadership) => writer.number(3, leadership.get()),
            Self::KeyPut(meta) => writer.message(4, meta),
            Self::KeyDeleted(meta) => encode_maybe(writer, 5, meta.as_ref()),
            Self::Transacted { succeeded, results } => writer.nested(6, |w| {
                w.number(1, u64::from(*succeeded));
                results.iter().for_each(|result| w.message(2, result));
            }),
            Self::ConfigPut { version, revision, changed } => writer.nested(7, |w| {
                w.number(1, version.get());
                w.number(2, revision.get());
                w.number(3, u64::from(*changed));
            }),
            Self::ConfigDeleted { existed } => writer.number(8, u64::from(*existed)),
            Self::RequestsForgotten { count } => writer.number(9, *count),
            Self::Compacted { through } => writer.number(10, through.get()),
        }
    }
}

impl Decode for Effect {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "effect", |variant, value| {
            Ok(Some(match variant {
                1 => Self::ClusterFounded,
                2 => Self::MemberAnnounced,
                3 => Self::LeadershipBegun(Leadership::new(value.number()?)),
                4 => Self::KeyPut(value.message()?),
                5 => Self::KeyDeleted(decode_maybe(value)?),
                6 => decode_transacted(value)?,
                7 => {
                    let mut reader = Reader::new(value.bytes()?);
                    fields!(reader => 1 version: number, 2 revision: number, 3 changed: flag);
                    Self::ConfigPut {
                        version: Version::new(required(version, "version")?),
                        revision: Revision::new(required(revision, "revision")?),
                        changed: required(changed, "changed")?,
                    }
                }
                8 => Self::ConfigDeleted { existed: value.flag()? },
                9 => Self::RequestsForgotten { count: value.number()? },
                10 => Self::Compacted { through: Revision::new(value.number()?) },
                _ => return Ok(None),
            }))
        })
    }
}

fn decode_transacted(value: Value) -> Result<Effect, DecodeError> {
    let mut reader = Reader::new(value.bytes()?);
    let (mut succeeded, mut results) = (None, Vec::new());
    while let Some((field, value)) = reader.next()? {
        match field {
            1 => succeeded = Some(value.flag()?),
            2 => results.push(value.message()?),
            _ => {}
        }
    }
    Ok(Effect::Transacted { succeeded: required(succeeded, "succeeded")?, results })
}

impl Encode for OperationResult {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Got(None) => writer.message(1, &Nothing),
            Self::Got(Some((meta, value))) => writer.nested(1, |w| {
                w.message(1, meta);
                w.bytes(2, value);
            }),
            Self::Put(meta) => writer.message(2, meta),
            Self::Deleted(meta) => encode_maybe(writer, 3, meta.as_ref()),
        }
    }
}

impl Decode for OperationResult {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "result", |variant, value| {
            Ok(Some(match variant {
                1 => {
                    let bytes: Bytes = value.bytes()?;
                    if bytes.is_empty() {
                        return Ok(Some(Self::Got(None)));
                    }
                    let mut reader = Reader::new(bytes);
                    fields!(reader => 1 meta: message, 2 value: bytes);
                    Self::Got(Some((required(meta, "numbers")?, required(value, "value")?)))
                }
                2 => Self::Put(value.message()?),
                3 => Self::Deleted(decode_maybe(value)?),
                _ => return Ok(None),
            }))
        })
    }
}

impl Encode for Rejection {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::AlreadyFounded { cluster } => writer.nested(1, |w| w.text(1, cluster.as_str())),
            Self::Superseded { named, current } => encode_numbers(writer, 2, &[named.get(), current.get()]),
            Self::KeyMismatch { key, current } => writer.nested(3, |w| {
                w.text(1, key.as_str());
                encode_maybe(w, 2, current.as_ref());
            }),
            Self::ConfigMismatch { config, current } => writer.nested(4, |w| {
                w.message(1, config);
                w.number(2, current.map_or(0, Version::get));
            }),
            Self::Managed { config } => writer.nested(5, |w| w.message(1, config)),
            Self::NoSuchVersion { config, version, oldest, newest } => writer.nested(6, |w| {
                w.message(1, config);
                encode_numbers(w, 2, &[version.get(), oldest.get(), newest.get()]);
            }),
            Self::RequestReused { key } => writer.nested(7, |w| w.text(1, key.as_str())),
            Self::WrittenTwice { key } => writer.nested(8, |w| w.text(1, key.as_str())),
            Self::TooLarge { what, actual, limit } => {
                let what = match what {
                    Measured::ValueBytes => 1,
                    Measured::ConfigBytes => 2,
                    Measured::Operations => 3,
                    Measured::HistoryLimit => 4,
                };
                encode_numbers(writer, 9, &[what, *actual, *limit]);
            }
            Self::StateFull { used, limit } => encode_numbers(writer, 10, &[*used, *limit]),
            Self::CannotCompact { revision, compacted, present } => {
                encode_numbers(writer, 11, &[revision.get(), compacted.get(), present.get()]);
            }
        }
    }
}

impl Decode for Rejection {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "rejection", |variant, value| {
            if let 2 | 9 | 10 | 11 = variant {
                return decode_numeric_rejection(variant, value).map(Some);
            }
            let mut reader = Reader::new(value.bytes()?);
            Ok(Some(match variant {
                1 => {
                    fields!(reader => 1 cluster: parse);
                    Self::AlreadyFounded { cluster: required(cluster, "cluster")? }
                }
                3 => {
                    let (mut key, mut current) = (None, None);
                    while let Some((field, value)) = reader.next()? {
                        match field {
                            1 => key = Some(value.parse::<Key>()?),
                            2 => current = decode_maybe(value)?,
                            _ => {}
                        }
                    }
                    Self::KeyMismatch { key: required(key, "key")?, current }
                }
                4 => {
                    fields!(reader => 1 config: message, 2 current: number);
                    let current = Some(Version::new(required(current, "version")?)).filter(|v| *v != Version::ZERO);
                    Self::ConfigMismatch { config: required(config, "config")?, current }
                }
                5 => {
                    fields!(reader => 1 config: message);
                    Self::Managed { config: required(config, "config")? }
                }
                6 => {
                    fields!(reader => 1 config: message, 2 versions: bytes);
                    let [version, oldest, newest] = decode_numbers(required(versions, "versions")?)?.map(Version::new);
                    Self::NoSuchVersion { config: required(config, "config")?, version, oldest, newest }
                }
                7 => {
                    fields!(reader => 1 key: parse);
                    Self::RequestReused { key: required(key, "key")? }
                }
                8 => {
                    fields!(reader => 1 key: parse);
                    Self::WrittenTwice { key: required(key, "key")? }
                }
                _ => return Ok(None),
            }))
        })
    }
}

fn decode_numeric_rejection(variant: u32, value: Value) -> Result<Rejection, DecodeError> {
    let bytes = value.bytes()?;
    Ok(match variant {
        2 => {
            let [named, current] = decode_numbers(bytes)?.map(Leadership::new);
            Rejection::Superseded { named, current }
        }
        9 => {
            let [what, actual, limit] = decode_numbers(bytes)?;
            let what = match what {
                1 => Measured::ValueBytes,
                2 => Measured::ConfigBytes,
                3 => Measured::Operations,
                4 => Measured::HistoryLimit,
                other => return Err(DecodeError::unknown("measure", other)),
            };
            Rejection::TooLarge { what, actual, limit }
        }
        10 => {
            let [used, limit] = decode_numbers(bytes)?;
            Rejection::StateFull { used, limit }
        }
        _ => {
            let [revision, compacted, present] = decode_numbers(bytes)?.map(Revision::new);
            Rejection::CannotCompact { revision, compacted, present }
        }
    })
}

/// Several numbers as one nested value, in fields 1, 2, ...
fn encode_numbers(writer: &mut Writer, field: u32, numbers: &[u64]) {
    writer.nested(field, |w| (1..).zip(numbers).for_each(|(field, number)| w.number(field, *number)));
}

fn decode_numbers<const N: usize>(bytes: Bytes) -> Result<[u64; N], DecodeError> {
    let (mut reader, mut numbers) = (Reader::new(bytes), [None; N]);
    while let Some((field, value)) = reader.next()? {
        if let Some(number) = usize::try_from(field).ok().and_then(|field| numbers.get_mut(field.wrapping_sub(1))) {
            *number = Some(value.number()?);
        }
    }
    if numbers.contains(&None) {
        return Err(DecodeError::new(format!("{N} numbers are needed")));
    }
    Ok(numbers.map(Option::unwrap_or_default))
}

/// A key's record inside a row.
pub(super) fn encode_key_record(record: &KeyRecord, writer: &mut Writer) {
    writer.message(1, &record.meta);
    writer.bytes(2, &record.value);
}

/// Reads what [`encode_key_record`] wrote.
pub(super) fn decode_key_record(mut reader: Reader) -> Result<KeyRecord, DecodeError> {
    fields!(reader => 1 meta: message, 2 value: bytes);
    Ok(KeyRecord { meta: required(meta, "numbers")?, value: required(value, "value")? })
}

/// A config's version inside a row.
pub(super) fn encode_config_record(record: &ConfigRecord, writer: &mut Writer) {
    encode_data(writer, 1, &record.data);
    writer.number(2, record.version.get());
    writer.number(3, record.revision.get());
    writer.text(4, &record.content_hash);
    writer.number(5, record.updated_at.as_millis());
    writer.number(6, record.rollback_of.map_or(0, Version::get));
    writer.number(7, u64::from(record.owner == ConfigOwner::Resource));
}

/// Reads what [`encode_config_record`] wrote.
pub(super) fn decode_config_record(mut reader: Reader) -> Result<ConfigRecord, DecodeError> {
    let mut data = BTreeMap::new();
    let (mut version, mut revision, mut hash, mut at, mut rollback, mut managed) = (None, None, None, None, None, None);
    while let Some((field, value)) = reader.next()? {
        match field {
            1 => decode_datum(&mut data, value)?,
            2 => version = Some(Version::new(value.number()?)),
            3 => revision = Some(Revision::new(value.number()?)),
            4 => hash = Some(value.text()?),
            5 => at = Some(Timestamp::from_millis(value.number()?)),
            6 => rollback = Some(Version::new(value.number()?)),
            7 => managed = Some(value.flag()?),
            _ => {}
        }
    }
    Ok(ConfigRecord {
        data,
        version: required(version, "version")?,
        revision: required(revision, "revision")?,
        content_hash: required(hash, "content hash")?,
        updated_at: required(at, "time")?,
        rollback_of: rollback.filter(|version| *version != Version::ZERO),
        owner: if required(managed, "owner")? { ConfigOwner::Resource } else { ConfigOwner::Clients },
    })
}
