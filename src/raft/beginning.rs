//! How a cluster begins: by its members together, or by one of them, which something outside of all volumes allows.
//!
//! A member alone cannot tell the first start of a cluster from one at which all volumes but its own are away, or its own
//! was emptied. So whoever founds alone asks a [`ClusterRegistry`] first, which remembers that there is a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use thiserror::Error;

use crate::types::{ClusterId, MemberName};

/// How a cluster begins, and where a member without a place finds the others.
#[derive(Clone)]
pub enum Beginning {
    /// These members found a cluster together, each with the `host:port` of its member port, once all of them have said
    /// that their volumes are empty.
    Together(BTreeMap<MemberName, String>),
    /// One member founds alone, and the others join it.
    Registered {
        registry: Arc<dyn ClusterRegistry>,
        /// `host:port` of this member's member port, as others reach it.
        address: String,
        /// The only member that may found.
        founder: MemberName,
    },
}

impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Together(members) => f.debug_tuple("Together").field(members).finish(),
            Self::Registered { registry: _, address, founder } => {
                f.debug_struct("Registered").field("address", address).field("founder", founder).finish_non_exhaustive()
            }
        }
    }
}

/// What is known of a cluster outside of its members' volumes. It may be away: then a member whose volume knows of no
/// cluster waits and asks again, and never founds; a member that has a place on its volume does not ask at all.
///
/// Each call is given up after some seconds, by dropping it.
pub trait ClusterRegistry: Send + Sync + 'static {
    /// Where the id is recorded, for people, such as `status.clusterId of QuorateCluster NAMESPACE/NAME`.
    fn place(&self) -> String;

    /// What is known now. Nothing is changed.
    fn look(&self) -> BoxFuture<'_, Result<Known, RegistryError>>;

    /// Records the id of a new cluster, if none is recorded: at most one of several callers gets [`Recorded::AsAsked`] for an
    /// id of its own. From then on no other id is recorded, unless a person removes this one.
    fn record<'a>(&'a self, cluster: &'a ClusterId) -> BoxFuture<'a, Result<Recorded, RegistryError>>;
}

/// What a registry knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The id of the cluster that was founded, or is being founded.
    pub recorded: Option<ClusterId>,
    /// Volumes of the set's other members, as a person finds them; there may be a cluster on them.
    pub other_volumes: Vec<String>,
    /// Other members that there may be, each with the `host:port` of its member port. Not every one need exist.
    pub others: BTreeMap<MemberName, String>,
}

/// What is recorded after a call of [`ClusterRegistry::record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// The id that it was called with, by this call or by one before.
    AsAsked,
    /// Another one, which stays.
    Other(ClusterId),
}

/// A registry did not answer, or what it has makes no sense; the text says why, and what to do. Whether an id was
/// recorded is then not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct RegistryError(pub String);
