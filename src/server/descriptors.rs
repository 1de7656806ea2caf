//! Open files and sockets: clients get what the rest of a member leaves, so that no crowd of them takes what Raft needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections to the health port at a time.
pub const PROBES: usize = 128;

/// Connections of clients at a time: room for every watch and every call in flight.
const CLIENTS: usize = 12_000;

/// Files of the log and snapshots, connections of members, and the health port.
const RESERVED: usize = 256 + PROBES;

/// Raises the limit as far as the system allows; for how many connections of clients there is room then.
pub fn for_clients() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { raised.current } else { limit.current };
    let clients = clients_within(current);
    if clients < CLIENTS {
        tracing::warn!(
            clients,
            open_files = current,
            "few clients can be connected: raise the limit of open files (ulimit -n)"
        );
    }
    clients
}

/// At least one client is served, whatever the limit.
fn clients_within(open_files: Option<u64>) -> usize {
    let open_files = open_files.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    open_files.saturating_sub(RESERVED).clamp(1, CLIENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_rest_leaves() {
        for (open_files, clients) in [(None, CLIENTS), (Some(1 << 20), CLIENTS), (Some(1024), 640), (Some(100), 1)] {
            assert_eq!(clients_within(open_files), clients, "{open_files:?}");
        }
    }
}
