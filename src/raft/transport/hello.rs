//! Who may talk to whom: the first frame of every connection, and the rules for it.
//!
//! The caller says who it is, whom it wants and for what; the other end says who it is, or refuses with a sentence. Both
//! ends check, so that a wrong address, a foreign cluster or a replaced volume is named on both sides and never becomes a
//! vote.
//!
//! The forward lane lets in whoever wants this member by its name: members without a place, and one whose volume is not what
//! the cluster knows, have questions too, and learn by their answers what is wrong (see `vouching.rs`).

use std::fmt;

use thiserror::Error;

use super::{Lane, Peer};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::raft::status::MemberNode;
use crate::types::{ClusterId, Incarnation, Life, MemberId, MemberName};

/// The version of frames and messages. It changes only when an older member could not even refuse a newer one.
pub const PROTOCOL_VERSION: u64 = 1;

/// A member's place in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub cluster: ClusterId,
    pub member: MemberId,
}

/// Who a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    pub name: MemberName,
    pub incarnation: Incarnation,
    /// `None` until a cluster has given it one.
    pub seat: Option<Seat>,
    /// The present life of its volume; `None` for a release that counts none.
    pub life: Option<Life>,
}

impl fmt::Display for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.seat {
            Some(seat) => write!(f, "{} (member {} of cluster {})", self.name, seat.member, seat.cluster),
            None => write!(f, "{} (without a cluster)", self.name),
        }
    }
}

/// What a caller says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub version: u64,
    pub lane: Lane,
    pub from: Introduction,
    /// The name of the member that it wants.
    pub to: String,
    /// The member id that it wants, once it knows one.
    pub to_member: Option<MemberId>,
}

impl Hello {
    /// The hello of `from` for a lane to `peer`.
    pub fn new(from: Introduction, peer: &Peer, lane: Lane) -> Self {
        let to_member = match peer {
            Peer::Member(member, _) => Some(*member),
            Peer::Initial { .. } => None,
        };
        Self { version: PROTOCOL_VERSION, lane, from, to: peer.name().to_owned(), to_member }
    }
}

/// Why a member does not talk to another, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// Another version of the protocol.
    Protocol,
    /// Another cluster.
    Cluster,
    /// Not the member that was wanted.
    Member,
    /// The volume behind the member id is not the one that the cluster knows.
    Incarnation,
    /// A later process of the same member has begun, or one from another copy of its volume.
    Superseded,
    /// One of the two has no place in a cluster, which the lane needs.
    Seat,
    /// This member is stopping.
    Stopping,
}

impl RefusalCause {
    /// Every cause.
    pub const ALL: [Self; 7] =
        [Self::Protocol, Self::Cluster, Self::Member, Self::Incarnation, Self::Superseded, Self::Seat, Self::Stopping];

    /// The name in metrics and on the wire.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Cluster => "cluster",
            Self::Member => "member",
            Self::Incarnation => "incarnation",
            Self::Superseded => "superseded",
            Self::Seat => "seat",
            Self::Stopping => "stopping",
        }
    }

    fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.label() == label)
    }
}

/// A member does not talk to another; the text says why, for people.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("refused: {text}")]
pub struct Refusal {
    pub cause: RefusalCause,
    pub text: String,
}

impl Refusal {
    /// With a sentence for people.
    pub fn new(cause: RefusalCause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }
}

/// What this member knows of another one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// What the membership says of it.
    pub node: Option<&'a MemberNode>,
    /// The life of its volume that the cluster has recorded.
    pub life: Option<Life>,
}

