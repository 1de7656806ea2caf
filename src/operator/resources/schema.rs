//! Whether texts meet the JSON Schema that stands beside them. Both come from whoever may write a resource, so nothing here
//! may take more memory or time than is foreseen: what would is refused, before it is tried. And no text is ever repeated.

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

use super::extent::{Measured, measure};
use super::texts;

/// Values of the schema, each looked at for each value of the texts: so much takes about a second.
const MOST_WORK: usize = 100_000_000;

/// What is wrong under `anyOf` and `oneOf` is told by the library with everything that is wrong in each branch. With more to
/// look at than this, it is not asked.
const MOST_WORK_TO_TELL: usize = 100_000;

/// Bytes of all compiled patterns together, and of one of them.
const PATTERNS: usize = 16 << 20;
const PATTERN: usize = 1 << 20;

/// A schema that is ready for texts.
pub(super) struct TextSchema {
    validator: Validator,
    measured: Measured,
    /// How much may still be looked at.
    work_left: usize,
}

impl TextSchema {
    /// # Errors
    /// With what is wrong with the schema.
    pub(super) fn compile(schema: &Map<String, Value>) -> Result<Self, String> {
        let mut schema = schema.clone();
        // It refers to nothing outside itself, so it needs no address.
        for name in ["$id", "id"] {
            if schema.get(name).is_some_and(Value::is_string) {
                schema.remove(name);
            }
        }
        let schema = Value::Object(schema);
        let measured = measure(&schema)?;
        let size = (PATTERNS / measured.patterns.max(1)).min(PATTERN);
        let patterns = PatternOptions::regex().size_limit(size).dfa_size_limit(size);
        let validator = jsonschema::options().offline().with_pattern_options(patterns).build(&schema);
        let validator = validator.map_err(|error| {
            format!(
                "it is no valid JSON Schema, at {:?}: {}",
                error.instance_path().as_str(),
                told(&error, "what is there")
            )
        })?;
        Ok(Self { validator, measured, work_left: MOST_WORK })
    }

    /// Whether a text meets it.
    ///
    /// # Errors
    /// With what is wrong with the text, at the first place.
    pub(super) fn check(&mut self, text: &str) -> Result<(), String> {
        let value = texts::read(text)?;
        let work = self.measured.values.saturating_mul(weight(&value));
        self.work_left = self.work_left.checked_sub(work).ok_or_else(|| {
            format!(
                "it and the texts before it are too large for a schema with {} values ($refs written out): {MOST_WORK} looks of \
                 one value of the schema at one of the texts are allowed; make the schema simpler, or divide the texts among \
                 several ReplicatedConfigs",
                self.measured.values
            )
        })?;
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        if self.measured.has_branches && work > MOST_WORK_TO_TELL {
            return Err("it does not meet the schema; both are too large to say where".to_owned());
        }
        self.validator.validate(&value).map_err(|error| {
            let at = error.instance_path().as_str();
            format!("it does not meet the schema, at {at:?}: {}", told(&error, "the value"))
        })
    }
}

/// How much there is to look at in a value.
fn weight(value: &Value) -> usize {
    /// A long text is not looked at in one step.
    const STEP: usize = 16;
    let within = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() / STEP,
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() / STEP + weight(value)).sum(),
    };
    1 + within
}

