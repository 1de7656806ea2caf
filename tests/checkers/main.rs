//! The checkers themselves: histories that are known to be good or bad, and every order of small ones by brute force.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod histories;
mod orders;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each ring uses a part of what is shared")]
mod support;
