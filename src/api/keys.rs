//! `/v1/kv` and `/v1/txn`: small metadata with etcd's data model.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::extract::{self, JsonBody, Names, Query, RawBody, has_already, key_condition};
use super::problem::Problem;
use super::reply::Reply;
use super::{Api, contests, sessions, wire};
use crate::machine::command::{Compare, CompareTarget, KeyOperation, Relation, Transaction};
use crate::machine::keys::{KeyPage, KeyRange, KeyRecord};
use crate::machine::outcome::{KeyMeta, OperationResult};
use crate::types::{Key, Revision, Version};

/// Keys of a page when the request does not say, and at the most.
const PAGE: usize = 100;
pub const LARGEST_PAGE: usize = 1000;

/// Bytes of values after which a page ends, so that a page of the largest values fits into memory for many callers.
const PAGE_BYTES: usize = 2 << 20;

static CREATE_REVISION: HeaderName = HeaderName::from_static("quorate-create-revision");
static MOD_REVISION: HeaderName = HeaderName::from_static("quorate-mod-revision");
static VERSION: HeaderName = HeaderName::from_static("quorate-version");

/// Read a key: its value as bytes, its numbers as headers.
#[utoipa::path(
    get, path = "/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "1 to 512 bytes of UTF-8, percent-encoded; slashes may stand as they are"),
        ("revision" = Option<u64>, Query, description = "read the past at this revision"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("If-None-Match" = Option<String>, Header, description = "the mod revision that the client has"),
    ),
    responses(
        (status = 200, description = "the value", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "the client has it already"),
    )
)]
pub async fn get(
    State(api): State<Api>,
    Names(key): Names<String>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = extract::key("key", &key)?;
    let (read, at) = (query.take_read()?, query.take_number("revision")?.map(Revision::new));
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let found = match at {
        None => state.keys().get(&key),
        Some(at) => state.keys().get_at(&key, at).map_err(crate::coordinator::CoordinatorError::from)?,
    };
    let record = found.ok_or_else(|| Problem::not_found(format!("key {key:?}", key = key.as_str())))?;
    let tag = record.meta.mod_revision.get();
    let reply = Reply::read(state.revision(), &read, record.value.clone()).tag(tag);
    let mut response = if has_already(&headers, tag) { reply.not_modified().empty() } else { reply.bytes() };
    number_headers(&mut response, &record.meta);
    Ok(response)
}

fn number_headers(response: &mut Response, meta: &KeyMeta) {
    let headers = response.headers_mut();
    headers.insert(&CREATE_REVISION, HeaderValue::from(meta.create_revision.get()));
    headers.insert(&MOD_REVISION, HeaderValue::from(meta.mod_revision.get()));
    headers.insert(&VERSION, HeaderValue::from(meta.version.get()));
}

/// Set a key to the bytes of the body.
#[utoipa::path(
    put, path = "/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "1 to 512 bytes of UTF-8, percent-encoded"),
        ("session" = Option<String>, Query, description = "the session that the key ends with"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("If-Match" = Option<String>, Header, description = "`*`, or the mod revision that the key must have"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: the key must not exist"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "at most 1 MiB"),
    responses(
        (status = 200, description = "it was set", body = wire::KeyPut),
    )
)]
pub async fn put(
    State(api): State<Api>,
    Names(key): Names<String>,
    mut query: Query,
    headers: HeaderMap,
    RawBody(value): RawBody,
) -> Result<Response, Problem> {
    let key = extract::key("key", &key)?;
    let (write, only_if) = (query.take_write(&headers)?, key_condition(&headers)?);
    let session = query.take::<String>("session")?.map(|text| sessions::known(&api, "session", &text)).transpose()?;
    query.finish()?;
    let written = api.coordinator.put_key(key, value, session, only_if, write).await?;
    let tag = written.effect.mod_revision.get();
    Ok(Reply::written(written.revision, key_put(&written.effect)).tag(tag).json())
}

/// Delete a key; deleting one that does not exist changes nothing.
#[utoipa::path(
    delete, path = "/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "1 to 512 bytes of UTF-8, percent-encoded"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("If-Match" = Option<String>, Header, description = "`*`, or the mod revision that the key must have"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    responses(
        (status = 200, description = "whether there was something to delete", body = wire::Deleted),
    )
)]
pub async fn delete(
    State(api): State<Api>,
    Names(key): Names<String>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = extract::key("key", &key)?;
    let (write, only_if) = (query.take_write(&headers)?, key_condition(&headers)?);
    query.finish()?;
    let written = api.coordinator.delete_key(key, only_if, write).await?;
    let body = wire::Deleted { deleted: written.effect.is_some(), revision: written.revision.get() };
    Ok(Reply::written(written.revision, body).json())
}

