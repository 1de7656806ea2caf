//! The health port: probes, metrics, and the limits of the listener, on a loopback socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, to_bytes};
use prometheus::{IntCounter, Registry};
use quorate::api::health::{Check, Probes, router};
use quorate::api::listener::serve;
use quorate::tasks::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::fixture::{PATIENCE, Service};

fn check(works: &Arc<AtomicBool>) -> Check {
    let works = Arc::clone(works);
    Arc::new(move || if works.load(Ordering::Relaxed) { Ok(()) } else { Err("it is lagging".to_owned()) })
}

#[tokio::test]
async fn probes_name_the_checks_that_failed() {
    let works = Arc::new(AtomicBool::new(true));
    let ready = BTreeMap::from([("caught-up", check(&works)), ("storage", check(&Arc::new(AtomicBool::new(true))))]);
    let registry = Registry::new();
    registry.register(Box::new(IntCounter::new("quorate_things_total", "Things.").unwrap())).unwrap();
    let router = router(Probes { ready, ..Probes::default() }, registry);
    let send = async |method: &str, path: &str| {
        let request = axum::http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let get = async |path: &str| send("GET", path).await;
    assert_eq!(get("/readyz").await, (200, "ok".to_owned()));
    assert_eq!(get("/livez").await, (200, "ok".to_owned()));
    works.store(false, Ordering::Relaxed);
    assert_eq!(get("/readyz").await, (503, "[-] caught-up failed: it is lagging\n".to_owned()));
    let verbose = get("/readyz?verbose").await.1;
    assert_eq!(verbose, "[-] caught-up failed: it is lagging\n[+] storage ok\n");
    let (status, problem) = get("/v1/leader").await;
    assert!(status == 404 && problem.contains("https://quorate.io/problems/not-found"), "{status} {problem}");
    let (status, problem) = send("POST", "/livez").await;
    assert!(status == 405 && problem.contains("POST is not allowed on /livez; use GET"), "{status} {problem}");
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("# HELP quorate_things_total Things.\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_or_no_http_at_all_is_refused_on_the_socket() {
    let service = Service::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, _failures) = Tasks::new();
    serve(listener, service.router.clone(), 64, &tasks);
    let talk = async |request: Vec<u8>| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may close the connection before it has read everything.
        drop(stream.write_all(&request).await);
        let mut answer = Vec::new();
        drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end"));
        String::from_utf8_lossy(&answer).into_owned()
    };
    let good = talk(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec()).await;
    assert!(good.starts_with("HTTP/1.1 200 OK"), "{good}");
    let with_header = |bytes: usize| format!("GET / HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "v".repeat(bytes));
    let large = with_header(20_000).replace("host: x", "host: x\r\nconnection: close");
    let refused = talk(large.into_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    assert!(refused.contains("https://quorate.io/problems/too-large"), "{refused}");
    let closed = talk(with_header(200_000).into_bytes()).await;
    assert!(closed.is_empty() || closed.starts_with("HTTP/1.1 431"), "{closed}");
    let garbage = talk(b"\x16\x03\x01\x02\x00nonsense\r\n\r\n".to_vec()).await;
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    tasks.stop(PATIENCE).await;
}
