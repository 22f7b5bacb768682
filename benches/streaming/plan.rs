//! What is measured: the works, the contenders, and what a match between them is.

use serde::{Deserialize, Serialize};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// The factor of [`Work::Scale`].
pub const FACTOR: f32 = 1.5;
/// The memory that [`Work::CopyLimited`] may use, page cache included.
pub const LIMIT_BYTES: u64 = 512 * MIB;
/// The source of [`Work::CopySmallBudget`] is this many times its budget.
pub const SMALL_BUDGET_RATIO: u64 = 100;
/// A job that users have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A raw file into a new raw file.
    Copy,
    /// The same for NPY files, whose data does not start on a page.
    CopyNpy,
    /// A copy with a budget of one hundredth of the source.
    CopySmallBudget,
    /// A copy in a control group of 512 MiB.
    CopyLimited,
    /// Multiplied by a constant.
    Scale,
    /// `f32` to `f64`.
    Cast,
    /// The first half of every row.
    HalfColumns,
    GatherSmallSorted,
    GatherSmallRandom,
    GatherLargeSorted,
    GatherLargeRandom,
    /// The mean over axis 0, accumulated in `f64`.
    MeanAxis0,
}

impl Work {
    pub const ALL: [Self; 12] = [
        Self::Copy,
        Self::CopyNpy,
        Self::CopySmallBudget,
        Self::CopyLimited,
        Self::Scale,
        Self::Cast,
        Self::HalfColumns,
        Self::GatherSmallSorted,
        Self::GatherSmallRandom,
        Self::GatherLargeSorted,
        Self::GatherLargeRandom,
        Self::MeanAxis0,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::CopyNpy => "copy_npy",
            Self::CopySmallBudget => "copy_small_budget",
            Self::CopyLimited => "copy_limit_512MiB",
            Self::Scale => "scale",
            Self::Cast => "cast_f32_f64",
            Self::HalfColumns => "half_columns",
            Self::GatherSmallSorted => "gather_12KiB_sorted",
            Self::GatherSmallRandom => "gather_12KiB_random",
            Self::GatherLargeSorted => "gather_240KiB_sorted",
            Self::GatherLargeRandom => "gather_240KiB_random",
            Self::MeanAxis0 => "mean_axis0",
        }
    }

    /// Columns of `f32` in a row of the source.
    pub fn columns(self) -> usize {
        match self {
            Self::GatherSmallSorted | Self::GatherSmallRandom => 3 << 10,
            Self::GatherLargeSorted | Self::GatherLargeRandom => 60 << 10,
            _ => 2 << 10,
        }
    }

    pub fn is_gather(self) -> bool {
        self.is_sorted_gather() || matches!(self, Self::GatherSmallRandom | Self::GatherLargeRandom)
    }

    pub fn is_sorted_gather(self) -> bool {
        matches!(self, Self::GatherSmallSorted | Self::GatherLargeSorted)
    }

    /// How many rows are gathered, of this many.
    pub fn gathered_rows(rows: usize) -> usize {
        rows / 10
    }

    /// Bytes of the result's data, from the bytes of the source's.
    pub fn target_bytes(self, source_bytes: u64) -> u64 {
        match self {
            Self::Cast => source_bytes * 2,
            Self::HalfColumns => source_bytes / 2,
            Self::MeanAxis0 => self.columns() as u64 * 8,
            _ if self.is_gather() => {
                let row_bytes = self.columns() as u64 * 4;
                Self::gathered_rows((source_bytes / row_bytes) as usize) as u64 * row_bytes
            }
            _ => source_bytes,
        }
    }
}

