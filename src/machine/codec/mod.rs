//! The durable form of commands, answers and what they hold. Field and variant numbers are never used again for another
//! meaning; `tests/golden` holds the bytes of every release.
//!
//! A choice between variants is a nested value whose field number is the variant.

mod answer;
mod cluster;
mod command;
mod contest;
mod record;

pub(super) use contest::{decode_claim, decode_contest, decode_session, encode_claim, encode_contest, encode_session};
pub(super) use record::{decode_config_record, decode_key_record, encode_config_record, encode_key_record};

use crate::encoding::{DecodeError, Encode, Reader, Value, Writer};

/// Reads the one field of a choice between variants and hands it to `take`; unknown variants are an error, because
/// skipping one would make members disagree.
fn choice<T>(
    mut reader: Reader,
    name: &str,
    take: impl FnOnce(u32, Value) -> Result<Option<T>, DecodeError>,
) -> Result<T, DecodeError> {
    let (field, value) = reader.field()?.ok_or_else(|| DecodeError::new(format!("{name} is empty")))?;
    take(field, value)?.ok_or_else(|| DecodeError::unknown(name, u64::from(field)))
}

/// A nested value without fields.
struct Nothing;

impl Encode for Nothing {
    fn encode(&self, _: &mut Writer) {}
}
