//! Prints how many seconds AES-256-CFB and SHA-1 take over a file that is in memory: what `benches/compare` measures
//! the filter against, in the same round.
//!
//! `cargo bench` alone gives it no file; it has nothing to do then.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::time::Instant;

mod interleaved;

fn main() {
    let Some(file) = std::env::args().nth(1).filter(|argument| !argument.starts_with("--")) else { return };
    let data = std::fs::read(file).expect("a readable file");
    let start = Instant::now();
    black_box(interleaved::run(black_box(&data)));
    println!("{:.6}", start.elapsed().as_secs_f64());
}
