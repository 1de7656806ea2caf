//! Load: clients that write through members which are not harmed, each without a pause, while the leader is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::contestant::Contestant;

/// What each of them writes.
const BYTES: usize = 64;

/// What each of them has written, on the average, before the leader is harmed: then connections and batches are as they stay.
const WARM: usize = 50;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// After an error, which may come at once, such as that nobody leads.
const PAUSE: Duration = Duration::from_millis(1);

/// They write until this is dropped.
pub(super) struct Load {
    _writers: JoinSet<()>,
}

impl Load {
    /// Starts them, and returns when all is under way.
    pub(super) async fn start<C: Contestant>(urls: &[String], clients: usize) -> anyhow::Result<Self> {
        let (mut writers, written) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for client in 0..clients {
            let url = &urls[client % urls.len()];
            let peer = C::connect(url).await?;
            writers.spawn(write::<C>(url.clone(), peer, format!("load-{client}"), Arc::clone(&written)));
        }
        let warm = async {
            while written.load(Ordering::Relaxed) < WARM * clients {
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, warm).await.context("the load does not get under way")?;
        Ok(Self { _writers: writers })
    }
}

/// Writes for ever, over another connection when one is broken.
async fn write<C: Contestant>(url: String, mut peer: C, key: String, written: Arc<AtomicUsize>) {
    let value = Bytes::from(vec![b'v'; BYTES]);
    loop {
        if peer.put(&key, value.clone()).await.is_ok() {
            written.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        sleep(PAUSE).await;
        if let Ok(connected) = C::connect(&url).await {
            peer = connected;
        }
    }
}
