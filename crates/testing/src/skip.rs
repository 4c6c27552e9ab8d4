//! Says visibly that a test cannot run here.

use std::io::Write;

/// Writes a `SKIPPED` line. To the stream itself: libtest swallows what a passing test prints with `eprintln!`.
pub fn say(reason: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let line = format!("SKIPPED: {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The same for what every machine of the CI has; there, a test that cannot run has failed.
pub fn unless_ci(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI has to run this: {reason}");
    say(reason);
}
