//! Quorate: leader election and replicated configuration for Kubernetes.
//!
//! Data flows one way, and a layer imports only from layers below it (`tests/shape` enforces that):
//!
//! ```text
//!  HTTP request -> api --.                                               .-> api (reply, watch stream)
//!                         \   Command          log entry                /
//!  CR event ---> operator --> coordinator --> raft --> machine.apply --> watch
//!                         /                     |       Outcome, Event  \
//!  tick -------> duties -'                      '<------ Outcome         '-> operator (status)
//! ```
//!
//! The modules, in reading order, from the ground up:

pub mod types;

pub mod encoding;
pub mod tasks;

pub mod machine;

pub mod settings;
pub mod telemetry;
pub mod watch;

pub mod raft;

pub mod coordinator;

pub mod duties;

pub mod api;
pub mod operator;

pub mod client;
pub mod server;

pub mod cli;
