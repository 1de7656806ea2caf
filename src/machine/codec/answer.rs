//! Answers: what travels back to the caller, and what is remembered for a retry.

use bytes::Bytes;

use super::{Nothing, choice};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Value, Writer, fields, required};
use crate::machine::command::ContestId;
use crate::machine::contest::Grant;
use crate::machine::event::Cause;
use crate::machine::outcome::{
    Answer, Claimed, Effect, KeyMeta, Measured, OperationResult, Origin, Outcome, Rejection,
};
use crate::types::{FencingToken, Key, Leadership, MemberId, Revision, SessionId, Timestamp, Version};

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
            Self::ConsumerReported { changed } => writer.number(11, u64::from(*changed)),
            Self::SessionCreated(session) => writer.number(12, session.get()),
            Self::SessionEnded { existed } => writer.number(13, u64::from(*existed)),
            Self::SessionsExpired { count } => writer.number(14, *count),
            Self::Claimed(Claimed::Granted(grant)) => writer.message(15, grant),
            Self::Claimed(Claimed::Waiting) => writer.number(16, 1),
            // No grant has the token 0.
            Self::Released { token } => writer.number(17, token.map_or(0, FencingToken::get)),
            Self::Revoked { count } => writer.number(18, *count),
            Self::ElectionSet => writer.number(19, 1),
            Self::MemberAllocated(member) => writer.number(20, member.get()),
            Self::MemberForgotten { existed } => writer.number(21, u64::from(*existed)),
            Self::SizeSet { changed } => writer.number(22, u64::from(*changed)),
            Self::Steered { changed } => writer.number(23, u64::from(*changed)),
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
                11 => Self::ConsumerReported { changed: value.flag()? },
                12 => Self::SessionCreated(SessionId::new(value.number()?)),
                13 => Self::SessionEnded { existed: value.flag()? },
                14 => Self::SessionsExpired { count: value.number()? },
                15 => Self::Claimed(Claimed::Granted(value.message()?)),
                16 => Self::Claimed(Claimed::Waiting),
                17 => Self::Released { token: some_token(value.number()?) },
                18 => Self::Revoked { count: value.number()? },
                19 => Self::ElectionSet,
                20 => Self::MemberAllocated(MemberId::new(value.number()?)),
                21 => Self::MemberForgotten { existed: value.flag()? },
                22 => Self::SizeSet { changed: value.flag()? },
                23 => Self::Steered { changed: value.flag()? },
                _ => return Ok(None),
            }))
        })
    }
}

fn some_token(number: u64) -> Option<FencingToken> {
    Some(FencingToken::new(number)).filter(|token| *token != FencingToken::ZERO)
}

fn decode_transacted(value: Value) -> Result<Effect, DecodeError> {
    let mut reader = Reader::new(value.bytes()?);
    let (mut succeeded, mut results) = (None, Vec::new());
    while let Some((field, value)) = reader.field()? {
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
            Self::NoSuchSession { session } => encode_numbers(writer, 12, &[session.get()]),
            Self::SessionOver { session, cause } => {
                encode_numbers(writer, 13, &[session.get(), cause.map_or(0, Cause::number)]);
            }
            Self::TooManySessions { limit } => encode_numbers(writer, 14, &[u64::from(*limit)]),
            Self::TooManyClaims { session, limit } => {
                encode_numbers(writer, 15, &[session.get(), u64::from(*limit)]);
            }
            Self::TooManyWaiting { contest, limit } => encode_contest(writer, 16, contest, &[u64::from(*limit)]),
            Self::Held { contest, holder } => {
                let Grant { session, token, since } = holder;
                encode_contest(writer, 17, contest, &[session.get(), token.get(), since.as_millis()]);
            }
            Self::OtherCapacity { contest, capacity } => {
                encode_contest(writer, 18, contest, &[u64::from(*capacity)]);
            }
            Self::TooManyPermits { contest, permits, capacity } => {
                encode_contest(writer, 19, contest, &[u64::from(*permits), u64::from(*capacity)]);
            }
            Self::NotHeld { contest, session, current } => {
                encode_contest(writer, 20, contest, &[session.get(), current.map_or(0, FencingToken::get)]);
            }
            Self::NotFounded => writer.message(21, &Nothing),
            Self::OlderVolume { member, recorded, present } => {
                encode_numbers(writer, 22, &[member.get(), *recorded, *present]);
            }
        }
    }
}

