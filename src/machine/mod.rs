//! The replicated state machine.

mod codec;
pub mod command;
pub mod config;
pub mod event;
pub mod outcome;

/// (Skeleton.)
#[derive(Debug, Clone)]
pub struct Machine;
