//! What a person does with kubectl or Helm, with a deadline for each.

use std::process::{self, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// The longest that one command may take; those that wait bring a shorter deadline of their own.
const LONGEST: Duration = Duration::from_mins(4);

/// The API server looks for new kinds of parameters of policies every 30 s; until then a policy lets everything pass, or nothing.
const TAKEN_UP: Duration = Duration::from_secs(90);

/// kubectl for the cluster of the tests; never for one that somebody happens to use.
pub fn command() -> process::Command {
    client("kubectl")
}

/// kubectl or Helm, in the root of the repository.
fn client(program: &str) -> process::Command {
    let kubeconfig = std::env::var("QUORATE_TEST_KUBECONFIG").expect("`make kube` runs these tests in a cluster");
    let mut command = process::Command::new(program);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg(format!("--kubeconfig={kubeconfig}"));
    command
}

/// Runs kubectl. The result is what it printed: its output, or why it was refused.
pub async fn kubectl(arguments: &[&str]) -> Result<String, String> {
    kubectl_with_input(arguments, "").await
}

/// Runs Helm. The result is the same as that of kubectl.
pub async fn helm(arguments: &[&str]) -> Result<String, String> {
    run(client("helm"), arguments, "").await
}

/// Runs what a person would type, in the root of the repository; kubectl and Helm are those for the cluster of the tests.
pub async fn shell(script: &str) -> Result<String, String> {
    let kubeconfig = std::env::var("QUORATE_TEST_KUBECONFIG").expect("`make kube` runs these tests in a cluster");
    let mut command = process::Command::new("sh");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("KUBECONFIG", kubeconfig);
    run(command, &["-euxc", script], "").await
}

/// The same as [`kubectl`], with a document on its standard input.
pub async fn kubectl_with_input(arguments: &[&str], input: &str) -> Result<String, String> {
    run(command(), arguments, input).await
}

async fn run(command: process::Command, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::from(command);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().expect("it is piped");
    let output = timeout(LONGEST, async {
        // Whoever refuses at once does not read to the end.
        drop(stdin.write_all(input.as_bytes()).await);
        drop(stdin);
        child.wait_with_output().await.unwrap()
    });
    let output = output.await.unwrap_or_else(|_| panic!("{command:?} takes more than {LONGEST:?}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Tries until it is refused, or the policy that should refuse it should have been taken up.
pub async fn refusal(attempt: impl AsyncFn() -> Result<String, String>) -> Result<String, String> {
    let deadline = Instant::now() + TAKEN_UP;
    loop {
        let said = attempt().await;
        if said.is_err() || Instant::now() > deadline {
            return said;
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// Creates or changes what the documents describe.
pub async fn apply(yaml: &str) -> Result<String, String> {
    kubectl_with_input(&["apply", "--server-side", "--filename=-"], yaml).await
}

/// The same as another manager of fields, such as a tool that watches a repository.
pub async fn apply_as(manager: &str, yaml: &str) -> Result<String, String> {
    let manager = format!("--field-manager={manager}");
    kubectl_with_input(&["apply", "--server-side", "--filename=-", &manager], yaml).await
}

/// Fails when the documents, applied by that manager, would change anything.
pub async fn diff_as(manager: &str, yaml: &str) -> Result<String, String> {
    let manager = format!("--field-manager={manager}");
    kubectl_with_input(&["diff", "--server-side", "--filename=-", &manager], yaml).await
}

/// An object, or a list of them, as JSON.
pub async fn get(arguments: &[&str]) -> Result<Value, String> {
    let text = kubectl(&[&["get", "--output=json"], arguments].concat()).await?;
    Ok(serde_json::from_str(&text).expect("kubectl prints JSON when it is asked to"))
}
