//! What the run shows while it works, and what it takes: progress, peak memory, peak page cache.

use crate::interrupt::{Interrupt, Interrupted};
use crate::row_bytes;
use indicatif::{ProgressBar, ProgressStyle};
use ndarray::{ArrayRef, Axis, Ix3};
use ndarray_mmap::Residency;
use std::fs;
use std::ops::Range;

/// Follows one stage of the work after another.
pub struct Meter {
    interrupt: Interrupt,
    bar: ProgressBar,
    row_bytes: usize,
    peak_cache_bytes: usize,
}

impl Meter {
    pub fn new(interrupt: Interrupt) -> Self {
        Self { interrupt, bar: ProgressBar::hidden(), row_bytes: 0, peak_cache_bytes: 0 }
    }

    /// Begins a stage that will handle every row of the array once.
    pub fn start(&mut self, stage: &'static str, array: &ArrayRef<f32, Ix3>) {
        let style = ProgressStyle::with_template(
            "{msg:>6} [{bar:40}] {bytes:>10} of {total_bytes}, {binary_bytes_per_sec}, {eta} left",
        );
        self.row_bytes = row_bytes(array);
        self.bar.finish();
        // On standard error, and only where that is a terminal.
        self.bar = ProgressBar::new((self.row_bytes * array.len_of(Axis(0))) as u64)
            .with_style(style.expect("the template is well-formed").progress_chars("=> "))
            .with_message(stage);
    }

    /// Counts rows as done. To be called before they are evicted, when the page cache holds most: `cached` is what it
    /// holds of each array.
    pub fn record(&mut self, rows: &Range<usize>, cached: &[Residency]) -> Result<(), Interrupted> {
        let cached_bytes = cached.iter().map(|residency| residency.resident_bytes).sum();
        self.peak_cache_bytes = self.peak_cache_bytes.max(cached_bytes);
        self.bar.inc((rows.len() * self.row_bytes) as u64);
        self.interrupt.check()
    }

    /// Prints a line on standard error, beside the progress bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// The most that the page cache ever held of all arrays together.
    pub fn peak_cache_bytes(&self) -> usize {
        self.peak_cache_bytes
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.abandon();
    }
}

/// Makes [`peak_rss_bytes`] count from now on; false where only the peak of the whole run is known.
pub fn reset_peak_rss() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The most physical memory that this process has used at a time, mapped files included; `None` where nobody knows.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
