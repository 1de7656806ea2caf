//! How large a JSON Schema is, each `$ref` replaced by all that it refers to, without writing that out: a schema of a few lines
//! can refer to the same part a billion times, or to itself.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Values in a schema.
const MOST_VALUES: usize = 10_000;

/// How deep a schema may be nested: the validator goes down as deep on its stack.
const MOST_LEVELS: usize = 100;

/// What there is to foresee of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) values: usize,
    pub(super) patterns: usize,
    /// Whether there is an `anyOf` or `oneOf`.
    pub(super) has_branches: bool,
}

/// Measures a schema that is not too large.
///
/// # Errors
/// When it is too large, or refers to something that cannot be foreseen.
pub(super) fn measure(schema: &Value) -> Result<Measured, String> {
    let mut measure = Measure { root: schema, known: BTreeMap::new(), patterns: 0, has_branches: false };
    let Extent { values, .. } = measure.take(schema, 0)?;
    Ok(Measured { values, patterns: measure.patterns, has_branches: measure.has_branches })
}

/// How large a part of a schema is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    values: usize,
    levels: usize,
}

/// Takes each part once, however often it is referred to.
///
/// Nothing here knows where in a schema other schemas stand. So all of it is measured, and what only looks like a `$ref`, in
/// a `const` for example, counts as one.
struct Measure<'a> {
    root: &'a Value,
    /// By address. `None` while a part is being measured.
    known: BTreeMap<*const Value, Option<Extent>>,
    patterns: usize,
    has_branches: bool,
}

impl<'a> Measure<'a> {
    fn take(&mut self, part: &'a Value, level: usize) -> Result<Extent, String> {
        let address = std::ptr::from_ref(part);
        match self.known.insert(address, None) {
            None => {}
            Some(None) => return Err("it refers to itself: write out as many levels as are needed".to_owned()),
            Some(Some(extent)) => {
                self.known.insert(address, Some(extent));
                return Ok(extent);
            }
        }
        if self.known.len() > MOST_VALUES {
            return Err(too_many());
        }
        if level >= MOST_LEVELS {
            return Err(too_deep());
        }
        let mut extent = Extent { values: 1, levels: 1 };
        match part {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            Value::Array(items) => {
                for item in items {
                    extent.hold(self.take(item, level + 1)?)?;
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    if let Some(target) = self.keyword(name, field, level)? {
                        extent.hold(self.take(target, level + 1)?)?;
                    }
                    extent.hold(self.take(field, level + 1)?)?;
                }
            }
        }
        self.known.insert(address, Some(extent));
        Ok(extent)
    }

    /// What a field refers to, if it refers to anything.
    fn keyword(&mut self, name: &str, field: &'a Value, level: usize) -> Result<Option<&'a Value>, String> {
        match (name, field) {
            ("$ref", Value::String(reference)) => return self.target(reference).map(Some),
            ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                return Err(format!("{name:?} is not supported: write \"$ref\""));
            }
            // They would give what stands below another address, or another meaning.
            ("$id" | "$schema", Value::String(_)) if level > 0 => {
                return Err(format!("{name:?} is supported at the top only: remove it"));
            }
            ("id", Value::String(_)) if self.is_of_draft_4() => {
                return Err(
                    "\"id\" is not supported below the top with draft 4: remove it, or choose a newer draft".to_owned()
                );
            }
            ("anyOf" | "oneOf", _) => self.has_branches = true,
            ("pattern", Value::String(_)) => self.patterns += 1,
            ("patternProperties", Value::Object(patterns)) => self.patterns += patterns.len(),
            _ => {}
        }
        Ok(None)
    }

    fn target(&self, reference: &str) -> Result<&'a Value, String> {
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.starts_with('/'));
        let pointer = pointer.and_then(|pointer| percent_decode_str(pointer).decode_utf8().ok());
        pointer.and_then(|pointer| self.root.pointer(&pointer)).ok_or_else(|| {
            format!("{reference:?} refers to nothing in it: a \"$ref\" is #/ and the path to a part of the schema, such as #/$defs/port")
        })
    }

    fn is_of_draft_4(&self) -> bool {
        self.root.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"))
    }
}

impl Extent {
    fn hold(&mut self, part: Self) -> Result<(), String> {
        self.values = self.values.saturating_add(part.values);
        self.levels = self.levels.max(part.levels + 1);
        if self.values > MOST_VALUES {
            return Err(too_many());
        }
        if self.levels > MOST_LEVELS {
            return Err(too_deep());
        }
        Ok(())
    }
}

