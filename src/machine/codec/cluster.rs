//! Commands about the cluster itself: who is in it, who leads, how large it should be.

use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::machine::command::{Action, Care, ClusterSize, MemberRecord, Steering};
use crate::types::{ClusterId, FeatureLevel, Life, MemberId, Term};

/// Writes what [`Action::FoundCluster`] holds.
pub(super) fn encode_founding(writer: &mut Writer, cluster: &ClusterId, newest_member: MemberId) {
    writer.text(1, cluster.as_str());
    writer.number(2, newest_member.get());
}

/// The actions about the cluster itself.
pub(super) fn decode_about_cluster(variant: u32, mut reader: Reader) -> Result<Option<Action>, DecodeError> {
    let needed = |member: Option<u64>| required(member, "member").map(MemberId::new);
    Ok(Some(match variant {
        1 => {
            fields!(reader => 1 cluster: parse, 2 newest_member: number);
            let newest_member = MemberId::new(required(newest_member, "newest member")?);
            Action::FoundCluster { cluster: required(cluster, "cluster")?, newest_member }
        }
        2 => {
            let (mut member, mut record, mut before) = (None, None, Vec::new());
            while let Some((field, value)) = reader.field()? {
                match field {
                    1 => member = Some(value.number()?),
                    2 => record = Some(value.message()?),
                    3 => before.push(value.message()?),
                    _ => {}
                }
            }
            Action::AnnounceMember { member: needed(member)?, record: required(record, "record")?, before }
        }
        3 => {
            fields!(reader => 1 member: number, 2 term: number);
            Action::BeginLeadership { member: needed(member)?, term: Term::new(required(term, "term")?) }
        }
        19 => {
            fields!(reader => 1 record: message);
            Action::AllocateMember { record: required(record, "record")? }
        }
        20 => {
            fields!(reader => 1 member: number);
            Action::ForgetMember { member: needed(member)? }
        }
        21 => Action::SetSize(ClusterSize::decode(reader)?),
        22 => Action::Steer(Steering::decode(reader)?),
        _ => return Ok(None),
    }))
}

impl Encode for ClusterSize {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, u64::from(self.voters));
        writer.number(2, u64::from(self.learners));
    }
}

impl Decode for ClusterSize {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 voters: small, 2 learners: small);
        Ok(Self { voters: required(voters, "voters")?, learners: required(learners, "learners")? })
    }
}

impl Encode for Steering {
    fn encode(&self, writer: &mut Writer) {
        if let Some(member) = &self.preferred_leader {
            writer.text(1, member.as_str());
        }
        let care = match self.care {
            Care::Active => 1,
            Care::Paused => 2,
        };
        writer.number(2, care);
    }
}

impl Decode for Steering {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 preferred_leader: parse, 2 care: number);
        let care = match required(care, "care")? {
            1 => Care::Active,
            2 => Care::Paused,
            other => return Err(DecodeError::unknown("care", other)),
        };
        Ok(Self { preferred_leader, care })
    }
}

impl Encode for Life {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.number);
        writer.bytes(2, &self.token.to_be_bytes());
    }
}

impl Decode for Life {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 number: number, 2 token: bytes);
        let token = <[u8; 16]>::try_from(required(token, "token")?.as_ref())
            .map_err(|_| DecodeError::new("the token of a life has 16 bytes"))?;
        Ok(Self { number: required(number, "number")?, token: u128::from_be_bytes(token) })
    }
}

impl Encode for MemberRecord {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, self.name.as_str());
        writer.text(2, self.incarnation.as_str());
        writer.text(3, &self.url);
        writer.text(4, &self.version);
        writer.number(5, self.features.get());
        if let Some(life) = &self.life {
            writer.message(6, life);
        }
    }
}

impl Decode for MemberRecord {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 name: parse, 2 incarnation: parse, 3 url: text, 4 version: text, 5 features: number, 6 life: message);
        Ok(Self {
            name: required(name, "name")?,
            incarnation: required(incarnation, "incarnation")?,
            url: required(url, "url")?,
            version: required(version, "version")?,
            features: FeatureLevel::new(required(features, "features")?),
            life,
        })
    }
}
