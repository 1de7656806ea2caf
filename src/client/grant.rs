//! What a session wins: the leadership of an election, or a lock.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use reqwest::Method;
use tokio::time::Instant;

use super::send::Request;
use super::session::Session;
use super::{Answer, Client, ClientError, Patience};
use crate::api::wire::{self, FenceKind, ReleaseCause};
use crate::types::{ContestName, Namespace};

/// One question of a long wait is as long as this; a member that dies meanwhile is missed for no longer.
const ASK: Duration = Duration::from_secs(5);

/// How long a member may take for what needs no waiting.
const ANSWER: Duration = Duration::from_secs(2);

/// How a candidate wants to lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidacy {
    /// What it calls itself, for people.
    pub name: Option<String>,
    /// The greater leads first.
    pub priority: i32,
    pub metadata: BTreeMap<String, String>,
}

/// What is wanted of a lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LockWish {
    pub mode: Option<wire::LockMode>,
    /// Permits of a semaphore, instead of a mode.
    pub permits: Option<u32>,
    /// How many permits the semaphore has.
    pub capacity: Option<u32>,
}

/// The leadership of an election, or a lock, for as long as its session lives and it is not taken away.
#[derive(Debug)]
pub struct Grant {
    session: Session,
    fence: wire::Fence,
    /// What was heard of before says nothing about it.
    since: Instant,
}

/// Why there is no grant.
#[derive(Debug)]
pub enum NotGranted {
    /// The session is over, for this reason.
    Over(String),
    /// The cluster refuses it.
    Refused(ClientError),
}

