//! Resources at the edge: what people declare becomes commands.
//!
//! Everything here is level-triggered: what is declared now is compared with what the cluster holds now, and the difference
//! is proposed, by the Raft leader only and under its leadership. Nothing here changes state in another way, and nothing of
//! what was declared is ever logged.
//!
//! Read next: `resources/` (what can be declared), `documents.rs` (YAML to resources, and what is wrong with it),
//! `plan.rs` (what to propose), `folder.rs` (a folder and its changes), `intake.rs` (who runs it when).

pub mod documents;
pub mod folder;
mod intake;
pub mod plan;
pub mod resources;

pub use intake::run;
