//! What several rings share. Each ring includes this folder as a module of its own.

pub mod candidates;
pub mod effort;
pub mod history;
pub mod linearizability;
pub mod markdown;
pub mod register;
pub mod revisions;
pub mod trio;
pub mod watcher;
pub mod workload;
