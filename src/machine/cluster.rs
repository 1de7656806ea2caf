//! What the cluster knows of itself: its identity, its members, and whose leadership has begun.

use super::command::MemberRecord;
use super::table::{Schema, Table};
use crate::encoding::{DecodeError, Reader, Writer, fields, required};
use crate::types::{ClusterId, FeatureLevel, Leadership, MemberId, Term, Timestamp};

/// The leadership that has begun last. A duty's command that names an earlier one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeadershipRecord {
    pub leadership: Leadership,
    pub member: MemberId,
    pub term: Term,
    pub since: Timestamp,
}

pub(super) struct MemberRows;

impl Schema for MemberRows {
    type Key = MemberId;
    type Value = MemberRecord;
    const NUMBER: u32 = 2;

    fn encode(member: &MemberId, record: &MemberRecord, writer: &mut Writer) {
        writer.number(1, member.get());
        writer.message(2, record);
    }

    fn decode(mut reader: Reader) -> Result<(MemberId, MemberRecord), DecodeError> {
        fields!(reader => 1 member: number, 2 record: message);
        Ok((MemberId::new(required(member, "member")?), required(record, "record")?))
    }
}

/// The cluster's own metadata.
#[derive(Debug, Clone, Default)]
pub(super) struct Cluster {
    pub(super) id: Option<ClusterId>,
    pub(super) leadership: Option<LeadershipRecord>,
    pub(super) members: Table<MemberRows>,
}

impl Cluster {
    /// The highest level that every announced member understands; the first level while nobody has announced itself.
    pub(super) fn feature_level(&self) -> FeatureLevel {
        self.members.iter().map(|(_, record)| record.features).min().unwrap_or(FeatureLevel::new(1))
    }
}
