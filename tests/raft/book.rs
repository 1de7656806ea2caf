//! A registry to test with: what stands in it, and when it does not answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::FutureExt;
use futures::future::{BoxFuture, pending};
use quorate::raft::{Beginning, ClusterRegistry, Known, Recorded, RegistryError};
use quorate::types::{ClusterId, MemberName};

use crate::cluster::name;

/// Clones share one book.
#[derive(Clone, Default)]
pub struct Book {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    known: Known,
    trouble: Option<Trouble>,
    looks: u64,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It answers nothing but an error.
    Away,
    /// Whoever wants to record something waits for ever, and nothing is recorded.
    StuckBefore,
    /// The same, but it is recorded.
    StuckAfter,
}

impl Book {
    /// Empty, and it knows these members.
    pub fn of(members: &BTreeMap<MemberName, String>) -> Self {
        let book = Self::default();
        book.inner().known.others = members.clone();
        book
    }

    pub fn recorded(&self) -> Option<ClusterId> {
        self.inner().known.recorded.clone()
    }

    pub fn write(&self, cluster: Option<ClusterId>) {
        self.inner().known.recorded = cluster;
    }

    pub fn volumes(&self, names: &[&str]) {
        self.inner().known.other_volumes = names.iter().map(|&name| name.to_owned()).collect();
    }

    pub fn trouble(&self, trouble: Option<Trouble>) {
        self.inner().trouble = trouble;
    }

    /// How often it was asked.
    pub fn looks(&self) -> u64 {
        self.inner().looks
    }

    /// How a member of this cluster begins, the first by name being the founder.
    pub fn beginning(&self, member: &str) -> Beginning {
        let others = self.inner().known.others.clone();
        let (founder, address) = (others.keys().next().unwrap().clone(), others[&name(member)].clone());
        Beginning::Registered { registry: Arc::new(self.clone()), address, founder }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl ClusterRegistry for Book {
    fn place(&self) -> String {
        "the book".to_owned()
    }

    fn look(&self) -> BoxFuture<'_, Result<Known, RegistryError>> {
        let mut inner = self.inner();
        inner.looks += 1;
        let known = match inner.trouble {
            Some(Trouble::Away) => Err(RegistryError("the book is away".to_owned())),
            Some(Trouble::StuckBefore | Trouble::StuckAfter) | None => Ok(inner.known.clone()),
        };
        async move { known }.boxed()
    }

    fn record<'a>(&'a self, cluster: &'a ClusterId) -> BoxFuture<'a, Result<Recorded, RegistryError>> {
        let mut inner = self.inner();
        let trouble = inner.trouble;
        match trouble {
            Some(Trouble::Away) => {
                return async { Err(RegistryError("the book is away".to_owned())) }.boxed();
            }
            Some(Trouble::StuckBefore) => return pending().boxed(),
            Some(Trouble::StuckAfter) | None => {}
        }
        let recorded = inner.known.recorded.get_or_insert_with(|| cluster.clone()).clone();
        drop(inner);
        if trouble == Some(Trouble::StuckAfter) {
            return pending().boxed();
        }
        let recorded = if recorded == *cluster { Recorded::AsAsked } else { Recorded::Other(recorded) };
        async move { Ok(recorded) }.boxed()
    }
}
