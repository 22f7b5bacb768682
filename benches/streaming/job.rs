//! The messages between the benchmark and the process of a contender: a job and a reply, each one line of JSON.

use std::fs;
use std::io;
use std::path::PathBuf;

use bytemuck::AnyBitPattern;
use serde::{Deserialize, Serialize};

use super::plan::{Contender, Work};

/// The description of one run of one contender.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    pub contender: Contender,
    pub work: Work,
    pub source: PathBuf,
    /// The file to write. The result of a reduction is written there after the clock has stopped.
    pub target: PathBuf,
    pub rows: usize,
    pub columns: usize,
    /// The number of rows in a chunk, if the caller chooses it; 0 if the contender chooses it.
    pub chunk_rows: usize,
    /// The budget of this crate's stream, in bytes; 0 for the default.
    pub budget_bytes: usize,
    /// A file with the indices of the rows to gather, as native `u64`.
    pub index: Option<PathBuf>,
}

impl Job {
    pub fn row_bytes(&self) -> usize {
        self.columns * size_of::<f32>()
    }

    pub fn source_bytes(&self) -> u64 {
        self.rows as u64 * self.row_bytes() as u64
    }

    /// Returns the indices of the rows to gather.
    pub fn load_index(&self) -> io::Result<Vec<usize>> {
        let Some(path) = &self.index else { return Ok(Vec::new()) };
        Ok(values_of::<u64>(&fs::read(path)?).into_iter().map(|row| row as usize).collect())
    }
}

/// Reads elements from bytes, which need not be aligned.
pub fn values_of<T: AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

/// A message from the process of a contender: the process is ready, or the run has ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The process has loaded its libraries and waits for a job.
    Ready,
    Done(Measured),
    /// The machine lacks what the contender needs.
    Skipped(String),
    Failed(String),
}

/// The figures that the process of a contender measures for its own run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub peak_rss_bytes: u64,
    /// The bytes that the process and its finished children read from disk.
    pub read_bytes: u64,
}
