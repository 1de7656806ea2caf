//! The bytes of every release: what a member has written once, every later release reads the same.
//!
//! A folder is named after the release that wrote it first. Files are made by `QUORATE_REWRITE_GOLDEN=1 cargo test --test
//! golden`, for a release that is not out yet; the files of one that is out never change.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

#[path = "../support/effort.rs"]
mod effort;
mod file;
mod garbage;
mod machine;
mod samples;
mod unknown_fields;
