//! The HTTP ring: the whole API of a real member without a socket, from the router down to its disk.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod bad_input;
mod cluster;
mod configs;
mod elections;
mod fixture;
mod health;
mod keys;
mod locks;
mod metrics;
mod openapi;
mod sessions;
mod watches;
