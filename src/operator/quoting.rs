//! Texts in YAML, as strictly as Kubernetes takes them: `8080` and `true` are none until they are put in quotes.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Text::deserialize(deserializer).map(|text| text.0)
}

pub(super) fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::<Text>::deserialize(deserializer).map(|text| text.map(|text| text.0))
}

/// A text that is written as one. YAML's own string would also take `8080` or `true`, which Kubernetes refuses.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Text, E> {
                Err(E::custom("true or false where a text must be: put it in quotes"))
            }

            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Text, E> {
                Err(E::custom("a number where a text must be: put it in quotes"))
            }

            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Text, E> {
                self.visit_i64(0)
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Text, E> {
                self.visit_i64(0)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Text, E> {
                Err(E::custom("nothing where a text must be: write \"\" for an empty text"))
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

/// Texts by name, each name once.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct TextsVisitor;

    impl<'de> Visitor<'de> for TextsVisitor {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping of names to texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut texts = BTreeMap::new();
            while let Some(Text(key)) = entries.next_key()? {
                let Text(text) = entries.next_value()?;
                if texts.contains_key(&key) {
                    return Err(A::Error::custom(format!("{key:?} comes twice")));
                }
                texts.insert(key, text);
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_map(TextsVisitor)
}
