//! The network of real members: TCP, with a layer that may encrypt.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::future::BoxFuture;
use prometheus::Registry;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::client::{Dialler, Line};
use super::metrics::TransportMetrics;
use super::probe::probe;
use super::reachability::Reachability;
use super::server::Server;
use super::tls::Layer;
use super::{Inbox, Lane, Network, NetworkError, Peer, Probe};
use crate::tasks::{Exit, Tasks};
use crate::types::MemberId;

/// Why a member port cannot be opened.
#[derive(Debug, Error)]
pub enum BindError {
    #[error("cannot listen for other members on {address}: {source}; is the port in use by another process?")]
    Listen { address: String, source: io::Error },
    #[error("cannot declare the metrics of the member port: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Messages between members over TCP.
pub struct TcpNetwork {
    layer: Layer,
    metrics: TransportMetrics,
    address: SocketAddr,
    /// Taken when the network is opened.
    listener: Mutex<Option<TcpListener>>,
    /// Set when the network is opened.
    open: Mutex<Option<Open>>,
}

struct Open {
    inbox: Arc<dyn Inbox>,
    tasks: Tasks,
    lines: BTreeMap<LineKey, Line>,
    /// By the name of the peer.
    reachabilities: BTreeMap<String, Reachability>,
}

/// A member that moves or is replaced gets new lines, and the old ones end when nobody uses them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    member: Option<MemberId>,
    name: String,
    address: String,
    lane: Lane,
}

impl LineKey {
    fn new(peer: &Peer, lane: Lane) -> Self {
        let member = match peer {
            Peer::Member(member, _) => Some(*member),
            Peer::Initial { .. } => None,
        };
        Self { member, name: peer.name().to_owned(), address: peer.address().to_owned(), lane }
    }
}

impl TcpNetwork {
    /// Takes the member port, so that a port in use is known before anything else is done. Nobody is answered yet.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(address: &str, layer: Layer, registry: &Registry) -> Result<Arc<Self>, BindError> {
        let listen = |source| BindError::Listen { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let network = Self {
            layer,
            metrics: TransportMetrics::register(registry)?,
            address: listener.local_addr().map_err(listen)?,
            listener: Mutex::new(Some(listener)),
            open: Mutex::new(None),
        };
        Ok(Arc::new(network))
    }

    /// Where it listens: the port that the system chose, when it was asked to choose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn opened(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().expect("nobody panics while holding the lines")
    }

    fn dialler(&self, open: &mut Open, peer: &Peer, lane: Lane) -> Dialler {
        Dialler {
            peer: peer.clone(),
            lane,
            layer: self.layer.clone(),
            inbox: Arc::clone(&open.inbox),
            metrics: self.metrics.clone(),
            reachability: open.reachabilities.entry(peer.name().to_owned()).or_default().clone(),
            stopping: open.tasks.stopping(),
        }
    }

    /// The line to `peer`, which is made when there is none. `None` before the network is open.
    fn line(&self, peer: &Peer, lane: Lane) -> Option<Line> {
        let mut open = self.opened();
        let open = open.as_mut()?;
        let key = LineKey::new(peer, lane);
        if let Some(line) = open.lines.get(&key).filter(|line| !line.is_closed()) {
            return Some(line.clone());
        }
        let (line, task) = Line::new(self.dialler(open, peer, lane));
        open.tasks.spawn("line to a member", Exit::Normal, task);
        // Those to addresses that nobody has any more.
        open.lines.retain(|_, line| !line.is_closed());
        open.lines.insert(key, line.clone());
        Some(line)
    }
}

impl Network for TcpNetwork {
    fn open(&self, inbox: Arc<dyn Inbox>, tasks: &Tasks) {
        let listener = self.listener.lock().expect("nobody panics while holding the listener").take();
        let Some(listener) = listener else { return };
        let server = Server {
            layer: self.layer.clone(),
            inbox: Arc::clone(&inbox),
            metrics: self.metrics.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn("member port", Exit::Fatal, server.accept(listener));
        *self.opened() =
            Some(Open { inbox, tasks: tasks.clone(), lines: BTreeMap::new(), reachabilities: BTreeMap::new() });
    }

    fn call(
        &self,
        peer: &Peer,
        lane: Lane,
        request: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        match self.line(peer, lane) {
            Some(line) => Box::pin(line.call(request, deadline)),
            None => {
                let error =
                    NetworkError::NotSent { peer: peer.name().to_owned(), cause: "the network is not open".to_owned() };
                Box::pin(async { Err(error) })
            }
        }
    }

    fn probe(&self, peer: &Peer, question: Bytes, deadline: Instant) -> BoxFuture<'static, Probe> {
        let dialler = self.opened().as_mut().map(|open| self.dialler(open, peer, Lane::Control));
        match dialler {
            Some(dialler) => Box::pin(probe(dialler, question, deadline)),
            None => Box::pin(async { Probe::Nothing }),
        }
    }
}
