//! The chart and the manifests, without a cluster: what Helm makes of the chart, and what the checkers say of that.
//!
//! `make chart` installs the schemas and runs this ring. Helm, kubeconform and kube-score are those of `tests/kube/cluster/pins`.
//! That Kubernetes itself agrees, and what the chart does in it, is shown in `tests/kube`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod checks;
mod generated;
mod helm;
mod objects;
mod values;
