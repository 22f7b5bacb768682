//! Samples memory over time. A thread measures the process and its files every 20 milliseconds.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::files::Files;
use super::os;

const INTERVAL: Duration = Duration::from_millis(20);

/// The memory in use at one moment.
#[derive(Clone, Copy)]
pub struct Sample {
    pub seconds: f64,
    /// The anonymous memory of the process, which is not backed by a file.
    pub anonymous_bytes: u64,
    /// The bytes of the source and the outputs that came into the page cache since the work began.
    pub cache_bytes: u64,
}

impl Sample {
    pub fn total_bytes(&self) -> u64 {
        self.anonymous_bytes + self.cache_bytes
    }
}

/// Samples the memory of one process.
pub struct Sampler<'a> {
    pid: u32,
    source: File,
    source_cached_before: u64,
    files: &'a Files,
}

impl<'a> Sampler<'a> {
    pub fn new(pid: u32, source: &Path, files: &'a Files) -> io::Result<Self> {
        let source = File::open(source)?;
        let source_cached_before = os::cached_bytes(&source)?;
        Ok(Self { pid, source, source_cached_before, files })
    }

    /// Runs `work`, and returns its result and the samples that were taken meanwhile.
    pub fn during<R>(&self, work: impl FnOnce() -> R) -> (R, Vec<Sample>) {
        thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            let samples = scope.spawn(move || self.sample_until(&is_done));
            let result = work();
            drop(done);
            (result, samples.join().unwrap_or_default())
        })
    }

    fn sample_until(&self, is_done: &mpsc::Receiver<()>) -> Vec<Sample> {
        let start = Instant::now();
        let mut samples = Vec::new();
        loop {
            samples.push(self.sample(start.elapsed().as_secs_f64()));
            if is_done.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                return samples;
            }
        }
    }

    fn sample(&self, seconds: f64) -> Sample {
        let source_cached = os::cached_bytes(&self.source).unwrap_or(0);
        let source_added = source_cached.saturating_sub(self.source_cached_before);
        Sample {
            seconds,
            anonymous_bytes: os::status_bytes(self.pid, "RssAnon").unwrap_or(0),
            cache_bytes: source_added + self.files.cached_output_bytes(),
        }
    }
}
