//! Where resources come from, and with them, whether something outside of the members knows their cluster.

use std::sync::Arc;

use super::MemberError;
use crate::coordinator::{Beginning, Coordinator};
use crate::operator::intake::{self, Folder};
use crate::operator::kubernetes::{self, ApiServer, OperatorMetrics, QuorateClusterRegistry, Release};
use crate::settings::{Founding, MemberSettings, Resources};
use crate::tasks::{Exit, Tasks};

/// Where a member's resources come from.
pub(super) enum Source {
    Nowhere,
    Folder(Folder),
    Kubernetes(ApiServer, Release),
}

impl Source {
    pub(super) async fn of(settings: &MemberSettings) -> Result<Self, MemberError> {
        let cluster = settings.cluster.clone();
        Ok(match &settings.resources {
            None => Self::Nowhere,
            Some(Resources::Folder(path)) => Self::Folder(Folder { path: path.clone(), cluster }),
            Some(Resources::Kubernetes(pod)) => {
                let release = Release { pod: pod.clone(), cluster, member_port: settings.member_listen.port() };
                Self::Kubernetes(ApiServer::infer().await?, release)
            }
        })
    }

    /// How the cluster begins.
    pub(super) fn beginning(&self, settings: &MemberSettings) -> Beginning {
        match (&settings.founding, self) {
            (Founding::Together(members), _) => Beginning::Together(members.clone()),
            (Founding::FromOnePod, Self::Kubernetes(api_server, release)) => Beginning::Registered {
                registry: Arc::new(QuorateClusterRegistry::new(api_server.clone(), release.clone())),
                address: release.address(),
                founder: release.founder(),
            },
            (Founding::FromOnePod, Self::Nowhere | Self::Folder(_)) => {
                unreachable!("the settings allow it with Kubernetes only")
            }
        }
    }

    /// Begins to make the cluster hold what the resources say.
    pub(super) fn start(self, coordinator: Coordinator, metrics: OperatorMetrics, tasks: &Tasks) {
        let stopping = tasks.stopping();
        match self {
            Self::Nowhere => {}
            Self::Folder(folder) => {
                tasks.spawn("resources", Exit::Fatal, intake::run(folder, coordinator, stopping));
            }
            Self::Kubernetes(api_server, release) => {
                let operator = kubernetes::run(api_server, release, coordinator, metrics, stopping);
                tasks.spawn("operator", Exit::Fatal, operator);
            }
        }
    }
}
