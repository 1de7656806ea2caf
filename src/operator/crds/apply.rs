//! Brings the CRDs to the API server, and waits until it serves what they define.
//!
//! It needs to get, create and patch customresourcedefinitions by their names, and nothing else. A CRD of a newer release is
//! left alone: it has every field of this one, and an older one would cut the newer fields off whatever is stored.

use std::fmt;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::causes::causes;
use super::super::kubernetes::{ApiServer, NoApiServer};
use super::{RELEASE, THIS_RELEASE, definitions};

/// What became of one CRD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub name: String,
    pub change: Change,
}

/// How it differs from before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Created,
    Changed,
    Unchanged,
    /// It is of this newer release, and was left as it is.
    Newer(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Changed => f.write_str("changed"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::Newer(release) => write!(f, "left as it is: it is of release {release}, and this is {THIS_RELEASE}"),
        }
    }
}

/// Why not every CRD is served as it should be. To apply them again is always harmless.
#[derive(Debug, Error)]
pub enum ApplyError {
    #[error(transparent)]
    NoApiServer(#[from] NoApiServer),
    #[error("the API server does not answer: {0}; is it running, and is the kubeconfig right?")]
    Unavailable(String),
    #[error(
        "the API server refuses to {verb} {name}: {message}; the account needs get, create and patch for customresourcedefinitions"
    )]
    Forbidden { verb: &'static str, name: String, message: String },
    #[error("the API server refuses {name}: {message}; is it of Kubernetes 1.33 or newer?")]
    Refused { name: String, message: String },
    #[error("{name} is there, but not served after {waited:?}: {why}")]
    NotServed { name: String, waited: Duration, why: String },
}

/// One request; a longer one is sent again.
const REQUEST: Duration = Duration::from_secs(10);
/// Between two looks, and after a request that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// Applies all CRDs in the name of `manager`, to the API server that kubectl would use here, or that of the pod, and waits until
/// they are served.
///
/// # Errors
/// When that has not come about within `patience`; some of them may have been applied.
pub async fn apply(manager: &str, patience: Duration) -> Result<Vec<Applied>, ApplyError> {
    let until = Until { patience, deadline: Instant::now() + patience };
    let api = Api::all(ApiServer::infer().await?.client);
    let mut applied = Vec::new();
    for definition in definitions() {
        applied.push(until.applied(&api, manager, &definition).await?);
    }
    for Applied { name, .. } in &applied {
        until.served(&api, name).await?;
    }
    Ok(applied)
}

/// Whether they define the same. The API server may have written another status meanwhile.
fn is_same(before: &CustomResourceDefinition, after: &CustomResourceDefinition) -> bool {
    before.spec == after.spec && before.labels() == after.labels() && before.annotations() == after.annotations()
}

/// How long all of it may take.
struct Until {
    patience: Duration,
    deadline: Instant,
}

impl Until {
    async fn applied(
        &self,
        api: &Api<CustomResourceDefinition>,
        manager: &str,
        wanted: &CustomResourceDefinition,
    ) -> Result<Applied, ApplyError> {
        let name = wanted.name_any();
        let before = self.retry("get", &name, async || api.get_opt(&name).await).await?;
        if let Some(release) = before.as_ref().and_then(newer_release) {
            return Ok(Applied { name, change: Change::Newer(release.to_owned()) });
        }
        let (params, patch) = (PatchParams::apply(manager).force(), Patch::Apply(wanted));
        let after = self.retry("create or patch", &name, async || api.patch(&name, &params, &patch).await).await?;
        let change = match before {
            None => Change::Created,
            Some(before) if is_same(&before, &after) => Change::Unchanged,
            Some(_) => Change::Changed,
        };
        Ok(Applied { name, change })
    }

