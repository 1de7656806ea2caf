//! Whether there is room for more on a member's volume.
//!
//! Without room a member stops. So the Raft leader refuses in time what brings data of clients, as it does when the state is
//! nearly full; deletes, sessions, grants and changes of the membership go on. It judges by its own volume: those of the
//! others fill at the same pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::{IntGauge, Registry};

use super::Unavailable;
use super::volume::{Space, Volume, blocking};
use crate::machine::Machine;
use crate::machine::command::{Author, Command};

/// Between two looks at the volume. What comes in between fits into what is kept free.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// With so much free there is room, however large the volume: two snapshots of the largest state, and the log twice over.
const ENOUGH: u64 = 1 << 30;

/// What is known of the room on one volume.
#[derive(Debug)]
pub(super) struct Room {
    is_short: AtomicBool,
    free: IntGauge,
    total: IntGauge,
}

impl Room {
    /// Declares the metrics in `registry`; there is room until somebody has looked.
    ///
    /// # Errors
    /// When they are declared there already.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let room = Self {
            is_short: AtomicBool::new(false),
            free: IntGauge::new(
                "quorate_volume_free_bytes",
                "Bytes that can still be written to this member's volume.",
            )?,
            total: IntGauge::new(
                "quorate_volume_size_bytes",
                "Size of the file system that this member's volume is on.",
            )?,
        };
        registry.register(Box::new(room.free.clone()))?;
        registry.register(Box::new(room.total.clone()))?;
        Ok(room)
    }

    /// Looks again and again. Never ends.
    pub(super) async fn watch(&self, volume: Arc<dyn Volume>) {
        loop {
            let look = Arc::clone(&volume);
            match blocking(&*volume, move || look.space()).await {
                Ok(Ok(space)) => self.show(space),
                Ok(Err(error)) | Err(error) => tracing::debug!(%error, "the room on the volume is not known"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn show(&self, space: Space) {
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.free.set(gauge(space.free));
        self.total.set(gauge(space.total));
        let short = is_short(space);
        if self.is_short.swap(short, Ordering::AcqRel) != short {
            let Space { free, total } = space;
            match short {
                true => tracing::warn!(
                    free,
                    total,
                    "the volume is nearly full: make it larger; growth is refused until then"
                ),
                false => tracing::info!(free, total, "there is room on the volume again"),
            }
        }
    }

    /// Refuses a command that brings data of clients while there is no room for it. One that is sent again is let through: it
    /// changes nothing, and its sender must hear what has become of it.
    ///
    /// # Errors
    /// [`Unavailable::NoRoom`].
    pub(super) fn check(&self, command: &Command, state: &Machine) -> Result<(), Unavailable> {
        if !self.is_short.load(Ordering::Acquire) || !command.action.brings_data() {
            return Ok(());
        }
        match &command.author {
            Author::Client(Some(key)) if state.requests().knows(key) => Ok(()),
            Author::Client(_) | Author::Duty(_) | Author::Member => {
                let bytes = |gauge: &IntGauge| u64::try_from(gauge.get()).unwrap_or_default();
                Err(Unavailable::NoRoom { free: bytes(&self.free), total: bytes(&self.total) })
            }
        }
    }

    /// Whether anything is refused now.
    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Acquire)
    }
}

/// From nine tenths of a volume on, unless the rest is enough.
fn is_short(space: Space) -> bool {
    space.free < ENOUGH.min(space.total / 10)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::machine::Limits;
    use crate::machine::command::{Action, KeyCondition};
    use crate::types::{Key, LogIndex, Timestamp};

    const GIB: u64 = 1 << 30;

    fn room(free: u64, total: u64) -> Room {
        let room = Room::register(&Registry::new()).unwrap();
        room.show(Space { free, total });
        room
    }

    fn put(key: Option<&str>) -> Command {
        let author = Author::Client(key.map(|key| key.parse().unwrap()));
        let (key, value) = (Key::new("k").unwrap(), Bytes::from_static(b"v"));
        let action = Action::PutKey { key, value, session: None, only_if: KeyCondition::Always };
        Command { at: Timestamp::default(), author, action }
    }

    fn delete() -> Command {
        let action = Action::DeleteKey { key: Key::new("k").unwrap(), only_if: KeyCondition::Always };
        Command { at: Timestamp::default(), author: Author::Client(None), action }
    }

    #[test]
    fn there_is_no_room_from_nine_tenths_on_unless_a_gibibyte_is_free() {
        let cases = [
            (GIB / 6, 2 * GIB, true),
            (GIB / 4, 2 * GIB, false),
            (2 * GIB, 100 * GIB, false),
            (GIB - 1, 100 * GIB, true),
            (0, 0, false),
        ];
        for (free, total, expected) in cases {
            assert_eq!(is_short(Space { free, total }), expected, "{free} of {total}");
        }
    }

    #[test]
    fn without_room_only_what_brings_data_is_refused_and_no_retry() {
        let mut state = Machine::new(Limits::default());
        state.apply(LogIndex::new(1), &put(Some("known")));
        let full = room(GIB / 10, 2 * GIB);
        let refused = Unavailable::NoRoom { free: GIB / 10, total: 2 * GIB };
        assert_eq!(full.check(&put(None), &state), Err(refused.clone()));
        assert_eq!(full.check(&put(Some("new")), &state), Err(refused));
        assert_eq!(full.check(&put(Some("known")), &state), Ok(()));
        assert_eq!(full.check(&delete(), &state), Ok(()));
        full.show(Space { free: 2 * GIB, total: 4 * GIB });
        assert_eq!(full.check(&put(None), &state), Ok(()));
    }
}
