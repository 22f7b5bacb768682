//! The vocabulary of the contract: what every system's folder and every caller share.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How a range of mapped memory will be used. A hint never changes what the memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// In no particular order.
    Normal,
    /// From the first page to the last.
    Sequential,
    /// In random order: reading ahead does not pay.
    Random,
    /// Soon: the pages may be read now.
    WillNeed,
    /// In huge pages, where the system has them.
    HugePages,
}

/// What a mapping lets its owner do, and whether the file sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Shared with the file, for reading alone.
    ReadOnly,
    /// Shared with the file: stores reach it.
    ReadWrite,
    /// A private copy: pages are copied as they are written, and stores never reach the file.
    CopyOnWrite,
}

/// How many pages of a range are in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residency {
    /// This many.
    Known(u64),
    /// No call of the system answers truthfully for this file and this process.
    Unknown,
}

/// What an attempt to drop pages has left in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// No page.
    Nothing,
    /// Pages that somebody has mapped, pages that could be dropped now, or nobody knows.
    Settled,
    /// Pages that are being read, and locked until they are there.
    BeingRead,
}

/// What a byte-range lock allows its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// Many may hold the range.
    Shared,
    /// One may hold the range.
    Exclusive,
}

/// How a request for a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockOutcome {
    /// The lock is held.
    Taken,
    /// Somebody else holds the range, or part of it.
    Conflict,
    /// The system or the filesystem has no such locks, or forbids them to this process.
    Unsupported,
}

/// Which file it is, independent of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// What the system says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStatus {
    pub(crate) id: FileId,
    /// The length in bytes.
    pub(crate) len: u64,
    /// The disk space that the file takes, in bytes: less than `len` where it has holes.
    pub(crate) allocated_bytes: u64,
    pub(crate) is_regular: bool,
    pub(crate) is_directory: bool,
}

/// How a filesystem keeps the pages of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageStore {
    /// In a page cache that belongs to the file itself.
    Cache,
    /// In memory alone: the page cache is the file.
    Memory,
    /// In the page cache of another file below, so that questions about this file's own pages mislead (overlayfs, FUSE).
    Below,
}

/// One read of a batch: which bytes of the buffer to fill, from where in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) at: Range<usize>,
}

impl Piece {
    /// The bytes of the file that the piece reads.
    pub(crate) fn file_bytes(&self) -> Range<u64> {
        self.offset..self.offset + self.at.len() as u64
    }
}

/// Mapped memory, and what it maps.
#[derive(Clone, Debug)]
pub(crate) struct MappedRange {
    /// The address of the first byte; need not be the start of a page.
    pub(crate) start: usize,
    /// How many bytes are mapped from there on.
    pub(crate) len: usize,
    /// Where in the file the first byte is.
    pub(crate) file_offset: u64,
    /// Whether the memory may be written to, or only read.
    pub(crate) writable: bool,
    /// The file's name, for the error.
    pub(crate) path: Arc<Path>,
}

/// A fault that somebody has to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FaultReport {
    /// The file, unless its mapping went so long ago that nobody remembers.
    pub(crate) path: Option<Arc<Path>>,
    /// Where in the file the page that faulted starts.
    pub(crate) offset: u64,
}
