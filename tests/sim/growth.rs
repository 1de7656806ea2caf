//! Whoever changes the size of a cluster, as the operator does: makes a cluster of one member one of three, and sometimes one of
//! one again, and of three again.

use std::sync::Arc;
use std::time::Duration;

use quorate::machine::command::{Action, ClusterSize};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;

/// Works until it is done. After `end` the cluster gets no smaller any more.
pub async fn resize(cluster: Arc<Cluster>, end: Instant, mut rng: SmallRng) {
    declare(&cluster, cluster.size(), &mut rng).await;
    sleep(Duration::from_millis(rng.random_range(0..500))).await;
    cluster.scale_up();
    if rng.random_bool(0.4) {
        return;
    }
    while Instant::now() < end {
        sleep(Duration::from_millis(rng.random_range(20..500))).await;
        if cluster.may_shrink() {
            declare(&cluster, 1, &mut rng).await;
            sleep(Duration::from_millis(rng.random_range(0..4000))).await;
            declare(&cluster, cluster.size(), &mut rng).await;
            // A change that was decided before may be on its way.
            sleep(Duration::from_secs(2)).await;
            cluster.has_its_size();
        }
    }
}

/// Says how many should vote, until it was heard.
async fn declare(cluster: &Cluster, voters: usize, rng: &mut SmallRng) {
    loop {
        sleep(Duration::from_millis(rng.random_range(20..500))).await;
        let running = cluster.all_running();
        let Some((member, leadership)) = running.iter().find_map(|it| Some((it, it.coordinator.own_leadership()?)))
        else {
            continue;
        };
        let size = ClusterSize { voters: u32::try_from(voters).expect("a small number"), learners: 0 };
        let deadline = Instant::now() + Duration::from_secs(1);
        let said = member.coordinator.propose_duty(leadership, Action::SetSize(size), deadline);
        if let Some(Ok(_)) = member.life.outlives(said).await {
            return;
        }
    }
}
