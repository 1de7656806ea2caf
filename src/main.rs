//! The `quorate` binary: reads the command line, runs one command, and turns its end into an exit code.

use std::process::ExitCode;

use clap::Parser;
use quorate::cli;
use quorate::settings::args::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's option `purge_delay`, in milliseconds: how long free memory is kept before the system has it back. The binding has no
/// name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps free memory for ten seconds instead of one, if MIMALLOC_PURGE_DELAY says nothing else. Under load it is wanted again at once, and each page that the system gives
/// is filled with zeros first, which took a twentieth of a busy member's time.
#[expect(unsafe_code, reason = "an option of the allocator is set by a function of C, which has no precondition")]
fn keep_free_memory() {
    // SAFETY: the allocator checks the number of the option, and takes any value.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, 10_000) }
}

fn main() -> ExitCode {
    keep_free_memory();
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
