//! Who hears of which event: a bounded ring of the newest events that every subscriber walks at its own pace.
//!
//! There is no queue for a subscriber, so a slow one costs nothing and cannot delay anybody. One that falls out of the ring
//! is told so and starts again from the present state; nothing is lost silently. Publishing never waits.

mod filter;
mod hub;
mod subscription;

pub use filter::Filter;
pub use hub::{Hub, HubLimits};
pub use subscription::{Next, Notice, Subscription};
