//! One look at everything: the folder, and each member over HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;

use super::layout::{Layout, MemberPlace};
use crate::api::wire::Cluster;
use crate::client::{Client, ClientError, Freshness, Patience};
use crate::machine::command::ConfigId;
use crate::operator::documents::DeclaredConfig;
use crate::operator::folder;
use crate::operator::plan::Unclear;
use crate::raft::Clock;
use crate::server::SystemClock;

/// What was seen.
#[derive(Debug, Clone)]
pub struct Observation {
    pub members: Vec<MemberSeen>,
    /// Every declared config, and on how many members which version is served.
    pub configs: BTreeMap<ConfigId, ConfigSeen>,
    /// What is wrong in the folder.
    pub problems: Vec<String>,
    /// What is wrong may declare more.
    pub unclear: Unclear,
}

/// One member.
#[derive(Debug, Clone)]
pub enum MemberSeen {
    Silent,
    Answers(Box<Cluster>),
}

/// One declared config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSeen {
    /// The version of those members that hold what is declared.
    pub version: Option<u64>,
    /// How many they are.
    pub members: usize,
}

/// A member that is alive on the same machine answers sooner.
const PATIENCE: Duration = Duration::from_millis(800);

/// What looks: it keeps a connection to each member.
pub struct Observer {
    resources: PathBuf,
    members: Vec<Client>,
}

impl Observer {
    /// # Errors
    /// When a member's URL is none.
    pub fn new(layout: &Layout) -> Result<Self, ClientError> {
        let client =
            |member: &MemberPlace| Client::new(&[member.url()], Patience::Once(PATIENCE), SystemClock.random());
        let members = layout.members.iter().map(client).collect::<Result<_, _>>()?;
        Ok(Self { resources: layout.resources.clone(), members })
    }

    /// Looks once.
    pub async fn look(&self) -> Observation {
        let resources = self.resources.clone();
        let content =
            tokio::task::spawn_blocking(move || folder::read(&resources, "default")).await.unwrap_or_default();
        let members = join_all(self.members.iter().map(observe_member)).await;
        let mut configs = BTreeMap::new();
        for (config, declared) in &content.configs {
            configs.insert(config.clone(), observe_config(&self.members, declared).await);
        }
        let problems = content.problems.iter().map(ToString::to_string).collect();
        Observation { members, configs, problems, unclear: content.unclear }
    }
}

async fn observe_member(member: &Client) -> MemberSeen {
    member.cluster().await.map_or(MemberSeen::Silent, |answer| MemberSeen::Answers(Box::new(answer.body)))
}

async fn observe_config(members: &[Client], declared: &DeclaredConfig) -> ConfigSeen {
    let wanted: BTreeMap<_, _> =
        declared.wanted.data.iter().map(|(key, text)| (key.to_string(), text.clone())).collect();
    let rolled_back = declared.wanted.rollback_to.is_some();
    let served = join_all(members.iter().map(|member| served(member, &declared.id))).await;
    let holding = served.into_iter().flatten().filter(|(_, data)| rolled_back || *data == wanted);
    let versions: Vec<_> = holding.map(|(version, _)| version).collect();
    let version = versions.iter().max().copied();
    ConfigSeen { version, members: versions.iter().filter(|found| Some(**found) == version).count() }
}

async fn served(member: &Client, config: &ConfigId) -> Option<(u64, BTreeMap<String, String>)> {
    let answer = member.config(&config.namespace, &config.name, None, Freshness::Stale).await.ok()?;
    Some((answer.body.version, answer.body.data))
}
