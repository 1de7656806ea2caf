//! The bytes of everything that outlives a process or leaves it: log records, snapshots, frames between members.
//!
//! Fields go by number and unknown ones are skipped, so an older member reads what a newer one wrote. The format is a
//! subset of the Protocol Buffers wire format (varints and length-delimited fields, written in ascending order), so that
//! `protoc --decode_raw` shows any record. Checksums and framing belong to whoever stores or sends the bytes.
//!
//! Equal values encode to equal bytes on every member: digests depend on it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// A value with a durable form.
pub trait Encode {
    /// Writes every field, in ascending order of number.
    fn encode(&self, writer: &mut Writer);

    /// The whole value as bytes.
    fn to_bytes(&self) -> Bytes {
        let mut writer = Writer::default();
        self.encode(&mut writer);
        writer.finish()
    }
}

/// A value that can be read back.
pub trait Decode: Sized {
    /// Reads every field that it knows and skips the others.
    ///
    /// # Errors
    /// When the bytes are cut or garbled, a needed field is missing, or a value breaks its type's rule.
    fn decode(reader: Reader) -> Result<Self, DecodeError>;

    /// Reads the whole of `bytes`; texts and values share its memory.
    ///
    /// # Errors
    /// As [`Decode::decode`].
    fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        Self::decode(Reader::new(bytes))
    }
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot decode: {0}")]
pub struct DecodeError(String);

impl DecodeError {
    /// With a sentence about what was wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// The field `name` has a number that means nothing to this release.
    pub fn unknown(name: &str, number: u64) -> Self {
        Self(format!("{name} {number} is not known to this release"))
    }
}

/// Reads the fields of one value into variables of their names, each an `Option`, and skips every other field:
/// `fields!(reader => 1 term: number, 2 name: text);`. The word behind the colon is the method of [`Value`] that takes it.
macro_rules! fields {
    ($reader:ident => $($number:literal $name:ident: $take:ident),+ $(,)?) => {
        $(let mut $name = None;)+
        while let Some((field, value)) = $reader.field()? {
            match field {
                $($number => $name = Some(value.$take()?),)+
                _ => {}
            }
        }
    };
}
pub(crate) use fields;

/// The value of a field that must be there.
///
/// # Errors
/// When it is not.
pub fn required<T>(value: Option<T>, name: &str) -> Result<T, DecodeError> {
    value.ok_or_else(|| DecodeError(format!("field `{name}` is missing")))
}

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// What most values need, so that memory is asked for once.
const USUAL: usize = 256;

/// For the lengths of values around a byte string, so that they fit in the memory that was asked for with it.
const LENGTHS: usize = 32;

/// Collects fields.
#[derive(Debug)]
pub struct Writer {
    buffer: BytesMut,
}

impl Default for Writer {
    fn default() -> Self {
        Self { buffer: BytesMut::with_capacity(USUAL) }
    }
}

impl Writer {
    /// Behind some other bytes.
    pub fn behind(prefix: &[u8]) -> Self {
        let mut writer = Self::default();
        writer.buffer.put_slice(prefix);
        writer
    }

    /// A number field.
    pub fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
    }

    /// A byte-string field.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | DELIMITED);
        self.varint(value.len() as u64);
        if value.len() > USUAL {
            self.buffer.reserve(value.len() + LENGTHS);
        }
        self.buffer.put_slice(value);
    }

    /// A text field.
    pub fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// A nested value.
    pub fn message(&mut self, field: u32, value: &impl Encode) {
        self.nested(field, |writer| value.encode(writer));
    }

    /// A nested value that `write` puts together.
    pub fn nested(&mut self, field: u32, write: impl FnOnce(&mut Writer)) {
        self.varint(u64::from(field) << 3 | DELIMITED);
        // The length is known only afterwards. Most are of one byte; for a longer one, what was written makes room.
        let at = self.buffer.len();
        self.buffer.put_u8(0);
        write(self);
        let end = self.buffer.len();
        let (length, bytes) = varint((end - at - 1) as u64);
        if bytes > 1 {
            self.buffer.put_bytes(0, bytes - 1);
            self.buffer.copy_within(at + 1..end, at + bytes);
        }
        self.buffer[at..at + bytes].copy_from_slice(&length[..bytes]);
    }

    /// Everything written so far.
    pub fn finish(self) -> Bytes {
        self.finish_open().freeze()
    }

    /// Everything written so far, for who has more to do to it.
    pub fn finish_open(self) -> BytesMut {
        self.buffer
    }

    fn varint(&mut self, value: u64) {
        let (encoded, bytes) = varint(value);
        self.buffer.put_slice(&encoded[..bytes]);
    }
}

