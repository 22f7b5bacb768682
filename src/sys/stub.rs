//! The nearest portable answer to each call of `linux.rs`: what cannot be had is `Unsupported`, what is only a hint is
//! left out.

use super::unix::cached_pages_by_mincore;
use super::{FileId, Left, LockMode, LockOutcome, Piece, fs};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// No portable call reserves blocks: the caller writes zeros.
pub(crate) fn reserve(_file: &File, _range: Range<u64>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes the whole file: nothing portable writes a range.
pub(crate) fn sync_range(file: &File, _range: Range<u64>) -> io::Result<()> {
    fs::sync_all(file)
}

/// No portable call writes a whole filesystem and waits for it.
pub(crate) fn sync_filesystem(_file: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Without such a hint the kernel drops pages when it likes.
pub(crate) fn drop_cached(_file: &File, _range: Range<u64>) -> io::Result<()> {
    Ok(())
}

pub(crate) fn cached_pages(file: &File, range: Range<u64>) -> io::Result<u64> {
    cached_pages_by_mincore(file, range)
}

/// No portable call tells.
pub(crate) fn left_in_cache(_file: &File, _range: Range<u64>) -> io::Result<Left> {
    Ok(Left::Nothing)
}

/// No portable call splits folios.
pub(crate) fn reclaim_page(_file: &File, _page: Range<u64>) -> io::Result<()> {
    Ok(())
}

/// Without such a hint the kernel takes pages back when it likes.
pub(crate) fn page_out(_start: *mut u8, _len: usize) -> io::Result<()> {
    Ok(())
}

/// No portable call tells.
pub(crate) fn changed_pages(_start: usize, _count: usize) -> io::Result<Vec<bool>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// No portable call copies memory that may not be there.
pub(crate) fn copy_mapped(_from: *const u8, _to: &mut [u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn is_memory_filesystem(_file: &File) -> bool {
    false
}

/// No portable call creates a file without a name.
pub(crate) fn create_unnamed(_directory: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A second name, which must be free, and then the first one removed.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

pub(crate) fn lock_range(_file: &File, _range: Range<u64>, _mode: LockMode) -> io::Result<LockOutcome> {
    Ok(LockOutcome::Unsupported)
}

pub(crate) fn unlock_range(_file: &File, _range: Range<u64>) -> io::Result<()> {
    Ok(())
}

pub(crate) fn lock_holder(_file: &File, _id: FileId, _range: Range<u64>, _mode: LockMode) -> Option<u32> {
    None
}

/// No portable call reads several places at once.
#[derive(Debug)]
pub(crate) enum ReadQueue {}

impl ReadQueue {
    pub(crate) fn new() -> Option<Self> {
        None
    }

    pub(crate) fn read(
        &mut self,
        _file: &File,
        _buffer: &mut [u8],
        _pieces: &[Piece],
    ) -> io::Result<Vec<usize>> {
        match *self {}
    }
}