    async fn served(&self, api: &Api<CustomResourceDefinition>, name: &str) -> Result<(), ApplyError> {
        loop {
            let now = self.retry("get", name, async || api.get(name).await).await?;
            let Some(why) = not_served(&now) else { return Ok(()) };
            if Instant::now() + PAUSE > self.deadline {
                return Err(ApplyError::NotServed { name: name.to_owned(), waited: self.patience, why });
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks until there is an answer that will be the same the next time.
    async fn retry<T>(
        &self,
        verb: &'static str,
        name: &str,
        request: impl AsyncFn() -> kube::Result<T>,
    ) -> Result<T, ApplyError> {
        loop {
            let failure = match timeout_at(self.deadline, timeout(REQUEST, request())).await {
                Ok(Ok(Ok(answer))) => return Ok(answer),
                Ok(Ok(Err(error))) => failure(verb, name, &error),
                Ok(Err(_)) => ApplyError::Unavailable(format!("no answer within {REQUEST:?}")),
                Err(_) => ApplyError::Unavailable(format!("no answer within {:?}", self.patience)),
            };
            if !matches!(failure, ApplyError::Unavailable(_)) || Instant::now() + PAUSE > self.deadline {
                return Err(failure);
            }
            sleep(PAUSE).await;
        }
    }
}

/// What the failure of a request means.
fn failure(verb: &'static str, name: &str, error: &kube::Error) -> ApplyError {
    let kube::Error::Api(status) = error else { return ApplyError::Unavailable(causes(error)) };
    let (name, message) = (name.to_owned(), status.message.clone());
    match status.code {
        401 | 403 => ApplyError::Forbidden { verb, name, message },
        409 | 429 | 500.. => ApplyError::Unavailable(message),
        _ => ApplyError::Refused { name, message },
    }
}

/// Why a CRD is not served yet, if it is not.
fn not_served(definition: &CustomResourceDefinition) -> Option<String> {
    let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let told = |type_: &str| conditions.clone().find(|condition| condition.type_ == type_);
    if told("Established").is_some_and(|established| established.status == "True") {
        return None;
    }
    let names = told("NamesAccepted").filter(|accepted| accepted.status == "False");
    let message = names.or_else(|| told("Established")).and_then(|condition| condition.message.clone());
    Some(message.unwrap_or_else(|| "it has no condition Established".to_owned()))
}

/// The release of a CRD, when it is newer than this one.
fn newer_release(definition: &CustomResourceDefinition) -> Option<&str> {
    let release = definition.metadata.annotations.as_ref()?.get(RELEASE)?;
    (numbers(release)? > numbers(THIS_RELEASE)?).then_some(release)
}

/// `1.2.3`, so that it can be compared; `None` for anything else.
fn numbers(release: &str) -> Option<[u64; 3]> {
    let numbers: Option<Vec<_>> = release.split('.').map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(value: serde_json::Value) -> CustomResourceDefinition {
        let mut definition = definitions()[0].clone();
        let parsed: CustomResourceDefinition = serde_json::from_value(value).expect("a CRD");
        definition.metadata.annotations = parsed.metadata.annotations;
        definition.status = parsed.status;
        definition
    }

    fn of_release(release: &str) -> CustomResourceDefinition {
        definition(serde_json::json!({
            "metadata": { "annotations": { "quorate.io/release": release } },
            "spec": { "group": "", "names": { "kind": "", "plural": "" }, "scope": "", "versions": [] },
        }))
    }

    #[test]
    fn only_a_crd_of_a_newer_release_is_left_alone() {
        for newer in ["0.1.1", "0.10.0", "1.0.0"] {
            assert_eq!(newer_release(&of_release(newer)), Some(newer));
        }
        for other in ["0.0.9", THIS_RELEASE, "nonsense", ""] {
            assert_eq!(newer_release(&of_release(other)), None, "{other}");
        }
    }

    #[test]
    fn what_keeps_a_crd_from_being_served_is_told() {
        let with = |conditions: serde_json::Value| {
            not_served(&definition(serde_json::json!({
                "spec": { "group": "", "names": { "kind": "", "plural": "" }, "scope": "", "versions": [] },
                "status": { "conditions": conditions },
            })))
        };
        assert_eq!(with(serde_json::json!([{ "type": "Established", "status": "True" }])), None);
        assert_eq!(with(serde_json::json!([])).as_deref(), Some("it has no condition Established"));
        let conflict = serde_json::json!([
            { "type": "NamesAccepted", "status": "False", "message": "\"qc\" is already in use" },
            { "type": "Established", "status": "False", "message": "not all names are accepted" },
        ]);
        assert_eq!(with(conflict).as_deref(), Some("\"qc\" is already in use"));
    }
}
