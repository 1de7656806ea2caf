//! What every call in the OpenAPI document has in common: its errors, and the rules of its parameters.
//!
//! Each call says in its own documentation what it does and answers. What can go wrong follows from its method and its
//! parameters, and what is allowed from the names of these, so neither is repeated there but added here.

use serde_json::json;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, ContentBuilder, HttpMethod, OpenApi, PathItem, Ref, RefOr};

use super::examples;
use super::problem::{Problem, ProblemKind};

/// The document with every problem of every call, each with an example, with the rules of all parameters, and an example of
/// every body.
pub fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    for status in ProblemKind::ALL.map(|kind| kind.status().as_u16()) {
        components.responses.entry(component(status)).or_insert_with(|| response(status).into());
    }
    let schemas = json!(components.schemas);
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            bodies(operation).for_each(|content| {
                let schema = content.schema.as_ref().map(|schema| json!(schema));
                content.example = schema.and_then(|schema| examples::of(&schema, &schemas));
            });
            let kinds = ProblemKind::ALL.into_iter().filter(|kind| may_fail(*kind, path, &method, operation));
            for kind in kinds.collect::<Vec<_>>() {
                let status = kind.status().as_u16();
                let reference = Ref::new(format!("#/components/responses/{}", component(status)));
                operation.responses.responses.insert(status.to_string(), RefOr::Ref(reference));
            }
            operation.parameters.iter_mut().flatten().for_each(add_rule);
        }
    }
    document
}

/// What a call takes and answers.
fn bodies(operation: &mut Operation) -> impl Iterator<Item = &mut Content> {
    let request = operation.request_body.iter_mut().flat_map(|body| body.content.values_mut());
    let responses = operation.responses.responses.values_mut().filter_map(|response| match response {
        RefOr::T(response) => Some(response.content.values_mut()),
        RefOr::Ref(_) => None,
    });
    request.chain(responses.flatten())
}

/// A parameter means the same in every call that has it. The rules are those of `types`, as far as a schema can say them.
fn add_rule(parameter: &mut Parameter) {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let number = |least: f64, greatest: f64| {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(greatest))
    };
    let rule = match parameter.name.as_str() {
        "namespace" => text().max_length(Some(63)).pattern(Some(DNS_LABEL)),
        "name" => text().max_length(Some(253)).pattern(Some(DNS_SUBDOMAIN)),
        "session" => text().pattern(Some("^[0-9a-f]{8}-[1-9][0-9]{0,18}$")),
        "key" if parameter.parameter_in == ParameterIn::Path => text().min_length(Some(1)).max_length(Some(512)),
        "Idempotency-Key" => text().pattern(Some("^[ -~]{1,64}$")),
        "consistency" => text().enum_values(Some(["linearizable", "stale"])),
        "timeoutMs" => number(1.0, 60_000.0),
        _ => return,
    };
    parameter.schema = Some(rule.into());
}

const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
const DNS_SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";

fn component(status: u16) -> String {
    format!("Problem{status}")
}

/// The response of one status, with an example of each kind of problem that has it.
fn response(status: u16) -> Response {
    let kinds: Vec<_> = ProblemKind::ALL.into_iter().filter(|kind| kind.status().as_u16() == status).collect();
    let schema = RefOr::Ref(Ref::from_schema_name("ProblemBody"));
    let examples = kinds.iter().map(|kind| {
        let example = utoipa::openapi::example::ExampleBuilder::new().value(Some(Problem::example(*kind).json()));
        (kind.name(), RefOr::T(example.build()))
    });
    let content: Content = ContentBuilder::new().schema(Some(schema)).examples_from_iter(examples).build();
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    ResponseBuilder::new().description(names.join(" or ")).content("application/problem+json", content).build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let methods = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Delete, &mut item.delete),
    ];
    methods.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Whether a call's body names a session, which may have ended.
fn names_a_session(path: &str) -> bool {
    let ends = ["/campaign", "/resign", "/acquire", "/release", "/applied", "/keepalive", "/v1/txn"];
    ends.iter().any(|end| path.ends_with(end))
}

/// Whether a call can end in a problem of this kind.
fn may_fail(kind: ProblemKind, path: &str, method: &HttpMethod, operation: &Operation) -> bool {
    let parameter = |wanted: &str| {
        operation.parameters.iter().flatten().any(|parameter| parameter.name.eq_ignore_ascii_case(wanted))
    };
    let writes = !matches!(method, HttpMethod::Get);
    let names_a_thing = operation
        .parameters
        .iter()
        .flatten()
        .any(|parameter| parameter.parameter_in == ParameterIn::Path && parameter.name != "namespace");
    let json = operation.request_body.as_ref().is_some_and(|body| body.content.contains_key("application/json"));
    match kind {
        ProblemKind::InvalidRequest | ProblemKind::NotAcceptable | ProblemKind::TooLarge | ProblemKind::Unavailable => {
            true
        }
        // Paths and methods that are not in the document at all.
        ProblemKind::MethodNotAllowed => false,
        ProblemKind::NotFound => names_a_thing || path.starts_with("/v1/cluster/") || names_a_session(path),
        ProblemKind::UnsupportedMediaType => json,
        ProblemKind::Conflict => writes,
        ProblemKind::Managed => writes && path.starts_with("/v1/config"),
        ProblemKind::Gone => parameter("revision") || parameter("session") || names_a_session(path),
        ProblemKind::PreconditionFailed => writes && parameter("If-Match"),
        ProblemKind::TooMany => writes && operation.request_body.is_some() && parameter("Idempotency-Key"),
        ProblemKind::Timeout => parameter("timeoutMs") || parameter("fromRevision"),
    }
}
