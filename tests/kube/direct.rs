//! The API server without kubectl: for what tests do again and again, starting its processes would be most of the work. What is
//! refused is refused in the API server's words.

use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use axum::http::Request;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// The longest that one request may take.
const LONGEST: Duration = Duration::from_mins(1);

/// A client belongs to the runtime that it was made in, and each test has one of its own: here is one for what they share.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// Kinds that belong to no namespace, of those that tests apply.
const GLOBAL: [&str; 8] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "Node",
    "PersistentVolume",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// A client of the API server, for the runtime that it is made in.
pub async fn client() -> Client {
    let kubeconfig = std::env::var("QUORATE_TEST_KUBECONFIG").expect("`make kube` runs these tests in a cluster");
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Does something with the client that all tests share.
pub async fn with_client<T: Send + 'static, F>(work: impl FnOnce(Client) -> F + Send + 'static) -> T
where
    F: Future<Output = T> + Send + 'static,
{
    RUNTIME.spawn(of_shared(work)).await.unwrap()
}

async fn of_shared<T, F: Future<Output = T>>(work: impl FnOnce(Client) -> F) -> T {
    static CLIENT: OnceCell<Client> = OnceCell::const_new();
    let client = CLIENT.get_or_init(client).await.clone();
    timeout(LONGEST, work(client)).await.expect("the API server answers")
}

/// Applies documents as `kubectl apply --server-side` does, in this namespace unless they say another one; gives their names, or
/// why some of them were refused.
pub async fn apply(namespace: &str, parameters: &PatchParams, yaml: &str) -> Result<String, String> {
    patch(namespace, parameters, yaml, Part::Whole).await
}

/// The same for the status.
pub async fn apply_status(namespace: &str, parameters: &PatchParams, yaml: &str) -> Result<String, String> {
    patch(namespace, parameters, yaml, Part::Status).await
}

#[derive(Clone, Copy)]
enum Part {
    Whole,
    Status,
}

async fn patch(namespace: &str, parameters: &PatchParams, yaml: &str, part: Part) -> Result<String, String> {
    let (mut applied, mut refused) = (Vec::new(), Vec::new());
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let object = Value::deserialize(document).map_err(|error| error.to_string())?;
        if object.is_null() {
            continue;
        }
        let name = object["metadata"]["name"].as_str().expect("it has a name").to_owned();
        let (namespace, parameters, of) = (namespace.to_owned(), parameters.clone().validation_strict(), name.clone());
        let done = with_client(async move |client| {
            let api = api(client, &namespace, &object);
            match part {
                Part::Whole => api.patch(&of, &parameters, &Patch::Apply(&object)).await,
                Part::Status => api.patch_status(&of, &parameters, &Patch::Apply(&object)).await,
            }
        });
        match done.await {
            Ok(_) => applied.push(name),
            Err(error) => refused.push(refusal(error)),
        }
    }
    if refused.is_empty() { Ok(applied.join("\n")) } else { Err(refused.join("\n")) }
}

fn api(client: Client, namespace: &str, object: &Value) -> Api<DynamicObject> {
    let text = |field: &str| object[field].as_str().expect("an object says what it is");
    let (version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if GLOBAL.contains(&kind) {
        Api::all_with(client, &resource)
    } else {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
        Api::namespaced_with(client, namespace, &resource)
    }
}

/// The kinds that tests look at, as kubectl and as paths call them.
const KINDS: [(&str, &str); 13] = [
    ("qc", "apis/quorate.io/v1alpha1 quorateclusters"),
    ("quoratecluster", "apis/quorate.io/v1alpha1 quorateclusters"),
    ("rcfg", "apis/quorate.io/v1alpha1 replicatedconfigs"),
    ("le", "apis/quorate.io/v1alpha1 leaderelections"),
    ("leaderelections", "apis/quorate.io/v1alpha1 leaderelections"),
    ("statefulset", "apis/apps/v1 statefulsets"),
    ("lease", "apis/coordination.k8s.io/v1 leases"),
    ("configmap", "api/v1 configmaps"),
    ("pod", "api/v1 pods"),
    ("pods", "api/v1 pods"),
    ("pvc", "api/v1 persistentvolumeclaims"),
    ("events", "api/v1 events"),
    ("serviceaccount", "api/v1 serviceaccounts"),
];

/// Where the object is that kubectl calls so, as in `rcfg/web`, or all of a kind, as in `events`; none if it is of another kind.
pub fn path(namespace: &str, object: &str) -> Option<String> {
    let (kind, name) = object.split_once('/').unwrap_or((object, ""));
    let (_, path) = KINDS.iter().find(|(short, _)| *short == kind)?;
    let (group, plural) = path.split_once(' ').expect("a group and a plural");
    Some(format!("/{group}/namespaces/{namespace}/{plural}/{name}").trim_end_matches('/').to_owned())
}

/// What is there, as text.
pub async fn get(path: &str) -> Result<String, String> {
    let request = Request::get(path).body(Vec::new()).unwrap();
    with_client(async move |client| client.request_text(request).await.map_err(refusal)).await
}

/// What the API server says of it.
fn refusal(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        error => error.to_string(),
    }
}

/// Deletes a namespace, without the help of the test's runtime, and does not wait until it is gone.
pub fn delete_namespace(name: &str) {
    let (done, is_done) = mpsc::channel();
    let object = serde_json::json!({ "apiVersion": "v1", "kind": "Namespace" });
    let name = name.to_owned();
    RUNTIME.spawn(async move {
        let deleted = of_shared(async |client| api(client, "", &object).delete(&name, &DeleteParams::default()).await);
        done.send(deleted.await.map(drop).map_err(refusal))
    });
    // A test that is over cannot fail any more.
    if let Ok(Err(why)) = is_done.recv() {
        println!("the namespace {why} stays");
    }
}
