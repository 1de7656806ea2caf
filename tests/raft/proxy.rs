//! Something between members that takes connections whether or not anybody is behind it, as the proxies of service meshes do.

use std::sync::Arc;
use std::time::Duration;

use quorate::tasks::{Exit, Tasks};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

/// A proxy in front of one member. It ends when it is dropped.
pub struct Proxy {
    pub address: String,
    tasks: Tasks,
    breaks: Arc<Notify>,
}

impl Proxy {
    /// Takes connections for whoever listens at `behind`.
    pub async fn start(behind: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tasks, _) = Tasks::new();
        let breaks = Arc::new(Notify::new());
        let (inner, breaking) = (tasks.clone(), Arc::clone(&breaks));
        tasks.spawn("proxy", Exit::Normal, async move {
            while let Ok((stream, _)) = listener.accept().await {
                inner.spawn("proxied connection", Exit::Normal, pass(stream, behind.clone(), Arc::clone(&breaking)));
            }
        });
        Self { address, tasks, breaks }
    }

    /// Ends all connections that there are.
    pub fn break_connections(&self) {
        self.breaks.notify_waiters();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

async fn pass(mut stream: TcpStream, behind: String, breaks: Arc<Notify>) {
    let passing = async {
        match TcpStream::connect(behind).await {
            Ok(mut inner) => drop(copy_bidirectional(&mut stream, &mut inner).await),
            // As some do: it keeps the connection for a while, and never says anything.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    };
    tokio::select! {
        () = passing => {}
        () = breaks.notified() => {}
    }
}