/// A contest and several numbers.
fn encode_contest(writer: &mut Writer, field: u32, contest: &ContestId, numbers: &[u64]) {
    writer.nested(field, |w| {
        w.message(1, contest);
        encode_numbers(w, 2, numbers);
    });
}

impl Decode for Rejection {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "rejection", |variant, value| {
            match variant {
                2 | 9..=15 | 22 => return decode_numeric_rejection(variant, value).map(Some),
                16..=20 => return decode_contest_rejection(variant, value).map(Some),
                _ => {}
            }
            let mut reader = Reader::new(value.bytes()?);
            Ok(Some(match variant {
                1 => {
                    fields!(reader => 1 cluster: parse);
                    Self::AlreadyFounded { cluster: required(cluster, "cluster")? }
                }
                3 => {
                    let (mut key, mut current) = (None, None);
                    while let Some((field, value)) = reader.field()? {
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
                21 => Self::NotFounded,
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
        22 => {
            let [member, recorded, present] = decode_numbers(bytes)?;
            Rejection::OlderVolume { member: MemberId::new(member), recorded, present }
        }
        10 => {
            let [used, limit] = decode_numbers(bytes)?;
            Rejection::StateFull { used, limit }
        }
        11 => {
            let [revision, compacted, present] = decode_numbers(bytes)?.map(Revision::new);
            Rejection::CannotCompact { revision, compacted, present }
        }
        12 => {
            let [session] = decode_numbers(bytes)?.map(SessionId::new);
            Rejection::NoSuchSession { session }
        }
        13 => {
            let [session, cause] = decode_numbers(bytes)?;
            let cause = (cause != 0).then(|| Cause::from_number(cause)).transpose()?;
            Rejection::SessionOver { session: SessionId::new(session), cause }
        }
        14 => {
            let [limit] = decode_numbers(bytes)?;
            Rejection::TooManySessions { limit: small(limit)? }
        }
        _ => {
            let [session, limit] = decode_numbers(bytes)?;
            Rejection::TooManyClaims { session: SessionId::new(session), limit: small(limit)? }
        }
    })
}

fn decode_contest_rejection(variant: u32, value: Value) -> Result<Rejection, DecodeError> {
    let mut reader = Reader::new(value.bytes()?);
    fields!(reader => 1 contest: message, 2 numbers: bytes);
    let (contest, bytes) = (required(contest, "contest")?, required(numbers, "numbers")?);
    Ok(match variant {
        16 => {
            let [limit] = decode_numbers(bytes)?;
            Rejection::TooManyWaiting { contest, limit: small(limit)? }
        }
        17 => {
            let [session, token, since] = decode_numbers(bytes)?;
            let (session, token) = (SessionId::new(session), FencingToken::new(token));
            Rejection::Held { contest, holder: Grant { session, token, since: Timestamp::from_millis(since) } }
        }
        18 => {
            let [capacity] = decode_numbers(bytes)?;
            Rejection::OtherCapacity { contest, capacity: small(capacity)? }
        }
        19 => {
            let [permits, capacity] = decode_numbers(bytes)?;
            Rejection::TooManyPermits { contest, permits: small(permits)?, capacity: small(capacity)? }
        }
        _ => {
            let [session, current] = decode_numbers(bytes)?;
            Rejection::NotHeld { contest, session: SessionId::new(session), current: some_token(current) }
        }
    })
}

fn small(number: u64) -> Result<u32, DecodeError> {
    u32::try_from(number).map_err(|_| DecodeError::new("a number has more than 32 bits"))
}

/// Several numbers as one nested value, in fields 1, 2, ...
fn encode_numbers(writer: &mut Writer, field: u32, numbers: &[u64]) {
    writer.nested(field, |w| (1..).zip(numbers).for_each(|(field, number)| w.number(field, *number)));
}

fn decode_numbers<const N: usize>(bytes: Bytes) -> Result<[u64; N], DecodeError> {
    let (mut reader, mut numbers) = (Reader::new(bytes), [None; N]);
    while let Some((field, value)) = reader.field()? {
        if let Some(number) = usize::try_from(field).ok().and_then(|field| numbers.get_mut(field.wrapping_sub(1))) {
            *number = Some(value.number()?);
        }
    }
    if numbers.contains(&None) {
        return Err(DecodeError::new(format!("{N} numbers are needed")));
    }
    Ok(numbers.map(Option::unwrap_or_default))
}
