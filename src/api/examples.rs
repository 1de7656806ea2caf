//! A whole example of every body in the OpenAPI document, put together from the examples of its parts.
//!
//! Each field says in its own documentation what it may look like; a shape whose fields do not go together says it as a whole.

use serde_json::{Map, Value};

/// An example of what a schema describes; `None` when a part of it does not say what it may look like. `components` are the
/// schemas that others refer to.
pub fn of(schema: &Value, components: &Value) -> Option<Value> {
    let own = ["example", "const", "default"].iter().find_map(|field| schema.get(field));
    if let Some(own) = own.or_else(|| schema.get("enum")?.get(0)) {
        return Some(own.clone());
    }
    if let Some(reference) = schema.get("$ref") {
        let name = reference.as_str()?.strip_prefix("#/components/schemas/")?;
        return of(components.get(name)?, components);
    }
    if let Some(all) = schema.get("allOf") {
        return all_of(all.as_array()?, components);
    }
    if let Some(variants) = ["oneOf", "anyOf"].iter().find_map(|field| schema.get(field)) {
        return variants.as_array()?.iter().filter(|one| !is_null(one)).find_map(|one| of(one, components));
    }
    of_type(schema, components)
}

/// What has all of some parts.
fn all_of(parts: &[Value], components: &Value) -> Option<Value> {
    let mut whole = Map::new();
    for part in parts {
        let Value::Object(fields) = of(part, components)? else { return None };
        whole.extend(fields);
    }
    Some(Value::Object(whole))
}

fn of_type(schema: &Value, components: &Value) -> Option<Value> {
    match type_of(schema)? {
        "object" => match schema.get("properties") {
            Some(properties) => {
                let fields = properties.as_object()?.iter();
                let fields = fields.map(|(name, field)| Some((name.clone(), of(field, components)?)));
                fields.collect::<Option<Map<_, _>>>().map(Value::Object)
            }
            None => None,
        },
        "array" if type_of(schema.get("items")?) == Some("integer") => Some(Value::from("the bytes")),
        "array" => Some(Value::Array(vec![of(schema.get("items")?, components)?])),
        "boolean" => Some(Value::Bool(true)),
        _ => None,
    }
}

/// The type of a schema, whether or not it may be null too.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").is_some_and(|name| name == "null")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_example_is_made_of_the_examples_of_its_parts_and_there_is_none_when_one_is_missing() {
        let components = json!({
            "Part": {"type": "object", "properties": {"kind": {"enum": ["lock", "election"]}}},
            "Other": {"type": ["object", "null"], "properties": {"list": {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}}},
            "Silent": {"type": "object", "properties": {"name": {"type": "string"}}},
        });
        let part = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
        let both = json!({"allOf": [part("Part"), part("Other")]});
        assert_eq!(of(&both, &components), Some(json!({"kind": "lock", "list": [{"kind": "lock"}]})));
        let either = json!({"oneOf": [{"type": "null"}, {"type": "boolean"}]});
        assert_eq!(of(&either, &components), Some(json!(true)));
        let own = json!({"type": "object", "example": {"a": 1}, "properties": {"a": part("Silent")}});
        assert_eq!(of(&own, &components), Some(json!({"a": 1})));
        for silent in [part("Silent"), json!({"allOf": [part("Part"), part("Silent")]}), part("Nowhere")] {
            assert_eq!(of(&silent, &components), None, "{silent}");
        }
    }
}
