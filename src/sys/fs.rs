//! Names, lengths and durability of files. If the system does not support a call, these functions use a fallback.

pub(crate) use super::bytes::{read_exact_at, reader, write_all_at};

use super::failure::{is_unsupported, refuses_arguments};
use super::inject::{Call, Durable, sync, through};
use super::os::{self, check_file_size_limit, open_options};
use super::types::PageStore;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

/// Opens an existing file for reading, and also for writing if `writable` is set.
pub(crate) fn open(path: &Path, writable: bool) -> io::Result<File> {
    through(Call::Open, || open_options().read(true).write(writable).open(path))
}

/// Creates a file, and fails if the name exists. Never follows a symbolic link at that name.
pub(crate) fn create_exclusive(path: &Path) -> io::Result<File> {
    through(Call::Open, || open_options().read(true).write(true).create_new(true).open(path))
}

/// Opens a file for reading and writing, and creates an empty file if the name does not exist.
#[cfg(feature = "serde")]
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    through(Call::Open, || open_options().read(true).write(true).create(true).truncate(false).open(path))
}

/// Sets the time of the last change to the current time, with the full precision of the clock. The kernel itself uses a
/// clock with steps of some milliseconds, so a later change to the file almost certainly gets another time.
#[cfg(feature = "serde")]
pub(crate) fn set_modified_now(file: &File) -> io::Result<()> {
    through(Call::Write, || file.set_modified(std::time::SystemTime::now()))
}

/// Creates every missing parent directory of `path`. Makes the name of each new directory durable, if this process may
/// read the directory above it.
pub(crate) fn create_parents(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) else { return Ok(()) };
    create_parents(parent)?;
    match through(Call::Open, || fs::create_dir(parent)) {
        // Another process has created the directory meanwhile. That process makes the name durable.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && parent.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            let above = parent.parent().unwrap_or(Path::new("/"));
            let Some(above) = open_directory(above)? else { return Ok(()) };
            sync_directory(Some(&above), &above)
        }
    }
}

pub(crate) fn set_len(file: &File, len: u64) -> io::Result<()> {
    check_file_size_limit(len)?;
    through(Call::Allocate, || file.set_len(len))
}

/// Sets the length of the file to `len` bytes and allocates disk space for all of them. If the filesystem cannot
/// reserve space, writes zeros.
pub(crate) fn reserve_or_zero(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    check_file_size_limit(len)?;
    match os::reserve(file, 0..len) {
        Err(error) if is_unsupported(&error) => write_zeros(file, len),
        reserved => reserved,
    }
}

fn write_zeros(file: &File, len: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 1 << 20];
    let mut written = 0;
    while written < len {
        let block = ZEROS.len().min(usize::try_from(len - written).unwrap_or(usize::MAX));
        write_all_at(file, &ZEROS[..block], written)?;
        written += block as u64;
    }
    Ok(())
}

/// Makes the file's data and metadata durable.
#[cfg_attr(test, track_caller)]
pub(crate) fn sync_all(file: &File) -> io::Result<()> {
    sync(Durable::File(file), || file.sync_all())
}

/// Makes the file's data durable, and the metadata that is needed to read the data back.
#[cfg_attr(test, track_caller)]
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    sync(Durable::File(file), || file.sync_data())
}

/// Renames a file. If another file has the new name, replaces that file.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    through(Call::Publish, || fs::rename(from, to))
}

/// Creates a second name for the file. Fails if the second name exists.
pub(crate) fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    through(Call::Publish, || fs::hard_link(from, to))
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    through(Call::Remove, || fs::remove_file(path))
}

/// Opens a directory for [`sync_directory`]. Returns `None` if this process has no permission to read the directory.
pub(crate) fn open_directory(path: &Path) -> io::Result<Option<File>> {
    match through(Call::Open, || File::open(path)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        opened => opened.map(Some),
    }
}

