//! What the benchmark measures: works, contenders, and matches.

use serde::{Deserialize, Serialize};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// The constant by which [`Work::Scale`] multiplies.
pub const FACTOR: f32 = 1.5;
/// The memory that [`Work::CopyLimited`] may use, including page cache.
pub const LIMIT_BYTES: u64 = 512 * MIB;
/// The size of the source of [`Work::CopySmallBudget`], divided by the budget.
pub const SMALL_BUDGET_RATIO: u64 = 100;
/// A task that a contender performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Copies a raw file to a new raw file.
    Copy,
    /// Copies an NPY file to a new NPY file. The data of an NPY file does not start at a page.
    CopyNpy,
    /// Copies with a budget of one hundredth of the size of the source.
    CopySmallBudget,
    /// Copies in a control group that is limited to 512 MiB.
    CopyLimited,
    /// Multiplies every element by a constant.
    Scale,
    /// Converts `f32` to `f64`.
    Cast,
    /// Copies the first half of every row.
    HalfColumns,
    GatherSmallSorted,
    GatherSmallRandom,
    GatherLargeSorted,
    GatherLargeRandom,
    /// Computes the mean over axis 0, accumulated in `f64`.
    MeanAxis0,
    /// Computes the mean of all elements, accumulated in `f64`.
    Mean,
    /// Computes the variance of all elements, accumulated in `f64`.
    Var,
    /// Computes the smallest and the largest element.
    MinMax,
    /// Computes the median of each column.
    MedianAxis0,
    /// Adds up the differences between the first half of the rows and the second half.
    Zip,
}

impl Work {
    pub const ALL: [Self; 17] = [
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
        Self::Mean,
        Self::Var,
        Self::MinMax,
        Self::MedianAxis0,
        Self::Zip,
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
            Self::Mean => "reduce_mean",
            Self::Var => "reduce_var",
            Self::MinMax => "reduce_min_max",
            Self::MedianAxis0 => "reduce_median_axis0",
            Self::Zip => "reduce_zip",
        }
    }

    /// Returns the number of `f32` columns in a row of the source.
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

    /// Returns whether the work computes a few numbers, and writes no rows.
    pub fn is_reduction(self) -> bool {
        use Work::*;
        matches!(self, MeanAxis0 | Mean | Var | MinMax | MedianAxis0 | Zip)
    }

    pub fn is_sorted_gather(self) -> bool {
        matches!(self, Self::GatherSmallSorted | Self::GatherLargeSorted)
    }

    /// Returns how many rows a gather reads from a source that has `rows` rows.
    pub fn gathered_rows(rows: usize) -> usize {
        rows / 10
    }

    /// Returns the number of data bytes in the output, for a source of `source_bytes` bytes.
    pub fn target_bytes(self, source_bytes: u64) -> u64 {
        match self {
            Self::Cast => source_bytes * 2,
            Self::HalfColumns => source_bytes / 2,
            _ if self.is_reduction() => self.columns() as u64 * 8,
            _ if self.is_gather() => {
                let row_bytes = self.columns() as u64 * 4;
                Self::gathered_rows((source_bytes / row_bytes) as usize) as u64 * row_bytes
            }
            _ => source_bytes,
        }
    }
}

/// A program that can do some of the works.
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
    ArrayViewReduce,
    NumpyNaive,
    NumpyMemmapUtils,
    NumpyChunks,
    NumpyFancy,
    NumpyMean,
    NumpyReduceChunks,
    /// The work on each of two streams alone, one after the other, that [`Work::Zip`] does on pairs.
    OursParts,
    MappedRead,
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
            Self::Ours => ("ours", "this crate with its defaults; a source that was cached stays cached"),
            Self::OursOneThread => ("ours_1_thread", "this crate with one thread"),
            Self::OursTwoThreads => ("ours_2_threads", "this crate with two threads"),
            Self::CpSync => ("cp_sync", "cp --reflink=never, then sync -d"),
            Self::DdDirect => ("dd_direct", "dd iflag=direct oflag=direct conv=fdatasync bs=4M"),
            Self::DirectOneWorker => ("direct_1x4MiB", "direct reads and writes of 4 MiB, one worker"),
            Self::DirectTwoWorkers => ("direct_2x1MiB", "direct reads and writes of 1 MiB, two workers"),
            Self::DirectSameBytes => {
                ("direct_same_bytes", "direct I/O that reads and writes as many bytes, and computes nothing")
            }
            Self::DirectWriteOnly => {
                ("direct_write_only", "direct writes of as many bytes as the output has, without reading")
            }
            Self::SequentialRead => ("sequential_read", "read(2) of 1 MiB until the end, without computing"),
            Self::SequentialReadDirect => {
                ("sequential_read_direct", "direct reads of 4 MiB until the end, without computing")
            }
            Self::DirectReadAndAdd => (
                "direct_read_and_add",
                "direct reads of 2 MiB by three threads, which add up the words of each block",
            ),
            Self::UringDirect => ("uring_direct", "io_uring, direct reads of whole rows, 128 in flight"),
            Self::MemmapAssign => ("memmap2_assign", "memmap2 and ndarray: one assign, one flush"),
            Self::MemmapEvict => ("memmap2_evict", "memmap2: assign, msync the chunk, MADV_DONTNEED"),
            Self::ArrayViewReduce => ("arrayview_reduce", "ndarray's reduction over a memory map (f32 sums)"),
            Self::NumpyNaive => ("numpy_naive", "numpy.memmap: assign chunk by chunk, one flush"),
            Self::NumpyMemmapUtils => (
                "numpy_memmaputils",
                "numpy.memmap: for each chunk a flush of the whole map and MADV_DONTNEED",
            ),
            Self::NumpyChunks => ("numpy_chunks", "numpy.memmap: the operation chunk by chunk, one flush"),
            Self::NumpyFancy => ("numpy_fancy", "numpy.memmap: dst[:] = src[index], one flush"),
            Self::NumpyMean => ("numpy_mean", "numpy.memmap: mean(axis=0, dtype=float64)"),
            Self::NumpyReduceChunks => {
                ("numpy_reduce_chunks", "numpy.memmap: the reduction chunk by chunk, in float64")
            }
            Self::OursParts => {
                ("ours_parts", "this crate on each of the two streams alone, one after the other")
            }
            Self::MappedRead => (
                "mapped_read",
                "one thread that combines all words of a memory map, and computes nothing else",
            ),
        }
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursOneThread | Self::OursTwoThreads | Self::OursParts)
    }

    pub fn is_numpy(self) -> bool {
        self.name().starts_with("numpy")
    }
}

/// The page-cache state of the source when the clock starts.
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

/// A contender, and the chunk size that its caller chooses; 0 if the caller chooses none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub contender: Contender,
    pub chunk_bytes: u64,
}

/// The contenders that do the same work on the same file, from the same page-cache state.
#[derive(Debug)]
pub struct Match {
    pub work: Work,
    pub cache: Cache,
    pub source_bytes: u64,
    pub entries: Vec<Entry>,
}
