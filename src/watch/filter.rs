//! Which changes a subscriber wants.

use crate::machine::command::{ConfigId, ContestId};
use crate::machine::event::Change;
use crate::machine::keys::KeyRange;

/// One kind of change, or those of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    Keys(KeyRange),
    Config(ConfigId),
    /// Every config of every namespace.
    Configs,
    /// Who gets an election or a lock, and who loses it.
    Grants(ContestId),
    /// Every claim of every session.
    Claims,
    /// Who leads the Raft cluster.
    Leadership,
}

impl Filter {
    /// Whether the subscriber wants `change`.
    pub fn wants(&self, change: &Change) -> bool {
        match (self, change) {
            (Self::Keys(range), Change::KeyPut { key, .. } | Change::KeyDeleted { key }) => range.contains(key),
            (Self::Config(id), Change::ConfigPut { config, .. } | Change::ConfigDeleted { config }) => config == id,
            (Self::Grants(id), Change::Granted { contest, .. } | Change::Lost { contest, .. }) => contest == id,
            (
                Self::Claims,
                Change::SessionEnded { .. } | Change::Granted { .. } | Change::Lost { .. } | Change::Withdrawn { .. },
            )
            | (Self::Configs, Change::ConfigPut { .. } | Change::ConfigDeleted { .. })
            | (Self::Leadership, Change::LeadershipBegun { .. }) => true,
            (
                Self::Keys(_) | Self::Config(_) | Self::Configs | Self::Grants(_) | Self::Claims | Self::Leadership,
                _,
            ) => false,
        }
    }
}
