//! Who a member is, kept on its volume: drawn before anything else, and never guessed.
//!
//! The file `identity` is one sealed record (see `record.rs`), written atomically. It is read before the log is opened; a
//! volume of another member, or one that has lost its log, is refused with a sentence. A member that lost its whole volume
//! has a new incarnation and no place, so it can neither vote for the old one nor found a second cluster.
//!
//! Each start begins a new life of the volume (see [`Life`]), which is durable before anybody hears of it; so a copy of the
//! volume can be told from the volume itself (see `standing.rs`). A member that was removed is marked so, and its volume is
//! cleared at the next start (see `retiring.rs`).

use std::io;

use thiserror::Error;

use super::clock::Clock;
use super::founding::{Assignment, Stage};
use super::log_store::LOG_FILE;
use super::record::{Damaged, seal, unseal};
use super::retiring::set_aside;
use super::transport::{Introduction, Seat};
use super::volume::{Volume, read_whole, write_atomically};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::types::{ClusterId, Incarnation, Life, MemberId, MemberName};

/// The file's name on the volume, and the name under which its record is sealed.
pub const IDENTITY_FILE: &str = "identity";

/// Lives that a volume remembers of which it does not know that a cluster has recorded them. Each is a start without a Raft
/// leader; with more of them than anybody waits for, the newest are the ones to forget, for none of them was recorded.
const LIVES: usize = 64;

/// Why a volume cannot be this member's.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error(
        "cannot use the file {IDENTITY_FILE} of the data directory: {0}; it must be readable and writable by this user"
    )]
    Volume(#[from] io::Error),
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error("this volume belongs to {found} and not to {name}; check which data directory is mounted where")]
    Foreign { found: Box<Introduction>, name: MemberName },
    #[error(
        "this volume belongs to {found}, but its log ({LOG_FILE}) is gone, so it could vote twice; \
         empty the whole volume, so that it joins as a new member"
    )]
    Emptied { found: Box<Introduction> },
    #[error(
        "this volume has a log ({LOG_FILE}) but no file {IDENTITY_FILE}, so nobody knows whose it is; \
         empty the whole volume, so that it joins as a new member"
    )]
    Orphaned,
}

impl IdentityError {
    /// Whether the volume can be read, but is not what this member should have: people must look at what is mounted where.
    pub(super) fn is_about_whose_it_is(&self) -> bool {
        match self {
            Self::Foreign { .. } | Self::Emptied { .. } | Self::Orphaned => true,
            Self::Volume(_) | Self::Damaged(_) => false,
        }
    }
}

/// What a member knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: MemberName,
    pub incarnation: Incarnation,
    pub place: Place,
    /// The lives of the volume since the last one of which it knows that it was recorded, that one included; the present one
    /// is the last.
    pub lives: Vec<Life>,
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
    /// Removed from a cluster: what the volume holds is set aside at the next start.
    Retired(Seat),
}

impl Identity {
    /// The member's seat, once it has one.
    pub fn seat(&self) -> Option<&Seat> {
        match &self.place {
            Place::Nowhere => None,
            Place::Prepared(assignment) => Some(&assignment.seat),
            Place::Done(seat) | Place::Retired(seat) => Some(seat),
        }
    }

    /// How far the member is in being founded.
    pub fn stage(&self) -> Stage {
        match &self.place {
            Place::Nowhere => Stage::Empty,
            Place::Prepared(_) => Stage::Assigned,
            Place::Done(_) | Place::Retired(_) => Stage::Founded,
        }
    }

    /// What the member says to others.
    pub fn introduction(&self) -> Introduction {
        Introduction {
            name: self.name.clone(),
            incarnation: self.incarnation.clone(),
            seat: self.seat().cloned(),
            life: self.life(),
        }
    }

    /// The present life.
    pub fn life(&self) -> Option<Life> {
        self.lives.last().copied()
    }

    /// The lives before the present one.
    pub fn before(&self) -> &[Life] {
        self.lives.split_last().map_or(&[], |(_, before)| before)
    }

    /// The same volume in its next life.
    fn reborn(mut self, clock: &dyn Clock) -> Self {
        let number = self.life().map_or(1, |life| life.number + 1);
        self.lives.truncate(LIVES - 1);
        self.lives.push(Life { number, token: clock.random() });
        self
    }

