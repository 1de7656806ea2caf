//! What the member port does with strangers, garbage and silence.

use std::sync::Arc;
use std::time::Duration;

use quorate::raft::transport::tls::Layer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cluster::{Cluster, PATIENCE, name, put, soon};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// How often `member` has closed a connection for `cause`.
fn closed(cluster: &Cluster, member: &str, cause: &str) -> f64 {
    let families = cluster.members[member].registry.gather();
    let family = families.iter().find(|family| family.name() == "quorate_member_connections_closed_total").unwrap();
    let metric = family.get_metric().iter().find(|metric| metric.get_label()[0].value() == cause).unwrap();
    metric.get_counter().get_value()
}

/// Waits until `member` has closed more than `before` connections for `cause`. It counts one a moment after it closed it.
pub async fn counts_more(cluster: &Cluster, member: &str, cause: &str, before: f64) {
    let counted = async {
        while closed(cluster, member, cause) <= before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap_or_else(|_| panic!("no closed connection is counted as {cause}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_a_giant_length_and_a_slow_hello_are_closed_and_counted() {
    let cluster = Cluster::founded(&NAMES).await;
    let address = &cluster.addresses[&name("a")];
    let cases: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "garbage"),
        (b"\xff\xff\xff\xff\x01", "garbage"),
        (b"\0\0\0\x0b\x01\0\0\0\0\0\0\0\0\xff\xff", "garbage"),
        (b"\0\0\0\x40\x01\0", "slow-hello"),
    ];
    for (bytes, cause) in cases {
        let before = closed(&cluster, "a", cause);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection with {bytes:?} stays open");
        counts_more(&cluster, "a", cause, before).await;
    }
    cluster.raft("a").propose(put("k", "v"), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_silent_connections_is_bounded_and_the_cluster_goes_on() {
    let cluster = Cluster::founded(&NAMES).await;
    let address = &cluster.addresses[&name("a")];
    let mut strangers = Vec::new();
    for _ in 0..200 {
        strangers.push(TcpStream::connect(address).await.unwrap());
    }
    counts_more(&cluster, "a", "too-many", 0.0).await;
    cluster.raft("a").propose(put("k", "v"), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_talk_through_tls_when_it_is_put_under_the_frames() {
    let mut cluster = Cluster::with_layer(&NAMES, tls()).await;
    for text in NAMES {
        cluster.start(text).await;
    }
    cluster.leader().await;
    for text in NAMES {
        cluster.raft(text).propose(put(text, "1"), soon()).await.unwrap();
    }
    let mut stream = TcpStream::connect(&cluster.addresses[&name("a")]).await.unwrap();
    stream.write_all(b"\0\0\0\x09\x01\0\0\0\0\0\0\0\0").await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().ok();
    counts_more(&cluster, "a", "tls", 0.0).await;
}

/// A layer with a certificate for 127.0.0.1, signed by an authority of its own.
fn tls() -> Layer {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(authority_certificate.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    Layer::Tls { connector: TlsConnector::from(Arc::new(client)), acceptor: TlsAcceptor::from(Arc::new(server)) }
}
