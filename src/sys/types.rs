//! The types that the folders of all systems share with each other and with their callers.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How a range of mapped memory will be used. A hint never changes the content of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// The pages will be accessed in no particular order.
    Normal,
    /// The pages will be accessed from the first to the last.
    Sequential,
    /// The pages will be accessed in random order, so the kernel should not read ahead.
    Random,
    /// The pages will be accessed soon, so the kernel may read them now.
    WillNeed,
    /// The memory should use huge pages, if the system has them.
    HugePages,
    /// The memory should not use huge pages.
    NoHugePages,
}

/// Whether a mapping can be written, and whether stores reach the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// A shared mapping that can only be read.
    ReadOnly,
    /// A shared mapping: stores reach the file.
    ReadWrite,
    /// A private mapping: a page is copied at the first store to it, and stores never reach the file.
    CopyOnWrite,
}

/// How many pages of a range are in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residency {
    /// The number of pages.
    Known(u64),
    /// No system call returns a true result for this file in this process.
    Unknown,
}

/// What is still in the page cache after an attempt to drop pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// No page.
    Nothing,
    /// Some pages are still in the page cache, but waiting does not help: these pages are mapped, or can be dropped at
    /// once. This value is also used if the number of pages is unknown.
    Settled,
    /// Some pages are still in the page cache, because they are being read. The kernel keeps these pages locked until
    /// the read is complete.
    BeingRead,
}

/// Whether a byte-range lock is shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// Several holders may lock the range at once.
    Shared,
    /// Only one holder may lock the range.
    Exclusive,
}

/// How a request for a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockOutcome {
    /// The lock was taken.
    Taken,
    /// Another holder has locked the range, or part of it.
    Conflict,
    /// The system or the filesystem does not support byte-range locks, or a filter refuses them.
    Unsupported,
}

/// The identity of a file, independent of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// The status of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStatus {
    pub(crate) id: FileId,
    /// The length in bytes.
    pub(crate) len: u64,
    /// The disk space that is allocated for the file, in bytes. It is less than `len` if the file has holes.
    pub(crate) allocated_bytes: u64,
    /// The number of names (hard links) of the file.
    pub(crate) names: u64,
    /// The time of the last change to the data: seconds since 1970, and nanoseconds.
    #[allow(dead_code, reason = "only `reuse` uses it")]
    pub(crate) modified: (i64, i64),
    pub(crate) is_regular: bool,
    pub(crate) is_directory: bool,
}

/// Where a filesystem keeps the pages of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageStore {
    /// In the page cache, as pages of the file itself.
    Cache,
    /// Only in memory, without a disk (tmpfs).
    Memory,
    /// In the page cache, as pages of an underlying file (overlayfs, FUSE). Queries about this file's own pages return
    /// wrong results.
    Below,
}

/// One read of a batch: `offset` is the offset in the file, and `at` is the part of the buffer to fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) at: Range<usize>,
}

impl Piece {
    /// Returns the range of the file that this piece reads.
    pub(crate) fn file_bytes(&self) -> Range<u64> {
        self.offset..self.offset + self.at.len() as u64
    }
}

/// A range of mapped memory, and the part of the file that it maps.
#[derive(Clone, Debug)]
pub(crate) struct MappedRange {
    /// The address of the first byte. It need not be the start of a page.
    pub(crate) start: usize,
    /// The number of mapped bytes.
    pub(crate) len: usize,
    /// The offset of the first byte in the file.
    pub(crate) file_offset: u64,
    /// Whether the memory is writable.
    pub(crate) writable: bool,
    /// The path of the file, for error messages.
    pub(crate) path: Arc<Path>,
}

/// A fault that a guard reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FaultReport {
    /// The path of the file. `None` if the mapping was dropped and the crate no longer remembers its path.
    pub(crate) path: Option<Arc<Path>>,
    /// The offset in the file of the page that faulted.
    pub(crate) offset: u64,
}