/// An error without anything of the value: what the library says where that speaks of the schema only.
fn told(error: &ValidationError<'_>, value: &'static str) -> String {
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            format!("{} of its keys are not allowed by \"additionalProperties\"", unexpected.len())
        }
        Kind::UnevaluatedProperties { unexpected } => {
            format!("{} of its keys are not allowed by \"unevaluatedProperties\"", unexpected.len())
        }
        Kind::PropertyNames { .. } => "one of its keys is not allowed by \"propertyNames\"".to_owned(),
        Kind::Format { format } if format == "regex" => format!(
            "{value} is no regular expression, or one that would take too much memory, or it looks around or back, which is not \
             supported"
        ),
        Kind::AdditionalItems { .. }
        | Kind::AnyOf { .. }
        | Kind::Constant { .. }
        | Kind::Contains
        | Kind::ContentEncoding { .. }
        | Kind::ContentMediaType { .. }
        | Kind::Enum { .. }
        | Kind::ExclusiveMaximum { .. }
        | Kind::ExclusiveMinimum { .. }
        | Kind::FalseSchema
        | Kind::Format { .. }
        | Kind::MaxItems { .. }
        | Kind::Maximum { .. }
        | Kind::MaxLength { .. }
        | Kind::MaxProperties { .. }
        | Kind::MinItems { .. }
        | Kind::Minimum { .. }
        | Kind::MinLength { .. }
        | Kind::MinProperties { .. }
        | Kind::MultipleOf { .. }
        | Kind::Not { .. }
        | Kind::OneOfMultipleValid { .. }
        | Kind::OneOfNotValid { .. }
        | Kind::Pattern { .. }
        | Kind::Required { .. }
        | Kind::Type { .. }
        | Kind::UnevaluatedItems { .. }
        | Kind::UniqueItems => error.masked_with(value).to_string(),
        Kind::BacktrackLimitExceeded { .. }
        | Kind::Custom { .. }
        | Kind::FromUtf8 { .. }
        | Kind::Referencing(_)
        | Kind::RegexEngineFailure { .. } => format!("{value} does not meet {:?}", error.kind().keyword()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::{Duration, Instant};

    use super::*;

    fn compiled(schema: &Value) -> Result<TextSchema, String> {
        TextSchema::compile(schema.as_object().expect("an object"))
    }

    fn refusal(schema: &Value, text: &str) -> String {
        compiled(schema).expect("a schema").check(text).expect_err("it does not meet the schema")
    }

    /// So that a test fails and does not end the machine.
    fn assert_soon(began: Instant) {
        let took = began.elapsed();
        assert!(took < Duration::from_secs(60), "it took {took:?}");
    }

    #[test]
    fn what_people_write_is_served() {
        for schema in [
            json!({ "$id": "https://example.com/a.json", "$defs": { "a/b %": { "type": "integer" } },
                    "properties": { "x": { "$ref": "#/$defs/a~1b%20%25" }, "y": { "$ref": "#/properties/x" } } }),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "definitions": { "port": { "type": "integer" } },
                    "properties": { "x": { "$ref": "#/definitions/port" }, "id": { "type": "string" } } }),
            json!({ "$schema": "http://json-schema.org/draft-04/schema#", "id": "x", "properties": { "x": { "type": "integer" } } }),
            json!({ "properties": { "$ref": { "type": "string" }, "x": { "type": "integer" } }, "examples": [{ "id": "a" }] }),
        ] {
            let mut schema = compiled(&schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
            schema.check("x: 1").expect("it meets the schema");
            let error = schema.check("x: secret").expect_err("it does not");
            assert!(error.starts_with("it does not meet the schema, at \"/x\": the value is not of type"), "{error}");
        }
    }

    #[test]
    fn half_a_million_errors_are_told_as_one_and_soon() {
        let text = format!("[{}]", "1,".repeat(500_000));
        let items = json!({ "items": { "type": "string" } });
        let began = Instant::now();
        assert_eq!(
            refusal(&items, &text),
            "it does not meet the schema, at \"/0\": the value is not of type \"string\""
        );
        let branches = json!({ "anyOf": [items, items] });
        assert_eq!(refusal(&branches, &text), "it does not meet the schema; both are too large to say where");
        assert!(refusal(&branches, "[1]").contains("not valid under any of the schemas listed in the 'anyOf'"));
        assert_soon(began);
    }

    #[test]
    fn a_large_schema_is_not_put_to_a_large_text() {
        let text = format!("[{}]", "1,".repeat(500_000));
        let dear = json!({ "items": { "allOf": vec![json!({ "not": { "const": 2 } }); 2000] } });
        let began = Instant::now();
        let error = refusal(&dear, &text);
        assert!(error.starts_with("it and the texts before it are too large for a schema with "), "{error}");
        // Many texts are as dear as a large one.
        let (mut schema, text) = (compiled(&dear).expect("a schema"), format!("[{}]", "1,".repeat(1000)));
        let checked = (0..256).find_map(|number| schema.check(&text).err().map(|error| (number, error)));
        assert!(checked.is_some_and(|(number, error)| number > 1 && error.contains("the texts before it")));
        assert_soon(began);
    }

    #[test]
    fn a_pattern_takes_no_more_time_or_memory_than_others() {
        let began = Instant::now();
        let text = "a".repeat(100_000);
        let slow = compiled(&json!({ "pattern": "^(a+)+$" })).expect("a schema").check(&format!("\"{text}b\""));
        assert!(slow.is_err_and(|error| error.contains("the value does not match \"^(a+)+$\"")));
        let large = json!({ "properties": { "x": { "pattern": "((\\p{L}{1,100}){1,100}){1,100}" } } });
        for schema in [large, json!({ "pattern": "(?=a)b" }), json!({ "pattern": "(a)\\1" }), json!({ "pattern": "(" })]
        {
            let error = compiled(&schema).err().unwrap_or_else(|| panic!("{schema} is taken"));
            assert!(
                error.starts_with("it is no valid JSON Schema, at \"") && error.contains("regular expression"),
                "{error}"
            );
        }
        let many = (0..1000).map(|number| (format!("^[a-z]{{1,60}}{number}$"), json!({ "type": "integer" })));
        let many = json!({ "patternProperties": many.collect::<Map<_, _>>() });
        let error = refusal(&many, "x999: 1\nab7: secret");
        assert!(error.contains("at \"/ab7\": the value is not of type"), "{error}");
        assert_soon(began);
    }

    #[test]
    fn no_error_tells_anything_of_a_text_but_the_path() {
        let secret = json!({ "const": 1 });
        for schema in [
            json!({ "additionalProperties": false }),
            json!({ "unevaluatedProperties": false }),
            json!({ "propertyNames": { "maxLength": 3 } }),
            json!({ "propertyNames": { "pattern": "^a" } }),
            json!({ "propertyNames": { "enum": ["a"] } }),
            json!({ "propertyNames": false }),
            json!({ "not": { "required": ["hunter2"] } }),
            json!({ "maxProperties": 0 }),
            json!({ "minProperties": 9 }),
            json!({ "type": "string" }),
            json!({ "enum": [1] }),
            json!({ "const": 1 }),
            json!({ "anyOf": [secret, secret] }),
            json!({ "oneOf": [secret, secret] }),
            json!({ "oneOf": [true, true] }),
            json!({ "dependentRequired": { "hunter2": ["b"] } }),
            json!({ "dependentSchemas": { "hunter2": false } }),
            json!({ "if": true, "then": false }),
        ] {
            let error = refusal(&schema, "hunter2: hunter3");
            // What the schema says itself may be told.
            let told = error.replace("{\"required\":[\"hunter2\"]}", "");
            assert!(!told.contains("hunter"), "{schema}: {error}");
            assert!(error.starts_with("it does not meet the schema, at \"\": "), "{schema}: {error}");
        }
        for keyword in [
            json!({ "type": "integer" }),
            json!({ "pattern": "^a$" }),
            json!({ "maxLength": 1 }),
            json!({ "minLength": 100 }),
            json!({ "const": "a" }),
            json!({ "enum": ["a", "b"] }),
            json!({ "not": {} }),
            json!(false),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "format": "date" }),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "format": "email" }),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "contentMediaType": "application/json" }),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "contentEncoding": "base64" }),
        ] {
            let mut keyword = keyword;
            let draft = keyword.as_object_mut().and_then(|keyword| keyword.remove("$schema")).unwrap_or_default();
            let mut schema = json!({ "properties": { "a": keyword } });
            if draft.is_string() {
                schema["$schema"] = draft;
            }
            let error = refusal(&schema, "a: (hunter2");
            assert!(
                error.starts_with("it does not meet the schema, at \"/a\": ") && !error.contains("hunter"),
                "{error}"
            );
        }
        for (items, text) in [
            (json!({ "uniqueItems": true }), "[hunter2, hunter2]"),
            (json!({ "contains": { "const": 1 } }), "[hunter2]"),
            (json!({ "prefixItems": [true], "items": false }), "[1, hunter2]"),
            (json!({ "prefixItems": [true], "unevaluatedItems": false }), "[1, hunter2]"),
            (json!({ "maxItems": 0 }), "[hunter2]"),
        ] {
            let error = refusal(&items, text);
            assert!(!error.contains("hunter"), "{error}");
        }
    }
}
