//! Which changes a subscriber wants.

use crate::machine::command::ConfigId;
use crate::machine::event::Change;
use crate::machine::keys::KeyRange;

/// One kind of change, or those of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    Keys(KeyRange),
    Config(ConfigId),
    /// Every config of every namespace.
    Configs,
    /// Who leads the Raft cluster.
    Leadership,
}

impl Filter {
    /// Whether the subscriber wants `change`.
    pub fn wants(&self, change: &Change) -> bool {
        match (self, change) {
            (Self::Keys(range), Change::KeyPut { key, .. } | Change::KeyDeleted { key }) => range.contains(key),
            (Self::Config(id), Change::ConfigPut { config, .. } | Change::ConfigDeleted { config }) => config == id,
            (Self::Configs, Change::ConfigPut { .. } | Change::ConfigDeleted { .. })
            | (Self::Leadership, Change::LeadershipBegun { .. }) => true,
            (Self::Keys(_) | Self::Config(_) | Self::Configs | Self::Leadership, _) => false,
        }
    }
}
