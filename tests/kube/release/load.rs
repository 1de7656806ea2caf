//! Clients at the members of a release, however many of them there are.

use tokio::time::Instant;

use super::helm::Release;
use crate::clients::Clients;
use crate::members::{Members, name};

/// The most members that there are at a time.
pub const MOST: usize = 5;

impl Release {
    /// Where members are or will be.
    fn urls(&self) -> Vec<String> {
        let service = format!("quorate-members.{}.svc.cluster.local:8080", self.namespace.name);
        (0..MOST).map(|member| format!("http://{}.{service}", name(member))).collect()
    }
}

/// Writers, readers and candidates at all members, and a watch on one that is there from the beginning to the end.
pub struct Load {
    clients: Clients,
    members: Members,
}

impl Load {
    pub fn on(release: &Release) -> Self {
        Self::watched_at(release, 0)
    }

    pub fn watched_at(release: &Release, member: usize) -> Self {
        let urls = release.urls();
        let clients = Clients::start(&release.namespace.name, &urls, vec![urls[member].clone()]);
        Self { clients, members: release.members() }
    }

    /// Goes on while something lasts, and tells what became of the load meanwhile.
    pub async fn during<T>(&self, what: &str, lasting: impl Future<Output = T>) -> T {
        let Clients { workload, candidates, .. } = &self.clients;
        let (before, reigns, began) = (workload.acknowledged(), candidates.reigns(), Instant::now());
        let done = self.clients.with_rounds(lasting).await;
        let written = workload.acknowledged() - before;
        println!(
            "{what} after {:.1?}: {written} writes acknowledged meanwhile, none for at most {:.2?}; {} reigns began, and no election \
             was without a leader for longer than {:.2?}",
            began.elapsed(),
            workload.longest_pause_since(began),
            candidates.reigns() - reigns,
            candidates.longest_gaps_since(began).into_iter().max().unwrap_or_default(),
        );
        assert!(written > 0, "nothing was written meanwhile");
        done
    }

    /// Ends the work and holds what clients were told against the promises, and the members that there are against each other.
    pub async fn judge(self) {
        self.clients.judge().await;
        let set = self.members.namespace.get("statefulset/quorate").await.unwrap();
        let members = set["spec"]["replicas"].as_u64().and_then(|members| usize::try_from(members).ok());
        self.members.hold_the_same(members.expect("it has a size")).await;
    }
}
