//! Who becomes a member, and who not and why: a plain function of what a Raft leader knows.

use std::collections::BTreeSet;

use super::{Contact, Picture};
use crate::machine::command::MemberRecord;
use crate::raft::status::MemberNode;
use crate::types::{FeatureLevel, MemberId};

/// What a Raft leader makes of a member-to-be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::raft) enum Admission {
    /// It has this id already, but was never told.
    Seated(MemberId),
    /// It gets an id of its own.
    New,
    /// The text says why not, and what to do.
    Refused(String),
}

/// Decides about a member-to-be, when the cluster's commands are at `level`.
pub(in crate::raft) fn admit(picture: &Picture, level: FeatureLevel, record: &MemberRecord) -> Admission {
    let same_volume = picture.nodes.iter().find(|(_, node)| node.incarnation == record.incarnation.as_str());
    if let Some((member, _)) = same_volume {
        let is_voter = picture.voters.iter().any(|voters| voters.contains(member));
        return match is_voter || picture.matched.contains_key(member) {
            false => Admission::Seated(*member),
            true => Admission::Refused(format!(
                "the volume of {} is that of member {member}, but without what it held: it was put back to an older state; \
                 empty it, so that it joins as a new member",
                record.name
            )),
        };
    }
    let known = |node: &MemberNode| node.name == record.name.as_str();
    let is_alive =
        |(member, node): &(&MemberId, &MemberNode)| known(node) && picture.contact(**member) == Contact::Lately;
    if let Some((member, _)) = picture.nodes.iter().find(is_alive) {
        return Admission::Refused(format!(
            "member {member} is called {} as well, and it is alive; if it has just ended, this passes, and if not, give \
             each member a name of its own",
            record.name
        ));
    }
    if record.features < level {
        return Admission::Refused(format!(
            "{} understands level {} of the log and the cluster uses level {level}: run a newer release",
            record.name, record.features
        ));
    }
    if picture.has_place(record.name.as_str()) {
        return Admission::New;
    }
    let names: BTreeSet<_> = picture.nodes.values().map(|node| node.name.as_str()).collect();
    let listed = || names.iter().copied().collect::<Vec<_>>().join(", ");
    match picture.size {
        None => Admission::Refused(format!(
            "the members of the cluster are {}, and nobody has said that it should be larger",
            listed()
        )),
        Some(size) => {
            let wanted = u64::from(size.voters) + u64::from(size.learners);
            Admission::Refused(format!("the cluster should have {wanted} members and has them: {}", listed()))
        }
    }
}
