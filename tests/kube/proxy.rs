//! An API server that can be away, slow, or wrong: it stands before the real one, which others use meanwhile.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::operated::own_kubeconfig;
use crate::nodes::CONTROL_PLANE;

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    None,
    /// Connections break, and nobody listens.
    Away,
    /// Connections stay, and nothing comes through them any more.
    Stalls,
    /// It takes requests, and does not answer while this lasts.
    Hangs,
    /// It does what requests ask for, and does not answer, if the method is that.
    Unanswered(Method),
    /// The same, whatever is asked for; and watches that are open tell nothing any more.
    Mute,
    /// Answers take this long, or until it is over, if the method is that, or whatever it is.
    Slow(Duration, Option<Method>),
    /// Requests are answered with this status, if their method is that, or whatever it is.
    Answers(StatusCode, Option<Method>),
    /// Statuses of a kind, as the API server calls many of it, are not taken, for this reason.
    StatusesAnswer(&'static str, StatusCode),
    /// Every watch ends with this status, as one of a state that is too old does.
    WatchesEnd(u16),
    /// What is served under this path is not.
    Missing(&'static str),
    /// In what it says, the first text is replaced by the second, which is as long.
    Garbles(&'static str, &'static str),
}

/// How a fault is told: as what its requests are counted, in which words it is logged at once, and which stand in the log and in
/// the cluster's condition when it is more than a moment.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub reason: &'static str,
    pub log: &'static str,
    pub why: &'static str,
}

impl Fault {
    pub fn told(&self) -> Told {
        let of_watches = |reason, why| Told { reason, log: why, why };
        let of_writes = |reason, log, why| Told { reason, log, why };
        // When not even a status can be written.
        let nothing = "nothing can be written; it is tried again";
        match self {
            Self::Away | Self::Stalls | Self::Hangs => {
                of_watches("unreachable", "are not seen: the API server cannot be reached")
            }
            Self::Answers(StatusCode::TOO_MANY_REQUESTS, None) => {
                of_watches("throttled", "are not seen: the API server has too many requests")
            }
            Self::Answers(StatusCode::FORBIDDEN, None) => {
                of_watches("forbidden", "are not seen: the members' ServiceAccount may not list or watch them")
            }
            Self::Missing(_) => {
                of_watches("not_found", "are not seen: the API server does not know them: apply the CRDs")
            }
            Self::WatchesEnd(410) => of_watches("expired", "are not seen: the API server does not keep so old a state"),
            Self::WatchesEnd(500) => of_watches("other", "are not seen: the API server has failed"),
            Self::Slow(_, Some(Method::PATCH)) => of_writes(
                "timeout",
                nothing,
                "replicatedconfigs are not written: the API server does not answer in time",
            ),
            Self::Answers(StatusCode::INTERNAL_SERVER_ERROR, Some(Method::PATCH)) => {
                of_writes("other", nothing, "replicatedconfigs are not written: the API server has failed")
            }
            Self::Answers(StatusCode::CONFLICT, Some(Method::PATCH)) => of_writes(
                "conflict",
                "not written; it is tried again",
                "replicatedconfigs are not written: somebody else is faster again and again",
            ),
            Self::None
            | Self::Unanswered(_)
            | Self::Mute
            | Self::Slow(..)
            | Self::Answers(..)
            | Self::StatusesAnswer(..)
            | Self::WatchesEnd(_)
            | Self::Garbles(..) => panic!("it is not written down how {self:?} is told"),
        }
    }
}

struct Shared {
    fault: Mutex<Fault>,
    /// Cancelled when the fault changes: what is open then breaks.
    epoch: Mutex<CancellationToken>,
    /// Statuses that are being written, and the most that there were at a time.
    writing: AtomicUsize,
    most: AtomicUsize,
    behind: String,
    http: reqwest::Client,
}

/// The proxy; it ends with its owner.
pub struct Proxy {
    shared: Arc<Shared>,
    kubeconfig: NamedTempFile,
    tasks: Vec<JoinHandle<()>>,
    _kubectl: Child,
}

impl Proxy {
    /// For members on this machine, in the name of the tests.
    pub async fn start() -> Self {
        Self::at("127.0.0.1", &own_kubeconfig()).await
    }

    /// For members in pods, in the name that the kubeconfig says. It listens in the cluster's own network alone.
    pub async fn for_pods(account: &Path) -> Self {
        Self::at(CONTROL_PLANE, account).await
    }

    async fn at(address: &str, account: &Path) -> Self {
        let (kubectl, behind) = kubectl_proxy(account).await;
        let shared = Arc::new(Shared {
            fault: Mutex::new(Fault::None),
            epoch: Mutex::default(),
            writing: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            behind,
            http: reqwest::Client::new(),
        });
        let (front, inner) = (listen(address).await, listen("127.0.0.1").await);
        let kubeconfig = kubeconfig(front.local_addr().unwrap());
        let inner_port = inner.local_addr().unwrap().port();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let answering = tokio::spawn(async move { axum::serve(inner, app).await.unwrap() });
        let connecting = tokio::spawn(connect(front, inner_port, Arc::clone(&shared)));
        Self { shared, kubeconfig, tasks: vec![answering, connecting], _kubectl: kubectl }
    }

