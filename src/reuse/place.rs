//! [`Place`]: the files of a result. [`Turn`]: the right to build it.

use super::record::{FILE_BYTES, Hash, Record, SLOT_BYTES, Stamp, failed, read_records, read_slots};
use crate::access::{AccessMode, ReadOnly};
use crate::array::MmapArray;
use crate::element::Dtype;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{ArrayOptions, LockPolicy, RangeLock, directory_of, file_path};
use crate::sys::{self, FileId};
use bytemuck::Pod;
use ndarray::{Dimension, Order};
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The files of a result, all in one directory.
#[derive(Debug)]
pub(super) struct Place<'a> {
    options: &'a ArrayOptions,
    /// The file of the result, `traj.npy`.
    target: PathBuf,
    /// The record file, `traj.npy.reuse`. The process that builds the result has locked this file.
    record: PathBuf,
    /// The file that the caller's function fills, `.building-traj.npy`.
    building: PathBuf,
    params: Hash,
}

thread_local! {
    /// The results that this thread builds. A function that asks for the result that it builds would wait for itself.
    static BUILDING: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

impl<'a> Place<'a> {
    /// With `creates_parents`, creates missing directories above the result.
    pub(super) fn new(
        options: &'a ArrayOptions,
        path: &Path,
        params: Hash,
        creates_parents: bool,
    ) -> Result<Self> {
        let target = file_path(path, creates_parents)?;
        let name = target.file_name().unwrap_or_default();
        let (mut record, mut building) = (name.to_owned(), OsString::from(".building-"));
        record.push(".reuse");
        building.push(name);
        // `file_path` returns an error if the name is too long.
        let building = file_path(&target.with_file_name(building), false)?;
        Ok(Self { options, record: target.with_file_name(record), building, target, params })
    }

    pub(super) fn building(&self) -> &Path {
        &self.building
    }

    /// Opens the result if it is complete: a record with these parameters describes the file and its layout.
    pub(super) fn find<T: Pod, D: Dimension>(&self) -> Result<Option<MmapArray<T, D, ReadOnly>>> {
        let mut records = read_records(&self.record)?;
        records.retain(|record| record.params == self.params);
        if records.is_empty() {
            return Ok(None);
        }
        let array = match self.options.open::<T, D>(&self.target) {
            Ok(array) => array,
            Err(error) => match error.kind() {
                ErrorKind::NotFound
                | ErrorKind::ShapeMismatch
                | ErrorKind::DtypeMismatch
                | ErrorKind::LengthMismatch
                | ErrorKind::InvalidHeader
                | ErrorKind::Unaligned => return Ok(None),
                _ => return Err(error),
            },
        };
        let found = self.record_of(&array)?;
        Ok(records.contains(&found).then_some(array))
    }

    /// Returns the record of a file that is mapped.
    fn record_of<T: Pod, D: Dimension>(&self, array: &MmapArray<T, D, ReadOnly>) -> Result<Record> {
        let status = sys::status(array.mapping().file());
        let status = status.map_err(|error| failed("to read the file's length", error).at(array.path()))?;
        Ok(Record { params: self.params, layout: layout_of(array), stamp: Stamp::of(&status) })
    }

    /// Returns whether the record file is the file with this identity.
    fn is_record(&self, id: FileId) -> bool {
        sys::status_of_path(&self.record).is_ok_and(|named| named.id == id)
    }

    /// Waits until no other thread and no other process builds this result.
    pub(super) fn wait_for_turn(&self) -> Result<Turn<'_>> {
        if BUILDING.with_borrow(|building| building.contains(&self.target)) {
            let (expected, found) =
                ("a result that this thread does not build", "the result that its function builds");
            return Err(Error::new(ErrorKind::InUse, "open_or_build", expected, found)
                .at(&self.target)
                .with_remedy("the function must not ask for its own result"));
        }
        let policy = LockPolicy { timeout: Duration::MAX, require_kernel: true };
        loop {
            let file = sys::fs::open_or_create(&self.record).map(Arc::new);
            let file =
                file.map_err(|error| failed("to create the record of the result", error).at(&self.record))?;
            let status = sys::status(&file)
                .map_err(|error| failed("to identify the record", error).at(&self.record))?;
            if !status.is_regular {
                return Err(Error::new(
                    ErrorKind::NotAFile,
                    "open_or_build",
                    "a record file",
                    "a special file",
                )
                .at(&self.record)
                .with_remedy("choose another name for the result"));
            }
            let bytes = 0..FILE_BYTES as u64;
            let lock =
                RangeLock::acquire(&file, status.id, bytes, AccessMode::ReadWrite, policy, &self.record);
            let lock = lock.map_err(|error| match error.kind() {
                ErrorKind::LockUnavailable => {
                    if status.len == 0 {
                        let _ = sys::fs::remove_file(&self.record);
                    }
                    error.with_remedy(
                        "build the result on a filesystem with locks; a finished result can be opened on any filesystem",
                    )
                }
                _ => error,
            })?;
            // The process that held the lock before may have removed the record file. Another process may have created
            // another record file since then.
            if self.is_record(status.id) {
                BUILDING.with_borrow_mut(|building| building.push(self.target.clone()));
                return Ok(Turn {
                    place: self,
                    file,
                    id: status.id,
                    process: std::process::id(),
                    _lock: lock,
                });
            }
        }
    }
}

