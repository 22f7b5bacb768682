//! The fallback for Unix systems other than Linux. Functions without a portable system call fail with `Unsupported`,
//! and hints do nothing.

pub(crate) mod sigbus;

pub(crate) use super::unix::{
    check_file_size_limit, count_by_mincore, discard, free_bytes, mincore_is_truthful, open_options,
    page_bytes, process_lives, protect_read_only, read_at, status, status_of_path, write_at,
};

use super::inject::{Call, through};
use super::types::{FileId, LockMode, LockOutcome, PageStore, Piece};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn reserve(_file: &File, _range: Range<u64>) -> io::Result<()> {
    unsupported()
}

pub(crate) fn next_data(_file: &File, _offset: u64) -> io::Result<Option<u64>> {
    unsupported()
}

pub(crate) fn next_hole(_file: &File, _offset: u64) -> io::Result<u64> {
    unsupported()
}

pub(crate) fn zero(_file: &File, _range: Range<u64>) -> io::Result<()> {
    unsupported()
}

pub(crate) fn clone_range(_from: &File, _range: &Range<u64>, _to: &File, _at: u64) -> io::Result<()> {
    unsupported()
}

pub(crate) fn sync_range(_file: &File, _range: Range<u64>) -> io::Result<()> {
    unsupported()
}

pub(crate) fn start_writeback(_file: &File, _range: Range<u64>) -> io::Result<()> {
    unsupported()
}

pub(crate) fn sync_filesystem(_file: &File) -> io::Result<()> {
    unsupported()
}

pub(crate) fn rename_no_replace(_from: &Path, _to: &Path) -> io::Result<()> {
    unsupported()
}

/// There is no portable call that drops pages from the page cache.
pub(crate) const DROPS_CACHED: bool = false;

/// The system does not report how much it reads around a fault.
pub(crate) fn read_around(_: &File) -> u64 {
    0
}

/// Does nothing: there is no portable call that reads ahead.
pub(crate) fn read_ahead(_file: &File, _range: Range<u64>) {}

pub(crate) fn drop_cached(_file: &File, _range: Range<u64>) -> io::Result<()> {
    unsupported()
}

pub(crate) fn count_cached(_file: &File, _range: &Range<u64>) -> io::Result<u64> {
    unsupported()
}

pub(crate) fn page_store(_file: &File) -> PageStore {
    PageStore::Cache
}

pub(crate) fn open_direct(_file: &File, _writable: bool) -> io::Result<File> {
    unsupported()
}

pub(crate) fn read_cached(_file: &File, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
    unsupported()
}

pub(crate) fn write_uncached(_file: &File, _buffer: &[u8], _offset: u64) -> io::Result<usize> {
    unsupported()
}

pub(crate) fn page_out(_start: *mut u8, _len: usize) -> io::Result<()> {
    unsupported()
}

pub(crate) fn populate(_start: *mut u8, _len: usize) -> io::Result<()> {
    unsupported()
}

pub(crate) fn copy_mapped(_from: *const u8, _to: &mut [u8]) -> io::Result<()> {
    unsupported()
}

pub(crate) fn changed_pages(_start: *const u8, _count: usize) -> io::Result<Vec<bool>> {
    unsupported()
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

/// A queue that cannot be created: there is no portable call that starts several reads at once.
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

/// Fails with `Unsupported`: no portable call creates a file without a name.
pub(crate) fn create_unnamed(_directory: &Path) -> io::Result<File> {
    through(Call::Open, unsupported)
}

/// Fails with `Unsupported`: there are no files without a name.
pub(crate) fn link_unnamed(_file: &File, _name: &Path) -> io::Result<()> {
    unsupported()
}
