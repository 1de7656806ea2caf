//! Resources at the edge: what people declare becomes commands.
//!
//! Everything here is level-triggered: what is declared now is compared with what the cluster holds now, and the difference
//! is proposed, by the Raft leader only and under its leadership. Nothing here changes state in another way, and nothing of
//! what was declared is ever logged.
//!
//! Read next: `resources/` (what can be declared), `documents.rs` (YAML to resources, and what is wrong with it),
//! `plan.rs` (what to propose), `folder.rs` and `intake.rs` (a folder of YAML), `kubernetes/` (the API server), `crds/` (the
//! CRDs).

mod causes;
pub mod crds;
pub mod documents;
pub mod folder;
pub mod intake;
pub mod kubernetes;
pub mod plan;
mod proposing;
mod quoting;
pub mod resources;
