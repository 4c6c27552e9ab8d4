//! Prints how many seconds AES-256-CFB and SHA-1 take over a file that is in memory, and those on a processor: what `benches/compare` measures
//! the filter against, in the same round.
//!
//! `cargo bench` alone gives it no file; it has nothing to do then.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

mod interleaved;

fn main() {
    let Some(file) = std::env::args().nth(1).filter(|argument| !argument.starts_with("--")) else { return };
    let data = std::fs::read(file).expect("a readable file");
    let (start, start_processor) = (Instant::now(), processor());
    black_box(interleaved::run(black_box(&data)));
    println!("{:.6} {:.6}", start.elapsed().as_secs_f64(), processor() - start_processor);
}

/// Seconds that this process has had a processor.
fn processor() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("one's own usage");
    let time = usage.user_time() + usage.system_time();
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}
