//! Commands: what stands in the log.

use std::collections::BTreeMap;

use super::choice;
use super::cluster::{decode_about_cluster, encode_founding};
use super::contest::{decode_end, encode_end};
use super::record::{decode_datum, encode_data};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::machine::command::{
    Action, Author, Command, Compare, CompareTarget, ConfigCondition, ConfigDocument, ConfigId, KeyCondition,
    KeyOperation, Relation, Transaction,
};
use crate::types::{FencingToken, IdempotencyKey, Leadership, Revision, SessionId, Timestamp, Version};

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
            Self::FoundCluster { cluster, newest_member } => {
                writer.nested(1, |w| encode_founding(w, cluster, *newest_member));
            }
            Self::AnnounceMember { member, record, before } => writer.nested(2, |w| {
                w.number(1, member.get());
                w.message(2, record);
                before.iter().for_each(|life| w.message(3, life));
            }),
            Self::BeginLeadership { member, term } => writer.nested(3, |w| {
                w.number(1, member.get());
                w.number(2, term.get());
            }),
            Self::PutKey { key, value, session, only_if } => writer.nested(4, |w| {
                w.text(1, key.as_str());
                w.bytes(2, value);
                w.message(3, only_if);
                encode_session(w, 4, *session);
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
            Self::ReportConsumer { config, session, report } => writer.nested(11, |w| {
                w.message(1, config);
                w.number(2, session.get());
                w.message(3, report);
            }),
            Self::CreateSession { session, limit } => writer.nested(12, |w| {
                w.message(1, session);
                w.number(2, u64::from(*limit));
            }),
            Self::EndSession { session, cause } => writer.nested(13, |w| {
                w.number(1, session.get());
                w.number(2, encode_end(*cause));
            }),
            Self::ExpireSessions(silent) => {
                writer.nested(14, |w| silent.iter().for_each(|session| w.message(1, session)));
            }
            Self::Claim { contest, session, claim, limits } => writer.nested(15, |w| {
                w.message(1, contest);
                w.number(2, session.get());
                w.message(3, claim);
                w.message(4, limits);
            }),
            Self::Release { contest, session, token, cause } => writer.nested(16, |w| {
                w.message(1, contest);
                w.number(2, session.get());
                encode_token(w, 3, *token);
                w.number(4, encode_end(*cause));
            }),
            Self::Revoke { contest, token } => writer.nested(17, |w| {
                w.message(1, contest);
                encode_token(w, 2, *token);
            }),
            Self::SetElection { namespace, name, spec } => writer.nested(18, |w| {
                w.text(1, namespace.as_str());
                w.text(2, name.as_str());
                if let Some(spec) = spec {
                    w.message(3, spec);
                }
            }),
            Self::AllocateMember { record } => writer.nested(19, |w| w.message(1, record)),
            Self::ForgetMember { member } => writer.nested(20, |w| w.number(1, member.get())),
            Self::SetSize(size) => writer.message(21, size),
            Self::Steer(steering) => writer.message(22, steering),
        }
    }
}

