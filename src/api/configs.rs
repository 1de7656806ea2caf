//! `/v1/config`: replicated configuration documents.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;

use super::extract::{JsonBody, Names, Query, config_condition, has_already, name, step_to};
use super::problem::{Problem, ProblemKind};
use super::reply::Reply;
use super::{Api, sessions, wire};
use crate::machine::command::{ConfigDocument, ConfigId, ConsumerReport};
use crate::machine::config::{ConfigOwner, ConfigRecord};
use crate::machine::consumers::ConsumerRecord;
use crate::types::{DocumentKey, Namespace, Version};

/// Versions that are kept when the request does not say.
const HISTORY: u32 = 20;

/// Bytes of what a consumer may say.
const LONGEST_MESSAGE: usize = 1024;

/// Stragglers that are shown.
const SHOWN: usize = 100;

/// A config's name from the path.
pub fn config_id(namespace: &str, config: &str) -> Result<ConfigId, Problem> {
    Ok(ConfigId { namespace: name("namespace", namespace)?, name: name("name", config)? })
}

/// Read a config, or an older version of it.
#[utoipa::path(
    get, path = "/v1/config/{namespace}/{name}", tag = "configuration",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("version" = Option<u64>, Query, description = "an older version, if it is kept still"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("If-None-Match" = Option<String>, Header, description = "the version that the client has"),
    ),
    responses(
        (status = 200, description = "the config", body = wire::Config),
        (status = 304, description = "the client has it already"),
    )
)]
pub async fn get(
    State(api): State<Api>,
    Names((namespace, config)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = config_id(&namespace, &config)?;
    let (read, version) = (query.take_read()?, query.take_number("version")?.map(Version::new));
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let record = match version {
        None => state.configs().get(&id).ok_or_else(|| Problem::not_found(format!("config {id}")))?,
        Some(version) => state
            .configs()
            .version(&id, version)
            .ok_or_else(|| Problem::not_found(format!("version {version} of config {id}")))?,
    };
    let tag = record.version.get();
    let reply = Reply::read(state.revision(), &read, config_of(record)).tag(tag);
    Ok(if has_already(&headers, tag) { reply.not_modified().empty() } else { reply.json() })
}

/// Read one entry of a config's data, as bytes.
#[utoipa::path(
    get, path = "/v1/config/{namespace}/{name}/keys/{key}", tag = "configuration",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("key" = String, Path, description = "a key of `data`"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    responses(
        (status = 200, description = "the text", body = Vec<u8>, content_type = "application/octet-stream"),
    )
)]
pub async fn get_key(
    State(api): State<Api>,
    Names((namespace, config, key)): Names<(String, String, String)>,
    mut query: Query,
) -> Result<Response, Problem> {
    let (id, key) = (config_id(&namespace, &config)?, name::<DocumentKey>("key", &key)?);
    let read = query.take_read()?;
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let record = state.configs().get(&id).ok_or_else(|| Problem::not_found(format!("config {id}")))?;
    let text = record.data.get(&key).ok_or_else(|| Problem::not_found(format!("key {key} of config {id}")))?;
    let body = Bytes::copy_from_slice(text.as_bytes());
    Ok(Reply::read(state.revision(), &read, body).tag(record.version.get()).bytes())
}

/// Read every version of a config that is kept, the newest first.
#[utoipa::path(
    get, path = "/v1/config/{namespace}/{name}/history", tag = "configuration",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    responses(
        (status = 200, description = "the versions", body = wire::ConfigHistory),
    )
)]
pub async fn history(
    State(api): State<Api>,
    Names((namespace, config)): Names<(String, String)>,
    mut query: Query,
) -> Result<Response, Problem> {
    let id = config_id(&namespace, &config)?;
    let read = query.take_read()?;
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let versions: Vec<_> = state.configs().history(&id).map(|record| config_of(record)).collect();
    if versions.is_empty() {
        return Err(Problem::not_found(format!("config {id}")));
    }
    Ok(Reply::read(state.revision(), &read, wire::ConfigHistory { versions }).json())
}

/// List the configs of a namespace.
#[utoipa::path(
    get, path = "/v1/config/{namespace}", tag = "configuration",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    responses(
        (status = 200, description = "the configs", body = wire::ConfigList),
    )
)]
pub async fn list(
    State(api): State<Api>,
    Names(namespace): Names<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    let namespace: Namespace = name("namespace", &namespace)?;
    let read = query.take_read()?;
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let configs = state.configs().list(Some(&namespace)).map(|(id, record)| summary(id, record)).collect();
    let revision = state.revision();
    Ok(Reply::read(revision, &read, wire::ConfigList { configs, revision: revision.get() }).json())
}