/// Read a range of keys, a page at a time, all at one revision.
#[utoipa::path(
    get, path = "/v1/kv", tag = "keys",
    params(
        ("prefix" = Option<String>, Query, description = "keys that start with it; all when absent"),
        ("start" = Option<String>, Query, description = "instead of `prefix`: from this key on"),
        ("end" = Option<String>, Query, description = "with `start`: up to but without this key"),
        ("after" = Option<String>, Query, description = "only keys behind this one: the last of the page before"),
        ("limit" = Option<u64>, Query, description = "1 to 1000 keys, default 100; a page of large values has fewer"),
        ("revision" = Option<u64>, Query, description = "read the past at this revision"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (default) or `stale`"),
        ("minRevision" = Option<u64>, Query, description = "wait until this revision is there"),
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
    ),
    responses(
        (status = 200, description = "a page", body = wire::KeyRange),
    )
)]
pub async fn range(State(api): State<Api>, mut query: Query) -> Result<Response, Problem> {
    let (read, range) = (query.take_read()?, take_range(&mut query)?);
    let (after, at) = (query.take_key("after")?, query.take_number("revision")?.map(Revision::new));
    let limit = match query.take_number("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)) {
        None => PAGE,
        Some(limit @ 1..=LARGEST_PAGE) => limit,
        Some(_) => return Err(Problem::invalid("limit", format!("it is a number from 1 to {LARGEST_PAGE}"))),
    };
    query.finish()?;
    let state = api.coordinator.read(read).await?;
    let page = match at {
        None => state.keys().range(&range, after.as_ref(), limit),
        Some(at) => state
            .keys()
            .range_at(&range, after.as_ref(), limit, at)
            .map_err(crate::coordinator::CoordinatorError::from)?,
    };
    let page = bounded(page);
    let kvs = page.keys.iter().map(|(key, record)| key_value(key, record)).collect();
    let revision = at.unwrap_or(state.revision()).get();
    Ok(Reply::read(state.revision(), &read, wire::KeyRange { kvs, revision, more: page.more }).json())
}

/// A page that ends early when its values are large; it has at least one key if there is any.
pub fn bounded(mut page: KeyPage) -> KeyPage {
    let mut bytes = 0;
    let fits = |(_, record): &&(Key, KeyRecord)| {
        let room = bytes < PAGE_BYTES;
        bytes += record.value.len();
        room
    };
    let kept = page.keys.iter().take_while(fits).count();
    page.more |= kept < page.keys.len();
    page.keys.truncate(kept);
    page
}

/// Which keys: by prefix, or between two.
pub fn take_range(query: &mut Query) -> Result<KeyRange, Problem> {
    let (prefix, start, end) = (query.take::<String>("prefix")?, query.take_key("start")?, query.take_key("end")?);
    match (prefix, start, end) {
        (prefix, None, None) => Ok(KeyRange::Prefix(prefix.unwrap_or_default())),
        (None, Some(start), end) => Ok(KeyRange::Between { start, end }),
        (None, None, Some(_)) => Err(Problem::invalid("end", "it needs `start`")),
        (Some(_), Some(_), _) | (Some(_), None, Some(_)) => {
            Err(Problem::invalid("prefix", "it cannot be combined with `start` and `end`"))
        }
    }
}

/// Compare keys, then do one of two lists of operations, atomically.
#[utoipa::path(
    post, path = "/v1/txn", tag = "keys",
    params(
        ("timeoutMs" = Option<u64>, Query, description = "how long to wait, 1 to 60000, default 5000"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 printable characters that make a retry harmless"),
    ),
    request_body = wire::Transaction,
    responses(
        (status = 200, description = "which list was done, and what came of it", body = wire::Transacted),
    )
)]
pub async fn transact(
    State(api): State<Api>,
    mut query: Query,
    headers: HeaderMap,
    JsonBody(body): JsonBody<wire::Transaction>,
) -> Result<Response, Problem> {
    let write = query.take_write(&headers)?;
    query.finish()?;
    let transaction = Transaction {
        compare: each("/compare", &body.compare, compare)?,
        success: each("/success", &body.success, |at, item| operation(&api, at, item))?,
        failure: each("/failure", &body.failure, |at, item| operation(&api, at, item))?,
    };
    let operations = [body.success, body.failure];
    let written = api.coordinator.transact(transaction, write).await?;
    let done = &operations[usize::from(!written.effect.succeeded)];
    let results = done.iter().zip(&written.effect.results).map(|(operation, result)| result_of(operation, result));
    let revision = written.revision;
    let body =
        wire::Transacted { succeeded: written.effect.succeeded, results: results.collect(), revision: revision.get() };
    Ok(Reply::written(revision, body).json())
}

