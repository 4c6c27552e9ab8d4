//! Runs a program once for `benches/compare` and prints its seconds, those of them on a processor, its peak memory in kB,
//! its output's length and its exit status: `launch INPUT OUTPUT PROGRAM [ARGUMENT…]`.
//!
//! A program of its own because it is small: the peak that the kernel reports for a process includes what its parent
//! held when it started it. The output goes into a file that is not made shorter, so that nobody pays for new pages
//! after the first round. `cargo bench` alone gives it no program; it has nothing to do then.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::OpenOptions;
use std::io::Seek as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [input, output, program, arguments @ ..] = &arguments[..] else { return };
    let input = OpenOptions::new().read(true).open(input).expect("an input that can be read");
    let mut output =
        OpenOptions::new().write(true).create(true).truncate(false).open(output).expect("an output");
    let mut command = Command::new(program);
    command.args(arguments).stdin(input).stdout(output.try_clone().expect("a descriptor"));
    command.stderr(Stdio::inherit());

    let start = Instant::now();
    let status = command.status().expect("a program that starts");
    let seconds = start.elapsed().as_secs_f64();

    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the children's usage");
    let processor = usage.user_time() + usage.system_time();
    let processor = processor.tv_sec() as f64 + processor.tv_usec() as f64 / 1e6;
    // The program has moved the position that it shares with us.
    let written = output.stream_position().unwrap_or(0);
    let memory = usage.max_rss();
    println!("{seconds:.6} {processor:.6} {memory} {written} {}", status.code().unwrap_or(-1));
}
