//! Where a member's resources come from, as meant.

use std::path::PathBuf;

use super::member::{NAME, parse_bool, parse_directory, parse_label};
use super::reader::{Reader, Setting};
use crate::types::{MemberName, Namespace};

pub(super) const RESOURCES: Setting = Setting("resources");
pub(super) const KUBERNETES: Setting = Setting("kubernetes");
pub(super) const NAMESPACE: Setting = Setting("namespace");

/// Where resources come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resources {
    Folder(PathBuf),
    /// The API server, which knows this member's pod.
    Kubernetes(Pod),
}

/// A pod of a StatefulSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub namespace: Namespace,
    pub stateful_set: String,
    pub ordinal: u32,
}

pub(super) fn read(
    reader: &mut Reader,
    folder: Option<String>,
    kubernetes: Option<String>,
    namespace: Option<String>,
    name: Option<&MemberName>,
) -> Option<Option<Resources>> {
    let folder = reader.read(RESOURCES, folder, None, |text| parse_directory(text).map(Some))?;
    let kubernetes = reader.read(KUBERNETES, kubernetes, false, parse_bool)?;
    match (folder, kubernetes) {
        (Some(_), true) => {
            let what = "resources come from one place; allowed: --resources or --kubernetes, not both";
            reader.problem(KUBERNETES, what);
            None
        }
        (folder, false) => Some(folder.map(Resources::Folder)),
        (None, true) => {
            let needed = "the Kubernetes namespace of this member's pod, because resources come from Kubernetes";
            let namespace = reader.require(NAMESPACE, namespace, needed, parse_label)?;
            let Some((stateful_set, ordinal)) = name.and_then(|name| split_ordinal(name.as_str())) else {
                let what =
                    "resources come from Kubernetes; allowed: the name of a StatefulSet's pod, such as quorate-0";
                reader.problem(NAME, what);
                return None;
            };
            Some(Some(Resources::Kubernetes(Pod { namespace, stateful_set, ordinal })))
        }
    }
}

fn split_ordinal(pod: &str) -> Option<(String, u32)> {
    let (stateful_set, ordinal) = pod.rsplit_once('-')?;
    Some((stateful_set.to_owned(), ordinal.parse().ok()?))
}
