//! What the API server has told, in memory. Synchronous: whoever looks sees one moment.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::ObjectMeta;
use kube::core::object::{HasSpec, HasStatus};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::ApiError;
use super::object::Object;
use super::objects::Objects;
use super::watching::{Kind, News};
use crate::machine::command::{ConfigDocument, ConfigId, ContestId, ElectionSpec};
use crate::operator::plan::ResourceId;
use crate::operator::resources::{
    Invalid, KeptLease, LeaderElection, LeaderElectionStatus, LeaderLabel, QuorateCluster, QuorateClusterSpec,
    QuorateClusterStatus, ReplicatedConfig, ReplicatedConfigStatus, default_cluster,
};
use crate::types::Namespace;

/// A resource's name in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectKey {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What all statuses have.
pub(super) trait Status: Clone + PartialEq + DeserializeOwned {
    fn cluster_id(&self) -> Option<&str>;
    fn leadership(&self) -> Option<i64>;
    fn leadership_mut(&mut self) -> &mut Option<i64>;
    fn conditions(&self) -> &[Condition];
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    /// Who leads, where that is told, in words.
    fn leader(&self) -> Option<String>;
}

macro_rules! status {
    ($type:ty, $status:ident => $leader:expr) => {
        impl Status for $type {
            fn cluster_id(&self) -> Option<&str> {
                self.cluster_id.as_deref()
            }
            fn leadership(&self) -> Option<i64> {
                self.observed_leadership
            }
            fn leadership_mut(&mut self) -> &mut Option<i64> {
                &mut self.observed_leadership
            }
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }
            fn conditions_mut(&mut self) -> &mut Vec<Condition> {
                &mut self.conditions
            }
            fn leader(&self) -> Option<String> {
                let $status = self;
                $leader
            }
        }
    };
}

status!(ReplicatedConfigStatus, _status => None);
status!(LeaderElectionStatus, status => who_leads(status));
status!(QuorateClusterStatus, status => status.raft_leader.clone());

/// The newest leader of an election, and with which token.
fn who_leads(status: &LeaderElectionStatus) -> Option<String> {
    let leader = status.leaders.last()?;
    let candidate = leader.candidate.as_deref().unwrap_or("a candidate without a name");
    Some(format!("{candidate}, with fencing token {}", leader.fencing_token))
}

/// What people are told of when it changes.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) uid: String,
    /// In which it was written.
    pub(super) leadership: Option<i64>,
    pub(super) conditions: Vec<Condition>,
    pub(super) leader: Option<String>,
}

/// A resource as it is read: what it asks for, or what is wrong with it.
pub(super) trait Declaration: HasSpec<Spec: DeserializeOwned> + HasStatus<Status: Status> {
    type Wanted: Clone;

    fn new(metadata: ObjectMeta, spec: Self::Spec) -> Self;

    fn accept(&self) -> Result<Self::Wanted, Vec<Invalid>>;
}

impl Declaration for ReplicatedConfig {
    type Wanted = (ConfigId, ConfigDocument);

    fn new(metadata: ObjectMeta, spec: Self::Spec) -> Self {
        Self { metadata, spec, status: None }
    }

    fn accept(&self) -> Result<Self::Wanted, Vec<Invalid>> {
        self.accept()
    }
}

/// What a `LeaderElection` asks for.
#[derive(Debug, Clone)]
pub(super) struct WantedElection {
    pub(super) id: ContestId,
    pub(super) spec: ElectionSpec,
    pub(super) label: Option<LeaderLabel>,
    pub(super) lease: Option<KeptLease>,
}

impl Declaration for LeaderElection {
    type Wanted = WantedElection;

    fn new(metadata: ObjectMeta, spec: Self::Spec) -> Self {
        Self { metadata, spec, status: None }
    }

    fn accept(&self) -> Result<Self::Wanted, Vec<Invalid>> {
        let (id, spec) = self.accept()?;
        Ok(WantedElection { id, spec, label: self.spec.leader_label.clone(), lease: self.kept_lease() })
    }
}