/// Checks each item of a list under its own pointer.
fn each<W, T>(pointer: &str, items: &[W], check: impl Fn(&str, &W) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
    items.iter().enumerate().map(|(index, item)| check(&format!("{pointer}/{index}"), item)).collect()
}

fn compare(pointer: &str, compare: &wire::Compare) -> Result<Compare, Problem> {
    let at = |part: &str| format!("{pointer}/{part}");
    let wire::Compare { key, target, op, value, fence } = compare;
    let (key, target, op, value) = match (key, target, op, value, fence) {
        (Some(key), Some(target), Some(op), Some(value), None) => (key, *target, *op, value),
        (None, None, None, None, Some(fence)) => return contests::fence(&at("fence"), fence).map(Compare::Fence),
        _ => return Err(Problem::invalid(pointer, "it has `key`, `target`, `op` and `value`, or `fence` alone")),
    };
    let key = extract::key(&at("key"), key)?;
    let relation = match op {
        wire::CompareOp::Equal => Relation::Equal,
        wire::CompareOp::NotEqual => Relation::NotEqual,
        wire::CompareOp::Less => Relation::Less,
        wire::CompareOp::Greater => Relation::Greater,
    };
    let target = match (target, value) {
        (wire::CompareTarget::Version, wire::CompareValue::Number(n)) => CompareTarget::Version(Version::new(*n)),
        (wire::CompareTarget::CreateRevision, wire::CompareValue::Number(n)) => {
            CompareTarget::CreateRevision(Revision::new(*n))
        }
        (wire::CompareTarget::ModRevision, wire::CompareValue::Number(n)) => {
            CompareTarget::ModRevision(Revision::new(*n))
        }
        (wire::CompareTarget::Value, wire::CompareValue::Base64(text)) => {
            CompareTarget::Value(from_base64(&at("value"), text)?)
        }
        (wire::CompareTarget::Value, wire::CompareValue::Number(_)) => {
            return Err(Problem::invalid(at("value"), "a value is compared with a text in base64"));
        }
        (_, wire::CompareValue::Base64(_)) => {
            return Err(Problem::invalid(at("value"), "this target is compared with a number"));
        }
    };
    Ok(Compare::Key { key, relation, target })
}

fn operation(api: &Api, pointer: &str, operation: &wire::Operation) -> Result<KeyOperation, Problem> {
    let key_at = format!("{pointer}/key");
    Ok(match operation {
        wire::Operation::Get { key } => KeyOperation::Get(extract::key(&key_at, key)?),
        wire::Operation::Delete { key } => KeyOperation::Delete(extract::key(&key_at, key)?),
        wire::Operation::Put { key, value, session } => {
            let value = from_base64(&format!("{pointer}/value"), value)?;
            let session = session.as_ref().map(|text| sessions::known(api, &format!("{pointer}/session"), text));
            KeyOperation::Put { key: extract::key(&key_at, key)?, value, session: session.transpose()? }
        }
    })
}

fn from_base64(pointer: &str, text: &str) -> Result<Bytes, Problem> {
    let bytes = BASE64.decode(text).map_err(|error| Problem::invalid(pointer, format!("it is no base64: {error}")))?;
    Ok(bytes.into())
}

fn result_of(operation: &wire::Operation, result: &OperationResult) -> wire::OperationResult {
    let (wire::Operation::Get { key } | wire::Operation::Put { key, .. } | wire::Operation::Delete { key }) = operation;
    match result {
        OperationResult::Got(found) => {
            let kv = found.as_ref().map(|(meta, value)| numbered(key, meta, value));
            wire::OperationResult::Get { kv }
        }
        OperationResult::Put(meta) => wire::OperationResult::Put(key_put(meta)),
        OperationResult::Deleted(meta) => wire::OperationResult::Delete { deleted: meta.is_some() },
    }
}

fn key_put(meta: &KeyMeta) -> wire::KeyPut {
    wire::KeyPut {
        create_revision: meta.create_revision.get(),
        mod_revision: meta.mod_revision.get(),
        version: meta.version.get(),
    }
}

/// A key as JSON shows it.
pub fn key_value(key: &Key, record: &KeyRecord) -> wire::KeyValue {
    numbered(key.as_str(), &record.meta, &record.value)
}

/// A key's numbers and value as JSON shows them.
pub fn numbered(key: &str, meta: &KeyMeta, value: &[u8]) -> wire::KeyValue {
    wire::KeyValue {
        key: key.to_owned(),
        value: BASE64.encode(value),
        create_revision: meta.create_revision.get(),
        mod_revision: meta.mod_revision.get(),
        version: meta.version.get(),
    }
}
