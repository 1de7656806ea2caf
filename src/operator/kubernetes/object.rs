//! An object as the API server tells it, so far unread: what cannot be read in one must not keep the others from being seen.
//!
//! The client reads a whole list at once, and no JSON that is nested deeper than 127 levels, while an object may be much deeper
//! than that. So `spec` and `status` stay JSON, and of the rest only what is needed is looked at; `metadata.managedFields`, too,
//! is as deep as the object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use kube::Resource;
use kube::api::ApiResource;
use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::operator::resources::Invalid;

/// How deep a `spec` may be nested; what is deeper cannot be read.
const MOST_LEVELS: usize = 100;

#[derive(Clone, Deserialize)]
#[serde(from = "Told")]
pub(super) struct Object {
    pub(super) metadata: ObjectMeta,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Told {
    metadata: Metadata,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
}

impl From<Told> for Object {
    fn from(told: Told) -> Self {
        let Metadata { name, namespace, uid, resource_version, generation, labels } = told.metadata;
        let metadata =
            ObjectMeta { name, namespace, uid, resource_version, generation, labels, ..ObjectMeta::default() };
        Self { metadata, spec: told.spec, status: told.status }
    }
}

impl Object {
    /// Reads what is declared.
    ///
    /// # Errors
    /// With where it cannot be read, and never what stands there.
    pub(super) fn spec<T: DeserializeOwned>(&self) -> Result<T, Vec<Invalid>> {
        let invalid = |path: Vec<String>, what: String| vec![Invalid { path, what }];
        let in_spec = |path: &[String]| [&["spec".to_owned()], path].concat();
        let json = self.spec.as_deref().ok_or_else(|| invalid(in_spec(&[]), "it is missing".to_owned()))?.get();
        if levels(json) > MOST_LEVELS {
            let what = format!("it is nested deeper than the limit of {MOST_LEVELS} levels: make it flatter");
            return Err(invalid(in_spec(&[]), what));
        }
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(|error| {
            let path: Vec<_> = error.path().iter().map(ToString::to_string).collect();
            let what = format!(
                "it cannot be read{}: write it as `kubectl explain` says, or bring the CRDs to this release",
                expected(error.inner())
            );
            invalid(in_spec(&path), what)
        })
    }

    /// One field of what is declared, when it can be read.
    pub(super) fn spec_field<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        field(self.spec.as_deref()?, name)
    }

    /// Reads the status, when that can be done.
    pub(super) fn status<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.status.as_deref()?.get()).ok()
    }

    /// One field of the status, when it can be read.
    pub(super) fn status_field<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        field(self.status.as_deref()?, name)
    }
}

/// Reads one field, whatever stands in the others.
fn field<T: DeserializeOwned>(object: &RawValue, name: &str) -> Option<T> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(object.get()).ok()?;
    serde_json::from_str(fields.get(name)?.get()).ok()
}

/// How deep a JSON text is nested.
fn levels(json: &str) -> usize {
    let (mut level, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match (in_text, byte) {
            _ if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => level += 1,
            (false, b'}' | b']') => level = level.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(level);
    }
    deepest
}

/// What should have been there, as a part of a sentence. What is there instead may be the value of a config, and comes before.
fn expected(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (text, _) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
    match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!(" (it must be {expected})"),
        None if text.starts_with("missing field `") => format!(" ({text})"),
        None => String::new(),
    }
}