    /// For whoever should ask here.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.path().to_owned()
    }

    /// From now on this is wrong, and what is open breaks, or stalls.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        std::mem::take(&mut *self.shared.epoch.lock().unwrap()).cancel();
    }

    /// From now on this is wrong for whoever asks, and what is open goes on.
    pub fn turn(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// The most statuses that were being written at a time.
    pub fn most_at_a_time(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        self.fault.lock().unwrap().clone()
    }

    fn epoch(&self) -> CancellationToken {
        self.epoch.lock().unwrap().clone()
    }

    /// Waits until something else is wrong, or nothing.
    async fn while_it_lasts(&self) {
        let fault = self.fault();
        while self.fault() == fault {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn listen(address: &str) -> TcpListener {
    TcpListener::bind((address, 0)).await.unwrap()
}

/// Lets connections through, and breaks or stalls them when it should.
async fn connect(listener: TcpListener, inner: u16, shared: Arc<Shared>) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let epoch = shared.epoch();
        if shared.fault() == Fault::Away {
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut server = TcpStream::connect(("127.0.0.1", inner)).await.unwrap();
            if shared.fault() != Fault::Stalls {
                epoch.run_until_cancelled(copy_bidirectional(&mut client, &mut server)).await;
            }
            if shared.fault() == Fault::Stalls {
                shared.epoch().cancelled().await;
            }
        });
    }
}

/// One status more is being written, as long as this is there: whoever asks may give up.
struct Writing<'a>(&'a Shared);

impl<'a> Writing<'a> {
    fn counted(shared: &'a Shared) -> Self {
        let now = shared.writing.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(now, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let is_status = request.method() == Method::PATCH && request.uri().path().ends_with("/status");
    let _writing = is_status.then(|| Writing::counted(&shared));
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    match shared.fault() {
        Fault::Hangs => shared.while_it_lasts().await,
        Fault::Slow(pause, method) if is_of(method.as_ref(), &request) => {
            drop(timeout(pause, shared.while_it_lasts()).await);
        }
        Fault::Answers(status, method) if is_of(method.as_ref(), &request) => {
            return refusal(status.as_u16(), status).into_response();
        }
        Fault::StatusesAnswer(plural, status) if is_status_of(plural, &request) => {
            return refusal(status.as_u16(), status).into_response();
        }
        Fault::WatchesEnd(code) if is_watch => {
            sleep(Duration::from_millis(100)).await;
            let event = serde_json::json!({ "type": "ERROR", "object": status_object(code) });
            return (StatusCode::OK, format!("{event}\n")).into_response();
        }
        Fault::Missing(prefix) if request.uri().path().starts_with(prefix) => {
            return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
        }
        Fault::Unanswered(method) if method == request.method() => {
            drop(pass(&shared, request).await);
            return std::future::pending().await;
        }
        Fault::Mute => {
            drop(pass(&shared, request).await);
            return std::future::pending().await;
        }
        Fault::None
        | Fault::Away
        | Fault::Stalls
        | Fault::Unanswered(_)
        | Fault::Slow(..)
        | Fault::Answers(..)
        | Fault::StatusesAnswer(..)
        | Fault::WatchesEnd(_)
        | Fault::Missing(_)
        | Fault::Garbles(..) => {}
    }
    pass(&shared, request).await
}

fn is_of(method: Option<&Method>, request: &Request) -> bool {
    method.is_none_or(|method| method == request.method())
}

/// Whether it writes the status of an object of that kind.
fn is_status_of(plural: &str, request: &Request) -> bool {
    let path = request.uri().path();
    request.method() == Method::PATCH && path.ends_with("/status") && path.contains(&format!("/{plural}/"))
}

fn status_object(code: u16) -> serde_json::Value {
    let message = "the proxy of a test says so";
    serde_json::json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": "Test", "code": code })
}

fn refusal(code: u16, status: StatusCode) -> impl IntoResponse {
    (status, axum::Json(status_object(code)))
}

/// Asks the real one.
async fn pass(shared: &Arc<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let url = format!("{}{}", shared.behind, head.uri.path_and_query().unwrap());
    let mut headers = HeaderMap::new();
    for name in [ACCEPT, CONTENT_TYPE] {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let body = axum::body::to_bytes(body, 8 << 20).await.unwrap();
    let Ok(answer) = shared.http.request(head.method, url).headers(headers).body(body).send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let mut response = Response::builder().status(answer.status());
    if let Some(kind) = answer.headers().get("content-type") {
        response = response.header("content-type", kind);
    }
    let shared = Arc::clone(shared);
    let stream = answer.bytes_stream().then(move |chunk| {
        let shared = Arc::clone(&shared);
        async move {
            match (shared.fault(), chunk) {
                (Fault::Mute, _) => std::future::pending().await,
                (Fault::Garbles(from, to), Ok(bytes)) => {
                    Ok(String::from_utf8_lossy(&bytes).replace(from, to).into_bytes().into())
                }
                (_, chunk) => chunk,
            }
        }
    });
    response.body(Body::from_stream(stream)).unwrap()
}

/// kubectl's own proxy, which knows the certificates.
async fn kubectl_proxy(account: &Path) -> (Child, String) {
    let mut command = Command::new("kubectl");
    command.arg(format!("--kubeconfig={}", account.display())).args(["proxy", "--port=0", "--keepalive=30s"]);
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect("it says where it listens");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    (child, format!("http://{address}"))
}

fn kubeconfig(server: SocketAddr) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    write!(
        file,
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: 'http://{server}'}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\nusers: [{{name: test, user: {{}}}}]\n"
    )
    .unwrap();
    file
}