impl Declaration for QuorateCluster {
    type Wanted = QuorateClusterSpec;

    fn new(metadata: ObjectMeta, spec: Self::Spec) -> Self {
        Self { metadata, spec, status: None }
    }

    fn accept(&self) -> Result<Self::Wanted, Vec<Invalid>> {
        Ok(self.spec.clone())
    }
}

/// A resource, read.
#[derive(Debug, Clone)]
pub(super) struct Seen<R: Declaration> {
    pub(super) uid: String,
    pub(super) generation: Option<i64>,
    /// Which Quorate cluster it is for, as far as that can be read.
    pub(super) cluster: String,
    pub(super) wanted: Result<R::Wanted, Vec<Invalid>>,
    /// What cannot be read of it is left out: it is written anew, unless another cluster writes it.
    pub(super) status: Option<R::Status>,
}

/// Which resources are read, beyond whose they are.
#[derive(Debug, Clone, Copy)]
enum Whose<'a> {
    /// Those of any cluster.
    All,
    /// Those of this one: what others accept costs memory and time.
    Of(&'a str),
}

impl<R: Declaration> Seen<R> {
    fn read(object: Object, whose: Whose<'_>, known: Option<&Self>) -> Self {
        let (uid, generation) = (object.metadata.uid.clone().unwrap_or_default(), object.metadata.generation);
        let cluster = object.spec_field("cluster").unwrap_or_else(default_cluster);
        let status = status(&object);
        // What could not be read may be read once its CRD is another one, which is no change of the object.
        let is_as_known = |known: &&Self| {
            known.uid == uid && known.generation == generation && generation.is_some() && known.wanted.is_ok()
        };
        let wanted = match (whose, known.filter(is_as_known)) {
            (_, Some(known)) => known.wanted.clone(),
            (Whose::Of(own), None) if own != cluster => Err(vec![of_another_cluster(own)]),
            (Whose::Of(_) | Whose::All, None) => object.spec().and_then(|spec| R::new(object.metadata, spec).accept()),
        };
        Self { uid, generation, cluster, wanted, status }
    }

    /// Takes over what a write has left: a status. What else is new in it, the watch tells.
    fn refresh(&mut self, object: &Object) {
        if object.metadata.uid.as_ref() == Some(&self.uid) {
            self.status = status(object);
        }
    }
}

/// The status of an object. Whose it is must be known even if a later release has written it, and the rest cannot be read.
fn status<S: DeserializeOwned>(object: &Object) -> Option<S> {
    object.status().or_else(|| {
        let cluster: Option<String> = object.status_field("clusterId");
        let leadership: Option<i64> = object.status_field("observedLeadership");
        serde_json::from_value(json!({ "clusterId": cluster?, "observedLeadership": leadership })).ok()
    })
}

fn of_another_cluster(own: &str) -> Invalid {
    Invalid {
        path: vec!["spec".to_owned(), "cluster".to_owned()],
        what: format!("it is not {own:?}, this cluster's name"),
    }
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Whose configs and elections count.
    cluster: String,
    pub(super) clusters: Objects<Seen<QuorateCluster>>,
    pub(super) configs: Objects<Seen<ReplicatedConfig>>,
    pub(super) elections: Objects<Seen<LeaderElection>>,
    /// How many replicas the StatefulSet asks for.
    pub(super) replicas: Objects<i64>,
}

impl Index {
    /// Of a cluster with that name.
    pub(super) fn of(cluster: &Namespace) -> Self {
        Self { cluster: cluster.to_string(), ..Self::default() }
    }

    pub(super) fn take(&mut self, news: News) {
        let News { kind, event } = news;
        let own = Whose::Of(&self.cluster);
        match kind {
            Kind::Cluster => self.clusters.take(event, |object, known| Seen::read(object, Whose::All, known)),
            Kind::Config => self.configs.take(event, |object, known| Seen::read(object, own, known)),
            Kind::Election => self.elections.take(event, |object, known| Seen::read(object, own, known)),
            Kind::StatefulSet => self.replicas.take(event, |object, _| replicas(&object)),
        }
    }