impl fmt::Display for NotGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Over(why) => write!(f, "the session is over: {why}"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl Session {
    /// Campaigns in an election until it leads.
    ///
    /// # Errors
    /// When the session is over, or the campaign is refused.
    pub async fn campaign(
        &self,
        namespace: &Namespace,
        name: &ContestName,
        candidacy: &Candidacy,
    ) -> Result<Grant, NotGranted> {
        let body = |wait_ms| wire::Campaign {
            session: self.name().to_owned(),
            candidate: candidacy.name.clone(),
            priority: candidacy.priority,
            wait_ms,
            release_on_disconnect: false,
            metadata: candidacy.metadata.clone(),
        };
        let request = |wait| {
            Request::new(Method::POST, &path(FenceKind::Election, namespace, name, "campaign")).json(&body(wait))
        };
        self.wait_for(FenceKind::Election, namespace, name, request).await
    }

    /// Takes a lock if nobody is in the way.
    ///
    /// # Errors
    /// When somebody is, or the cluster cannot do it.
    pub async fn try_lock(
        &self,
        namespace: &Namespace,
        name: &ContestName,
        wish: LockWish,
    ) -> Result<Grant, ClientError> {
        let request = self.acquire(namespace, name, wish, 0);
        let granted = self.client.send::<wire::Granted>(request).await?;
        Ok(self.won(FenceKind::Lock, namespace, name, &granted))
    }

    /// Waits in the queue of a lock until it has it.
    ///
    /// # Errors
    /// When the session is over, or what is wanted is refused.
    pub async fn lock(&self, namespace: &Namespace, name: &ContestName, wish: LockWish) -> Result<Grant, NotGranted> {
        let request = |wait| self.acquire(namespace, name, wish, wait);
        self.wait_for(FenceKind::Lock, namespace, name, request).await
    }

    fn acquire(&self, namespace: &Namespace, name: &ContestName, wish: LockWish, wait_ms: u64) -> Request {
        let LockWish { mode, permits, capacity } = wish;
        let body = wire::Acquire { session: self.name().to_owned(), wait_ms, mode, permits, capacity };
        Request::new(Method::POST, &path(FenceKind::Lock, namespace, name, "acquire")).json(&body)
    }

    /// Asks again and again, since a place in the queue is kept.
    async fn wait_for(
        &self,
        kind: FenceKind,
        namespace: &Namespace,
        name: &ContestName,
        request: impl Fn(u64) -> Request,
    ) -> Result<Grant, NotGranted> {
        let client = self.client.with_patience(Patience::Once(ASK + ANSWER));
        let wait_ms = u64::try_from(ASK.as_millis()).unwrap_or(u64::MAX);
        let mut failures = 0;
        loop {
            let asked = tokio::select! {
                biased;
                why = self.over() => return Err(NotGranted::Over(why)),
                asked = client.send::<wire::Granted>(request(wait_ms)) => asked,
            };
            match asked {
                Ok(granted) => return Ok(self.won(kind, namespace, name, &granted)),
                Err(error) if error.is_still_waiting() => failures = 0,
                Err(error) if error.retry_after().is_some() => {
                    failures += 1;
                    client.prefer_another(failures, PAUSE).await;
                }
                Err(error) => return Err(NotGranted::Refused(error)),
            }
        }
    }

    fn won(
        &self,
        kind: FenceKind,
        namespace: &Namespace,
        name: &ContestName,
        granted: &Answer<wire::Granted>,
    ) -> Grant {
        let fencing_token = granted.body.fencing_token;
        let fence = wire::Fence { kind, namespace: namespace.to_string(), name: name.to_string(), fencing_token };
        Grant { session: self.clone(), fence, since: Instant::now() }
    }
}

/// Before the members are asked again, when none of them could answer.
const PAUSE: Duration = Duration::from_millis(50);

impl Grant {
    /// Greater than that of every grant before it: for whatever is to be protected.
    pub fn fencing_token(&self) -> u64 {
        self.fence.fencing_token
    }

    /// Whether its holder may act on it now. Asks nobody; false from the deadline on, and from when the loss is known.
    pub fn is_valid(&self) -> bool {
        self.session.is_valid() && self.loss(&self.session.life()).is_none()
    }

    /// Until when its holder may act on it, unless the loss becomes known before.
    pub fn valid_until(&self) -> Instant {
        self.session.valid_until()
    }

    /// Waits until it is lost; why.
    pub async fn lost(&self) -> String {
        self.session.over_or(|life| self.loss(life)).await
    }

    fn loss(&self, life: &super::session::Life) -> Option<String> {
        let is_held = life.heard <= self.since || life.holds.contains(&self.fence);
        (!is_held).then(|| "it was given up, or taken away".to_owned())
    }

    /// Gives it up; the next one in the queue gets it in the same commit. The session lives on.
    ///
    /// # Errors
    /// When it is not held any more, or the cluster cannot say in the client's patience: then it may still come about, and
    /// the session should be ended rather than used again.
    pub async fn release(self, cause: ReleaseCause) -> Result<(), ClientError> {
        let wire::Fence { kind, namespace, name, fencing_token } = &self.fence;
        let verb = match kind {
            FenceKind::Election => "resign",
            FenceKind::Lock => "release",
        };
        let session = self.session.name().to_owned();
        let body = wire::Release { session, fencing_token: Some(*fencing_token), cause };
        let request = Request::new(Method::POST, &path(*kind, namespace, name, verb)).json(&body);
        self.session.client.send::<wire::Released>(request).await.map(drop)
    }
}

impl Client {
    /// An election as it is.
    ///
    /// # Errors
    /// When it was never used, or nobody can say.
    pub async fn election(
        &self,
        namespace: &Namespace,
        name: &ContestName,
    ) -> Result<Answer<wire::Election>, ClientError> {
        self.get(&format!("/v1/elections/{namespace}/{name}"), &[]).await
    }

    /// A lock as it is.
    ///
    /// # Errors
    /// When nobody can say.
    pub async fn lock_state(
        &self,
        namespace: &Namespace,
        name: &ContestName,
    ) -> Result<Answer<wire::Lock>, ClientError> {
        self.get(&format!("/v1/locks/{namespace}/{name}"), &[]).await
    }
}

fn path(kind: FenceKind, namespace: &impl fmt::Display, name: &impl fmt::Display, verb: &str) -> String {
    let kind = match kind {
        FenceKind::Election => "elections",
        FenceKind::Lock => "locks",
    };
    format!("/v1/{kind}/{namespace}/{name}/{verb}")
}

#[cfg(test)]
mod tests {
    use super::super::session::tests::session;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_grant_is_lost_when_a_later_sign_of_life_does_not_find_it() {
        let (session, told) = session(Duration::from_secs(3));
        let fence = wire::Fence {
            kind: FenceKind::Lock,
            namespace: "default".to_owned(),
            name: "disk".to_owned(),
            fencing_token: 7,
        };
        let grant = Grant { session, fence: fence.clone(), since: Instant::now() };
        // A sign of life that was sent before the grant came knows nothing of it.
        told.send_modify(|life| life.holds = vec![]);
        assert!(grant.is_valid());
        tokio::time::sleep(Duration::from_secs(1)).await;
        told.send_modify(|life| (life.heard, life.holds) = (Instant::now(), vec![fence.clone()]));
        assert!(grant.is_valid());
        let newer = wire::Fence { fencing_token: 8, ..fence };
        told.send_modify(|life| life.holds = vec![newer]);
        assert!(!grant.is_valid());
        assert_eq!(grant.lost().await, "it was given up, or taken away");
    }
}
