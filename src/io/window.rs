//! Writes through the page cache with a limited window: each block is written, and its write-back is started. When some
//! more blocks are written, the writer waits for the write-back of the oldest block and drops its pages.

use crate::geometry::to_pages;
use crate::sync::lock;
use crate::sys::{self, page_bytes};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The size in bytes of the blocks whose write-back is started separately.
const BLOCK_BYTES: usize = 1 << 20;

/// The maximum number of blocks under write-back.
const WINDOW_BLOCKS: usize = 8;

/// When a range of the file is dropped from the page cache, up to this many bytes before the range are dropped as well.
/// The kernel drops only whole folios, of up to 2 MiB. A folio that crosses the start of the range was still in use
/// when the previous range was dropped, so it was not dropped then.
const REACH_BACK_BYTES: u64 = 2 << 20;

/// Asks the kernel to drop from the page cache a range and up to 2 MiB below it, but nothing below `lowest`. Dirty or
/// mapped pages stay.
pub(crate) fn drop_cached_behind(file: &File, bytes: &Range<u64>, lowest: u64) {
    let start = bytes.start.saturating_sub(REACH_BACK_BYTES).max(lowest);
    let _ = sys::drop_cached(file, to_pages(start..bytes.end, page_bytes())); // a hint, so errors are ignored
}

/// The reason why a write to a file has failed.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The system refused a write. Earlier writes are not affected.
    Refused(io::Error),
    /// Write-back failed. The kernel reports this only once, and the content of the disk is then unknown.
    WriteBack(io::Error),
}

impl WriteError {
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Self::Refused(error) | Self::WriteBack(error) => error,
        }
    }
}

/// The window: the blocks that were written, but whose write-back may not be complete.
#[derive(Debug)]
pub(super) struct Window {
    /// The lowest offset in the file from which pages are dropped.
    lowest: u64,
    behind: Mutex<VecDeque<Range<u64>>>,
    /// Whether the kernel supports writes that drop their own pages (`RWF_DONTCACHE`).
    uncached: AtomicBool,
    /// Whether the page cache is the file (tmpfs), so that nothing can be dropped.
    in_memory: bool,
}

impl Window {
    pub(super) fn new(file: &File, lowest: u64) -> Self {
        let in_memory = sys::is_memory_filesystem(file);
        Self { lowest, behind: Mutex::default(), uncached: AtomicBool::new(!in_memory), in_memory }
    }

    /// Writes bytes. Only the blocks in the window stay in the page cache.
    pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        let mut start = offset;
        for block in bytes.chunks(BLOCK_BYTES) {
            self.write_block(file, block, start).map_err(WriteError::Refused)?;
            let end = start + block.len() as u64;
            if !self.in_memory {
                self.start_writeback(file, start..end).map_err(WriteError::WriteBack)?;
            }
            start = end;
        }
        Ok(())
    }

    fn write_block(&self, file: &File, block: &[u8], offset: u64) -> io::Result<()> {
        if self.uncached.load(Ordering::Relaxed) {
            match sys::write_all_uncached(file, block, offset) {
                Err(error) if sys::is_unsupported(&error) => self.uncached.store(false, Ordering::Relaxed),
                result => return result,
            }
        }
        sys::fs::write_all_at(file, block, offset)
    }

    /// Starts write-back of a block. If the window is full, drops the oldest block.
    fn start_writeback(&self, file: &File, block: Range<u64>) -> io::Result<()> {
        sys::start_writeback(file, block.clone())?;
        let oldest = {
            let mut behind = lock(&self.behind);
            behind.push_back(block);
            if behind.len() > WINDOW_BLOCKS { behind.pop_front() } else { None }
        };
        oldest.map_or(Ok(()), |block| self.drop_written(file, block))
    }

    /// Waits for write-back of every block in the window, and drops their pages.
    pub(super) fn finish(&self, file: &File) -> io::Result<()> {
        let rest = std::mem::take(&mut *lock(&self.behind));
        rest.into_iter().try_for_each(|block| self.drop_written(file, block))
    }

    /// Waits for write-back of a block, and drops its pages.
    fn drop_written(&self, file: &File, block: Range<u64>) -> io::Result<()> {
        sys::sync_range(file, to_pages(block.clone(), page_bytes()))?;
        drop_cached_behind(file, &block, self.lowest);
        Ok(())
    }
}
