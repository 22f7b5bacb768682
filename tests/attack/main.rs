//! Tests that try to break the borrowing rules of the crate: random programs, and targeted attacks.
//!
//! A random program runs in two processes, with one to three threads each.
//!
//! ```sh
//! cargo test --all-features --test attack                                        # about 3,000 random steps
//! NDARRAY_MMAP_ATTACK_STEPS=100000 cargo test --release --all-features --test attack random
//! ```
//!
//! Almost every test runs in its own process, and fails if that process fails. The tests check that:
//! - a value behind a shared reference never changes;
//! - no array stores to bytes that another array has locked, and a file always contains what its last writer stored;
//! - no process is killed by a signal, and no step takes longer than the watchdog allows;
//! - when a process ends, it leaves no array, no mapping, no open file, no lock and no staged file.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod closed;
mod damaged;
mod end;
mod forked;
mod harness;
mod held;
mod operations;
mod outside;
mod player;
mod random;
mod references;
mod streams;
mod table;
mod unlocked;
mod world;
