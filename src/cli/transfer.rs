//! `quorate transfer`: another member leads.

use super::output::print;
use super::{Failure, connect};
use crate::settings::args::TransferArgs;

pub async fn run(args: TransferArgs) -> Result<(), Failure> {
    let transferred = connect(&args.client)?.transfer(args.to.as_deref()).await?.body;
    Ok(print(args.client.output, &transferred, |transferred| {
        format!(
            "{} leads in term {}, after {} ms\n",
            transferred.leader.name, transferred.leader.term, transferred.took_ms
        )
    })?)
}
