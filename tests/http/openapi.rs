//! The OpenAPI document says exactly what the routes do.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::{Value, json};

use quorate::api::problem::ProblemKind;

use crate::fixture::{Request, Service};

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_call_exists_and_no_other_method_is_allowed() {
    let service = Service::start().await;
    let document = service.send(Request::get("/openapi.json")).await.expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 14, "{} paths", paths.len());
    for (path, operations) in paths {
        let real = path.replace("{namespace}", "default").replace("{name}", "shop").replace("{key}", "k");
        let documented: BTreeSet<_> = operations.as_object().unwrap().keys().cloned().collect();
        for method in ["get", "put", "post", "delete", "patch"] {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let (status, _, _) = service.open(Request::new(method.clone(), real.clone())).await;
            let exists = status != 405;
            let name = method.as_str().to_lowercase();
            assert_eq!(exists, documented.contains(&name), "{method} {path} is answered with {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_documents_its_problem_and_every_reference_leads_somewhere() {
    let service = Service::start().await;
    let document = service.send(Request::get("/openapi.json")).await.expect(200).json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(operation["responses"]["default"].is_null(), "{method} {path} does not say which problems it has");
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            for status in ["400", "406", "413", "503"] {
                assert!(operation["responses"][status].is_object(), "{method} {path} does not document {status}");
            }
        }
    }
    for kind in ProblemKind::ALL {
        let response = &document["components"]["responses"][format!("Problem{}", kind.status().as_u16())];
        let example = &response["content"]["application/problem+json"]["examples"][kind.name()]["value"];
        assert_eq!(example["type"], format!("https://quorate.io/problems/{}", kind.name()), "{response}");
    }
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_has_an_example_that_is_as_its_schema_says_and_those_of_requests_are_understood() {
    let service = Service::start().await;
    let document = service.send(Request::get("/openapi.json")).await.expect(200).json();
    let mut judged = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap().values();
            let bodies = std::iter::once(&operation["requestBody"]).chain(responses);
            let contents = bodies.filter_map(|body| body["content"].as_object()).flatten();
            for (form, content) in contents {
                let example = &content["example"];
                assert!(!example.is_null(), "{method} {path} has no example of {form}: {}", content["schema"]);
                if form != "application/octet-stream" {
                    require_fit(&document, &content["schema"], example);
                }
                judged += 1;
            }
            let request = &operation["requestBody"]["content"]["application/json"]["example"];
            if !request.is_null() {
                let path = path.replace("{namespace}", "default").replace("{name}", "shop");
                let path = path.replace("{session}", "5d3c1a2b-17");
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let answer = service.send(Request::new(method, path).json().body(&request.to_string())).await;
                assert!(answer.status != 400, "{request} is refused: {}", answer.text());
            }
        }
    }
    assert!(judged > 40, "{judged} bodies");
}

/// An example must be what its schema describes.
fn require_fit(document: &Value, schema: &Value, example: &Value) {
    let whole = json!({"allOf": [schema], "components": document["components"]});
    let errors: Vec<_> =
        jsonschema::validator_for(&whole).unwrap().iter_errors(example).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{example} does not fit {schema}: {errors:?}");
}

#[test]
fn every_kind_of_problem_is_explained_under_its_name_with_its_status() {
    let page = include_str!("../../docs/problems.md");
    let explained: BTreeMap<_, _> = page.split("\n## ").skip(1).filter_map(|part| part.split_once("\n\n")).collect();
    assert_eq!(explained.len(), ProblemKind::ALL.len(), "{:?}", explained.keys());
    for kind in ProblemKind::ALL {
        let text = explained.get(kind.name()).unwrap_or_else(|| panic!("{} is not explained", kind.name()));
        assert!(text.starts_with(&format!("{}. ", kind.status().as_u16())), "{}: {text}", kind.name());
    }
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
