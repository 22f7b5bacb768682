//! Writing through the page cache with a short window of dirty pages: write, start write-back, wait some blocks behind, drop.

use crate::geometry::to_pages;
use crate::sync::lock;
use crate::sys::{self, page_bytes};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The size of a block that is written back on its own, in bytes.
const BLOCK_BYTES: usize = 1 << 20;

/// How many blocks are on their way to disk.
const WINDOW: usize = 8;

/// How far dropping pages reaches back over blocks that were dropped before: a folio across the edge was in use then.
const REACH_BACK_BYTES: u64 = 2 << 20;

/// The blocks that were written and not yet seen to reach the disk.
#[derive(Debug)]
pub(super) struct Window {
    behind: Mutex<VecDeque<Range<u64>>>,
    /// Whether the kernel can be asked to drop the pages by itself.
    uncached: AtomicBool,
    /// Whether the file lives in the page cache, so that nothing is to be gained.
    in_memory: bool,
}

impl Window {
    pub(super) fn new(file: &File) -> Self {
        let in_memory = sys::is_memory_filesystem(file);
        Self { behind: Mutex::default(), uncached: AtomicBool::new(!in_memory), in_memory }
    }

    /// Writes bytes, and sees to it that no more than the window's blocks stay behind in the cache.
    pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut start = offset;
        for block in bytes.chunks(BLOCK_BYTES) {
            self.write_block(file, block, start)?;
            let end = start + block.len() as u64;
            if !self.in_memory {
                self.settle(file, start..end)?;
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

    /// Starts writing a block back, and drops the one that now falls out of the window.
    fn settle(&self, file: &File, block: Range<u64>) -> io::Result<()> {
        sys::start_writeback(file, block.clone())?;
        let oldest = {
            let mut behind = lock(&self.behind);
            behind.push_back(block);
            if behind.len() > WINDOW { behind.pop_front() } else { None }
        };
        oldest.map_or(Ok(()), |block| drop_written(file, block))
    }

    /// Waits for everything that is still in the window.
    pub(super) fn finish(&self, file: &File) -> io::Result<()> {
        let rest = std::mem::take(&mut *lock(&self.behind));
        rest.into_iter().try_for_each(|block| drop_written(file, block))
    }
}

/// Waits until a block is on disk, and drops its pages.
fn drop_written(file: &File, block: Range<u64>) -> io::Result<()> {
    let pages = to_pages(block.start.saturating_sub(REACH_BACK_BYTES)..block.end, page_bytes());
    sys::sync_range(file, to_pages(block, page_bytes()))?;
    let _ = sys::drop_cached(file, pages); // a hint
    Ok(())
}
