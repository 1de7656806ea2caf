//! What a benchmark asks of whoever keeps keys and grants elections and locks.

use std::time::Duration;

use bytes::Bytes;

/// Which state a read may be answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// One that holds every write that was acknowledged before the read began.
    Linearizable,
    /// That of whoever is asked.
    Stale,
}

/// A client with a connection of its own.
pub trait Peer: Sized + Send {
    /// What keeps a holder alive: a session, a lease.
    type Session: Clone + Send + Sync;
    /// What was granted, as it must be named to give it up.
    type Grant: Send;
    type Changes: Changes;

    /// Connects to one member.
    fn connect(url: &str) -> impl Future<Output = anyhow::Result<Self>> + Send;

    async fn begin_session(&mut self, ttl: Duration) -> anyhow::Result<Self::Session>;

    /// Keeps sessions alive, all of them in as few exchanges as it can.
    async fn keep_alive(&mut self, sessions: &[Self::Session]) -> anyhow::Result<()>;

    /// Waits until the lock is held.
    async fn lock(&mut self, name: &str, session: &Self::Session) -> anyhow::Result<Self::Grant>;

    async fn unlock(&mut self, name: &str, session: &Self::Session, grant: Self::Grant) -> anyhow::Result<()>;

    /// Waits until the election is won.
    fn campaign(
        &mut self,
        name: &str,
        session: &Self::Session,
    ) -> impl Future<Output = anyhow::Result<Self::Grant>> + Send;

    async fn resign(&mut self, name: &str, session: &Self::Session, grant: Self::Grant) -> anyhow::Result<()>;

    /// Writes a key, until that is acknowledged.
    fn put(&mut self, key: &str, value: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;

    async fn get(&mut self, key: &str, freshness: Freshness) -> anyhow::Result<Bytes>;

    /// Follows a key from now on, over this client's connection.
    async fn watch(self, key: &str) -> anyhow::Result<Self::Changes>;
}

/// A key that is followed.
pub trait Changes: Send {
    /// Waits for the next change.
    async fn next(&mut self) -> anyhow::Result<()>;
}
