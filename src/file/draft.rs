//! [`Draft`]: a new file. Every function that creates a file follows these steps:
//!
//! 1. Plan: check the arguments, before anything on disk changes.
//! 2. Name: check the name, before any space is allocated. Create missing parent directories.
//! 3. Stage: create an empty file on the filesystem of the target, without a name if possible. Remove the staged files
//!    for this target that killed processes have left.
//! 4. Reserve: allocate disk space, so that a full disk is reported now.
//! 5. Write the header, read the identity of the file, and take the lock.
//! 6. The caller fills the file, through a mapping or as a stream.
//! 7. [`Staged::publish`]: sync the file, give it the target's name, and sync the directory.

use super::layout::FilePlan;
use super::options::{Allocation, ArrayOptions, Format};
use super::path::{self, prepare_path};
use super::staged::{Existing, Staged, already_exists};
use super::sweep::sweep_target;
use super::{DataFile, FileName};
use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::to_pages;
use crate::sys::{self, page_bytes};
use bytemuck::Pod;
use ndarray::Dimension;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A request to create a file.
#[derive(Debug)]
pub(crate) struct NewFile<'a> {
    /// The function that the user called. Every error names this function.
    pub(crate) operation: &'static str,
    pub(crate) options: &'a ArrayOptions,
    pub(crate) place: Place<'a>,
    /// The access mode with which the array maps the file.
    pub(crate) access: AccessMode,
    pub(crate) filled_by: FilledBy,
}

/// The place of a new file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// A path. The second field says what happens if a file with this path exists.
    Named(&'a Path, Existing),
    /// The scratch directory. The file has no name.
    Unnamed,
}

/// Who writes the rows of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilledBy {
    /// Stores through a mapping. The draft has its final length. The file contains the header, and all data bytes are
    /// zero.
    Mapping,
    /// Direct writes of whole pages. The length of the draft may be rounded up to whole pages. The stream writes the
    /// header and the first rows together, because they share a page. At the end, the stream sets the length of the
    /// file. Unless the options choose an allocation, the stream reserves the disk space of its rows by
    /// [`Draft::reserve_rows`].
    Stream,
}

/// A new file that is being filled. Dropping the draft removes the file.
#[derive(Debug)]
pub(crate) struct Draft {
    operation: &'static str,
    header: Vec<u8>,
    data: DataFile,
    staged: Staged,
    close_existing: bool,
    allocation: Option<Allocation>,
}

impl NewFile<'_> {
    /// Creates the file and prepares it, so that its rows can be written.
    pub(crate) fn draft<T: Pod, D: Dimension>(&self) -> Result<Draft> {
        self.stage::<T, D>().map_err(|error| {
            let error = error.during(self.operation);
            match self.place {
                Place::Named(path, _) => error.at(path),
                Place::Unnamed => error,
            }
        })
    }

    fn stage<T: Pod, D: Dimension>(&self) -> Result<Draft> {
        let (operation, options) = (self.operation, self.options);
        let (plan, path, staged, close_existing) = match self.place {
            Place::Named(path, existing) => {
                let plan = FilePlan::new::<T, D>(options, options.format_of(path)?)?;
                let path = path::file_path(path, true)?;
                let is_taken = check_target(&path, existing)?;
                let staged = Staged::new(&path, existing)?;
                if is_taken || staged.has_temporary_name() {
                    sweep_target(&path);
                }
                let close_existing = options.close_existing.unwrap_or(existing == Existing::Replace);
                (plan, path, staged, close_existing)
            }
            Place::Unnamed => {
                let plan = FilePlan::new::<T, D>(options, Format::Raw)?;
                let directory = options.scratch_directory.clone().unwrap_or_else(scratch_directory);
                let directory = prepare_path(directory, false)?;
                let staged = Staged::unnamed(&directory)?;
                (plan, directory, staged, false)
            }
        };
        let FilePlan { header, layout } = plan;
        let name = if staged.is_named() { FileName::Given } else { FileName::Never };
        let data = DataFile::new(staged.file(), path, layout, name)?;
        let allocation = options.allocation;
        let mut draft = Draft { operation, header, data, staged, close_existing, allocation };
        draft.reserve(self.filled_by)?;
        if self.filled_by == FilledBy::Mapping {
            let written = sys::fs::write_all_at(draft.file(), &draft.header, 0);
            written.map_err(|error| draft.failed("to write the header", error))?;
        }
        draft.data.take_lock(self.access, options)?;
        Ok(draft)
    }
}

impl Draft {
    pub(crate) fn file(&self) -> &File {
        &self.data.file
    }

    /// Returns the path that the file will have. For a file without a name, returns the directory in which it was
    /// created.
    pub(crate) fn path(&self) -> &Path {
        &self.data.path
    }

    /// Returns the function that the user called.
    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the bytes before the data, which are the header. A raw file has no header.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    /// Returns the range of the file that contains the data.
    pub(crate) fn data_bytes(&self) -> Range<u64> {
        self.data.layout.data_bytes.clone()
    }

