//! A release of the chart, as users have it: how it comes, grows, changes and goes, and what the README and the runbooks say of it.

mod audit;
mod beside;
mod changing;
mod declaring;
mod deposed;
mod electing;
mod fenced;
mod gone;
mod growing;
pub mod helm;
mod installed;
mod leading;
mod load;
pub mod marked;
mod planned;
mod prometheus;
mod readme;
mod resizing;
mod rights;
mod runbooks;
mod seated;
mod steady;
mod swift;
mod turns;
mod volumes;
mod weather;