/// Set a config, where no custom resource owns it.
#[utoipa::path(
    put, path = "/v1/config/{namespace}/{name}", tag = "configuration",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("If-Match" = Option<String>, Header, description = "`*`, or the version that the config must have"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: the config must not exist"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    request_body = wire::PutConfig,
    responses(
        (status = 200, description = "the version that is served now", body = wire::ConfigPut),
    )
)]
pub async fn put(
    State(api): State<Api>,
    Names((namespace, config)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(body): JsonBody<wire::PutConfig>,
) -> Result<Response, Problem> {
    let id = config_id(&namespace, &config)?;
    let (write, only_if) = (query.take_write(&headers)?, config_condition(&headers)?);
    query.finish()?;
    let pointer = |key: &str| format!("/data{}", step_to(key));
    let named = |(key, text): (String, String)| Ok((name::<DocumentKey>(&pointer(&key), &key)?, text));
    let history_limit = body.history_limit.unwrap_or(HISTORY);
    if !(1..=100).contains(&history_limit) {
        return Err(Problem::invalid("/historyLimit", "it is a number from 1 to 100"));
    }
    let document = ConfigDocument {
        data: body.data.into_iter().map(named).collect::<Result<_, Problem>>()?,
        history_limit,
        rollback_to: body.rollback_to.map(Version::new),
    };
    let written = api.coordinator.put_config(id, document, only_if, write).await?;
    let put = written.effect;
    let body = wire::ConfigPut { version: put.version.get(), revision: put.revision.get(), changed: put.changed };
    Ok(Reply::written(written.revision, body).tag(put.version.get()).json())
}

/// Delete a config with its history, where no custom resource owns it.
#[utoipa::path(
    delete, path = "/v1/config/{namespace}/{name}", tag = "configuration",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("If-Match" = Option<String>, Header, description = "`*`, or the version that the config must have"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    responses(
        (status = 200, description = "whether there was something to delete", body = wire::Deleted),
    )
)]
pub async fn delete(
    State(api): State<Api>,
    Names((namespace, config)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = config_id(&namespace, &config)?;
    let (write, only_if) = (query.take_write(&headers)?, config_condition(&headers)?);
    query.finish()?;
    let written = api.coordinator.delete_config(id, only_if, write).await?;
    let body = wire::Deleted { deleted: written.effect, revision: written.revision.get() };
    Ok(Reply::written(written.revision, body).json())
}

/// Say which version of a config a consumer runs. It is forgotten with the consumer's session.
#[utoipa::path(
    post, path = "/v1/config/{namespace}/{name}/applied", tag = "configuration",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    request_body = wire::Applied,
    responses(
        (status = 200, description = "it is noted", body = wire::AppliedNoted),
    )
)]
pub async fn report(
    State(api): State<Api>,
    Names((namespace, config)): Names<(String, String)>,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(body): JsonBody<wire::Applied>,
) -> Result<Response, Problem> {
    let id = config_id(&namespace, &config)?;
    let write = query.take_write(&headers)?;
    query.finish()?;
    let session = sessions::known(&api, "/session", &body.session)?;
    if body.message.len() > LONGEST_MESSAGE {
        let detail = format!("the message has {} bytes, and at most {LONGEST_MESSAGE} are allowed", body.message.len());
        return Err(Problem::new(ProblemKind::TooLarge, detail));
    }
    let report = ConsumerReport { version: Version::new(body.version), ok: body.ok, message: body.message };
    let written = api.coordinator.report_consumer(id, session, report, write).await?;
    Ok(Reply::written(written.revision, wire::AppliedNoted { revision: written.revision.get() }).json())
}

/// Read who runs which version of a config.
#[utoipa::path(
    get, path = "/v1/config/{namespace}/{name}/consumers", tag = "configuration",
    params(
        ("namespace" = String, Path, description = "a DNS label"),
        ("name" = String, Path, description = "a DNS subdomain"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    responses(
        (status = 200, description = "the consumers", body = wire::Consumers),
    )
)]
pub async fn consumers(
    State(api): State<Api>,
    Names((namespace, config)): Names<(String, String)>,
    mut query: Query,
) -> Result<Response, Problem> {
    let id = config_id(&namespace, &config)?;
    let read = query.take_read()?;
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let version = state.configs().get(&id).ok_or_else(|| Problem::not_found(format!("config {id}")))?.version;
    let runs_it = |record: &ConsumerRecord| record.report.ok && record.report.version == version;
    let all = || state.consumers().of(&id);
    let stragglers = all().filter(|(_, record)| !runs_it(record)).take(SHOWN).map(|(session, record)| wire::Consumer {
        session: sessions::called(&api, session),
        client: state.sessions().get(session).and_then(|record| Some(record.client.as_ref()?.to_string())),
        version: record.report.version.get(),
        ok: record.report.ok,
        message: record.report.message.clone(),
        at: record.at.to_string(),
    });
    let body = wire::Consumers {
        version: version.get(),
        registered: all().count() as u64,
        applied: all().filter(|(_, record)| runs_it(record)).count() as u64,
        stragglers: stragglers.collect(),
    };
    Ok(Reply::read(state.revision(), &read, body).json())
}

/// A config as JSON shows it.
pub fn config_of(record: &ConfigRecord) -> wire::Config {
    wire::Config {
        data: record.data.iter().map(|(key, text)| (key.to_string(), text.clone())).collect(),
        version: record.version.get(),
        revision: record.revision.get(),
        content_hash: hash_of(record),
        updated_at: record.updated_at.to_string(),
        rollback_of: record.rollback_of.map(Version::get),
        managed: record.owner == ConfigOwner::Resource,
    }
}

fn summary(id: &ConfigId, record: &ConfigRecord) -> wire::ConfigSummary {
    wire::ConfigSummary {
        namespace: id.namespace.to_string(),
        name: id.name.to_string(),
        version: record.version.get(),
        revision: record.revision.get(),
        content_hash: hash_of(record),
        updated_at: record.updated_at.to_string(),
        managed: record.owner == ConfigOwner::Resource,
    }
}

fn hash_of(record: &ConfigRecord) -> String {
    format!("sha256:{}", record.content_hash)
}
