//! The `quorate` binary: reads the command line, runs one command, and turns its end into an exit code.

use std::process::ExitCode;

use clap::Parser;
use quorate::cli;
use quorate::settings::args::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(&cli::Failure { exit: cli::Exit::Failed, error: error.into() }),
    };
    let done = runtime.block_on(cli::run(cli));
    // A thread that waits for something outside (standard input, a disk that hangs) must not keep the process.
    runtime.shutdown_background();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => end(&failure),
    }
}

#[expect(clippy::print_stderr, reason = "the last words of the process")]
fn end(failure: &cli::Failure) -> ExitCode {
    eprintln!("quorate: {failure}");
    ExitCode::from(failure.exit as u8)
}
