//! Of those who would found a cluster at once, one does: the API server decides.

use quorate::coordinator::{ClusterRegistry, Recorded};
use quorate::operator::kubernetes::{ApiServer, QuorateClusterRegistry, Release};
use quorate::settings::Pod;
use quorate::types::{ClusterId, Namespace};

use super::fixture::Resources;
use super::look::client;
use super::operated::own_kubeconfig;

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
