//! What is logged, and how.

use super::reader::{Reader, Setting};

pub(super) const LOG: Setting = Setting("log");
pub(super) const LOG_FORMAT: Setting = Setting("log-format");

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; in colour only on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Levels and form of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// `LEVEL` and `MODULE=LEVEL`, separated by commas; checked.
    pub levels: String,
    pub format: LogFormat,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn read(reader: &mut Reader, levels: Option<String>, format: Option<String>) -> Option<LogSettings> {
    let levels = reader.read(LOG, levels, "info".to_owned(), parse_levels);
    let format = reader.read(LOG_FORMAT, format, LogFormat::Text, |text| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("{other:?} is no form of the log; allowed: text, json")),
    });
    Some(LogSettings { levels: levels?, format: format? })
}

/// Only levels and modules, not the whole language of filters: what is logged must not depend on a value.
fn parse_levels(text: &str) -> Result<String, String> {
    for part in text.split(',') {
        let (module, level) = part.split_once('=').unwrap_or(("quorate", part));
        let is_module = module
            .split("::")
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        if !is_module || !LEVELS.contains(&level) {
            return Err(format!(
                "{part:?} is no level and no MODULE=LEVEL; the levels are {}, a module is such as quorate::raft",
                LEVELS.join(", ")
            ));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_levels_and_modules() {
        for good in ["info", "off", "warn,quorate::raft=debug", "quorate=trace,openraft=warn"] {
            assert_eq!(parse_levels(good).as_deref(), Ok(good));
        }
        for wrong in ["", "loud", "quorate::raft=", "=info", "info,", "quorate[{key=1}]=info"] {
            assert!(parse_levels(wrong).is_err(), "{wrong}");
        }
    }
}