    /// Reads the identity of `name` from its volume, or draws one for an empty volume, and begins a new life, durably. What a
    /// removed member has left is set aside first. Blocks on the disk.
    ///
    /// # Errors
    /// When the volume is damaged, or not this member's.
    pub fn load(volume: &dyn Volume, name: &MemberName, clock: &dyn Clock) -> Result<Self, IdentityError> {
        Self::clear(volume)?;
        let has_log = volume.open(LOG_FILE)?.is_some();
        let Some(record) = read_whole(volume, IDENTITY_FILE)? else {
            if has_log {
                return Err(IdentityError::Orphaned);
            }
            let incarnation = Incarnation::from_random(clock.random());
            let identity = Self { name: name.clone(), incarnation, place: Place::Nowhere, lives: Vec::new() };
            let identity = identity.reborn(clock);
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
        let identity = identity.reborn(clock);
        identity.store(volume)?;
        Ok(identity)
    }

    /// Sets aside what a removed member has left.
    fn clear(volume: &dyn Volume) -> Result<(), IdentityError> {
        let Some(record) = read_whole(volume, IDENTITY_FILE)? else { return Ok(()) };
        let identity: Self = unseal(IDENTITY_FILE, &record)?;
        match &identity.place {
            Place::Nowhere | Place::Prepared(_) | Place::Done(_) => Ok(()),
            Place::Retired(seat) => {
                let directory = set_aside(volume, seat.member, IDENTITY_FILE)?;
                tracing::info!(member = %seat.member, cluster = %seat.cluster, directory, "set aside the data of a removed member");
                Ok(())
            }
        }
    }

    /// An identity for a volume that cannot be used: it has no place, and what it says of itself is true of nothing else.
    pub fn stranger(name: &MemberName, clock: &dyn Clock) -> Self {
        let incarnation = Incarnation::from_random(clock.random());
        Self { name: name.clone(), incarnation, place: Place::Nowhere, lives: Vec::new() }
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
            Place::Retired(seat) => writer.message(5, seat),
        }
        self.lives.iter().for_each(|life| writer.message(6, life));
    }
}

impl Decode for Identity {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut name, mut incarnation, mut places, mut lives) = (None, None, Vec::new(), Vec::new());
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => name = Some(value.parse()?),
                2 => incarnation = Some(value.parse()?),
                3 => places.push(Place::Prepared(value.message()?)),
                4 => places.push(Place::Done(value.message()?)),
                5 => places.push(Place::Retired(value.message()?)),
                6 => lives.push(value.message()?),
                _ => {}
            }
        }
        let place = places.pop().unwrap_or(Place::Nowhere);
        if !places.is_empty() {
            return Err(DecodeError::new("an identity has more than one place"));
        }
        let (name, incarnation) = (required(name, "name")?, required(incarnation, "incarnation")?);
        Ok(Self { name, incarnation, place, lives })
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
        let again = Identity::load(&*volume, &name("a"), &FixedClock).unwrap();
        assert_eq!((&again.incarnation, &again.place), (&drawn.incarnation, &drawn.place));
    }

    #[test]
    fn each_start_begins_a_life_and_remembers_those_that_may_be_recorded() {
        let (_directory, volume) = volume();
        let load = || Identity::load(&*volume, &name("a"), &FixedClock).unwrap();
        let numbers = |identity: &Identity| identity.lives.iter().map(|life| life.number).collect::<Vec<_>>();
        assert_eq!(numbers(&load()), [1]);
        assert_eq!(numbers(&load()), [1, 2]);
        let third = load();
        assert_eq!((third.life().unwrap().number, third.before().len()), (3, 2));
        Identity { lives: vec![third.life().unwrap()], ..third }.store(&*volume).unwrap();
        assert_eq!(numbers(&load()), [3, 4]);
        for _ in 0..2 * LIVES {
            load();
        }
        let last = load();
        assert_eq!((last.lives[0].number, last.lives.len()), (3, LIVES), "the one that is recorded is kept");
    }

    #[test]
    fn the_volume_of_a_removed_member_is_set_aside_and_another_identity_is_drawn() {
        let (directory, volume) = volume();
        let drawn = Identity::load(&*volume, &name("a"), &FixedClock).unwrap();
        volume.create(LOG_FILE).unwrap().sync().unwrap();
        Identity { place: Place::Retired(seat()), ..drawn }.store(&*volume).unwrap();
        let next = Identity::load(&*volume, &name("a"), &FixedClock).unwrap();
        assert_eq!((&next.place, next.life().unwrap().number), (&Place::Nowhere, 1));
        assert!(directory.path().join("retired-3").join(LOG_FILE).exists());
        assert!(directory.path().join("retired-3").join(IDENTITY_FILE).exists());
        assert!(!directory.path().join(LOG_FILE).exists());
    }

    #[test]
    fn every_place_is_read_back() {
        let node = MemberNode { name: "a".to_owned(), address: "a:1".to_owned(), incarnation: "0".repeat(32) };
        let assignment =
            Assignment { seat: seat(), founder: MemberId::new(1), roster: [(MemberId::new(3), node)].into() };
        let places = [Place::Nowhere, Place::Prepared(assignment), Place::Done(seat()), Place::Retired(seat())];
        for place in places {
            let lives = vec![Life { number: 4, token: 5 }, Life { number: 5, token: 6 }];
            let identity = Identity { name: name("a"), incarnation: Incarnation::from_random(5), place, lives };
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
