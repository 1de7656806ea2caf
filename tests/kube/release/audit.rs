//! What members have asked the API server to write, as it has written it down.

use serde_json::Value;

use crate::nodes::Nodes;

#[derive(Debug)]
pub struct Write {
    /// With microseconds, so that their order is that of their texts.
    pub at: String,
    /// The member's; empty when it was no pod that asked.
    pub pod: String,
    pub manager: String,
    /// The kind of the object, and the part of it: `leases`, `statefulsets/scale`.
    pub what: String,
    pub code: u64,
    /// What was asked for.
    pub request: Value,
}

impl Write {
    /// That of the status; nothing else has one.
    pub fn leadership(&self) -> Option<u64> {
        self.request["status"]["observedLeadership"].as_u64()
    }

    pub fn is_done(&self) -> bool {
        self.code < 300
    }
}

/// Everything that was to be written in a namespace, in order of arrival.
pub fn writes(nodes: &Nodes, namespace: &str) -> Vec<Write> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let write = |entry: Value| {
        let (object, uri) = (&entry["objectRef"], text(&entry["requestURI"]));
        let parts = ["resource", "subresource"].map(|part| text(&object[part]));
        Some(Write {
            at: text(&entry["requestReceivedTimestamp"]),
            pod: text(&entry["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]),
            manager: uri.rsplit_once("fieldManager=")?.1.to_owned(),
            what: parts.join("/").trim_end_matches('/').to_owned(),
            code: entry["responseStatus"]["code"].as_u64()?,
            request: entry["requestObject"].clone(),
        })
    };
    let mut writes: Vec<_> = nodes.audit(namespace).into_iter().filter_map(write).collect();
    writes.sort_by(|one, other| one.at.cmp(&other.at));
    writes
}

/// One line for each, for whoever has to find out what went wrong.
pub fn order(writes: &[Write]) -> String {
    let line = |write: &Write| {
        let leadership = write.leadership().map(|leadership| format!(", leadership {leadership}")).unwrap_or_default();
        format!("\n{} {} as {}: {}{leadership}: {}", write.at, write.pod, write.manager, write.what, write.code)
    };
    writes.iter().map(line).collect()
}
