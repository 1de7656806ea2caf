//! The HTTP ring: the whole API of a real member without a socket, from the router down to its disk.

mod bad_input;
mod cluster;
mod configs;
mod fixture;
mod health;
mod keys;
mod openapi;
mod watches;
