//! `quorate bench`: what Quorate does in a second, beside a peer that does the same on the same disk in the same run.
//!
//! Read next: `load.rs` and `workload.rs` (what clients do), `peer.rs` (what that takes of a peer), `quorate.rs` and `etcd.rs`
//! (how each of them does it), `floor.rs` (what the machine itself takes), `expiry.rs` (sessions that end together), `failover/`
//! (a leader that is harmed), `growth/` (more of everything), `trio.rs` (three processes on loopback), `figures.rs` and
//! `machine.rs` (how results are told), `saved.rs`, `compare.rs` and `plot.rs` (what can be done with results).

mod compare;
mod etcd;
mod expiry;
mod failover;
mod figures;
mod floor;
mod growth;
mod load;
mod machine;
mod peer;
mod plot;
mod quorate;
mod saved;
mod trio;
mod workload;

use super::output::{print, write_out};
use super::{Exit, Failure};
use crate::settings::args::BenchCommand;
use saved::Saved;

/// Runs a benchmark and prints what came of it.
pub async fn run(command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Load(args) => {
            let report = Saved::Load(load::measure(&args).await.map_err(Failure::failed)?);
            print(args.output, &report, ToString::to_string)?;
        }
        BenchCommand::Expiry(args) => {
            let report = expiry::measure(&args).await.map_err(Failure::failed)?;
            print(args.output, &report, ToString::to_string)?;
        }
        BenchCommand::Failover(args) => {
            let report = Saved::Failover(failover::measure(&args).await.map_err(Failure::failed)?);
            print(args.output, &report, ToString::to_string)?;
        }
        BenchCommand::Growth(args) => {
            let report = Saved::Growth(growth::measure(&args).await.map_err(Failure::failed)?);
            print(args.output, &report, ToString::to_string)?;
        }
        BenchCommand::Compare(args) => {
            let comparison = compare::compare(&args)?;
            print(args.output, &comparison, ToString::to_string)?;
            comparison.agrees().map_err(|error| Failure { exit: Exit::Failed, error })?;
        }
        BenchCommand::Show(args) => {
            let report = Saved::read(&args.result).map_err(Failure::usage)?;
            print(args.output, &report, ToString::to_string)?;
        }
        BenchCommand::Plot(args) => {
            let drawn = plot::draw(&args).map_err(Failure::failed)?;
            for path in drawn {
                write_out(format!("{}\n", path.display()).as_bytes())?;
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "standard output is for the results")]
fn say(text: &str) {
    eprintln!("quorate: {text}");
}
