//! Members over real sockets and real directories, all in one process: founding, elections, forwarding, linearizable reads,
//! crashes, transfers, broken copies, and what a member refuses.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod cluster;
mod divergence;
mod founding;
mod serving;
mod strangers;
