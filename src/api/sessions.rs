//! `/v1/sessions`: the liveness of clients.

use super::Api;
use super::extract;
use super::problem::Problem;
use crate::types::{SessionId, SessionName};

/// The session that a client names.
///
/// # Errors
/// When it is no session, or one of another cluster.
pub fn known(api: &Api, pointer: &str, text: &str) -> Result<SessionId, Problem> {
    let name: SessionName = extract::name(pointer, text)?;
    Ok(api.coordinator.session(&name)?)
}
