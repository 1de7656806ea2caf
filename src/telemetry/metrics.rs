//! The registry of one member's metrics, with what every process has.

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntGauge, Opts, Registry};

/// A registry with the metrics of the process and of the build.
pub fn new_registry() -> Registry {
    let registry = Registry::new();
    let build = Opts::new("quorate_build_info", "Always 1; the release of the program is in the label.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let build = IntGauge::with_opts(build).expect("the name and the label are valid");
    build.set(1);
    registry.register(Box::new(build)).expect("the registry is empty");
    registry.register(Box::new(ProcessCollector::for_self())).expect("no other collector has its names");
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_tells_of_the_process_and_the_build() {
        let names: Vec<_> = new_registry().gather().iter().map(|family| family.name().to_owned()).collect();
        for name in ["quorate_build_info", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(names.iter().any(|present| present == name), "{name} in {names:?}");
        }
    }
}
