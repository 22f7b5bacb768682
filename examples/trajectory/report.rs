//! What the run found, for people and for programs.

use crate::Result;
use indicatif::BinaryBytes;
use std::io::Write;
use std::time::Duration;

/// The figures of one run.
pub struct Report {
    pub xtc: String,
    pub frames: usize,
    /// What the copy moved.
    pub bytes: usize,
    /// How long the copy took, until it was on disk.
    pub elapsed: Duration,
    pub peak_rss_bytes: Option<u64>,
    /// The peak could not be reset before the copy.
    pub peak_rss_is_of_whole_run: bool,
    pub peak_cache_bytes: usize,
    /// What the page cache held of source and copy after the copy.
    pub cached_bytes: [usize; 2],
    pub verified: bool,
}

impl Report {
    /// Prints on standard output; the answer is whether the arrays were what they should be.
    pub fn print(&self, json: bool) -> Result<bool> {
        let text = if json { self.to_json() } else { self.to_text() };
        let printed = std::io::stdout().write_all(text.as_bytes());
        printed.map_err(|error| format!("cannot print the report: {error}"))?;
        Ok(self.verified)
    }

    fn to_json(&self) -> String {
        let object = serde_json::json!({
            "bytes": self.bytes,
            "seconds": self.elapsed.as_secs_f64(),
            "peak_rss_bytes": self.peak_rss_bytes,
            "peak_cache_bytes": self.peak_cache_bytes,
            "verified": self.verified,
        });
        format!("{object}\n")
    }

    fn to_text(&self) -> String {
        let size = |bytes: usize| BinaryBytes(bytes as u64);
        let [of_source, of_copy] = self.cached_bytes.map(size);
        let seconds = self.elapsed.as_secs_f64();
        let peak_rss =
            self.peak_rss_bytes.map_or("unknown".to_owned(), |bytes| BinaryBytes(bytes).to_string());
        let since = if self.peak_rss_is_of_whole_run { "the whole run" } else { "the copy" };
        let verified = if self.verified { "both arrays are what was decoded" } else { "NO" };
        format!(
            "trajectory  {}\n\
             arrays      2 of {} frames, {} each\n\
             copy        {seconds:.2} s until on disk, {}/s\n\
             peak RSS    {peak_rss} in {since}\n\
             peak cache  {} of both files together\n\
             still held  {of_source} of the source, {of_copy} of the copy\n\
             verified    {verified}\n",
            self.xtc,
            self.frames,
            size(self.bytes),
            size((self.bytes as f64 / seconds) as usize),
            size(self.peak_cache_bytes),
        )
    }
}