    /// Takes an object as a write has left it, before the watch tells of it.
    pub(super) fn take_written(&mut self, kind: Kind, object: &Object) {
        match kind {
            Kind::Cluster => self.clusters.refresh(object, Seen::refresh),
            Kind::Config => self.configs.refresh(object, Seen::refresh),
            Kind::Election => self.elections.refresh(object, Seen::refresh),
            Kind::StatefulSet => self.replicas.refresh(object, |known, object| *known = replicas(object)),
        }
    }

    /// Whether all kinds that declare something were listed, so that what is not there is not declared.
    pub(super) fn is_complete(&self) -> bool {
        self.configs.listed && self.elections.listed
    }

    /// The living cluster of that id, for people; `None` when no resource knows of it.
    pub(super) fn owner(&self, cluster_id: &str) -> Option<String> {
        if !self.clusters.listed {
            return Some(format!("cluster {cluster_id}, of which is not known whether it lives"));
        }
        let is_it = |seen: &Seen<QuorateCluster>| {
            seen.status.as_ref().and_then(|status| status.cluster_id.as_deref()) == Some(cluster_id)
        };
        let (key, _) = self.clusters.iter().find(|(_, seen)| is_it(seen))?;
        Some(format!("cluster {cluster_id}, QuorateCluster {key}"))
    }

    /// The API server's version of an object: another one with every change.
    pub(super) fn version(&self, kind: Kind, key: &ObjectKey) -> Option<u64> {
        match kind {
            Kind::Cluster => self.clusters.version(key),
            Kind::Config => self.configs.version(key),
            Kind::Election => self.elections.version(key),
            Kind::StatefulSet => self.replicas.version(key),
        }
    }

    /// Which generation of a resource is seen.
    pub(super) fn generation(&self, resource: &ResourceId) -> Option<i64> {
        let key =
            |namespace: &Namespace, name: &str| ObjectKey { namespace: namespace.to_string(), name: name.to_owned() };
        match resource {
            ResourceId::Config(config) => self.configs.get(&key(&config.namespace, config.name.as_str()))?.generation,
            ResourceId::Election(election) => {
                self.elections.get(&key(&election.namespace, election.name.as_str()))?.generation
            }
        }
    }

    /// What people were told in a status; `None` when there is no such object.
    pub(super) fn told(&self, kind: Kind, key: &ObjectKey) -> Option<Told> {
        fn told<R: Declaration>(seen: Option<&Seen<R>>) -> Option<Told> {
            let (seen, status) = (seen?, seen?.status.as_ref());
            Some(Told {
                uid: seen.uid.clone(),
                leadership: status.and_then(Status::leadership),
                conditions: status.map(|status| status.conditions().to_vec()).unwrap_or_default(),
                leader: status.and_then(Status::leader),
            })
        }
        match kind {
            Kind::Cluster => told(self.clusters.get(key)),
            Kind::Config => told(self.configs.get(key)),
            Kind::Election => told(self.elections.get(key)),
            Kind::StatefulSet => None,
        }
    }

    /// Who has stopped leading an election last, and why.
    pub(super) fn last_to_lead(&self, kind: Kind, key: &ObjectKey) -> Option<String> {
        let seen = self.elections.get(key).filter(|_| kind == Kind::Election)?;
        let last = seen.status.as_ref()?.last_transition.as_ref()?;
        let candidate = last.candidate.as_deref().unwrap_or("a candidate without a name");
        Some(format!("{candidate} stopped: {}", last.cause))
    }

