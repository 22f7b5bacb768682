//! Creating, describing and opening files.
//!
//! This module returns a [`DataFile`]: an open file, its layout, and the lock on its elements. The module does not
//! depend on mappings, arrays or streams.
//!
//! - [`NewFile`] and [`Draft`]: create every new file;
//! - [`ExistingFile`]: opens a file, and checks its header and its length;
//! - [`inspect()`]: describes a file from its header;
//! - [`ArrayOptions`]: the options, as plain data;
//! - [`RangeLock`]: many readers or one writer, for the bytes of a file.

mod draft;
mod existing;
mod inspect;
mod layout;
mod lock;
mod options;
mod path;
mod rows;
mod staged;
mod sweep;

pub(crate) use self::draft::{Draft, FilledBy, NewFile, Place};
pub(crate) use self::existing::ExistingFile;
pub use self::inspect::{Description, inspect};
pub(crate) use self::layout::{Layout, dimensions, unaligned};
#[cfg(feature = "serde")]
pub(crate) use self::lock::LockPolicy;
pub use self::lock::Locking;
pub(crate) use self::lock::RangeLock;
pub use self::options::{AccessPattern, Allocation, ArrayOptions, Format, OnDrop};
#[cfg(feature = "serde")]
pub(crate) use self::path::file_path;
pub use self::path::prepare_path;
pub(crate) use self::path::resolve_path;
pub use self::rows::partition_rows;
pub(crate) use self::staged::{Existing, Staged};
pub use self::sweep::sweep_staged;

use crate::access::AccessMode;
use crate::error::{Error, Result};
use crate::sys::{self, FileId};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open file that has at least the length of its layout, and can be mapped.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) file: Arc<File>,
    pub(crate) id: FileId,
    /// The path of the file. For a file without a name it is the directory in which the file was created.
    pub(crate) path: PathBuf,
    pub(crate) layout: Layout,
    /// The lock. `None` if the file has no data bytes, or if the caller asked for no lock.
    pub(crate) lock: Option<RangeLock>,
    /// Whether the file has a name. The file of a [`Draft`] has its final name only after it was published.
    pub(crate) name: FileName,
}

/// Whether a file has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    /// The file never gets a name. Nothing can read its bytes after the last descriptor is closed.
    Never,
    /// The file gets its name when its array is closed.
    Pending,
    /// The crate has given the file its name. Another program can delete the name later, or give the name to another
    /// file.
    Given,
}

impl DataFile {
    fn new(file: Arc<File>, path: PathBuf, layout: Layout, name: FileName) -> Result<Self> {
        let status = sys::status(&file).map_err(|error| Error::io("open", "to identify the file", error))?;
        Ok(Self { id: status.id, file, path, layout, lock: None, name })
    }

    /// Takes the lock that an array with this access mode needs. Does nothing if there are no bytes to lock, or if the
    /// caller asked for no lock.
    fn take_lock(&mut self, access: AccessMode, options: &ArrayOptions) -> Result<()> {
        let bytes = self.layout.data_bytes.clone();
        if options.locked && !bytes.is_empty() {
            let policy = options.lock_policy();
            self.lock = Some(RangeLock::acquire(&self.file, self.id, bytes, access, policy, &self.path)?);
        }
        Ok(())
    }
}

/// Returns the directory that contains the file.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
