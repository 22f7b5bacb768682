//! Every way to stream an array from one file to another, side by side: this crate, the system's own tools, raw
//! direct I/O, plain memory maps and numpy.
//!
//! ```text
//! cargo bench --bench streaming --features rayon -- --goals --json streaming.json --svg streaming.svg
//! cargo bench --bench streaming --features rayon -- --quick
//! ```
//!
//! How it measures:
//! - Each contender runs in a process of its own, started before the clock; the clock runs inside that process, around
//!   the work alone: opening, moving, syncing (everything is durable when the clock stops), closing.
//! - One round runs every contender once on the same files; the next round runs them in reverse order. Medians are shown.
//! - Before each run the outputs of the run before are deleted and synced, as much memory as the run can need is
//!   touched, and the source is dropped from the page cache (cold) or read into it (warm); both are checked by
//!   counting its resident pages, never assumed.
//! - Peak memory is what the run charged to a control group of its own: memory of the process and page cache together.
//!   Where no group can be made it is sampled: anonymous memory and the pages of both files that the run brought in.
//! - The first output of each contender for each work is compared, element by element, with what it ought to be.

#[cfg(target_os = "linux")]
#[path = "streaming/suite.rs"]
mod suite;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: the streaming bench counts page-cache pages, which needs Linux");
}