/// The right to build a result: the lock on the record file. Dropping the value removes the file that was not published,
/// and a record file that does not describe the result. If the process is killed, the kernel releases the lock.
#[derive(Debug)]
pub(super) struct Turn<'p> {
    place: &'p Place<'p>,
    /// The record file.
    file: Arc<File>,
    id: FileId,
    process: u32,
    _lock: RangeLock,
}

impl Turn<'_> {
    /// Prepares the build: reserves the space of the record, and removes the file of a builder that was killed.
    pub(super) fn prepare(&self) -> Result<()> {
        let Place { target, record, building, .. } = self.place;
        match sys::status_of_path(target) {
            Ok(status) if !status.is_regular => {
                let found = if status.is_directory { "a directory" } else { "a special file" };
                return Err(Error::new(ErrorKind::NotAFile, "open_or_build", "the path of a file", found)
                    .at(target)
                    .with_remedy("choose another name"));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("a name that a file can have", error).at(target));
            }
            _ => {}
        }
        let has_space = sys::status(&self.file).is_ok_and(|status| status.len >= FILE_BYTES as u64);
        if !has_space {
            let written = sys::fs::write_all_at(&self.file, &[b'\n'; FILE_BYTES], 0);
            written.map_err(|error| failed("to write the record of the result", error).at(record))?;
        }
        remove_if_any(building).map_err(|error| failed("to remove an unfinished result", error).at(building))
    }

    /// Publishes the file that was built: makes the file durable, then its record, and then gives the file its name.
    pub(super) fn publish<T: Pod, D: Dimension>(&self) -> Result<()> {
        let Place { options, target, record: record_path, building, .. } = self.place;
        // The array locks the file: until the end of this function no other array can change the file.
        let options = ArrayOptions::clone(options).close_existing(false);
        let array = options.open::<T, D>(building).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                error.with_remedy("the function must create a file at the path that it gets")
            }
            _ => error,
        })?;
        let at = |expected, path: &Path, done: io::Result<()>| {
            done.map_err(|error| failed(expected, error).at(path))
        };
        let file = array.mapping().file();
        let synced = sys::fs::set_modified_now(file).and_then(|()| sys::fs::sync_all(file));
        at("to write the result to disk", building, synced)?;
        if !self.place.is_record(self.id) {
            let (expected, found) = ("the record file that this build has locked", "another file, or none");
            return Err(Error::new(ErrorKind::NameLost, "open_or_build", expected, found)
                .at(record_path)
                .with_remedy("do not delete the record file during a build"));
        }
        let record = self.place.record_of(&array)?;
        let written = self.write(&record);
        at("to write the record of the result", record_path, written)?;
        let directory = sys::fs::open_directory(directory_of(target));
        let directory = directory.map_err(|error| failed("to open the directory", error).at(target))?;
        let synced = || sys::fs::sync_directory(directory.as_ref(), &self.file);
        at("to write the directory to disk", target, synced())?;
        at("to give the result its name", target, sys::fs::rename(building, target))?;
        at("to write the directory to disk", target, synced())
    }

    /// Returns whether a record describes the file that has the name of the result now.
    fn is_of_target(&self, record: Option<Record>) -> bool {
        let target = sys::status_of_path(&self.place.target).ok().map(|status| Stamp::of(&status));
        record.is_some_and(|record| Some(record.stamp) == target)
    }

    /// Writes a record to a slot that does not describe the current file, and makes the record durable.
    fn write(&self, record: &Record) -> io::Result<()> {
        let [first, _] = read_slots(&self.file)?;
        let offset = if self.is_of_target(first) { SLOT_BYTES as u64 } else { 0 };
        sys::fs::write_all_at(&self.file, &record.encode(), offset)?;
        sys::fs::sync_all(&self.file)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        BUILDING.with_borrow_mut(|building| building.retain(|path| *path != self.place.target));
        // A child of `fork` has a copy of this value, but its parent builds the result. If somebody has removed the record
        // file, another process may build the result.
        if self.process != std::process::id() || !self.place.is_record(self.id) {
            return;
        }
        // Errors are ignored: the next build removes the files.
        let _ = remove_if_any(&self.place.building);
        if read_slots(&self.file).is_ok_and(|slots| !slots.into_iter().any(|slot| self.is_of_target(slot))) {
            let _ = sys::fs::remove_file(&self.place.record);
        }
    }
}

fn remove_if_any(path: &Path) -> io::Result<()> {
    match sys::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Returns the hash of the layout of an array: element type, shape, order, and offset in the file.
fn layout_of<T: Pod, D: Dimension>(array: &MmapArray<T, D, ReadOnly>) -> Hash {
    let element = match Dtype::of::<T>() {
        Some(dtype) => dtype.descr().to_owned(),
        None => format!("{} of {} bytes", std::any::type_name::<T>(), size_of::<T>()),
    };
    let (geometry, offset) = (array.geometry(), array.mapping().file_bytes().start);
    let order = if matches!(geometry.order(), Order::ColumnMajor) { "F" } else { "C" };
    blake3::hash(format!("{element} {:?} {order} {offset}", geometry.shape()).as_bytes())
}
