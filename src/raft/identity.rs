//! Who a member is, kept on its volume: drawn before anything else, and never guessed.
//!
//! The file `identity` is one sealed record (see `record.rs`), written atomically. It is read before the log is opened; a
//! volume of another member, or one that has lost its log, is refused with a sentence. A member that lost its whole volume
//! has a new incarnation and no place, so it can neither vote for the old one nor found a second cluster.

use std::io;

use thiserror::Error;

use super::clock::Clock;
use super::founding::{Assignment, Stage};
use super::log_store::LOG_FILE;
use super::record::{Damaged, seal, unseal};
use super::transport::{Introduction, Seat};
use super::volume::{Volume, read_whole, write_atomically};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::types::{ClusterId, Incarnation, MemberId, MemberName};

/// The file's name on the volume, and the name under which its record is sealed.
pub const IDENTITY_FILE: &str = "identity";

/// Why a volume cannot be this member's.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("cannot use the file {IDENTITY_FILE}: {0}")]
    Volume(#[from] io::Error),
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error("this volume belongs to {found} and not to {name}; check which data directory is mounted where")]
    Foreign { found: Box<Introduction>, name: MemberName },
    #[error(
        "this volume belongs to {found}, but its log ({LOG_FILE}) is gone, so it could vote twice; \
         empty the whole volume and replace the member"
    )]
    Emptied { found: Box<Introduction> },
    #[error(
        "this volume has a log ({LOG_FILE}) but no file {IDENTITY_FILE}, so nobody knows whose it is; \
         empty the whole volume and replace the member"
    )]
    Orphaned,
}

/// What a member knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: MemberName,
    pub incarnation: Incarnation,
    pub place: Place,
}

/// Where a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In no cluster.
    Nowhere,
    /// In a cluster that is being founded.
    Prepared(Assignment),
    /// In a cluster that exists.
    Done(Seat),
}

impl Identity {
    /// The member's seat, once it has one.
    pub fn seat(&self) -> Option<&Seat> {
        match &self.place {
            Place::Nowhere => None,
            Place::Prepared(assignment) => Some(&assignment.seat),
            Place::Done(seat) => Some(seat),
        }
    }

    /// How far the member is in being founded.
    pub fn stage(&self) -> Stage {
        match &self.place {
            Place::Nowhere => Stage::Empty,
            Place::Prepared(_) => Stage::Assigned,
            Place::Done(_) => Stage::Founded,
        }
    }

    /// What the member says to others.
    pub fn introduction(&self) -> Introduction {
        Introduction { name: self.name.clone(), incarnation: self.incarnation.clone(), seat: self.seat().cloned() }
    }

    /// Reads the identity of `name` from its volume, or draws one for an empty volume and makes it durable. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// When the volume is damaged, or not this member's.
    pub fn load(volume: &dyn Volume, name: &MemberName, clock: &dyn Clock) -> Result<Self, IdentityError> {
        let has_log = volume.open(LOG_FILE)?.is_some();
        let Some(record) = read_whole(volume, IDENTITY_FILE)? else {
            if has_log {
                return Err(IdentityError::Orphaned);
            }
            let incarnation = Incarnation::from_random(clock.random());
            let identity = Self { name: name.clone(), incarnation, place: Place::Nowhere };
            identity.store(volume)?;
            return Ok(identity);
        };
        let identity: Self = unseal(IDENTITY_FILE, &record)?;
        if identity.name != *name {
            return Err(IdentityError::Foreign { found: Box::new(identity.introduction()), name: name.clone() });
        }
        if !has_log && identity.stage() == Stage::Founded {
            return Err(IdentityError::Emptied { found: Box::new(identity.introduction()) });
        }
        Ok(identity)
    }

    /// Makes the identity durable. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn store(&self, volume: &dyn Volume) -> io::Result<()> {
        write_atomically(volume, IDENTITY_FILE, &seal(IDENTITY_FILE, self))
    }
}

impl Encode for Seat {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, self.cluster.as_str());
        writer.number(2, self.member.get());
    }
}

impl Decode for Seat {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 cluster: parse, 2 member: number);
        let cluster: ClusterId = required(cluster, "cluster")?;
        Ok(Self { cluster, member: MemberId::new(required(member, "member")?) })
    }
}

