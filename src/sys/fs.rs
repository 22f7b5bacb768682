//! Names, lengths and durability of files, with a fallback for each call that a system may lack.

pub(crate) use super::bytes::{read_exact_at, reader, write_all_at};

use super::failure::{is_unsupported, refuses_arguments};
use super::inject::{Call, through};
use super::os::{self, check_file_size_limit, open_options};
use super::types::PageStore;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

/// Opens an existing file, for reading or for both.
pub(crate) fn open(path: &Path, writable: bool) -> io::Result<File> {
    through(Call::Open, || open_options().read(true).write(writable).open(path))
}

/// Creates a file that did not exist; never follows a link at its name.
pub(crate) fn create_exclusive(path: &Path) -> io::Result<File> {
    through(Call::Open, || open_options().read(true).write(true).create_new(true).open(path))
}

/// Creates every missing parent of `path`, and makes their names durable as far as directories can be read.
pub(crate) fn create_parents(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) else { return Ok(()) };
    create_parents(parent)?;
    match through(Call::Open, || fs::create_dir(parent)) {
        // Somebody else was faster, and makes it durable.
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

/// Makes the file `len` bytes long and takes disk space for all of them: by reservation, or, where the filesystem cannot
/// reserve, by writing zeros.
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

/// Makes data and length durable.
pub(crate) fn sync_all(file: &File) -> io::Result<()> {
    through(Call::Sync, || file.sync_all())
}

/// Makes data durable, and of the metadata what is needed to read it back.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    through(Call::Sync, || file.sync_data())
}

/// Renames over whatever holds the name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    through(Call::Publish, || fs::rename(from, to))
}

/// Gives the file a second name, which must be free.
pub(crate) fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    through(Call::Publish, || fs::hard_link(from, to))
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    through(Call::Remove, || fs::remove_file(path))
}

/// Opens a directory for [`sync_directory`]; `None` if it may be searched and written, but not read.
pub(crate) fn open_directory(path: &Path) -> io::Result<Option<File>> {
    match through(Call::Open, || File::open(path)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        opened => opened.map(Some),
    }
}

/// Makes the names in a directory durable. Where the directory could not be opened, or its filesystem has no such call, this
/// syncs the whole filesystem that `file` lies on.
pub(crate) fn sync_directory(directory: Option<&File>, file: &File) -> io::Result<()> {
    through(Call::SyncDirectory, || match directory.map(File::sync_all) {
        Some(Err(error)) if refuses_arguments(&error) => os::sync_filesystem(file),
        Some(synced) => synced,
        None => os::sync_filesystem(file),
    })
}

/// Renames, unless the new name is taken: atomically, or, where that is refused, by a second name and the removal of the
/// first.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    match os::rename_no_replace(from, to) {
        Err(error) if refuses_arguments(&error) => {
            hard_link(from, to)?;
            remove_file(from)
        }
        renamed => renamed,
    }
}

/// Starts writing the range's dirty pages to disk, and waits for nothing.
pub(crate) fn start_writeback(file: &File, range: Range<u64>) -> io::Result<()> {
    match sees_own_pages(file).and_then(|()| os::start_writeback(file, range.clone())) {
        // This hint starts the write-back, too, and reaches the file below.
        Err(error) if is_unsupported(&error) => drop_cached(file, range),
        started => started,
    }
}

/// Waits until the range's dirty pages are on disk: the page cache can drop them then. Only [`sync_data`] makes them durable.
pub(crate) fn sync_range(file: &File, range: Range<u64>) -> io::Result<()> {
    match sees_own_pages(file).and_then(|()| os::sync_range(file, range)) {
        Err(error) if is_unsupported(&error) => sync_data(file),
        synced => synced,
    }
}

/// `Unsupported` where the dirty pages are those of a file below: calls that look at this file's own pages do nothing, and
/// say Ok.
fn sees_own_pages(file: &File) -> io::Result<()> {
    match os::page_store(file) {
        PageStore::Below => Err(io::ErrorKind::Unsupported.into()),
        PageStore::Cache | PageStore::Memory => Ok(()),
    }
}

/// Asks the system to drop the range's pages from its cache. A hint: pages that are dirty or mapped stay, and so do all of
/// them where the call is refused.
pub(crate) fn drop_cached(file: &File, range: Range<u64>) -> io::Result<()> {
    match os::drop_cached(file, range) {
        Err(error) if is_unsupported(&error) => Ok(()),
        dropped => dropped,
    }
}

/// Whether the file lives in memory (tmpfs), where the page cache *is* the file.
pub(crate) fn is_memory_filesystem(file: &File) -> bool {
    os::page_store(file) == PageStore::Memory
}