/// Makes the names in a directory durable. If the directory could not be opened, or its filesystem cannot sync a
/// directory, syncs the whole filesystem of `file`.
#[cfg_attr(test, track_caller)]
pub(crate) fn sync_directory(directory: Option<&File>, file: &File) -> io::Result<()> {
    sync(Durable::Names(directory), || match directory.map(File::sync_all) {
        Some(Err(error)) if refuses_arguments(&error) => os::sync_filesystem(file),
        Some(synced) => synced,
        None => os::sync_filesystem(file),
    })
}

/// Renames a file. Returns an error if a file with the new name exists. If the system cannot do this atomically, this
/// function first creates the new name as a second name, and then removes the old name.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    match os::rename_no_replace(from, to) {
        Err(error) if refuses_arguments(&error) => {
            hard_link(from, to)?;
            remove_file(from)
        }
        renamed => renamed,
    }
}

/// Starts write-back of the range's dirty pages and does not wait.
pub(crate) fn start_writeback(file: &File, range: Range<u64>) -> io::Result<()> {
    match sees_own_pages(file).and_then(|()| os::start_writeback(file, range.clone())) {
        // `posix_fadvise` starts write-back, too. On overlayfs it also acts on the pages of the underlying file.
        Err(error) if is_unsupported(&error) => drop_cached(file, range),
        started => started,
    }
}

/// Writes the range's dirty pages back, and waits until the write-back is complete. The kernel can then drop the pages.
/// They are durable only after [`sync_data`].
pub(crate) fn sync_range(file: &File, range: Range<u64>) -> io::Result<()> {
    match sees_own_pages(file).and_then(|()| os::sync_range(file, range)) {
        Err(error) if is_unsupported(&error) => sync_data(file),
        synced => synced,
    }
}

/// Fails with `Unsupported` if the data of this file is cached as pages of another file, as on overlayfs. A system call
/// on this file's own pages would then do nothing and return success.
fn sees_own_pages(file: &File) -> io::Result<()> {
    match os::page_store(file) {
        PageStore::Below => Err(io::ErrorKind::Unsupported.into()),
        PageStore::Cache | PageStore::Memory => Ok(()),
    }
}

/// Asks the kernel to drop the range's pages from the page cache. This is a hint: dirty pages and mapped pages stay. If
/// the system refuses the call, all pages stay.
pub(crate) fn drop_cached(file: &File, range: Range<u64>) -> io::Result<()> {
    match os::drop_cached(file, range) {
        Err(error) if is_unsupported(&error) => Ok(()),
        dropped => dropped,
    }
}

/// Returns whether the filesystem keeps its files only in memory (tmpfs). Pages of such a file cannot be dropped.
pub(crate) fn is_memory_filesystem(file: &File) -> bool {
    os::page_store(file) == PageStore::Memory
}

/// Returns whether [`next_data`] can find holes in the file. On overlayfs and FUSE, changed pages may belong to another
/// file than the one whose holes are reported, so every byte counts as data. Returns `false` also if the file lies in
/// memory and has no hole, because a search would visit every page.
pub(crate) fn finds_holes(file: &File) -> bool {
    match os::page_store(file) {
        PageStore::Below => false,
        PageStore::Cache => true,
        PageStore::Memory => os::status(file).is_ok_and(|status| status.allocated_bytes < status.len),
    }
}

/// Finds the first data in a range of the file. Returns a part of the range that may contain bytes other than zero. All
/// bytes of the range before this part are zero: they lie in a hole, in reserved space that was never written, or after
/// the end of the file. If there is no such part, the result is empty and lies at the end of the range. If the system
/// cannot find holes, the result is the whole range.
pub(crate) fn next_data(file: &File, range: Range<u64>) -> Range<u64> {
    let start = match os::next_data(file, range.start) {
        Ok(start) => start.unwrap_or(range.end).clamp(range.start, range.end),
        Err(_) => return range,
    };
    if start == range.end {
        return start..start;
    }
    let end = os::next_hole(file, start).ok().filter(|&end| end > start);
    start..end.map_or(range.end, |end| end.min(range.end))
}