fn too_many() -> String {
    format!("it has more than {MOST_VALUES} values when its $refs are written out: make it simpler")
}

fn too_deep() -> String {
    format!("it is nested deeper than {MOST_LEVELS} levels when its $refs are written out: make it flatter")
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::super::schema::TextSchema;
    use super::*;

    fn compiled(schema: &Value) -> Result<TextSchema, String> {
        TextSchema::compile(schema.as_object().expect("an object"))
    }

    /// `length` definitions, each of which is made of the next one.
    fn chain(length: usize, link: impl Fn(Value) -> Value) -> Value {
        let reference = |number: usize| json!({ "$ref": format!("#/$defs/d{number}") });
        let link = |number: usize| (format!("d{number}"), link(reference(number + 1)));
        let mut definitions: Map<_, _> = (0..length).map(link).collect();
        definitions.insert(format!("d{length}"), json!({ "type": "integer" }));
        json!({ "$defs": definitions, "$ref": "#/$defs/d0" })
    }

    #[test]
    fn a_schema_that_grows_without_bound_is_refused_before_it_is_compiled() {
        for length in [8, 30, 1000] {
            let doubling = chain(length, |next| json!({ "allOf": [next, next] }));
            let error = compiled(&doubling).err();
            assert_eq!(error.is_some(), length > 8, "{length}: {error:?}");
            assert!(error.is_none_or(|error| error == too_many() || error == too_deep()), "{length}");
        }
        let wide = json!({ "enum": (0..MOST_VALUES).collect::<Vec<_>>() });
        assert_eq!(compiled(&wide).err(), Some(too_many()));
    }

    #[test]
    fn a_schema_that_goes_deep_is_refused_and_one_at_the_limit_is_served() {
        let nested = |levels: usize| (0..levels).fold(json!({}), |schema, _| json!({ "items": schema }));
        let referring = |length: usize| chain(length, |next| json!({ "items": next }));
        for schema in [nested(MOST_LEVELS), referring(MOST_LEVELS), referring(9000)] {
            let error = compiled(&schema).err().expect("it is too deep");
            assert!(error == too_deep() || error == too_many(), "{error}");
        }
        let text = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        compiled(&nested(MOST_LEVELS - 1)).expect("a schema").check(&text(MOST_LEVELS - 1)).expect("it meets it");
        let branches = |next| json!({ "anyOf": [{ "items": next }], "unevaluatedItems": false });
        compiled(&chain(20, branches)).expect("a schema").check(&text(20)).expect("it meets it");
    }

    #[test]
    fn a_schema_refers_to_its_own_parts_only_and_never_to_itself() {
        for (schema, expected) in [
            (json!({ "properties": { "a": { "$ref": "#/properties" } } }), "it refers to itself"),
            (
                json!({ "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/a" }] } }, "$ref": "#/$defs/a" }),
                "it refers to itself",
            ),
            (json!({ "$ref": "#" }), "\"#\" refers to nothing in it"),
            (json!({ "$ref": "" }), "\"\" refers to nothing in it"),
            (json!({ "$ref": "#/$defs/a" }), "\"#/$defs/a\" refers to nothing in it: a \"$ref\" is #/ and"),
            (json!({ "$defs": { "a": { "$anchor": "x" } }, "$ref": "#x" }), "\"#x\" refers to nothing"),
            (json!({ "$ref": "https://example.com/a.json" }), "\"https://example.com/a.json\" refers to nothing"),
            (json!({ "$id": "https://example.com/a.json", "$ref": "a.json" }), "\"a.json\" refers to nothing"),
            (
                json!({ "items": { "$id": "b", "items": { "$ref": "#/items" } } }),
                "\"$id\" is supported at the top only",
            ),
            (
                json!({ "items": { "$schema": "http://json-schema.org/draft-04/schema#" } }),
                "\"$schema\" is supported at the top",
            ),
            (
                json!({ "$schema": "http://json-schema.org/draft-04/schema#", "items": { "id": "b" } }),
                "\"id\" is not supported below the top with draft 4",
            ),
            (json!({ "$dynamicRef": "#a" }), "\"$dynamicRef\" is not supported: write \"$ref\""),
            (json!({ "items": { "$recursiveRef": "#" } }), "\"$recursiveRef\" is not supported"),
        ] {
            let error = compiled(&schema).err().unwrap_or_else(|| panic!("{schema} is taken"));
            assert!(error.contains(expected), "{schema}: {error}");
        }
    }
}
