//! `quorate serve`: one member, until it is asked to stop.

use super::Failure;
use crate::server;
use crate::settings::MemberSettings;
use crate::settings::args::ServeArgs;
use crate::telemetry::start_logging;

pub async fn run(args: ServeArgs) -> Result<(), Failure> {
    let settings = MemberSettings::read(args)?;
    start_logging(&settings.log).map_err(Failure::failed)?;
    server::run(settings).await.map_err(Failure::failed)
}
