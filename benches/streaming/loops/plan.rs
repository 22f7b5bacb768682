//! The plan of the benchmark of loops: the order of the chunks, the contenders, and the matches of a run.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::files::Random;
use super::super::plan::{Cache, KIB, MIB};
use super::options::Options;

pub const CHUNKS: [u64; 4] = [256 * KIB, MIB, 8 * MIB, 64 * MIB];
pub const THREADS: usize = 8;
/// The length of the header of the raw file of `i16`. This length is not a multiple of 4 bytes.
pub const UNALIGNED_OFFSET: u64 = 130;

/// A loop over the rows of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loop {
    /// Copies from the first chunk to the last.
    Copy,
    /// Copies from the last chunk to the first.
    Down,
    /// Copies every third chunk.
    Third,
    /// Copies all chunks in random order.
    Random,
    /// Fills a new array.
    Fill,
    /// Adds up all elements.
    Sum,
    /// Copies with several threads, each of which has a part of the rows.
    Threads,
    /// Adds up an array in Fortran order.
    Fortran,
    /// Adds up an array whose rows have 12 bytes.
    Narrow,
    /// Adds up an array of `i16` in rows of 6 bytes. The data start at an offset in the file that is not a multiple of
    /// 4.
    Unaligned,
}

impl Loop {
    pub const ALL: [Self; 10] = [
        Self::Copy,
        Self::Down,
        Self::Third,
        Self::Random,
        Self::Fill,
        Self::Sum,
        Self::Threads,
        Self::Fortran,
        Self::Narrow,
        Self::Unaligned,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Down => "down",
            Self::Third => "third",
            Self::Random => "random",
            Self::Fill => "fill",
            Self::Sum => "sum",
            Self::Threads => "threads",
            Self::Fortran => "fortran",
            Self::Narrow => "narrow",
            Self::Unaligned => "unaligned",
        }
    }

    pub fn columns(self) -> usize {
        match self {
            Self::Fortran => 64,
            Self::Narrow | Self::Unaligned => 3,
            _ => 3000,
        }
    }

    pub fn row_bytes(self) -> u64 {
        let element_bytes = if self == Self::Unaligned { size_of::<i16>() } else { size_of::<f32>() };
        (self.columns() * element_bytes) as u64
    }

    /// Returns the number of rows of the source. The sources with scattered or small rows do not grow with the size.
    pub fn rows(self, size_bytes: u64) -> usize {
        let bytes = match self {
            Self::Fortran => size_bytes.min(256 * MIB),
            Self::Narrow | Self::Unaligned => size_bytes.min(64 * MIB),
            _ => size_bytes,
        };
        (bytes / self.row_bytes()) as usize
    }

    pub fn is_scattered(self) -> bool {
        matches!(self, Self::Fortran | Self::Narrow | Self::Unaligned)
    }

    /// Returns whether the result is a number, not a file.
    pub fn adds_up(self) -> bool {
        self == Self::Sum || self.is_scattered()
    }

    fn caches(self) -> &'static [Cache] {
        if self == Self::Sum { &[Cache::Cold, Cache::Warm] } else { &[Cache::Cold] }
    }

    /// Returns the chunks that the caller chooses: those of the options, or single rows where rows are small.
    fn chunks(self, options: &Options) -> Vec<u64> {
        let single_row = matches!(self, Self::Narrow | Self::Unaligned).then(|| self.row_bytes());
        let few = |wanted: &[u64]| -> Vec<u64> {
            options
                .chunks
                .iter()
                .copied()
                .filter(|chunk| wanted.contains(chunk) || options.chose_chunks)
                .collect()
        };
        let chosen = match self {
            _ if !options.quick => options.chunks.clone(),
            Self::Copy => few(&[256 * KIB, MIB, 8 * MIB]),
            Self::Narrow | Self::Unaligned => Vec::new(),
            _ => few(&[MIB]),
        };
        let file_bytes = self.rows(options.size_bytes()) as u64 * self.row_bytes();
        single_row.into_iter().chain(chosen.into_iter().filter(|&chunk| chunk < file_bytes)).collect()
    }

    fn contenders(self, options: &Options) -> Vec<Contender> {
        use Contender::*;
        match self {
            Self::Copy if options.quick => vec![Evict, EvictMemcpy, Chunks, Stream, CpSync],
            Self::Down if options.quick => vec![Evict, Plain],
            Self::Sum if options.quick => vec![Evict, Plain],
            Self::Fill if options.quick => vec![Evict, DirectWrite],
            Self::Copy => vec![
                Evict,
                EvictMemcpy,
                Chunks,
                ChunksMemcpy,
                Stream,
                Plain,
                MemmapEvict,
                MemmapPlain,
                NumpyNaive,
                NumpyMemmapUtils,
                CpSync,
            ],
            Self::Down => vec![Evict, EvictMemcpy, Plain],
            Self::Third | Self::Random => vec![Evict, Plain],
            Self::Fill => vec![Evict, Chunks, Plain, DirectWrite],
            Self::Sum => vec![Evict, Chunks, Stream, Plain],
            Self::Threads => vec![EvictThreads, Evict],
            Self::Fortran | Self::Narrow | Self::Unaligned => vec![Evict, Chunks, Plain],
        }
    }
}

