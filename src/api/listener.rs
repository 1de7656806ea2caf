//! The HTTP server: connections, and the limits that hold before a request is a request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use futures::FutureExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower::Service;

use super::border::HEAD;
use super::line::{Connected, Line};
use crate::tasks::{Exit, Tasks};

/// Bytes of a request's head that are read at most. More than a head may have, so that one that is a little too large gets
/// its problem document; beyond this the connection is closed with a bare 431.
const BUFFER: usize = 2 * HEAD;

/// How long a client may take to send a request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before accepting again when the process has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// How long a stopping member keeps connections on which nothing happens: a request that its client has just sent is answered,
/// and told that it was the last one, instead of being lost with the connection, which would leave its client in doubt.
const LINGER: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until the tasks are stopped; then requests in flight are finished first. When there are so
/// many `connections`, more wait to be accepted.
pub fn serve(listener: TcpListener, router: Router, connections: usize, tasks: &Tasks) {
    let (owner, stopping) = (tasks.clone(), tasks.stopping());
    tasks.spawn("http listener", Exit::Fatal, async move {
        let room = Arc::new(Semaphore::new(connections));
        loop {
            let (place, accepted) = tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                accepted = accept(&listener, &room) => accepted,
            };
            match accepted {
                Ok((stream, _)) => connection(stream, place, router.clone(), &owner),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        // Closing the listener resets whoever is connected and has not been accepted, perhaps with a request on the way.
        while let Some((place, Ok((stream, _)))) = accept(&listener, &room).now_or_never() {
            connection(stream, place, router.clone(), &owner);
        }
    });
}

/// Waits for room, then for a connection.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, io::Result<(TcpStream, SocketAddr)>) {
    let place = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    (place, listener.accept().await)
}

fn connection(stream: TcpStream, place: OwnedSemaphorePermit, router: Router, tasks: &Tasks) {
    let (stopping, farewell) = (tasks.stopping(), tasks.stopping());
    tasks.spawn("http connection", Exit::Normal, async move {
        let _place = place;
        // Without it, small answers wait for the client's acknowledgement; failing to set it costs only time.
        drop(stream.set_nodelay(true));
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(BUFFER);
        let line = Line::default();
        let stream = TokioIo::new(Connected::new(stream, line.clone()));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(line.clone());
            let (answer, farewell) = (router.clone().call(request), farewell.clone());
            async move {
                let mut response = answer.await?;
                if farewell.is_cancelled() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = std::pin::pin!(http.serve_connection(stream, service));
        tokio::select! {
            biased;
            () = stopping.cancelled() => {
                // What goes wrong now goes wrong for a client that is told to go away.
                if timeout(LINGER, connection.as_mut()).await.is_err() {
                    connection.as_mut().graceful_shutdown();
                    drop(connection.await);
                }
            }
            // A client that breaks the protocol or the connection is told so by hyper, as far as it can be.
            ended = connection.as_mut() => drop(ended),
        }
    });
}

/// Errors that concern one client only.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
