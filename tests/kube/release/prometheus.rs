//! A real Prometheus, which finds the members as it would in anybody's Kubernetes.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::helm::Release;
use crate::alone;
use crate::members::PATIENCE;

/// One job knows the port, the other learns it with the addresses. Debian's Prometheus cannot ask Kubernetes itself.
const CONFIG: &str = "
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: addresses
    dns_sd_configs:
      - {names: [quorate-metrics.NAMESPACE.svc.cluster.local], type: A, port: 9090, refresh_interval: 1s}
  - job_name: ports
    dns_sd_configs:
      - {names: [_health._tcp.quorate-metrics.NAMESPACE.svc.cluster.local], type: SRV, refresh_interval: 1s}
";

struct Prometheus {
    url: String,
    _folder: TempDir,
    _process: Child,
}

impl Prometheus {
    fn start(namespace: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, CONFIG.replace("NAMESPACE", namespace)).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let process = command.stdin(Stdio::null()).kill_on_drop(true).spawn().expect("`make tools` installs it");
        Self { url: format!("http://{address}/api/v1/query"), _folder: folder, _process: process }
    }

    /// The value of a query that has one, if it has.
    async fn value(&self, query: &str) -> Option<String> {
        let reply = reqwest::Client::new().get(&self.url).query(&[("query", query)]).send().await.ok()?;
        let reply: Value = reply.json().await.ok()?;
        Some(reply["data"]["result"][0]["value"][1].as_str()?.to_owned())
    }

    async fn wait_for(&self, query: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.value(query).await;
            if value.as_deref() == Some(expected) {
                return;
            }
            assert!(Instant::now() < deadline, "{query} is {value:?} and not {expected}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_finds_every_member_through_the_metrics_service() {
    let _alone = alone().await;
    let release = Release::running().await;
    let prometheus = Prometheus::start(&release.namespace.name);
    for job in ["addresses", "ports"] {
        prometheus.wait_for(&format!("sum(up{{job=\"{job}\"}})"), "3").await;
        prometheus.wait_for(&format!("count(up{{job=\"{job}\"}})"), "3").await;
        prometheus.wait_for(&format!("sum(quorate_raft_is_leader{{job=\"{job}\"}})"), "1").await;
        prometheus.wait_for(&format!("count(quorate_members{{job=\"{job}\",role=\"voter\"}} == 3)"), "3").await;
    }
    // One that comes back has another address.
    release.members().delete_pod(2).await;
    prometheus.wait_for("sum(up{job=\"addresses\"})", "2").await;
    prometheus.wait_for("sum(up{job=\"addresses\"})", "3").await;
}