/// An implementation of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    Evict,
    EvictMemcpy,
    EvictThreads,
    Chunks,
    ChunksMemcpy,
    Stream,
    Plain,
    MemmapEvict,
    MemmapPlain,
    NumpyNaive,
    NumpyMemmapUtils,
    CpSync,
    DirectWrite,
}

impl Contender {
    pub fn name(self) -> &'static str {
        self.name_and_meaning().0
    }

    /// Describes the contender in one line.
    pub fn meaning(self) -> &'static str {
        self.name_and_meaning().1
    }

    fn name_and_meaning(self) -> (&'static str, &'static str) {
        match self {
            Self::Evict => {
                ("evict", "this crate: the work on the chunk by `assign`, `fill` or `sum`, then evict_rows")
            }
            Self::EvictMemcpy => ("evict_memcpy", "the same with copy_from_slice instead of assign"),
            Self::EvictThreads => ("evict_8_threads", "the same in 8 threads, each on a part of the rows"),
            Self::Chunks => ("chunks", "this crate: row_chunks, row_chunks_mut, or both zipped"),
            Self::ChunksMemcpy => ("chunks_memcpy", "the same with copy_from_slice instead of assign"),
            Self::Stream => {
                ("stream", "this crate: Stream::write_to or Stream::sum with chunks of this size")
            }
            Self::Plain => {
                ("plain", "the loop of `evict` without evict_rows; axis_chunks_iter for scattered rows")
            }
            Self::MemmapEvict => ("memmap2_evict", "memmap2: assign, flush_range, MADV_DONTNEED, fadvise"),
            Self::MemmapPlain => ("memmap2_plain", "memmap2: assign, one flush at the end"),
            Self::NumpyNaive => ("numpy_plain", "numpy.memmap: dst[a:b] = src[a:b], one flush at the end"),
            Self::NumpyMemmapUtils => (
                "numpy_memmaputils",
                "numpy.memmap: for each chunk a flush of the whole map and MADV_DONTNEED",
            ),
            Self::CpSync => ("cp_sync", "cp --reflink=never, then sync -d"),
            Self::DirectWrite => ("direct_write", "direct writes of as many bytes, two requests in flight"),
        }
    }

    pub fn is_numpy(self) -> bool {
        matches!(self, Self::NumpyNaive | Self::NumpyMemmapUtils)
    }
}

/// The contenders that do the same loop, with the same chunks, from the same page-cache state.
#[derive(Debug)]
pub struct Match {
    pub work: Loop,
    pub cache: Cache,
    pub chunk_bytes: u64,
    pub contenders: Vec<Contender>,
}

/// Returns every match of a run, in order.
pub fn matches(options: &Options) -> Vec<Match> {
    let mut matches = Vec::new();
    for work in Loop::ALL.into_iter().filter(|work| options.wants_loop(work.name())) {
        for &cache in work.caches().iter().filter(|&&cache| options.cache.is_none_or(|only| only == cache)) {
            for chunk_bytes in work.chunks(options) {
                let mut contenders = work.contenders(options);
                contenders.retain(|contender| options.wants_contender(contender.name()));
                matches.push(Match { work, cache, chunk_bytes, contenders });
            }
        }
    }
    matches
}

/// The description of one run of one contender. The names are those that `numpy_contenders.py` reads.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    pub contender: Contender,
    pub work: Loop,
    pub source: PathBuf,
    /// The file to write. A sum is written there after the clock has stopped.
    pub target: PathBuf,
    pub rows: usize,
    pub columns: usize,
    pub chunk_rows: usize,
    /// Whether the pages of the source stay in the page cache when the source is closed.
    pub keep_cached: bool,
    /// Rust contenders do not use this field. The script of the numpy contenders reads it.
    pub index: Option<PathBuf>,
}

impl Job {
    pub fn data_bytes(&self) -> u64 {
        self.rows as u64 * self.work.row_bytes()
    }

    /// Returns the chunks of rows that the loop visits, in its order.
    pub fn chunks(&self) -> Box<dyn Iterator<Item = Range<usize>>> {
        let chunks = chunks_of(0..self.rows, self.chunk_rows);
        match self.work {
            Loop::Down => Box::new(chunks.rev()),
            Loop::Third => Box::new(chunks.step_by(3)),
            Loop::Random => {
                let mut chunks: Vec<_> = chunks.collect();
                let mut random = Random(chunks.len() as u64);
                for place in (1..chunks.len()).rev() {
                    chunks.swap(place, (random.next() % (place as u64 + 1)) as usize);
                }
                Box::new(chunks.into_iter())
            }
            _ => Box::new(chunks),
        }
    }
}

/// Divides rows into chunks. A list of single rows would need more memory than the loop.
pub fn chunks_of(
    rows: Range<usize>,
    chunk_rows: usize,
) -> impl DoubleEndedIterator<Item = Range<usize>> + ExactSizeIterator {
    let end = rows.end;
    rows.step_by(chunk_rows).map(move |start| start..end.min(start + chunk_rows))
}
