//! `quorate crds`: the CRDs, printed or brought to the API server.

use super::output::write_out;
use super::{Exit, Failure};
use crate::operator::crds::{self, ApplyError};
use crate::settings::args::{CrdsArgs, CrdsCommand};

pub async fn run(args: CrdsArgs) -> Result<(), Failure> {
    match args.command {
        None => print(),
        Some(CrdsCommand::Apply { field_manager, timeout }) => {
            for applied in crds::apply(&field_manager, timeout).await? {
                write_out(format!("{}: {}\n", applied.name, applied.change).as_bytes())?;
            }
            Ok(())
        }
    }
}

/// All of them as one stream of YAML documents, as `kubectl apply -f -` reads it.
fn print() -> Result<(), Failure> {
    let documents: Vec<_> = crds::files().into_values().collect();
    Ok(write_out(documents.join("---\n").as_bytes())?)
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let exit = match &error {
            ApplyError::NoApiServer(_) => Exit::Usage,
            ApplyError::Unavailable(_) | ApplyError::NotServed { .. } => Exit::Unavailable,
            ApplyError::Forbidden { .. } | ApplyError::Refused { .. } => Exit::Failed,
        };
        Self { exit, error: error.into() }
    }
}
