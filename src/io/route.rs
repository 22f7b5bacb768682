//! The choice between direct I/O and the page cache: the caller's choice ([`Transfer`]), and whether a file supports
//! direct I/O (`DirectHandle`).

use crate::sys::{self, FileId};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};

/// How a stream moves bytes between memory and files.
///
/// ```
/// assert_eq!(ndarray_mmap::stream::Transfer::default(), ndarray_mmap::stream::Transfer::Auto);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transfer {
    /// Decides for each block: uses the page cache if the block is resident, and direct I/O otherwise. If a stream
    /// writes all rows of a file unchanged to a new file, the new file shares the disk space of the old one, as with
    /// [`Clone`](Self::Clone). This is the default.
    #[default]
    Auto,
    /// Shares the disk space of source and destination for all whole pages that are copied unchanged, to a new file or
    /// into an array, if the filesystem supports that (XFS, btrfs). This takes neither time nor space. A later change
    /// of a shared page takes new space, so on a full disk a store can then fault. All other bytes are copied as with
    /// [`Auto`](Self::Auto).
    ///
    /// This requires that the data of source and destination start at the same offset within a page. Two NPY files
    /// usually have the same offset.
    Clone,
    /// Uses direct I/O (`O_DIRECT`) wherever the filesystem supports it.
    Direct,
    /// Uses the page cache, and drops the pages of each block soon after its transfer.
    Buffered,
}

/// A second handle of a file, for direct I/O. A filesystem can refuse direct I/O when the handle is opened, or at the
/// first transfer. After a refusal the handle is not used again.
#[derive(Debug)]
pub(super) struct DirectHandle {
    file: Option<File>,
    refused: AtomicBool,
}

impl DirectHandle {
    /// Opens the handle, unless the file lies in memory or the caller has chosen the page cache.
    pub(super) fn open(file: &File, writable: bool, transfer: Transfer) -> Self {
        let wanted = transfer != Transfer::Buffered && !sys::is_memory_filesystem(file);
        let file = wanted.then(|| sys::open_direct(file, writable).ok()).flatten();
        Self { file, refused: AtomicBool::new(false) }
    }

    /// Returns the handle by which this process reads a file. All readers of a file that may use direct I/O share one
    /// handle.
    pub(super) fn for_reading(file: &File, id: FileId, transfer: Transfer) -> Arc<Self> {
        static HANDLES: LazyLock<Mutex<HashMap<FileId, Weak<DirectHandle>>>> = LazyLock::new(Mutex::default);
        if transfer == Transfer::Buffered {
            return Arc::new(Self::open(file, false, transfer));
        }
        // This code does not wait for the lock, because another thread may be opening a file, and because in a child of
        // `fork` the lock can stay taken for ever.
        let Ok(mut handles) = HANDLES.try_lock() else {
            return Arc::new(Self::open(file, false, transfer));
        };
        if let Some(handle) = handles.get(&id).and_then(Weak::upgrade) {
            return handle;
        }
        handles.retain(|_, handle| handle.strong_count() > 0);
        let handle = Arc::new(Self::open(file, false, transfer));
        handles.insert(id, Arc::downgrade(&handle));
        handle
    }

    /// Returns whether the filesystem accepted the handle. Stays true after a transfer was refused.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Returns the handle for direct I/O. Returns `None` if the filesystem has refused a direct transfer.
    pub(super) fn get(&self) -> Option<&File> {
        self.file.as_ref().filter(|_| !self.refused.load(Ordering::Relaxed))
    }

    /// Turns a refusal of direct I/O into `None`, and remembers the refusal. Returns every other result unchanged.
    pub(super) fn unless_refused<R>(&self, result: io::Result<R>) -> io::Result<Option<R>> {
        match result {
            Err(error) if sys::refuses_arguments(&error) => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(None)
            }
            result => result.map(Some),
        }
    }
}
