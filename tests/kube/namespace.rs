//! A namespace for one test: it begins empty, lets only restricted pods in, and ends with the test.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::api::PatchParams;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::api::operated::own_kubeconfig;
use crate::direct;
use crate::kubectl::{self, kubectl};

pub struct Namespace {
    pub name: String,
    has_pods: bool,
}

impl Namespace {
    /// A namespace whose name begins with `purpose`.
    pub async fn fresh(purpose: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{purpose}-{}-{number}", std::process::id());
        let labels = "{pod-security.kubernetes.io/enforce: restricted}";
        let document = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}");
        direct::apply("", &PatchParams::apply("kubectl"), &document).await.unwrap();
        Self { name, has_pods: false }
    }

    /// The same, once pods may be put into it: every pod runs as an account, which the controllers make a moment later.
    pub async fn for_pods(purpose: &str) -> Self {
        let mut namespace = Self::fresh(purpose).await;
        namespace.has_pods = true;
        namespace.wait("serviceaccount/default", "create", 60).await;
        namespace
    }

    /// Makes the account as which a pod runs that names none; it may be there, where there are controllers.
    pub async fn make_account(&self) {
        self.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\n").await.unwrap();
    }

    /// kubectl in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        kubectl(&[&["--namespace", &self.name], arguments].concat()).await
    }

    /// Creates or changes what the documents describe, in this namespace.
    pub async fn apply(&self, yaml: &str) -> Result<String, String> {
        direct::apply(&self.name, &PatchParams::apply("kubectl"), yaml).await
    }

    /// An object, or a list of them, as it is now.
    pub async fn get(&self, object: &str) -> Result<Value, String> {
        match direct::path(&self.name, object) {
            Some(path) => Ok(serde_json::from_str(&direct::get(&path).await?).expect("it is JSON")),
            None => kubectl::get(&["--namespace", &self.name, object]).await,
        }
    }

    /// Waits until an object is as `until` says, in the words of `kubectl wait --for`.
    pub async fn wait(&self, object: &str, until: &str, seconds: u32) {
        let (until, deadline) = (format!("--for={until}"), format!("--timeout={seconds}s"));
        if let Err(refusal) = self.kubectl(&["wait", object, &until, &deadline]).await {
            panic!("{object} in {} did not come to {until} within {seconds} s: {refusal}", self.name);
        }
    }

    /// Runs a command in a pod; what it printed.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<String, String> {
        self.kubectl(&[&["exec", pod, "--"], command].concat()).await
    }

    pub async fn logs(&self, pod: &str) -> String {
        self.kubectl(&["logs", pod]).await.unwrap()
    }

    /// A kubeconfig for an account of this namespace.
    pub async fn kubeconfig_of(&self, account: &str) -> NamedTempFile {
        let token = self.kubectl(&["create", "token", account]).await.unwrap();
        let own = fs::read_to_string(own_kubeconfig()).unwrap();
        let mut config: Value = serde_yaml::from_str(&own).unwrap();
        // Whichever the current context is of.
        for entry in config["users"].as_array_mut().unwrap() {
            entry["user"] = json!({ "token": token });
        }
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), config.to_string()).unwrap();
        file
    }

    /// What a person would look at when something is wrong here.
    fn evidence(&self) -> String {
        let pods = self.print("get pods --output=name");
        let logs = pods.lines().flat_map(|pod| {
            [
                format!("logs {pod} --all-containers --tail=60"),
                format!("logs {pod} --all-containers --tail=60 --previous"),
            ]
        });
        let objects = [
            "get nodes,pods,persistentvolumeclaims --output=wide",
            "get events --sort-by=.lastTimestamp",
            "get quorateclusters,replicatedconfigs,leaderelections --output=wide",
            "describe quorateclusters,replicatedconfigs,leaderelections",
            "describe pods",
        ];
        let questions = objects.map(str::to_owned).into_iter().chain(logs);
        questions.map(|question| format!("--- kubectl {question}\n{}\n", self.print(&question))).collect()
    }

    /// What kubectl prints here, without the help of a runtime.
    pub fn print(&self, arguments: &str) -> String {
        let mut command = kubectl::command();
        command.args(["--namespace", &self.name, "--request-timeout=20s"]).args(arguments.split(' '));
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

/// A namespace of a test that failed tells all that it knows before it goes.
impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let evidence = self.evidence();
            let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.txt", self.name));
            fs::write(&path, &evidence).unwrap();
            println!("{evidence}\n--- all of this is in {}", path.display());
        }
        direct::delete_namespace(&self.name);
        if self.has_pods {
            // Nothing comes after them here any more, and the next test does not have to wait for the end of their grace.
            self.print("delete pods --all --grace-period=1 --wait=false");
        }
    }
}
