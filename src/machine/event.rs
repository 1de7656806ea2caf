//! What happened: told to everybody who watches, in order, none twice, none missing.

use std::sync::Arc;

use bytes::Bytes;

use super::command::{ConfigId, MemberRecord};
use super::config::ConfigRecord;
use super::outcome::KeyMeta;
use crate::types::{Key, Leadership, MemberId, Revision, Term, Timestamp};

/// All changes of one revision, in the order in which they were made. Never empty: a revision is counted only for a
/// command that changed something, so revisions have no gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    pub at: Timestamp,
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    KeyPut { key: Key, meta: KeyMeta, value: Bytes },
    KeyDeleted { key: Key },
    ConfigPut { config: ConfigId, record: Arc<ConfigRecord> },
    ConfigDeleted { config: ConfigId },
    LeadershipBegun { leadership: Leadership, member: MemberId, term: Term },
    MemberAnnounced { member: MemberId, record: MemberRecord },
    ClusterFounded,
    Compacted { through: Revision },
}
