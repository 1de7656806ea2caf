//! Quorate.
pub mod machine;
pub mod types;