/// A number in as few bytes as it needs, and how many these are.
fn varint(mut value: u64) -> ([u8; 10], usize) {
    let (mut encoded, mut bytes) = ([0; 10], 1);
    while value >= 0x80 {
        encoded[bytes - 1] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        bytes += 1;
    }
    encoded[bytes - 1] = (value & 0x7f) as u8;
    (encoded, bytes)
}

/// Walks over fields.
#[derive(Debug, Clone)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Over the whole of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value, or `None` at the end.
    ///
    /// # Errors
    /// When the bytes are cut or no encoding at all.
    pub fn field(&mut self) -> Result<Option<(u32, Value)>, DecodeError> {
        while self.rest.has_remaining() {
            let tag = self.varint()?;
            let field = u32::try_from(tag >> 3).map_err(|_| DecodeError::new("a field number is too large"))?;
            match tag & 7 {
                VARINT => return Ok(Some((field, Value { field, content: Content::Number(self.varint()?) }))),
                DELIMITED => {
                    let length = self.varint()?;
                    let bytes = self.take(length)?;
                    return Ok(Some((field, Value { field, content: Content::Bytes(bytes) })));
                }
                // Not written by this release, skipped for the sake of a later one.
                FIXED_64 => drop(self.take(8)?),
                FIXED_32 => drop(self.take(4)?),
                other => return Err(DecodeError::new(format!("field {field} has unknown wire type {other}"))),
            }
        }
        Ok(None)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if !self.rest.has_remaining() {
                return Err(DecodeError::new("the bytes end inside a number"));
            }
            let byte = self.rest.get_u8();
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::new("a number has more than 64 bits"))
    }

    fn take(&mut self, length: u64) -> Result<Bytes, DecodeError> {
        let rest = self.rest.len();
        match usize::try_from(length) {
            Ok(length) if length <= rest => Ok(self.rest.split_to(length)),
            _ => Err(DecodeError::new(format!("a field has {length} bytes, but only {rest} are left"))),
        }
    }
}

/// The value of one field, to be taken as what it should be.
#[derive(Debug, Clone)]
pub struct Value {
    field: u32,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Number(u64),
    Bytes(Bytes),
}

impl Value {
    /// As a number.
    ///
    /// # Errors
    /// When it is a byte string.
    pub fn number(self) -> Result<u64, DecodeError> {
        match self.content {
            Content::Number(number) => Ok(number),
            Content::Bytes(_) => Err(DecodeError::new(format!("field {} is no number", self.field))),
        }
    }

    /// As a number of 32 bits.
    ///
    /// # Errors
    /// When it is a byte string, or has more bits.
    pub fn small(self) -> Result<u32, DecodeError> {
        let field = self.field;
        u32::try_from(self.number()?).map_err(|_| DecodeError::new(format!("field {field} has more than 32 bits")))
    }

    /// As bytes, which share the memory of what is decoded.
    ///
    /// # Errors
    /// When it is a number.
    pub fn bytes(self) -> Result<Bytes, DecodeError> {
        match self.content {
            Content::Bytes(bytes) => Ok(bytes),
            Content::Number(_) => Err(DecodeError::new(format!("field {} is no byte string", self.field))),
        }
    }

