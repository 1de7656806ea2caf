//! What a removed member leaves on its volume: it is set aside, and the volume is as good as empty.
//!
//! A member learns from the Raft leader that it was removed (see `standing.rs`). It marks its identity, durably, and ends; at
//! the next start its files go into a directory `retired-ID`, one after the other and the identity last, each move durable
//! before the next. So a crash at any step goes on where it was, and at no time is there a log without the identity that
//! says whose it is.
//!
//! Only the newest such directory is kept: nothing in it is needed by anybody, and the next one must find room.

use std::io;

use super::volume::Volume;
use crate::types::MemberId;

/// How the directories begin.
const PREFIX: &str = "retired-";

/// Moves every file into the directory of that member, `last` the last of all; returns the directory's name. Blocks on the disk.
pub(super) fn set_aside(volume: &dyn Volume, member: MemberId, last: &str) -> io::Result<String> {
    let directory = format!("{PREFIX}{member}");
    for former in volume.directories()? {
        if former.starts_with(PREFIX) && former != directory {
            volume.remove_directory(&former)?;
        }
    }
    for name in volume.names()?.iter().filter(|name| *name != last) {
        volume.set_aside(name, &directory)?;
    }
    volume.set_aside(last, &directory)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::tests::memory_volume::MemoryVolume;
    use crate::raft::volume::write_atomically;

    fn written(names: &[&str]) -> MemoryVolume {
        let volume = MemoryVolume::default();
        for name in names {
            write_atomically(&volume, name, name.as_bytes()).unwrap();
        }
        volume
    }

    #[test]
    fn the_power_may_fail_at_any_step_and_the_rest_is_set_aside_at_the_next_start() {
        for steps in 1..20 {
            let volume = written(&["identity", "log.redb", "snapshot-1"]);
            volume.fail_after(steps);
            let done = set_aside(&volume, MemberId::new(3), "identity").is_ok();
            for seed in 0..8 {
                let volume = volume.after_power_loss(seed);
                if volume.names().unwrap().is_empty() {
                    continue;
                }
                assert!(volume.names().unwrap().contains(&"identity".to_owned()), "the identity goes last");
                set_aside(&volume, MemberId::new(3), "identity").unwrap();
                assert_eq!(volume.names().unwrap(), Vec::<String>::new());
                assert_eq!(volume.bytes("retired-3/log.redb"), b"log.redb");
            }
            if done {
                return;
            }
        }
        panic!("it never comes to an end");
    }

    #[test]
    fn only_the_newest_directory_is_kept() {
        let volume = written(&["identity"]);
        set_aside(&volume, MemberId::new(3), "identity").unwrap();
        write_atomically(&volume, "identity", b"next").unwrap();
        set_aside(&volume, MemberId::new(5), "identity").unwrap();
        assert_eq!(volume.directories().unwrap(), ["retired-5"]);
    }
}
