//! YAML and JSON as values, never much larger than their texts: YAML's aliases can make a billion values of a few lines.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What a text may become more than itself, in values and bytes of texts.
const ALIASES: usize = 64 << 10;

/// Without aliases a text becomes fewer values, and bytes of texts, than this for each of its own bytes.
const FACTOR: usize = 4;

/// Reads a text.
///
/// # Errors
/// With where it is wrong, without repeating any of it.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let room = Cell::new(Some(ALIASES + FACTOR * text.len()));
    let read = Bounded(&room).deserialize(serde_yaml::Deserializer::from_str(text));
    read.map_err(|error| match room.get() {
        None => format!("it is more than {ALIASES} bytes larger when its aliases are written out: use fewer of them"),
        Some(_) => format!("it is neither YAML nor JSON, which the schema needs: {}", place(&error)),
    })
}

fn place(error: &serde_yaml::Error) -> String {
    match error.location() {
        Some(location) => format!("see line {}, column {} of the text", location.line(), location.column()),
        None => "it ends too early, or is nested too deep".to_owned(),
    }
}

/// Reads a value as long as there is room; `None` when there was too little.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a Cell<Option<usize>>);

impl Bounded<'_> {
    fn use_up<E: Error>(self, size: usize) -> Result<(), E> {
        let left = self.0.get().and_then(|room| room.checked_sub(size));
        self.0.set(left);
        left.map(drop).ok_or_else(|| E::custom("too large"))
    }

    fn value<E: Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        self.use_up(1)?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON has as well")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.value(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.value(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.value(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.value(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.use_up(text.len())?;
        self.value(text)
    }

    /// An empty text.
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.value(())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.value(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        self.value(values)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            self.use_up(key.len())?;
            values.insert(key, fields.next_value_seed(self)?);
        }
        self.value(values)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_is_what_json_would_be() {
        for (text, expected) in [
            ("", json!(null)),
            ("a: [1, -1, 1.5, true, null, x, ]\n2: ~", json!({ "a": [1, -1, 1.5, true, null, "x"], "2": null })),
            ("{\"a\": {\"b\": \"\\u00e9\"}}", json!({ "a": { "b": "é" } })),
            ("a: &x [1]\nb: *x", json!({ "a": [1], "b": [1] })),
        ] {
            assert_eq!(read(text), Ok(expected.clone()), "{text}");
            assert_eq!(serde_yaml::from_str::<Value>(text).expect("YAML"), expected, "{text}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_read_is_not_repeated() {
        for text in ["secret: [", "secret: !tag {a: b}", "? [secret]\n: 1", "a: \"secret", &"[".repeat(200)] {
            let error = read(text).expect_err("it is no JSON");
            assert!(error.starts_with("it is neither YAML nor JSON") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn aliases_make_no_flood() {
        let values = format!("a: &a [{}]\nb: [{}]\n", "1,".repeat(10_000), "*a,".repeat(10_000));
        let text = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(10_000), "*a,".repeat(10_000));
        for text in [values, text] {
            let error = read(&text).expect_err("it is too large");
            assert!(error.contains("when its aliases are written out"), "{error}");
        }
        let laughs = (0..100).fold("- &c [x,x]\n".to_owned(), |laughs, _| laughs + "- &c [*c,*c,*c]\n");
        assert!(read(&laughs).is_err());
    }

    #[test]
    fn whatever_has_no_aliases_is_read() {
        for part in ["- \n", "-\n", "\"\\L\",", "\"\\P\\P\\P\",", "1,", "{},", "- - - 1\n", "'',"] {
            let text = if part.ends_with(',') { format!("[{}]", part.repeat(100_000)) } else { part.repeat(100_000) };
            assert!(read(&text).is_ok(), "{part:?}: {:?}", read(&text).map(drop));
        }
    }
}
