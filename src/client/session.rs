//! A session: kept alive in the background, and what its client may rely on without asking anybody.
//!
//! A deadline counts from before the request was sent, on the monotonic clock of this process. When it passes, the session is
//! over for its client, whatever the members think; it never becomes valid again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::send::Request;
use super::{Client, ClientError, Patience};
use crate::api::wire;

/// A session that is kept alive for as long as it, or a clone of it, or something that it holds is there. Then it is
/// silent, and ends after its TTL; [`Session::end`] ends it at once.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) client: Client,
    name: String,
    ttl: Duration,
    life: watch::Receiver<Life>,
    _keeper: Arc<AbortOnDropHandle<()>>,
}

/// What is known of a session.
#[derive(Debug, Clone)]
pub(super) struct Life {
    /// When the last sign of life was sent that was answered.
    pub(super) heard: Instant,
    pub(super) valid_until: Instant,
    /// What it held then.
    pub(super) holds: Vec<wire::Fence>,
    /// Why it has ended, once that is known.
    ended: Option<String>,
}

/// What is said of a session that nobody has heard of in time.
const SILENT: &str = "the deadline has passed: no member has confirmed it in time";

impl Client {
    /// Begins a session and keeps it alive. `client` is for people; `metadata` too.
    ///
    /// # Errors
    /// When the TTL or the metadata is not allowed, or the cluster cannot do it.
    pub async fn begin_session(
        &self,
        ttl: Duration,
        client: Option<String>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Session, ClientError> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let body = wire::CreateSession { ttl_ms, client, metadata };
        let sent = Instant::now();
        let created = self.send::<wire::SessionCreated>(Request::new(Method::POST, "/v1/sessions").json(&body)).await?;
        let wire::SessionCreated { session: name, ttl_ms, valid_for_ms } = created.body;
        let valid_until = sent + Duration::from_millis(valid_for_ms);
        let (told, life) = watch::channel(Life { heard: sent, valid_until, holds: Vec::new(), ended: None });
        let keeper = Keeper {
            client: self.clone(),
            path: format!("/v1/sessions/{name}/keepalive"),
            ttl: Duration::from_millis(ttl_ms),
            told,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the session, and there is nobody else to supervise it"
        )]
        let keeper = AbortOnDropHandle::new(tokio::spawn(keeper.keep()));
        let ttl = Duration::from_millis(ttl_ms);
        Ok(Session { client: self.clone(), name, ttl, life, _keeper: Arc::new(keeper) })
    }
}

impl Session {
    /// As the cluster calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether its client may act on it now. Asks nobody.
    pub fn is_valid(&self) -> bool {
        let life = self.life.borrow();
        life.ended.is_none() && Instant::now() < life.valid_until
    }

    /// Until when its client may act on it, unless a member says something else before.
    pub fn valid_until(&self) -> Instant {
        self.life.borrow().valid_until
    }

    /// The same session, with another patience for what is asked of it.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { client: self.client.with_patience(patience), ..self }
    }

    /// Waits until it is over; why.
    pub async fn over(&self) -> String {
        self.over_or(|_| None).await
    }

    /// Ends it, and with it everything that it holds, for that cause (`session-ended` or `client-exited`).
    ///
    /// # Errors
    /// When the cluster cannot do it; then it ends after its TTL.
    pub async fn end(self, cause: &str) -> Result<(), ClientError> {
        let request = Request::new(Method::DELETE, &format!("/v1/sessions/{}", self.name));
        self.client.send::<wire::Deleted>(request.query(&[("cause", cause.to_owned())])).await.map(drop)
    }

    /// Waits until it is over, or `look` finds something in what is newly known.
    pub(super) async fn over_or(&self, look: impl Fn(&Life) -> Option<String>) -> String {
        let mut life = self.life.clone();
        loop {
            let (found, valid_until) = {
                let now = life.borrow_and_update();
                (now.ended.clone().or_else(|| look(&now)), now.valid_until)
            };
            if let Some(why) = found {
                return why;
            }
            tokio::select! {
                biased;
                () = sleep_until(valid_until) => return SILENT.to_owned(),
                changed = life.changed() => if changed.is_err() { return SILENT.to_owned() },
            }
        }
    }

    pub(super) fn life(&self) -> watch::Ref<'_, Life> {
        self.life.borrow()
    }
}