/// Somebody who can do some of the works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    Ours,
    OursOneThread,
    OursTwoThreads,
    CpSync,
    DdDirect,
    DirectOneWorker,
    DirectTwoWorkers,
    DirectSameBytes,
    DirectWriteOnly,
    SequentialRead,
    SequentialReadDirect,
    DirectReadAndAdd,
    UringDirect,
    MemmapAssign,
    MemmapEvict,
    ArrayViewMean,
    NumpyNaive,
    NumpyMemmapUtils,
    NumpyChunks,
    NumpyFancy,
    NumpyMean,
    NumpyMeanChunks,
}

impl Contender {
    pub fn name(self) -> &'static str {
        self.name_and_meaning().0
    }

    /// What the name stands for.
    pub fn meaning(self) -> &'static str {
        self.name_and_meaning().1
    }

    fn name_and_meaning(self) -> (&'static str, &'static str) {
        match self {
            Self::Ours => ("ours", "this crate, with its defaults; a source that was cached stays cached"),
            Self::OursOneThread => ("ours_1_thread", "this crate, told to use one thread"),
            Self::OursTwoThreads => ("ours_2_threads", "this crate, told to use two threads"),
            Self::CpSync => ("cp_sync", "cp --reflink=never, then sync -d"),
            Self::DdDirect => ("dd_direct", "dd iflag=direct oflag=direct conv=fdatasync bs=4M"),
            Self::DirectOneWorker => ("direct_1x4MiB", "direct reads and writes of 4 MiB, one worker"),
            Self::DirectTwoWorkers => ("direct_2x1MiB", "direct reads and writes of 1 MiB, two workers"),
            Self::DirectSameBytes => ("direct_same_bytes", "direct I/O that reads and writes as many bytes"),
            Self::DirectWriteOnly => (
                "direct_write_only",
                "direct writes of the result's bytes, nothing read: the disk's own time",
            ),
            Self::SequentialRead => ("sequential_read", "read(2) of 1 MiB until the end, nothing computed"),
            Self::SequentialReadDirect => ("sequential_read_direct", "the same with direct I/O, 4 MiB"),
            Self::DirectReadAndAdd => (
                "direct_read_and_add",
                "direct reads of 2 MiB by three threads, words added up: what a look at each block costs",
            ),
            Self::UringDirect => ("uring_direct", "io_uring, direct reads of whole rows, 128 in flight"),
            Self::MemmapAssign => ("memmap2_assign", "memmap2 and ndarray: one assign, one flush"),
            Self::MemmapEvict => ("memmap2_evict", "memmap2: assign, msync the chunk, MADV_DONTNEED"),
            Self::ArrayViewMean => ("arrayview_mean", "ndarray's mean_axis over a memory map (f32 sums)"),
            Self::NumpyNaive => ("numpy_naive", "numpy.memmap: assign chunk by chunk, one flush"),
            Self::NumpyMemmapUtils => {
                ("numpy_memmaputils", "numpy.memmap: per chunk a flush of the whole map, MADV_DONTNEED")
            }
            Self::NumpyChunks => ("numpy_chunks", "numpy.memmap: the operation chunk by chunk, one flush"),
            Self::NumpyFancy => ("numpy_fancy", "numpy.memmap: dst[:] = src[index], one flush"),
            Self::NumpyMean => ("numpy_mean", "numpy.memmap: mean(axis=0, dtype=float64)"),
            Self::NumpyMeanChunks => ("numpy_mean_chunks", "numpy.memmap: float64 sums chunk by chunk"),
        }
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursOneThread | Self::OursTwoThreads)
    }

    pub fn is_numpy(self) -> bool {
        self.name().starts_with("numpy")
    }
}

/// State of the source's pages when the clock starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cache {
    Cold,
    Warm,
}

impl Cache {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }
}

/// A contender, and the chunk that its caller works in (0: there is no such chunk).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub contender: Contender,
    pub chunk_bytes: u64,
}

/// Contenders that meet on one file.
#[derive(Debug)]
pub struct Match {
    pub work: Work,
    pub cache: Cache,
    pub source_bytes: u64,
    pub entries: Vec<Entry>,
}
