//! Runs a test in a process of its own: what the kernel counts of a process, or takes from it for good, is then of that test
//! alone.

use std::{env, process::Command};

use super::skip;

/// Set in the process that was started for one test.
const ALONE: &str = "MAILSEAL_TEST_ALONE";

/// Whether this process was started for one test.
pub fn is_alone() -> bool {
    env::var_os(ALONE).is_some()
}

/// This test program again, for the one test called `name`, the names of its modules before it.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(ALONE, "1");
    command
}

/// Runs the test called `name` in a process of its own. It fails if that does, and says so if that is skipped.
pub fn run(name: &str) {
    let output = command(name).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    if let Some((_, reason)) = text.split_once("SKIPPED: ") {
        skip::say(reason.lines().next().unwrap());
    }
}