/// Keeps one session alive.
struct Keeper {
    client: Client,
    path: String,
    ttl: Duration,
    told: watch::Sender<Life>,
}

impl Keeper {
    async fn keep(self) {
        loop {
            let (heard, valid_until) = self.known();
            sleep_until(heard + self.ttl / 3).await;
            let kept = timeout_at(valid_until, self.until_heard()).await;
            let why = match kept {
                Ok(None) if Instant::now() < self.known().1 => continue,
                Ok(Some(why)) => why,
                Ok(None) | Err(_) => SILENT.to_owned(),
            };
            self.told.send_modify(|life| life.ended = Some(why));
            return;
        }
    }

    /// When it was heard of last, and until when it is valid.
    fn known(&self) -> (Instant, Instant) {
        let life = self.told.borrow();
        (life.heard, life.valid_until)
    }

    /// Gives signs of life until one is answered; why the session has ended, if it has.
    async fn until_heard(&self) -> Option<String> {
        // A member that does not answer must leave time to ask the others.
        let client = self.client.with_patience(Patience::Once(self.ttl / 6));
        let mut failures = 0;
        loop {
            let sent = Instant::now();
            match client.send::<wire::KeptAlive>(Request::new(Method::POST, &self.path)).await {
                Ok(alive) => {
                    let wire::KeptAlive { valid_for_ms, holds } = alive.body;
                    self.told.send_modify(|life| {
                        life.heard = sent;
                        life.valid_until = life.valid_until.max(sent + Duration::from_millis(valid_for_ms));
                        life.holds = holds;
                    });
                    return None;
                }
                Err(error) if error.is_not_found() => return Some(error.to_string()),
                Err(_) => {
                    failures += 1;
                    client.prefer_another(failures, PAUSE.min(self.ttl / 20)).await;
                }
            }
        }
    }
}

/// Before the members are asked again, when none of them could answer.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
pub(super) mod tests {
    use tokio::time::sleep;

    use super::*;

    /// A session of a cluster that nobody reaches, and the way to say what is known of it.
    pub(in crate::client) fn session(valid_for: Duration) -> (Session, watch::Sender<Life>) {
        let client = Client::new(&["http://127.0.0.1:1".to_owned()], Patience::Once(PAUSE), 1).expect("a URL");
        let now = Instant::now();
        let (told, life) =
            watch::channel(Life { heard: now, valid_until: now + valid_for, holds: vec![], ended: None });
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        let keeper = Arc::new(AbortOnDropHandle::new(tokio::spawn(std::future::pending())));
        (Session { client, name: "s".to_owned(), ttl: valid_for, life, _keeper: keeper }, told)
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_over_at_its_deadline_unless_a_sign_of_life_has_moved_it() {
        let (session, told) = session(Duration::from_secs(3));
        let began = Instant::now();
        let later = began + Duration::from_secs(5);
        sleep(Duration::from_secs(2)).await;
        told.send_modify(|life| life.valid_until = later);
        sleep(Duration::from_secs(2)).await;
        assert!(session.is_valid());
        assert_eq!(session.over().await, SILENT);
        assert_eq!(Instant::now(), later);
        assert!(!session.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_was_ended_is_over_at_once() {
        let (session, told) = session(Duration::from_secs(3));
        told.send_modify(|life| life.ended = Some("session-ended".to_owned()));
        assert!(!session.is_valid());
        assert_eq!(session.over().await, "session-ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_keeper_that_reaches_nobody_gives_up_at_the_deadline_and_for_good() {
        let (session, told) = session(Duration::from_secs(3));
        let began = Instant::now();
        let (client, path, ttl) = (session.client.clone(), "/v1/sessions/s/keepalive".to_owned(), session.ttl);
        Keeper { client, path, ttl, told }.keep().await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        assert!(!session.is_valid());
    }
}