impl Decode for Action {
    fn decode(reader: Reader) -> Result<Self, DecodeError> {
        choice(reader, "action", |variant, value| {
            let mut reader = Reader::new(value.bytes()?);
            Ok(Some(match variant {
                1..=3 | 19..=22 => return decode_about_cluster(variant, reader),
                4 => {
                    fields!(reader => 1 key: parse, 2 value: bytes, 3 only_if: message, 4 session: number);
                    let (key, value, session) =
                        (required(key, "key")?, required(value, "value")?, session.map(SessionId::new));
                    Self::PutKey { key, value, session, only_if: required(only_if, "condition")? }
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
                _ => return decode_holding(variant, reader),
            }))
        })
    }
}

/// The actions of sessions and of what they hold.
fn decode_holding(variant: u32, mut reader: Reader) -> Result<Option<Action>, DecodeError> {
    let needed = |session: Option<u64>| required(session, "session").map(SessionId::new);
    Ok(Some(match variant {
        11 => {
            fields!(reader => 1 config: message, 2 session: number, 3 report: message);
            let (config, report) = (required(config, "config")?, required(report, "report")?);
            Action::ReportConsumer { config, session: needed(session)?, report }
        }
        12 => {
            fields!(reader => 1 session: message, 2 limit: small);
            Action::CreateSession { session: required(session, "session")?, limit: required(limit, "limit")? }
        }
        13 => {
            fields!(reader => 1 session: number, 2 cause: number);
            Action::EndSession { session: needed(session)?, cause: decode_end(required(cause, "cause")?)? }
        }
        14 => {
            let mut silent = Vec::new();
            while let Some((field, value)) = reader.field()? {
                if field == 1 {
                    silent.push(value.message()?);
                }
            }
            Action::ExpireSessions(silent)
        }
        15 => {
            fields!(reader => 1 contest: message, 2 session: number, 3 claim: message, 4 limits: message);
            let (claim, limits) = (required(claim, "claim")?, required(limits, "limits")?);
            Action::Claim { contest: required(contest, "contest")?, session: needed(session)?, claim, limits }
        }
        16 => {
            fields!(reader => 1 contest: message, 2 session: number, 3 token: number, 4 cause: number);
            let (contest, cause) = (required(contest, "contest")?, decode_end(required(cause, "cause")?)?);
            Action::Release { contest, session: needed(session)?, token: token.map(FencingToken::new), cause }
        }
        17 => {
            fields!(reader => 1 contest: message, 2 token: number);
            Action::Revoke { contest: required(contest, "contest")?, token: token.map(FencingToken::new) }
        }
        18 => {
            fields!(reader => 1 namespace: parse, 2 name: parse, 3 spec: message);
            Action::SetElection { namespace: required(namespace, "namespace")?, name: required(name, "name")?, spec }
        }
        _ => return Ok(None),
    }))
}

fn encode_session(writer: &mut Writer, field: u32, session: Option<SessionId>) {
    if let Some(session) = session {
        writer.number(field, session.get());
    }
}

fn encode_token(writer: &mut Writer, field: u32, token: Option<FencingToken>) {
    if let Some(token) = token {
        writer.number(field, token.get());
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
        while let Some((field, value)) = reader.field()? {
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
        while let Some((field, value)) = reader.field()? {
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
        let (key, relation, target) = match self {
            Self::Key { key, relation, target } => (key, relation, target),
            Self::Fence(fence) => return writer.message(4, fence),
        };
        let relation = match relation {
            Relation::Equal => 1,
            Relation::NotEqual => 2,
            Relation::Less => 3,
            Relation::Greater => 4,
        };
        writer.text(1, key.as_str());
        writer.number(2, relation);
        writer.nested(3, |w| match target {
            CompareTarget::Version(version) => w.number(1, version.get()),
            CompareTarget::CreateRevision(revision) => w.number(2, revision.get()),
            CompareTarget::ModRevision(revision) => w.number(3, revision.get()),
            CompareTarget::Value(value) => w.bytes(4, value),
        });
    }
}

impl Decode for Compare {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 key: parse, 2 relation: number, 3 target: bytes, 4 fence: message);
        if let Some(fence) = fence {
            return Ok(Self::Fence(fence));
        }
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
        Ok(Self::Key { key: required(key, "key")?, relation, target })
    }
}

impl Encode for KeyOperation {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Get(key) => writer.text(1, key.as_str()),
            Self::Put { key, value, session } => writer.nested(2, |w| {
                w.text(1, key.as_str());
                w.bytes(2, value);
                encode_session(w, 3, *session);
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
                    fields!(reader => 1 key: parse, 2 value: bytes, 3 session: number);
                    let session = session.map(SessionId::new);
                    Self::Put { key: required(key, "key")?, value: required(value, "value")?, session }
                }
                3 => Self::Delete(value.parse()?),
                _ => return Ok(None),
            }))
        })
    }
}
