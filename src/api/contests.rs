//! What elections and locks have in common.

use super::extract;
use super::problem::Problem;
use super::wire;
use crate::machine::command::{ContestId, ContestKind, Fence};
use crate::types::FencingToken;

/// The greatest number that every JSON reader knows exactly.
const GREATEST_TOKEN: u64 = (1 << 53) - 1;

/// A grant that a client names.
///
/// # Errors
/// When it is not valid.
pub fn fence(pointer: &str, fence: &wire::Fence) -> Result<Fence, Problem> {
    let at = |part: &str| format!("{pointer}/{part}");
    let kind = match fence.kind {
        wire::FenceKind::Election => ContestKind::Election,
        wire::FenceKind::Lock => ContestKind::Lock,
    };
    let contest = ContestId {
        kind,
        namespace: extract::name(&at("namespace"), &fence.namespace)?,
        name: extract::name(&at("name"), &fence.name)?,
    };
    Ok(Fence { contest, token: token(&at("fencingToken"), fence.fencing_token)? })
}

/// A fencing token that a client names.
///
/// # Errors
/// When it is none.
pub fn token(pointer: &str, number: u64) -> Result<FencingToken, Problem> {
    match number {
        1..=GREATEST_TOKEN => Ok(FencingToken::new(number)),
        _ => Err(Problem::invalid(pointer, format!("a fencing token is a number from 1 to {GREATEST_TOKEN}"))),
    }
}