impl Encode for Identity {
    fn encode(&self, writer: &mut Writer) {
        writer.text(1, self.name.as_str());
        writer.text(2, self.incarnation.as_str());
        match &self.place {
            Place::Nowhere => {}
            Place::Prepared(assignment) => writer.message(3, assignment),
            Place::Done(seat) => writer.message(4, seat),
        }
    }
}

impl Decode for Identity {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 name: parse, 2 incarnation: parse, 3 prepared: message, 4 done: message);
        let place = match (prepared, done) {
            (None, None) => Place::Nowhere,
            (Some(assignment), None) => Place::Prepared(assignment),
            (None, Some(seat)) => Place::Done(seat),
            (Some(_), Some(_)) => return Err(DecodeError::new("an identity is both prepared and done")),
        };
        Ok(Self { name: required(name, "name")?, incarnation: required(incarnation, "incarnation")?, place })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::raft::status::MemberNode;
    use crate::raft::volume::DiskVolume;
    use crate::types::Timestamp;

    struct FixedClock;

    impl Clock for FixedClock {
        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(0)
        }

        fn random(&self) -> u128 {
            0xfeed
        }
    }

    fn name(text: &str) -> MemberName {
        MemberName::new(text).unwrap()
    }

    fn seat() -> Seat {
        Seat { cluster: ClusterId::from_random(1), member: MemberId::new(3) }
    }

    fn volume() -> (tempfile::TempDir, Arc<DiskVolume>) {
        let directory = tempfile::tempdir().unwrap();
        let volume = DiskVolume::open(directory.path()).unwrap();
        (directory, volume)
    }

    #[test]
    fn an_empty_volume_gets_an_incarnation_that_is_there_after_a_restart() {
        let (_directory, volume) = volume();
        let drawn = Identity::load(&*volume, &name("a"), &FixedClock).unwrap();
        assert_eq!(drawn.incarnation, Incarnation::from_random(0xfeed));
        assert_eq!(read_whole(&*volume, IDENTITY_FILE).unwrap().unwrap(), seal(IDENTITY_FILE, &drawn));
        assert_eq!(Identity::load(&*volume, &name("a"), &FixedClock).unwrap(), drawn);
    }

    #[test]
    fn every_place_is_read_back() {
        let node = MemberNode { name: "a".to_owned(), address: "a:1".to_owned(), incarnation: "0".repeat(32) };
        let assignment =
            Assignment { seat: seat(), founder: MemberId::new(1), roster: [(MemberId::new(3), node)].into() };
        for place in [Place::Nowhere, Place::Prepared(assignment), Place::Done(seat())] {
            let identity = Identity { name: name("a"), incarnation: Incarnation::from_random(5), place };
            assert_eq!(Identity::from_bytes(identity.to_bytes()), Ok(identity));
        }
    }

    #[test]
    fn a_volume_of_another_member_is_refused_with_both_names() {
        let (_directory, volume) = volume();
        Identity::load(&*volume, &name("a"), &FixedClock).unwrap();
        let error = Identity::load(&*volume, &name("b"), &FixedClock).unwrap_err().to_string();
        assert!(error.contains("belongs to a ") && error.contains("not to b"), "{error}");
    }

    #[test]
    fn a_volume_that_lost_one_of_its_files_is_refused() {
        let (_directory, volume) = volume();
        let drawn = Identity::load(&*volume, &name("a"), &FixedClock).unwrap();
        Identity { place: Place::Done(seat()), ..drawn }.store(&*volume).unwrap();
        let error = Identity::load(&*volume, &name("a"), &FixedClock).unwrap_err();
        assert!(matches!(error, IdentityError::Emptied { .. }), "{error}");
        volume.create(LOG_FILE).unwrap().sync().unwrap();
        assert!(Identity::load(&*volume, &name("a"), &FixedClock).is_ok());
        volume.remove(IDENTITY_FILE).unwrap();
        let error = Identity::load(&*volume, &name("a"), &FixedClock).unwrap_err();
        assert!(matches!(error, IdentityError::Orphaned), "{error}");
    }
}
