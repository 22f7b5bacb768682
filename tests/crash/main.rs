//! Crash tests: a process is killed at random moments, and a file system loses power at random moments. No durable data
//! may be lost, and no stray file may remain.
//!
//! ```sh
//! cargo test --all-features --test crash                                    # about 20 s
//! NDARRAY_MMAP_KILLS=1000 NDARRAY_MMAP_POWER_CUTS=500 NDARRAY_MMAP_STRAY_KILLS=200 cargo test --release --all-features --test crash
//! NDARRAY_MMAP_SEED=7 cargo test --test crash                               # repeats the pauses of an earlier run
//! ```
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod disk;
mod judge;
mod kills;
#[path = "../common/loop_device.rs"]
mod loop_device;
mod power;
#[path = "../common/refuse.rs"]
mod refuse;
#[path = "../common/seccomp.rs"]
mod seccomp;
mod strays;
mod worker;

use std::io::Write;
use std::time::Duration;

/// Prints a line to standard error. The test harness captures the output of `eprintln!`, but not of a direct write.
fn report(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}

/// Returns a number from an environment variable, or `default` if the variable is not set.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Pauses of random length. The same seed gives the same lengths of the pauses.
struct Pauses(u64);

impl Pauses {
    fn new() -> Self {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self(setting("NDARRAY_MMAP_SEED", since_1970.as_micros() as u64) | 1)
    }

    fn seed(&self) -> u64 {
        self.0
    }

    /// Sleeps for a random time that is shorter than `longest`.
    fn sleep(&mut self, longest: Duration) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let thousandths = u32::try_from(self.0 % 1000).unwrap();
        std::thread::sleep(longest * thousandths / 1000);
    }
}