    /// As text.
    ///
    /// # Errors
    /// When it is a number or no UTF-8.
    pub fn text(self) -> Result<String, DecodeError> {
        let field = self.field;
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| DecodeError::new(format!("field {field} is no UTF-8")))
    }

    /// As a name or anything else with a rule.
    ///
    /// # Errors
    /// When it is no text or breaks the rule.
    pub fn parse<T>(self) -> Result<T, DecodeError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        self.text()?.parse().map_err(|error: T::Err| DecodeError::new(error.to_string()))
    }

    /// As a yes or no: any number but 0 is a yes.
    ///
    /// # Errors
    /// When it is a byte string.
    pub fn flag(self) -> Result<bool, DecodeError> {
        Ok(self.number()? != 0)
    }

    /// As a nested value.
    ///
    /// # Errors
    /// As [`Decode::decode`] of that value.
    pub fn message<T: Decode>(self) -> Result<T, DecodeError> {
        T::from_bytes(self.bytes()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_back_in_order_and_fixed_width_ones_are_skipped() {
        let mut writer = Writer::default();
        writer.number(1, u64::MAX);
        writer.text(2, "ä");
        writer.nested(300, |inner| inner.number(1, 0));
        let mut bytes = writer.finish().to_vec();
        bytes.extend([5 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8, 5 << 3 | 5, 1, 2, 3, 4]);

        let mut reader = Reader::new(bytes.into());
        let (field, value) = reader.field().unwrap().unwrap();
        assert_eq!((field, value.number()), (1, Ok(u64::MAX)));
        let (field, value) = reader.field().unwrap().unwrap();
        assert_eq!((field, value.text()), (2, Ok("ä".to_owned())));
        let (field, value) = reader.field().unwrap().unwrap();
        assert_eq!((field, value.bytes()), (300, Ok(Bytes::from_static(&[8, 0]))));
        assert!(reader.field().unwrap().is_none());
    }

    #[test]
    fn a_nested_value_of_any_length_is_read_back_whole() {
        for length in [0, 1, 125, 126, 127, 128, 16_380, 16_384, 3_000_000] {
            let mut writer = Writer::default();
            writer.number(1, 1);
            writer.nested(2, |outer| outer.nested(3, |inner| inner.bytes(4, &vec![9; length])));
            writer.number(5, 5);
            let mut reader = Reader::new(writer.finish());
            let mut fields = std::iter::from_fn(|| reader.field().unwrap()).skip(1);
            let (_, outer) = fields.next().unwrap();
            assert_eq!(fields.next().map(|(field, value)| (field, value.number())), Some((5, Ok(5))));
            let (_, inner) = Reader::new(outer.bytes().unwrap()).field().unwrap().unwrap();
            let (_, bytes) = Reader::new(inner.bytes().unwrap()).field().unwrap().unwrap();
            assert_eq!(bytes.bytes().unwrap(), vec![9; length]);
        }
    }

    #[test]
    fn every_cut_inside_a_field_is_an_error_and_never_a_panic() {
        let mut writer = Writer::default();
        writer.number(1, 1 << 40);
        writer.bytes(2, &[7; 200]);
        let whole = writer.finish();
        let field_ends = [0, 7, whole.len()];
        for end in 0..whole.len() {
            let mut reader = Reader::new(whole.slice(..end));
            let read = std::iter::from_fn(|| reader.field().transpose()).collect::<Result<Vec<_>, _>>();
            assert_eq!(read.is_ok(), field_ends.contains(&end), "cut at {end}");
        }
    }

    #[test]
    fn a_giant_length_is_refused_without_taking_memory() {
        let mut reader = Reader::new(Bytes::from_static(&[2 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]));
        assert!(reader.field().is_err());
        let mut reader =
            Reader::new(Bytes::from_static(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]));
        assert!(reader.field().is_err());
    }
}
