//! Keys and configs as they stand in the state's rows.

use std::collections::BTreeMap;

use crate::encoding::{Decode, DecodeError, Encode, Reader, Value, Writer, fields, required};
use crate::machine::config::{ConfigOwner, ConfigRecord};
use crate::machine::keys::KeyRecord;
use crate::machine::outcome::KeyMeta;
use crate::types::{DocumentKey, Revision, SessionId, Timestamp, Version};

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

/// A key's record inside a row.
pub(in crate::machine) fn encode_key_record(record: &KeyRecord, writer: &mut Writer) {
    writer.message(1, &record.meta);
    writer.bytes(2, &record.value);
    if let Some(session) = record.session {
        writer.number(3, session.get());
    }
}

/// Reads what [`encode_key_record`] wrote.
pub(in crate::machine) fn decode_key_record(mut reader: Reader) -> Result<KeyRecord, DecodeError> {
    fields!(reader => 1 meta: message, 2 value: bytes, 3 session: number);
    let session = session.map(SessionId::new);
    Ok(KeyRecord { meta: required(meta, "numbers")?, value: required(value, "value")?, session })
}

/// A config's version inside a row.
pub(in crate::machine) fn encode_config_record(record: &ConfigRecord, writer: &mut Writer) {
    encode_data(writer, 1, &record.data);
    writer.number(2, record.version.get());
    writer.number(3, record.revision.get());
    writer.text(4, &record.content_hash);
    writer.number(5, record.updated_at.as_millis());
    writer.number(6, record.rollback_of.map_or(0, Version::get));
    writer.number(7, u64::from(record.owner == ConfigOwner::Resource));
}

/// Reads what [`encode_config_record`] wrote.
pub(in crate::machine) fn decode_config_record(mut reader: Reader) -> Result<ConfigRecord, DecodeError> {
    let mut data = BTreeMap::new();
    let (mut version, mut revision, mut hash, mut at, mut rollback, mut managed) = (None, None, None, None, None, None);
    while let Some((field, value)) = reader.field()? {
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
