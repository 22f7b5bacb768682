//! Attacks on the rules of borrowing: random programs of several threads and two processes, and targeted attacks.
//!
//! ```sh
//! cargo test --all-features --test attack                                        # about 3,000 random steps
//! NDARRAY_MMAP_ATTACK_STEPS=100000 cargo test --release --all-features --test attack random
//! ```
//!
//! Every attack runs in a process of its own, and the exit status of the process is part of the verdict. The judges are:
//! - a value behind a shared reference never changes;
//! - a store never reaches bytes that another owner has locked, and a file always holds what its last owner has stored;
//! - no signal ends a process, and no step takes longer than the watchdog allows;
//! - at the end of a process, no array, no mapping, no open file, no lock and no staged file is left.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod closed;
mod damaged;
mod end;
mod forked;
mod harness;
mod held;
mod outside;
mod player;
mod random;
mod references;
mod streams;
mod table;
mod unlocked;
mod world;