/// Without `spec` and `status`: they are never logged.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::{Value, json};

    use super::*;

    /// An object that is nested so deep in everything that a user can nest.
    fn deep(name: &str, levels: usize) -> String {
        let nested = |open: &str, inner: &str, close: &str| open.repeat(levels) + inner + &close.repeat(levels);
        let (lists, fields) = (nested("[", "1", "]"), nested("{\"f:a\": ", "{}", "}"));
        format!(
            "{{\"apiVersion\": \"quorate.io/v1alpha1\", \"kind\": \"ReplicatedConfig\", \
             \"metadata\": {{\"name\": \"{name}\", \"managedFields\": [{{\"fieldsV1\": {fields}}}], \"uid\": \"1-2\", \
             \"labels\": {{\"a\": \"b\"}}, \"resourceVersion\": \"7\", \"generation\": 3}}, \
             \"spec\": {{\"cluster\": \"c\", \"schema\": {{\"a\": {lists}}}}}, \
             \"status\": {{\"x\": {lists}, \"clusterId\": \"abc\", \"observedLeadership\": 5}}}}"
        )
    }

    fn object(json: &str) -> Object {
        serde_json::from_str(json).expect("an object")
    }

    #[test]
    fn a_list_and_a_watch_with_an_object_that_is_too_deep_are_read() {
        let items = [deep("one", 9000), deep("two", 1)].join(",");
        let list = format!(
            "{{\"apiVersion\": \"quorate.io/v1alpha1\", \"kind\": \"ReplicatedConfigList\", \"items\": [{items}], \
             \"metadata\": {{\"resourceVersion\": \"9\", \"continue\": \"x\"}}}}"
        );
        let list: ObjectList<Object> = serde_json::from_str(&list).expect("a list");
        let names: Vec<_> = list.items.iter().map(|object| object.metadata.name.as_deref()).collect();
        assert_eq!((names, list.metadata.resource_version.as_deref()), (vec![Some("one"), Some("two")], Some("9")));
        assert!(list.items[0].spec::<Value>().is_err() && list.items[1].spec::<Value>().is_ok());

        let watched = |kind: &str| format!("{{\"type\":\"{kind}\",\"object\":{}}}\n", deep("one", 9000));
        for kind in ["ADDED", "MODIFIED", "DELETED"] {
            let event = serde_json::from_str::<WatchEvent<Object>>(&watched(kind)).expect("an event");
            let (WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object)) = event else {
                panic!("it is of another type than {kind}");
            };
            assert_eq!(object.metadata.uid.as_deref(), Some("1-2"));
        }
    }

    #[test]
    fn what_a_watch_tells_beside_objects_is_read() {
        let error = json!({ "type": "ERROR", "object": {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410,
        } });
        let event = serde_json::from_str::<WatchEvent<Object>>(&error.to_string()).expect("an event");
        assert!(matches!(event, WatchEvent::Error(status) if status.code == 410));
        let bookmark = "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"ReplicatedConfig\",\"apiVersion\":\"quorate.io/v1alpha1\",\
            \"metadata\":{\"resourceVersion\":\"12\",\"creationTimestamp\":null},\"spec\":{}}}";
        let event = serde_json::from_str::<WatchEvent<Object>>(bookmark).expect("an event");
        assert!(matches!(event, WatchEvent::Bookmark(bookmark) if bookmark.metadata.resource_version == "12"));
        let empty = "{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[]}";
        assert_eq!(serde_json::from_str::<ObjectList<Object>>(empty).expect("a list").items.len(), 0);
    }

    #[test]
    fn what_is_too_deep_is_told_with_the_limit_and_the_rest_of_it_is_read() {
        for (levels, is_read) in [(MOST_LEVELS - 2, true), (MOST_LEVELS - 1, false), (125, false), (9000, false)] {
            let object = object(&deep("one", levels));
            let told = object.spec::<Value>().map_err(|invalid| invalid[0].to_string());
            assert_eq!(told.is_ok(), is_read, "{levels}");
            let what = "spec: it is nested deeper than the limit of 100 levels: make it flatter";
            assert!(told.is_ok() || told == Err(what.to_owned()), "{told:?}");
            assert_eq!(object.spec_field::<String>("cluster").as_deref(), Some("c"));
            assert_eq!(object.status_field::<String>("clusterId").as_deref(), Some("abc"));
            assert_eq!(object.status_field::<i64>("observedLeadership"), Some(5));
        }
        assert_eq!(levels("{\"[[\": \"{\\\"[\\\\\", \"a\": [1, {}, []], \"b\": 1}"), 3);
    }

    #[test]
    fn what_cannot_be_read_is_told_without_what_is_there() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "it is only read")]
        struct Spec {
            data: BTreeMap<String, String>,
            limit: i32,
        }
        for (spec, expected) in [
            (
                json!({ "data": { "a.b": 8080 }, "limit": 1 }),
                "spec.data.a.b: it cannot be read (it must be a string): write it",
            ),
            (
                json!({ "data": "x, expected y at line 7 8080", "limit": 1 }),
                "spec.data: it cannot be read (it must be a map)",
            ),
            (json!({ "data": {}, "limit": "8080" }), "spec.limit: it cannot be read (it must be i32): "),
            (json!({ "data": {}, "limit": 8_080_808_080_i64 }), "spec.limit: it cannot be read (it must be i32): "),
            (json!({ "data": {} }), "spec: it cannot be read (missing field `limit`): "),
            (json!(8080), "spec: it cannot be read (it must be struct Spec): "),
            (json!(null), "spec: it is missing"),
        ] {
            let object = object(&json!({ "metadata": {}, "spec": spec }).to_string());
            let told = object.spec::<Spec>().expect_err("it cannot be read")[0].to_string();
            assert!(told.starts_with(expected) && !told.contains("8080"), "{told}");
        }
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let printed = format!("{:?}", object(&deep("one", 1)));
        assert!(printed.contains("one") && !printed.contains("cluster"), "{printed}");
    }
}