    /// Returns whether this process's arrays on the path must be closed before the file is published.
    pub(crate) fn closes_existing(&self) -> bool {
        self.close_existing
    }

    /// Splits the draft into the [`DataFile`], which can be mapped, and the [`Staged`] file, which can be published.
    pub(crate) fn into_parts(self) -> (DataFile, Staged) {
        (self.data, self.staged)
    }

    /// Returns the error for a failed system call on the draft.
    pub(crate) fn failed(&self, expected: impl Into<String>, error: io::Error) -> Error {
        let failed = match ErrorKind::of_io(&error) {
            ErrorKind::StorageFull => {
                Error::no_space(self.operation, self.data_bytes().end, sys::free_bytes(self.file()), error)
            }
            _ => Error::io(self.operation, expected.into(), error),
        };
        failed.at(self.path())
    }

    /// Returns whether the caller has asked that all disk space is reserved.
    pub(crate) fn must_reserve(&self) -> bool {
        self.allocation == Some(Allocation::Reserve)
    }

    /// Reserves disk space for the pages of rows that a stream will write, unless the caller has chosen an allocation.
    /// Does nothing if the filesystem cannot reserve space.
    pub(crate) fn reserve_rows(&self, bytes: Range<u64>) -> Result<()> {
        if self.allocation.is_some() || bytes.is_empty() {
            return Ok(());
        }
        let (file, free_bytes) = (self.file(), sys::free_bytes(self.file()));
        let pages = to_pages(bytes, page_bytes());
        let end = up_to_pages(pages.end.min(self.data_bytes().end));
        let reserved = end.and_then(|end| sys::reserve(file, pages.start..end));
        match reserved {
            Err(error) if sys::is_unsupported(&error) => Ok(()),
            reserved => reserved.map_err(|error| {
                Error::no_space(self.operation, self.data_bytes().end, free_bytes, error).at(self.path())
            }),
        }
    }

    /// Sets the length of the file. Depending on the options, also allocates disk space for the whole file.
    fn reserve(&self, filled_by: FilledBy) -> Result<()> {
        let (file, len) = (self.file(), self.data_bytes().end);
        let free_bytes = sys::free_bytes(file);
        let reserved = match (filled_by, self.allocation) {
            (FilledBy::Mapping, Some(Allocation::Sparse)) => sys::fs::set_len(file, len),
            (FilledBy::Mapping, _) => sys::fs::reserve_or_zero(file, len),
            (FilledBy::Stream, Some(Allocation::Reserve)) => reserve_pages(file, len),
            (FilledBy::Stream, _) => up_to_pages(len).and_then(|len| sys::fs::set_len(file, len)),
        };
        reserved.map_err(|error| {
            let error = Error::no_space(self.operation, len, free_bytes, error).at(self.path());
            match (error.kind(), filled_by, free_bytes) {
                (ErrorKind::StorageFull, FilledBy::Mapping, Some(free)) => error.with_remedy(format!(
                    "{free} bytes are free: make room, or take space only as it is written with `Allocation::Sparse`"
                )),
                _ => error,
            }
        })
    }
}

/// Returns whether the name is that of a file. Returns an error if the name belongs to a directory or a special file,
/// or to a file that must not be replaced.
fn check_target(target: &Path, existing: Existing) -> Result<bool> {
    let status = match sys::status_of_path(target) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            let needs = || format!("search permission on the directories above {target:?}");
            return Err(path::name_error("a name that a file can have", error, needs));
        }
    };
    // Publishing renames the new file, and a rename would also replace a pipe or a device.
    if !status.is_regular {
        let found = if status.is_directory { "a directory" } else { "a special file" };
        return Err(Error::new(ErrorKind::NotAFile, "create", "the path of a file", found)
            .at(target)
            .with_remedy("choose another name"));
    }
    match existing {
        Existing::Replace => Ok(true),
        Existing::Refuse => Err(already_exists().at(target)),
    }
}

/// Sets the length of the file to `len` bytes, rounded [up to whole pages](up_to_pages), and allocates disk space for
/// the whole file if the filesystem can reserve space.
fn reserve_pages(file: &File, len: u64) -> io::Result<()> {
    let pages = up_to_pages(len)?;
    if pages == 0 {
        return Ok(());
    }
    match sys::reserve(file, 0..pages) {
        Err(error) if sys::is_unsupported(&error) => sys::fs::set_len(file, pages),
        reserved => reserved,
    }
}

/// Rounds the length of a file up to whole pages, unless the result would exceed the process's file size limit
/// (`ulimit -f`). Returns an error if `len` exceeds this limit.
fn up_to_pages(len: u64) -> io::Result<u64> {
    sys::check_file_size_limit(len)?;
    let pages = to_pages(0..len, page_bytes()).end;
    Ok(if sys::check_file_size_limit(pages).is_ok() { pages } else { len })
}

/// Returns the default directory for scratch files, which is on a disk if possible.
fn scratch_directory() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(directory) if !directory.is_empty() => directory.into(),
        _ => Some(PathBuf::from("/var/tmp")).filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir),
    }
}