    /// Whether a kind is seen as it is now.
    pub(super) fn is_seen(&self, kind: Kind) -> bool {
        match kind {
            Kind::Cluster => self.clusters.is_seen(),
            Kind::Config => self.configs.is_seen(),
            Kind::Election => self.elections.is_seen(),
            Kind::StatefulSet => self.replicas.is_seen(),
        }
    }

    /// Why a kind is not seen.
    pub(super) fn trouble(&self, kind: Kind) -> Option<&ApiError> {
        match kind {
            Kind::Cluster => self.clusters.trouble.as_ref(),
            Kind::Config => self.configs.trouble.as_ref(),
            Kind::Election => self.elections.trouble.as_ref(),
            Kind::StatefulSet => self.replicas.trouble.as_ref(),
        }
    }
}

fn replicas(object: &Object) -> i64 {
    // The API server fills in 1 where nothing is said.
    object.spec_field("replicas").unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::Value;

    use super::*;

    /// A config of the cluster `own`, with what is given in place of what it has.
    fn config(changes: Value) -> Object {
        let mut object = json!({
            "metadata": { "namespace": "shop", "name": "web", "uid": "1-2", "generation": 1, "resourceVersion": "1" },
            "spec": { "cluster": "own", "data": { "a": "1" } },
        });
        merge(&mut object, changes);
        serde_json::from_str(&object.to_string()).expect("an object")
    }

    fn merge(into: &mut Value, changes: Value) {
        match (into, changes) {
            (Value::Object(into), Value::Object(changes)) => {
                for (name, change) in changes {
                    merge(into.entry(name).or_insert(Value::Null), change);
                }
            }
            (into, change) => *into = change,
        }
    }

    fn index() -> Index {
        Index::of(&Namespace::new("own").expect("a label"))
    }

    fn take(index: &mut Index, object: Object) {
        index.take(News { kind: Kind::Config, event: Ok(Event::Apply(object)) });
    }

    fn seen(index: &Index) -> &Seen<ReplicatedConfig> {
        index.configs.get(&ObjectKey { namespace: "shop".to_owned(), name: "web".to_owned() }).expect("it was taken")
    }

    /// The text that is asked for, or what is wrong.
    fn wanted(index: &Index) -> Result<&str, String> {
        let (_, document) = seen(index).wanted.as_ref().map_err(|invalid| invalid[0].to_string())?;
        Ok(document.data.values().next().map(String::as_str).unwrap_or_default())
    }

    #[test]
    fn what_is_for_another_cluster_is_not_read() {
        let mut index = index();
        let status = json!({ "clusterId": "a".repeat(32) });
        take(&mut index, config(json!({ "spec": { "cluster": "other", "schema": { "type": 5 } }, "status": status })));
        assert_eq!(wanted(&index), Err("spec.cluster: it is not \"own\", this cluster's name".to_owned()));
        assert_eq!((seen(&index).uid.as_str(), seen(&index).cluster.as_str()), ("1-2", "other"));
        assert_eq!(seen(&index).status.as_ref().and_then(Status::cluster_id), Some("a".repeat(32).as_str()));
    }

    #[test]
    fn what_is_declared_is_read_once_for_each_generation_and_each_life() {
        let mut index = index();
        take(&mut index, config(json!({})));
        assert_eq!(wanted(&index), Ok("1"));
        // The API server never tells such a thing; here it shows what is read.
        let news = json!({ "spec": { "data": { "a": "2" } }, "status": { "version": 7 } });
        let later = |changes: Value| {
            let mut object = json!({ "metadata": { "resourceVersion": "2" } });
            merge(&mut object, news.clone());
            merge(&mut object, changes);
            config(object)
        };
        take(&mut index, later(json!({})));
        assert_eq!(
            (wanted(&index), seen(&index).status.as_ref().and_then(|status| status.version)),
            (Ok("1"), Some(7))
        );
        for event in [Event::Init, Event::InitApply(later(json!({}))), Event::InitDone] {
            index.take(News { kind: Kind::Config, event: Ok(event) });
        }
        assert_eq!(wanted(&index), Ok("1"), "a new list brings nothing new");
        take(&mut index, later(json!({ "metadata": { "generation": 2 } })));
        assert_eq!(wanted(&index), Ok("2"));
        take(
            &mut index,
            later(json!({ "metadata": { "generation": 2, "uid": "3-4" }, "spec": { "data": { "a": "3" } } })),
        );
        assert_eq!(wanted(&index), Ok("3"));
    }

    #[test]
    fn what_could_not_be_read_is_read_again_whenever_it_is_told() {
        let mut index = index();
        take(&mut index, config(json!({ "spec": { "historyLimit": "many" } })));
        assert!(wanted(&index).is_err_and(|why| why.contains("historyLimit")));
        take(&mut index, config(json!({})));
        assert_eq!(wanted(&index), Ok("1"));
    }

    #[test]
    fn what_a_write_was_answered_brings_a_status_and_the_watch_the_rest() {
        let mut index = index();
        take(&mut index, config(json!({})));
        let answer = |uid: &str| {
            let metadata = json!({ "uid": uid, "generation": 2, "resourceVersion": "3" });
            config(json!({ "metadata": metadata, "spec": { "data": { "a": "2" } }, "status": { "version": 7 } }))
        };
        index.take_written(Kind::Config, &answer("3-4"));
        assert_eq!(seen(&index).status, None, "it is of another life");
        index.take_written(Kind::Config, &answer("1-2"));
        assert_eq!((wanted(&index), seen(&index).generation), (Ok("1"), Some(1)));
        assert_eq!(seen(&index).status.as_ref().and_then(|status| status.version), Some(7));
        take(&mut index, answer("1-2"));
        assert_eq!((wanted(&index), seen(&index).generation), (Ok("2"), Some(2)));
    }

    #[test]
    fn whose_a_status_is_is_seen_when_the_rest_of_it_cannot_be_read() {
        let (mut index, owner) = (index(), "a".repeat(32));
        let status = json!({ "clusterId": owner, "observedLeadership": 5, "conditions": "of a later release" });
        take(&mut index, config(json!({ "status": status })));
        let status = seen(&index).status.clone().expect("whose it is");
        let expected = ReplicatedConfigStatus {
            cluster_id: Some(owner.clone()),
            observed_leadership: Some(5),
            ..ReplicatedConfigStatus::default()
        };
        assert_eq!(status, expected);

        let status = json!({ "clusterId": owner, "members": [{ "state": "Dreaming" }] });
        let object = json!({ "metadata": { "namespace": "shop", "name": "q" }, "spec": {}, "status": status });
        let object = serde_json::from_str(&object.to_string()).expect("an object");
        for event in [Event::Init, Event::InitApply(object), Event::InitDone] {
            index.take(News { kind: Kind::Cluster, event: Ok(event) });
        }
        let told = format!("cluster {owner}, QuorateCluster shop/q");
        assert_eq!(index.owner(&owner), Some(told));
    }

    #[test]
    fn an_object_that_cannot_be_read_keeps_no_other_from_being_seen() {
        let mut index = index();
        let deep = (0..9000).fold(String::from("1"), |deep, _| format!("[{deep}]"));
        let object = config(json!({})).metadata;
        let json = format!(
            "{{\"metadata\": {{\"namespace\": \"shop\", \"name\": {:?}, \"uid\": \"1-2\", \"generation\": 1}}, \
             \"spec\": {{\"cluster\": \"own\", \"schema\": {{\"x\": {deep}}}}}}}",
            object.name.expect("it has one")
        );
        take(&mut index, serde_json::from_str(&json).expect("an object"));
        take(&mut index, config(json!({ "metadata": { "name": "good" } })));
        assert!(wanted(&index).is_err_and(|error| error.starts_with("spec: it is nested deeper than the limit")));
        assert_eq!(index.configs.iter().filter(|(_, seen)| seen.wanted.is_ok()).count(), 1);
    }
}
