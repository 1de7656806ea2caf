//! Reads settings one after the other, and remembers everything that is wrong instead of stopping at the first.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_yaml::Value;

/// One setting; its forms on the command line, in the environment and in the file follow from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Setting(pub &'static str);

impl Setting {
    pub(super) fn flag(self) -> String {
        format!("--{}", self.0)
    }

    pub(super) fn variable(self) -> String {
        format!("QUORATE_{}", self.0.to_ascii_uppercase().replace('-', "_"))
    }

    pub(super) fn key(self) -> String {
        let mut parts = self.0.split('-');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |key, part| {
            let (initial, rest) = part.split_at(1);
            key + &initial.to_ascii_uppercase() + rest
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, or {} in the settings file)", self.flag(), self.variable(), self.key())
    }
}

/// One thing that is wrong, said in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSettings(Vec<Problem>);

impl InvalidSettings {
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "a setting is wrong: {only}"),
            problems => {
                write!(f, "{} settings are wrong:", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for InvalidSettings {}

/// What the file says, and what was wrong so far.
pub(super) struct Reader {
    file: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Reader {
    /// Reads the settings file, if there is one; `known` are the settings that it may have.
    pub(super) fn new(path: Option<&Path>, known: &[Setting]) -> Self {
        let mut reader = Self { file: BTreeMap::new(), problems: Vec::new() };
        let Some(path) = path else { return reader };
        match std::fs::read_to_string(path) {
            Ok(text) => reader.read_file(path, &text, known),
            Err(error) => reader.file_problem(path, &error.to_string()),
        }
        reader
    }

    fn read_file(&mut self, path: &Path, text: &str, known: &[Setting]) {
        let entries: BTreeMap<String, Value> = match serde_yaml::from_str(text) {
            Ok(entries) => entries,
            Err(error) => return self.file_problem(path, &format!("it is no YAML mapping of settings: {error}")),
        };
        for (key, value) in entries {
            if !known.iter().any(|setting| setting.key() == key) {
                let known: Vec<_> = known.iter().map(|setting| setting.key()).collect();
                self.file_problem(path, &format!("there is no setting {key:?}; allowed: {}", known.join(", ")));
            } else if let Some(text) = as_text(&value) {
                self.file.insert(key, text);
            } else {
                self.file_problem(path, &format!("{key}: write a plain text, number, true or false"));
            }
        }
    }

    fn file_problem(&mut self, path: &Path, what: &str) {
        let setting = Setting("settings");
        let text = format!("{} ({}): {}: {what}", setting.flag(), setting.variable(), path.display());
        self.problems.push(Problem(text));
    }

    /// Notes what is wrong with a setting and what is allowed.
    pub(super) fn problem(&mut self, setting: Setting, what: &str) {
        self.problems.push(Problem(format!("{setting}: {what}")));
    }

    /// The text of a setting: the flag or variable if given, else the file's.
    pub(super) fn text(&mut self, setting: Setting, given: Option<String>) -> Option<String> {
        let from_file = self.file.remove(&setting.key());
        given.or(from_file)
    }

    /// What the text of a setting means, `default` when it is not set, `None` when it is wrong (which is noted).
    pub(super) fn read<T>(
        &mut self,
        setting: Setting,
        given: Option<String>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.text(setting, given) {
            None => Some(default),
            Some(text) => self.parsed(setting, parse(&text)),
        }
    }

    /// As [`Reader::read`], of a setting that has no default; `needed` says what to give.
    pub(super) fn require<T>(
        &mut self,
        setting: Setting,
        given: Option<String>,
        needed: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.text(setting, given) {
            None => {
                self.problem(setting, &format!("is missing; allowed: {needed}"));
                None
            }
            Some(text) => self.parsed(setting, parse(&text)),
        }
    }

    fn parsed<T>(&mut self, setting: Setting, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|what| self.problem(setting, &what)).ok()
    }

    /// The end: everything that was wrong.
    pub(super) fn finish(self) -> InvalidSettings {
        InvalidSettings(self.problems)
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// A scalar of the file as it would be written on the command line. A mapping of plain values (as of the initial cluster)
/// becomes `key=value,...`.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Mapping(entries) => {
            let pairs: Option<Vec<_>> =
                entries.iter().map(|(key, value)| Some(format!("{}={}", key.as_str()?, value.as_str()?))).collect();
            pairs.map(|pairs| pairs.join(","))
        }
        Value::Null | Value::Sequence(_) | Value::Tagged(_) => None,
    }
}
