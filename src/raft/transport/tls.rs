//! The layer under the frames: bytes as they are, or encrypted. Nothing above knows which.

use std::io;

use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls};

/// A connection's bytes, both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What lies between TCP and the frames.
#[derive(Clone)]
pub enum Layer {
    Plain,
    Tls { connector: TlsConnector, acceptor: TlsAcceptor },
}

impl Layer {
    /// Sets the layer up as the end that dialled `address` (`host:port`), whose host the certificate must name.
    pub(super) fn connect(&self, stream: TcpStream, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let Self::Tls { connector, .. } = self else { return plain(stream) };
        let connector = connector.clone();
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']).to_owned();
        Box::pin(async move {
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            Ok(Box::new(connector.connect(name, stream).await?) as Box<dyn Stream>)
        })
    }

    /// Sets the layer up as the end that was dialled.
    pub(super) fn accept(&self, stream: TcpStream) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let Self::Tls { acceptor, .. } = self else { return plain(stream) };
        let acceptor = acceptor.clone();
        Box::pin(async move { Ok(Box::new(acceptor.accept(stream).await?) as Box<dyn Stream>) })
    }
}

fn plain(stream: TcpStream) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
    Box::pin(async move { Ok(Box::new(stream) as Box<dyn Stream>) })
}
