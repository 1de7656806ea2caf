//! The bytes of one stored record: a CRC-32C in front of the content. The checksum covers the record's own name too, so
//! that a good record at a wrong place is noticed like a damaged one.

use bytes::Bytes;
use thiserror::Error;

use crate::encoding::{Decode, DecodeError, Encode, Writer};

/// Length of the checksum.
const CHECKSUM: usize = 4;

/// A stored record that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Damaged {
    #[error(
        "{name} is damaged: its checksum is {found:08x} and should be {expected:08x}; restore this member's volume from its peers"
    )]
    Checksum { name: String, expected: u32, found: u32 },
    #[error(
        "{name} is damaged: it has {length} bytes, too few for a checksum; restore this member's volume from its peers"
    )]
    TooShort { name: String, length: usize },
    #[error("{name} passes its checksum but cannot be read: {source}; was it written by a newer release?")]
    Unreadable { name: String, source: DecodeError },
}

impl From<Damaged> for std::io::Error {
    fn from(damaged: Damaged) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, damaged)
    }
}

/// The stored form of `value` under `name`.
pub(super) fn seal(name: &str, value: &impl Encode) -> Bytes {
    let mut writer = Writer::behind(&[0; CHECKSUM]);
    value.encode(&mut writer);
    let mut record = writer.finish_open();
    let checksum = checksum(name, &record[CHECKSUM..]);
    record[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    record.freeze()
}

/// The stored form of bytes under `name`.
pub(super) fn seal_bytes(name: &str, content: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(CHECKSUM + content.len());
    record.extend_from_slice(&checksum(name, content).to_le_bytes());
    record.extend_from_slice(content);
    record
}

/// The value in a record that was stored under `name`.
pub(super) fn unseal<T: Decode>(name: &str, record: &[u8]) -> Result<T, Damaged> {
    let content = Bytes::copy_from_slice(unseal_bytes(name, record)?);
    T::from_bytes(content).map_err(|source| Damaged::Unreadable { name: name.to_owned(), source })
}

/// The bytes in a record that was stored under `name`.
pub(super) fn unseal_bytes<'a>(name: &str, record: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let Some((stored, content)) = record.split_first_chunk::<CHECKSUM>() else {
        return Err(Damaged::TooShort { name: name.to_owned(), length: record.len() });
    };
    let (expected, found) = (u32::from_le_bytes(*stored), checksum(name, content));
    if expected == found { Ok(content) } else { Err(Damaged::Checksum { name: name.to_owned(), expected, found }) }
}

fn checksum(name: &str, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_record_is_noticed_with_its_name() {
        let record = seal_bytes("entry 7", b"content");
        assert_eq!(unseal_bytes("entry 7", &record), Ok(b"content".as_slice()));
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = unseal_bytes("entry 7", &damaged).unwrap_err().to_string();
            assert!(error.contains("entry 7"), "{error}");
        }
        for end in 0..record.len() {
            assert!(unseal_bytes("entry 7", &record[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_good_record_at_a_wrong_place_is_noticed() {
        assert!(unseal_bytes("entry 8", &seal_bytes("entry 7", b"content")).is_err());
    }
}
