//! What clients asked for and what they were told, in an order that everybody agrees on.
//!
//! An operation is unknown from the moment it begins until a reply says otherwise: whoever forgets to end one, gives up or
//! dies leaves it unknown, which is never wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A point in the history; only the order means something.
pub type Moment = usize;

/// What identifies a written value; no two puts of a history write the same.
pub type ValueId = u64;

/// A revision as a client saw it.
pub type SeenRevision = u64;

/// What a client asks of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Put { value: ValueId, only_if: Condition },
    Delete { only_if: Condition },
    Get,
}

impl Call {
    /// The value that it writes.
    pub fn value(self) -> Option<ValueId> {
        match self {
            Self::Put { value, .. } => Some(value),
            Self::Delete { .. } | Self::Get => None,
        }
    }
}

/// What a client requires of the key before it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    Always,
    Absent,
    Present,
    ModifiedAt(SeenRevision),
}

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Put {
        revision: SeenRevision,
    },
    Deleted {
        existed: bool,
        revision: SeenRevision,
    },
    /// The condition did not hold; the key was last changed then, or did not exist.
    Mismatch {
        current: Option<SeenRevision>,
    },
    Got(Option<Seen>),
    /// Nothing was heard, or that nobody knows.
    Unknown,
}

/// A key as a client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub value: ValueId,
    pub revision: SeenRevision,
}

/// One call and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub client: usize,
    pub key: String,
    pub call: Call,
    pub invoked: Moment,
    /// `None` while unknown: it may take effect until the end of the history.
    pub returned: Option<Moment>,
    pub reply: Reply,
}

/// Collects operations of many clients. Clones share one history.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    now: Moment,
    operations: BTreeMap<Moment, Operation>,
}

impl Recorder {
    /// Notes that `client` is about to ask for `call`.
    #[must_use]
    pub fn begin(&self, client: usize, key: &str, call: Call) -> Pending {
        let mut inner = self.inner.lock().unwrap();
        let invoked = inner.tick();
        let operation = Operation { client, key: key.to_owned(), call, invoked, returned: None, reply: Reply::Unknown };
        inner.operations.insert(invoked, operation);
        Pending { invoked, recorder: self.clone() }
    }

    /// Everything so far, in the order of the calls.
    pub fn operations(&self) -> Vec<Operation> {
        self.inner.lock().unwrap().operations.values().cloned().collect()
    }
}

impl Inner {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }
}

/// An operation that has begun. Dropping it leaves the operation unknown.
#[derive(Debug)]
pub struct Pending {
    invoked: Moment,
    recorder: Recorder,
}

impl Pending {
    /// Notes what the client was told.
    pub fn end(self, reply: Reply) {
        let mut inner = self.recorder.inner.lock().unwrap();
        let now = inner.tick();
        let operation = inner.operations.get_mut(&self.invoked).expect("it was inserted when it began");
        operation.returned = (reply != Reply::Unknown).then_some(now);
        operation.reply = reply;
    }

    /// Notes that the client was told that it certainly did not happen and never will; seeing its value from now on is a
    /// violation.
    pub fn never_happened(self) {
        self.recorder.inner.lock().unwrap().operations.remove(&self.invoked);
    }
}

/// The operations of each key; linearizability is checked one key at a time.
pub fn by_key(operations: &[Operation]) -> BTreeMap<&str, Vec<&Operation>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for operation in operations {
        keys.entry(operation.key.as_str()).or_default().push(operation);
    }
    keys
}
