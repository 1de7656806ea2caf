//! What operators see: the log and the registry of metrics.
//!
//! Each component declares its own metrics next to the code that moves them and registers them in the one [`Registry`]
//! that it is handed; nothing registers globally. The log has no values of keys or configs, at any level.

mod logging;
mod metrics;

pub use logging::{AlreadyLogging, start_logging};
pub use metrics::new_registry;
pub use prometheus::Registry;