/// Whether a member of the same cluster is the one that this member knows under its id, and no process that it was before.
///
/// # Errors
/// Why not.
pub fn identify(from: &Introduction, known: Known<'_>) -> Result<(), Refusal> {
    if known.node.is_some_and(|node| node.incarnation != from.incarnation.as_str()) {
        let text = format!(
            "the volume of {from} is not the one that the cluster knows; empty it, so that it joins as a new member"
        );
        return Err(Refusal::new(RefusalCause::Incarnation, text));
    }
    match (known.life, from.life) {
        // One that is not recorded yet may be the next one; it has to ask first.
        (Some(recorded), Some(life)) if life != recorded && life.number <= recorded.number => {
            let text = format!(
                "start {} of the volume of {from} was followed by start {}, or made beside it from a copy: only the newest \
                 process of a member takes part",
                life.number, recorded.number
            );
            Err(Refusal::new(RefusalCause::Superseded, text))
        }
        (Some(_), Some(_) | None) | (None, _) => Ok(()),
    }
}

/// Whether `local` lets the caller in, of whom it knows what `known` says.
///
/// # Errors
/// Why not.
pub fn admit(local: &Introduction, known: Known<'_>, hello: &Hello) -> Result<(), Refusal> {
    let refuse = |cause, text| Err(Refusal { cause, text });
    let from = &hello.from;
    if hello.version != PROTOCOL_VERSION {
        let text = format!(
            "{} speaks version {PROTOCOL_VERSION} of the member protocol and {} speaks version {}",
            local.name, from.name, hello.version
        );
        return refuse(RefusalCause::Protocol, text);
    }
    if hello.to != local.name.as_str() {
        let text = format!("this is {} and not {}; check the addresses of the members", local.name, hello.to);
        return refuse(RefusalCause::Member, text);
    }
    match (hello.lane, &local.seat, &from.seat) {
        (Lane::Forward, ..) if hello.to_member.is_none() => Ok(()),
        (_, Some(mine), Some(theirs)) => {
            if mine.cluster != theirs.cluster {
                return refuse(RefusalCause::Cluster, format!("this is {local}, the caller is {from}"));
            }
            if hello.to_member.is_some_and(|wanted| wanted != mine.member) {
                return refuse(RefusalCause::Member, format!("this is {local} and not the member that {from} wants"));
            }
            identify(from, known)
        }
        (Lane::Forward, _, _) => Ok(()),
        (Lane::Control | Lane::Replication | Lane::Snapshot, _, _) => {
            let text =
                format!("this is {local}, the caller is {from}, and the {} lane needs both in a cluster", hello.lane);
            refuse(RefusalCause::Seat, text)
        }
    }
}

/// Whether the one who answered is the `peer` that was wanted.
///
/// # Errors
/// Why not.
pub fn recognize(local: &Introduction, peer: &Peer, answered: &Introduction) -> Result<(), Refusal> {
    if answered.name.as_str() != peer.name() {
        let text = format!("{} answered at {} instead of {}", answered, peer.address(), peer.name());
        return Err(Refusal::new(RefusalCause::Member, text));
    }
    let (Peer::Member(member, node), Some(mine)) = (peer, &local.seat) else { return Ok(()) };
    let expected = Seat { cluster: mine.cluster.clone(), member: *member };
    if answered.seat.as_ref() != Some(&expected) {
        let text = format!(
            "{answered} answered at {} instead of member {member} of cluster {}; has its volume been emptied?",
            peer.address(),
            mine.cluster
        );
        return Err(Refusal::new(RefusalCause::Cluster, text));
    }
    if answered.incarnation.as_str() != node.incarnation {
        let text =
            format!("{answered} has another volume than the cluster knows; empty it, so that it joins as a new member");
        return Err(Refusal::new(RefusalCause::Incarnation, text));
    }
    Ok(())
}

impl Encode for Introduction {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, self.name.as_str());
        writer.text(2, self.incarnation.as_str());
        if let Some(seat) = &self.seat {
            writer.text(3, seat.cluster.as_str());
            writer.number(4, seat.member.get());
        }
        if let Some(life) = &self.life {
            writer.message(5, life);
        }
    }
}

impl Decode for Introduction {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 name: parse, 2 incarnation: parse, 3 cluster: parse, 4 member: number, 5 life: message);
        let seat = match (cluster, member) {
            (Some(cluster), Some(member)) => Some(Seat { cluster, member: MemberId::new(member) }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(DecodeError::new("an introduction has a cluster id without a member id, or the reverse"));
            }
        };
        let (name, incarnation) = (required(name, "name")?, required(incarnation, "incarnation")?);
        Ok(Self { name, incarnation, seat, life })
    }
}

