//! Where log events go: standard error, one line each.

use std::io::IsTerminal;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::{LogFormat, LogSettings};

/// A process has one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this process writes a log already")]
pub struct AlreadyLogging;

/// Starts the log of this process.
///
/// # Errors
/// When it was started before.
pub fn start_logging(settings: &LogSettings) -> Result<(), AlreadyLogging> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives(&settings.levels)))
        .with_writer(BoxMakeWriter::new(std::io::stderr))
        .with_ansi(std::io::stderr().is_terminal());
    match settings.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).finish().try_init(),
    }
    .map_err(|_| AlreadyLogging)
}

/// A level without a module is Quorate's. Libraries say only what is wrong, unless they are named: what their trouble means
/// for a member is logged by the layer that uses them.
fn directives(levels: &str) -> String {
    let given =
        levels.split(',').map(|part| if part.contains('=') { part.to_owned() } else { format!("quorate={part}") });
    // The operator says itself what its client meets.
    ["error", "kube_client=off"].into_iter().map(str::to_owned).chain(given).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_without_a_module_is_quorates_own() {
        assert_eq!(directives("debug"), "error,kube_client=off,quorate=debug");
        assert_eq!(
            directives("warn,quorate::raft=trace,openraft=info"),
            "error,kube_client=off,quorate=warn,quorate::raft=trace,openraft=info"
        );
    }
}
