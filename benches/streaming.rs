//! Compares programs that stream an array from one file to another: this crate, the tools of the system, direct I/O
//! without arrays, plain memory maps, and numpy. Each program is called a contender.
//!
//! ```text
//! cargo bench --bench streaming --features rayon -- --goals --json streaming.json --svg streaming.svg
//! cargo bench --bench streaming --features rayon -- --quick
//! cargo bench --bench streaming --features rayon -- --loops --quick
//! ```
//!
//! With `--loops`, it measures loops over chunks of rows instead, as users write them with `evict_rows` or `row_chunks`.
//!
//! How the benchmark measures:
//! - Each contender runs in a separate process. The clock runs inside that process and covers only the work: opening
//!   files, moving data, syncing and closing. All output is durable when the clock stops.
//! - One round runs every contender once on the same files. The next round runs the contenders in reverse order. The
//!   report shows medians.
//! - Before each run, the benchmark deletes the outputs of the previous run, syncs the filesystem, and touches as much
//!   memory as the run can need. Then it drops the source from the page cache (cold) or reads the source into the page
//!   cache (warm), and checks the result by counting the resident pages.
//! - Peak memory is the memory of the process and the page cache together, as the kernel charges them to the control
//!   group of the run. If no control group can be made, a thread samples two figures: the anonymous memory, and the
//!   pages of the source and the outputs that came into the page cache during the run.
//! - The first output of each contender for each work is compared with the expected output, element by element.

#[cfg(target_os = "linux")]
#[path = "streaming/suite.rs"]
mod suite;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: the streaming benchmark counts pages of the page cache, which needs Linux");
}
