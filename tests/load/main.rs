//! Load tests. Threads share a thousand arrays, and processes share the byte ranges of one file.
//!
//! ```sh
//! cargo test --all-features --test load                                     # about 10 s
//! NDARRAY_MMAP_LOAD_SECONDS=60 cargo test --release --all-features --test load
//! ```
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod processes;
mod slot;
mod threads;

use std::io::Write;
use std::time::Duration;

/// Prints a line to standard error. The test harness captures the output of `eprintln!`, but not of a direct write.
fn report(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}

/// Returns how long each load test runs.
fn load_time() -> Duration {
    let seconds = std::env::var("NDARRAY_MMAP_LOAD_SECONDS").map_or(10, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// A pseudo-random number generator (xorshift) with a seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}
