//! What the cluster knows of itself: its identity, its members, and whose leadership has begun.

use super::command::{ClusterSize, MemberRecord, Steering};
use super::event::Change;
use super::outcome::{Effect, Outcome, Rejection};
use super::table::{Schema, Table};
use super::turn::Turn;
use crate::encoding::{DecodeError, Reader, Writer, fields, required};
use crate::types::{ClusterId, FeatureLevel, Leadership, Life, MemberId, Term, Timestamp};

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
    /// The greatest id that a member has, or had.
    pub(super) newest_member: MemberId,
    /// How large it should be, if anybody has said so.
    pub(super) size: Option<ClusterSize>,
    pub(super) steering: Steering,
}

impl Cluster {
    pub(super) fn found(&mut self, cluster: &ClusterId, newest_member: MemberId, turn: &mut Turn) -> Outcome {
        match &self.id {
            Some(present) if present != cluster => Err(Rejection::AlreadyFounded { cluster: present.clone() }),
            Some(_) => Ok(Effect::ClusterFounded),
            None => {
                self.id = Some(cluster.clone());
                self.newest_member = self.newest_member.max(newest_member);
                turn.changes.push(Change::ClusterFounded);
                Ok(Effect::ClusterFounded)
            }
        }
    }

    /// Records what a member says of itself. A volume that does not go on from its recorded life is not the newest one.
    pub(super) fn announce(
        &mut self,
        member: MemberId,
        record: &MemberRecord,
        before: &[Life],
        turn: &mut Turn,
    ) -> Outcome {
        let known = self.members.get(&member).filter(|known| known.incarnation == record.incarnation);
        match (known.and_then(|known| known.life), record.life) {
            (Some(recorded), Some(life)) if !Life::continues(recorded, life, before) => {
                return Err(Rejection::OlderVolume { member, recorded: recorded.number, present: life.number });
            }
            (Some(_), Some(_) | None) | (None, _) => {}
        }
        self.record(member, record, turn);
        Ok(Effect::MemberAnnounced)
    }

    fn record(&mut self, member: MemberId, record: &MemberRecord, turn: &mut Turn) {
        if self.members.get(&member) != Some(record) {
            self.members.insert(member, record.clone());
            self.newest_member = self.newest_member.max(member);
            turn.changes.push(Change::MemberAnnounced { member, record: record.clone() });
        }
    }

    /// The id of whoever comes with `record`. An incarnation that comes again has lost the answer, and gets it again.
    pub(super) fn allocate(&mut self, record: &MemberRecord, turn: &mut Turn) -> Outcome {
        if self.id.is_none() {
            return Err(Rejection::NotFounded);
        }
        let known = self.members.iter().filter(|(_, known)| known.incarnation == record.incarnation);
        let member = known.map(|(member, _)| *member).max().unwrap_or_else(|| self.newest_member.next());
        self.record(member, record, turn);
        Ok(Effect::MemberAllocated(member))
    }

    pub(super) fn forget(&mut self, member: MemberId, turn: &mut Turn) -> Outcome {
        let existed = self.members.remove(&member).is_some();
        if existed {
            turn.changes.push(Change::MemberForgotten { member });
        }
        Ok(Effect::MemberForgotten { existed })
    }

    pub(super) fn set_size(&mut self, size: ClusterSize, turn: &mut Turn) -> Outcome {
        let changed = self.size != Some(size);
        if changed {
            self.size = Some(size);
            turn.changes.push(Change::SizeSet(size));
        }
        Ok(Effect::SizeSet { changed })
    }

    pub(super) fn steer(&mut self, steering: &Steering, turn: &mut Turn) -> Outcome {
        let changed = self.steering != *steering;
        if changed {
            self.steering = steering.clone();
            turn.changes.push(Change::Steered(steering.clone()));
        }
        Ok(Effect::Steered { changed })
    }

    /// Whether a member was in the cluster, and is forgotten by now.
    pub(super) fn has_forgotten(&self, member: MemberId) -> bool {
        member <= self.newest_member && self.members.get(&member).is_none()
    }

    /// The highest level that every announced member understands; the first level while nobody has announced itself.
    pub(super) fn feature_level(&self) -> FeatureLevel {
        self.members.iter().map(|(_, record)| record.features).min().unwrap_or(FeatureLevel::new(1))
    }
}
