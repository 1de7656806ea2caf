//! Whether there is a cluster is recorded in the API server: of those who would found one at once, one does; and whoever founds one may
//! be killed, or miss the API server, at any step of it.

use std::fs;
use std::time::Duration;

use axum::http::Method;
use quorate::coordinator::{ClusterRegistry, Recorded};
use quorate::operator::kubernetes::{ApiServer, QuorateClusterRegistry, Release};
use quorate::raft::identity::IDENTITY_FILE;
use quorate::settings::Pod;
use quorate::types::{ClusterId, Namespace};

use super::fixture::Resources;
use super::look::client;
use super::operated::own_kubeconfig;
use crate::proxy::{Fault, Proxy};
use crate::support::trio::{Trio, wait_for};

/// Races. In most of them both look before either writes, which is what this is about.
const ROUNDS: usize = 10;

/// Writes of a status of a `QuorateCluster` that were refused because somebody else had been faster, as the API server counts
/// them. Whoever applies a status on the server's side is refused for other reasons.
async fn conflicts() -> f64 {
    let request = axum::http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = client().await.request_text(request).await.unwrap();
    let labels = ["code=\"409\"", "resource=\"quorateclusters\"", "subresource=\"status\"", "verb=\"PATCH\""];
    let is_it =
        |line: &&str| line.starts_with("apiserver_request_total{") && labels.iter().all(|label| line.contains(label));
    let counts = metrics.lines().filter(is_it).map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
    counts.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_record_a_cluster_at_once_one_wins_and_the_other_learns_whose_it_is() {
    let resources = Resources::served().await;
    let kubeconfig = std::env::var("KUBECONFIG").map(Into::into);
    assert_eq!(kubeconfig, Ok(own_kubeconfig()), "a member asks the API server that kubectl would ask");
    let api_servers = [ApiServer::infer().await.unwrap(), ApiServer::infer().await.unwrap()];
    let ids = ["a", "b"].map(|letter| ClusterId::new(letter.repeat(32)).unwrap());
    let before = conflicts().await;
    let mut won = [0, 0];
    for round in 0..ROUNDS {
        let name = format!("web-{round}");
        resources.declare("QuorateCluster", &name, "{}").await.unwrap();
        let namespace = Namespace::new(resources.namespace.name.clone()).unwrap();
        let pod = Pod { namespace, stateful_set: name.clone(), ordinal: 0 };
        let release = Release { pod, cluster: Namespace::new("default".to_owned()).unwrap(), member_port: 7400 };
        let [one, other] = api_servers.clone().map(|api| QuorateClusterRegistry::new(api, release.clone()));
        let (first, second) = tokio::join!(one.record(&ids[0]), other.record(&ids[1]));
        let winner = match (first.unwrap(), second.unwrap()) {
            (Recorded::AsAsked, Recorded::Other(id)) if id == ids[0] => 0,
            (Recorded::Other(id), Recorded::AsAsked) if id == ids[1] => 1,
            both => panic!("{both:?}"),
        };
        won[winner] += 1;
        let recorded = resources.get(&format!("qc/{name}")).await["status"]["clusterId"].take();
        assert_eq!(recorded, ids[winner].as_str());
        // Whoever asks again, as after a crash, is told the same.
        let [again, late] = [one.record(&ids[winner]).await.unwrap(), other.record(&ids[1 - winner]).await.unwrap()];
        assert_eq!([again, late], [Recorded::AsAsked, Recorded::Other(ids[winner].clone())]);
    }
    let met = conflicts().await - before;
    println!("of {ROUNDS} races the two have won {won:?}; in {met} of them both had looked before either wrote");
    assert!(met > 0.0, "nobody was refused for being late");
}

/// The first member of a cluster that begins with it, as a process; it asks a real API server, which may be anything.
struct First {
    resources: Resources,
    proxy: Proxy,
    trio: Trio,
}

impl First {
    async fn declared() -> Self {
        let resources = Resources::served().await;
        let spec = format!("{{cluster: {}, voters: 1}}", resources.namespace.name);
        resources.declare("QuorateCluster", "quorate", &spec).await.unwrap();
        Self { resources, proxy: Proxy::start().await, trio: Trio::new() }
    }

    fn start(&mut self) {
        let (mut command, namespace) = (self.trio.command_alone(0), &self.resources.namespace.name);
        command.args(["--kubernetes", "--namespace", namespace, "--cluster", namespace]);
        command.env("KUBECONFIG", self.proxy.kubeconfig());
        self.trio.start_with(0, command);
    }

    async fn recorded(&self) -> Option<String> {
        let id = self.resources.get("qc/quorate").await["status"]["clusterId"].take();
        id.as_str().map(str::to_owned)
    }

    /// What its volume says of who it is.
    fn identity(&self) -> Vec<u8> {
        fs::read(self.trio.data(0).join(IDENTITY_FILE)).unwrap()
    }

    /// Waits until it serves; the cluster, which is the one that is recorded.
    async fn serves(&self) -> String {
        self.trio.wait_until_ready(0).await;
        let cluster = self.trio.get_json(0, "/v1/cluster").await.unwrap();
        let id = cluster["clusterId"].as_str().unwrap().to_owned();
        assert_eq!(self.recorded().await.as_ref(), Some(&id), "{cluster}");
        id
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_member_without_the_api_server_waits_and_founds_nothing() {
    let mut first = First::declared().await;
    first.proxy.set(Fault::Away);
    first.start();
    let says_why = async || first.trio.log(0).contains("cannot be asked").then_some(());
    wait_for("it does not say what it waits for", says_why).await;
    let health = first.trio.health_url(0);
    assert_eq!(first.trio.http.get(format!("{health}/readyz")).send().await.unwrap().status(), 503);
    assert_eq!(first.recorded().await, None);

    first.proxy.set(Fault::None);
    first.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_member_that_is_killed_before_or_after_its_cluster_is_recorded_founds_that_one() {
    let never = Duration::from_hours(1);
    for (fault, is_recorded) in
        [(Fault::Slow(never, Some(Method::PATCH)), false), (Fault::Unanswered(Method::PATCH), true)]
    {
        let mut first = First::declared().await;
        first.proxy.set(fault);
        first.start();
        let begins = async || (first.proxy.most_at_a_time() > 0).then_some(());
        wait_for("it does not record its cluster", begins).await;
        let recorded = match is_recorded {
            true => Some(wait_for("it is not recorded", async || first.recorded().await).await),
            false => first.recorded().await,
        };
        first.trio.kill(0);
        assert_eq!(recorded.is_some(), is_recorded, "{recorded:?}");
        let identity = first.identity();

        first.proxy.set(Fault::None);
        first.start();
        let founded = first.serves().await;
        let was_prepared = identity.windows(founded.len()).any(|window| window == founded.as_bytes());
        assert!(was_prepared, "it was prepared for another one than {founded}");
        assert!(recorded.is_none_or(|recorded| recorded == founded));
    }
}
