//! Commands that have to succeed.

use std::process::Command;
use std::thread;

/// What a command printed. That it fails ends the test, unless that is failing already and only cleans up.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    if !output.status.success() {
        let failure = format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        assert!(thread::panicking(), "{failure}");
        println!("{failure}");
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}
