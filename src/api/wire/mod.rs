//! The JSON shapes of the API, and nothing else: no rule of the cluster stands here. The client reads the same shapes.

mod cluster;
mod configs;
mod elections;
mod keys;
mod locks;
mod sessions;

pub use cluster::*;
pub use configs::*;
pub use elections::*;
pub use keys::*;
pub use locks::*;
pub use sessions::*;
