//! [`ExistingFile`]: opens an existing file, and checks its header and its length.

use super::layout::{Layout, check_npy_options};
use super::options::{ArrayOptions, Format};
use super::path::{self, file_path};
use super::{DataFile, FileName};
use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::format::npy;
use crate::sys;
use bytemuck::Pod;
use ndarray::Dimension;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// A request to open an existing file.
#[derive(Debug)]
pub(crate) struct ExistingFile<'a> {
    pub(crate) options: &'a ArrayOptions,
    pub(crate) path: &'a Path,
    pub(crate) access: AccessMode,
}

impl ExistingFile<'_> {
    /// Returns the function that the user called.
    pub(crate) fn operation(&self) -> &'static str {
        match self.access {
            AccessMode::ReadOnly => "open",
            AccessMode::ReadWrite => "open_rw",
            AccessMode::CopyOnWrite => "open_cow",
        }
    }

    /// Opens the file, checks it, and takes the lock on its data bytes.
    pub(crate) fn open<T: Pod, D: Dimension>(&self) -> Result<DataFile> {
        let format = self.options.format_of(self.path)?;
        let path = file_path(self.path, false)?;
        let file = open_regular(&path, self.access).map_err(|error| error.at(&path))?;
        let layout = match format {
            Format::Raw => Layout::raw::<T, D>(self.options),
            Format::Npy => check_npy_options(self.options)
                .and_then(|()| npy::decode(&mut sys::fs::reader(&file)))
                .and_then(|header| Layout::npy::<T, D>(self.options, &header)),
        };
        let layout = layout.map_err(|error| error.at(&path))?;
        let whole = layout.clone();
        let mut data = DataFile::new(Arc::new(file), path, layout, FileName::Given)?;
        // The length is checked before the lock is taken, so that a wrong length is reported immediately. The length is
        // checked again under the lock, because from then on no other array can change it.
        check_length(&data, &whole, format)?;
        data.layout = data.layout.selected(self.options).map_err(|error| error.at(&data.path))?;
        data.layout.check_alignment::<T>().map_err(|error| error.at(&data.path))?;
        data.take_lock(self.access, self.options)?;
        check_length(&data, &whole, format)?;
        Ok(data)
    }
}

/// Opens the file at a path, and fails if the file is not a regular file.
pub(super) fn open_regular(path: &Path, access: AccessMode) -> Result<File> {
    let writable = access == AccessMode::ReadWrite;
    let file = sys::fs::open(path, writable).map_err(|error| {
        let needs = || match writable {
            true => "read and write permission on the file; `open` needs read permission only".to_owned(),
            false => {
                "read permission on the file, and search permission on the directories above it".to_owned()
            }
        };
        let error = path::name_error("a file that can be opened", error, needs);
        match error.kind() {
            ErrorKind::NotFound => error.with_remedy("`create` makes a new one"),
            _ => error,
        }
    })?;
    let status = sys::status(&file).map_err(|error| Error::io("open", "to read the file's length", error))?;
    if status.is_regular {
        return Ok(file);
    }
    let found = if status.is_directory { "a directory" } else { "a special file" };
    Err(Error::new(ErrorKind::NotAFile, "open", "a regular file", found)
        .with_remedy("give the path of a regular file"))
}

/// Returns an error if the file is shorter than the layout of the whole array requires. An NPY file must have exactly the
/// length that its layout requires.
fn check_length(data: &DataFile, layout: &Layout, format: Format) -> Result<()> {
    let status = sys::status(&data.file);
    let len =
        status.map_err(|error| Error::io("open", "to read the file's length", error).at(&data.path))?.len;
    let (needed, exact) = (layout.data_bytes.end, format == Format::Npy);
    if len == needed || (len > needed && !exact) {
        return Ok(());
    }
    let (shape, offset) = (layout.geometry.shape(), layout.data_bytes.start);
    let at_least = if exact { "" } else { "at least " };
    let expected = format!("{at_least}{needed} bytes for shape {shape:?} of elements from byte {offset}");
    let (difference, direction) = match len > needed {
        true => (len - needed, "many"),
        false => (needed - len, "few"),
    };
    let found = format!("{len} bytes, {difference} too {direction}");
    Err(Error::new(ErrorKind::LengthMismatch, "open", expected, found).at(&data.path).with_remedy(format!(
        "`Format::Raw` with `offset_bytes({offset})` and a `shape` that fits opens a part of the file"
    )))
}