impl Encode for Hello {
    fn encode(&self, writer: &mut Writer) {
        writer.number(1, self.version);
        let lane = match self.lane {
            Lane::Control => 1,
            Lane::Replication => 2,
            Lane::Snapshot => 3,
            Lane::Forward => 4,
        };
        writer.number(2, lane);
        writer.message(3, &self.from);
        writer.text(4, &self.to);
        if let Some(member) = self.to_member {
            writer.number(5, member.get());
        }
    }
}

impl Decode for Hello {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 version: number, 2 lane: number, 3 from: message, 4 to: text, 5 to_member: number);
        let lane = match required(lane, "lane")? {
            1 => Lane::Control,
            2 => Lane::Replication,
            3 => Lane::Snapshot,
            4 => Lane::Forward,
            other => return Err(DecodeError::unknown("lane", other)),
        };
        Ok(Self {
            version: required(version, "version")?,
            lane,
            from: required(from, "from")?,
            to: required(to, "to")?,
            to_member: to_member.map(MemberId::new),
        })
    }
}

impl Encode for Refusal {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, self.cause.label());
        writer.text(2, &self.text);
    }
}

impl Decode for Refusal {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 cause: text, 2 text: text);
        let cause: String = required(cause, "cause")?;
        let cause = RefusalCause::from_label(&cause)
            .ok_or_else(|| DecodeError::new(format!("refusal cause {cause:?} is not known to this release")))?;
        Ok(Self { cause, text: required(text, "text")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction(name: &str, seat: Option<(u128, u64)>) -> Introduction {
        Introduction {
            name: MemberName::new(name).unwrap(),
            incarnation: Incarnation::from_random(7),
            seat: seat.map(|(cluster, member)| Seat {
                cluster: ClusterId::from_random(cluster),
                member: MemberId::new(member),
            }),
            life: Some(Life { number: 4, token: 4 }),
        }
    }

    fn node(name: &str, incarnation: u128) -> MemberNode {
        MemberNode {
            name: name.to_owned(),
            address: "127.0.0.1:1".to_owned(),
            incarnation: Incarnation::from_random(incarnation).to_string(),
        }
    }

    /// The cause for which `local` refuses a hello of `from` for member 2, which is called `b`.
    fn refused(local: &Introduction, from: Introduction, lane: Lane) -> Option<RefusalCause> {
        let known = match from.seat.as_ref().map(|seat| seat.member.get()) {
            Some(1) => Some(node("a", 7)),
            Some(9) => Some(node("z", 8)),
            _ => None,
        };
        let hello = Hello::new(from, &Peer::Member(MemberId::new(2), node("b", 7)), lane);
        let known = Known { node: known.as_ref(), life: None };
        admit(local, known, &hello).err().map(|refusal| refusal.cause)
    }

    #[test]
    fn a_member_lets_in_who_belongs_to_its_cluster_and_wants_it() {
        let local = introduction("b", Some((1, 2)));
        let cases = [
            ("a member of the cluster", introduction("a", Some((1, 1))), Lane::Control, None),
            ("one whom the membership does not name yet", introduction("c", Some((1, 3))), Lane::Control, None),
            ("another cluster", introduction("a", Some((5, 1))), Lane::Control, Some(RefusalCause::Cluster)),
            ("a replaced volume", introduction("z", Some((1, 9))), Lane::Control, Some(RefusalCause::Incarnation)),
            ("no cluster, where one is needed", introduction("a", None), Lane::Control, Some(RefusalCause::Seat)),
            ("no cluster, to ask about founding", introduction("a", None), Lane::Forward, None),
        ];
        for (case, from, lane, expected) in cases {
            assert_eq!(refused(&local, from, lane), expected, "{case}");
        }
        let other = introduction("b", Some((1, 4)));
        assert_eq!(refused(&other, introduction("a", Some((1, 1))), Lane::Control), Some(RefusalCause::Member));
        let misnamed = introduction("d", Some((1, 2)));
        assert_eq!(refused(&misnamed, introduction("a", Some((1, 1))), Lane::Control), Some(RefusalCause::Member));
    }

    #[test]
    fn a_member_of_another_protocol_version_is_refused_with_both_versions() {
        let peer = Peer::Member(MemberId::new(2), node("b", 7));
        let hello = Hello { version: 9, ..Hello::new(introduction("a", None), &peer, Lane::Forward) };
        let refusal = admit(&introduction("b", None), Known::default(), &hello).unwrap_err();
        assert_eq!(refusal.cause, RefusalCause::Protocol);
        assert!(refusal.text.contains("version 1") && refusal.text.contains("version 9"), "{}", refusal.text);
    }

    #[test]
    fn whoever_asks_for_a_name_on_the_forward_lane_is_let_in_to_hear_what_is_wrong() {
        let peer = Peer::Initial { name: MemberName::new("b").unwrap(), address: "b:1".to_owned() };
        for seat in [None, Some((5, 1)), Some((1, 9))] {
            let hello = Hello::new(introduction("z", seat), &peer, Lane::Forward);
            assert_eq!(admit(&introduction("b", Some((1, 2))), Known::default(), &hello), Ok(()), "{seat:?}");
        }
    }

    #[test]
    fn of_two_processes_of_one_member_the_one_whose_life_is_recorded_or_newer_is_let_in() {
        let local = introduction("b", Some((1, 2)));
        let peer = Peer::Member(MemberId::new(2), node("b", 7));
        let refused = |number: u64, token: u128| {
            let from = Introduction { life: Some(Life { number, token }), ..introduction("a", Some((1, 1))) };
            let known = Known { node: None, life: Some(Life { number: 4, token: 4 }) };
            admit(&local, known, &Hello::new(from, &peer, Lane::Control)).err().map(|refusal| refusal.cause)
        };
        assert_eq!(refused(4, 4), None);
        assert_eq!(refused(5, 9), None, "one that has just started is the next");
        assert_eq!(refused(3, 3), Some(RefusalCause::Superseded), "one that was paused while the next one started");
        assert_eq!(refused(4, 9), Some(RefusalCause::Superseded), "one that started from a copy at the same time");
    }

    #[test]
    fn a_caller_checks_who_answers() {
        let local = introduction("a", Some((1, 1)));
        let peer = Peer::Member(MemberId::new(2), node("b", 7));
        let cause = |answered| recognize(&local, &peer, &answered).err().map(|refusal| refusal.cause);
        assert_eq!(cause(introduction("b", Some((1, 2)))), None);
        assert_eq!(cause(introduction("c", Some((1, 2)))), Some(RefusalCause::Member));
        assert_eq!(cause(introduction("b", Some((1, 3)))), Some(RefusalCause::Cluster));
        assert_eq!(cause(introduction("b", Some((4, 2)))), Some(RefusalCause::Cluster));
        assert_eq!(cause(introduction("b", None)), Some(RefusalCause::Cluster));
        let replaced = Introduction { incarnation: Incarnation::from_random(1), ..introduction("b", Some((1, 2))) };
        assert_eq!(cause(replaced), Some(RefusalCause::Incarnation));
    }

    #[test]
    fn hellos_welcomes_and_refusals_are_read_back() {
        let peer = Peer::Member(MemberId::new(2), node("b", 7));
        for seat in [None, Some((1, 1))] {
            let hello = Hello::new(introduction("a", seat), &peer, Lane::Snapshot);
            assert_eq!(Hello::from_bytes(hello.to_bytes()), Ok(hello.clone()));
            assert_eq!(Introduction::from_bytes(hello.from.to_bytes()), Ok(hello.from));
        }
        let refusal = Refusal::new(RefusalCause::Seat, "why");
        assert_eq!(Refusal::from_bytes(refusal.to_bytes()), Ok(refusal));
    }
}
