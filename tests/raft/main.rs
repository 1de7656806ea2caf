//! Members over real sockets and real directories, all in one process: founding, joining, elections, forwarding, linearizable
//! reads, crashes, fail-overs, transfers, who should not lead, broken copies, volumes that are not what they should be, and what a member refuses.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod alone;
mod book;
mod cluster;
mod costs;
mod counted;
mod cut;
mod divergence;
mod failing_over;
mod founding;
mod joining;
mod proxy;
mod serving;
mod shrinking;
mod slow;
mod stepping_aside;
mod strangers;
mod unfit;
mod volumes;
