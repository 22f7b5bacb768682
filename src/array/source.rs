//! From a path and options to a mapping: new files written and published, existing ones checked.

use super::options::{AccessPattern, Allocation, ArrayOptions, Format};
use super::{MmapArray, close_path, dimensions, unaligned};
use crate::access::{Access, AccessMode, ReadWrite};
use crate::element::{Dtype, dtype_mismatch, no_dtype, opens};
use crate::error::{Error, ErrorKind, Result};
use crate::format::npy;
use crate::geometry::Geometry;
use crate::map::{MapRequest, Mapping, RangeLock};
use crate::path::{Existing, Staged, prepare_path};
use crate::sys::{self, FileId};
use bytemuck::Pod;
use memmap2::Advice;
use ndarray::{Dimension, Order};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the elements of an array are in a file, or will be.
struct Layout {
    geometry: Geometry,
    data_bytes: Range<u64>,
}

impl Layout {
    fn new(geometry: Geometry, data_offset: u64) -> Result<Self> {
        let end =
            data_offset.checked_add(geometry.total_bytes() as u64).filter(|&end| i64::try_from(end).is_ok());
        let end = end.ok_or_else(|| {
            let found = format!("{} bytes from byte {data_offset} on", geometry.total_bytes());
            Error::new(ErrorKind::SizeOverflow, "size a file", format!("at most {} bytes", i64::MAX), found)
        })?;
        Ok(Self { geometry, data_bytes: data_offset..end })
    }

    /// The layout of a raw file, which only the options know.
    fn raw<T: Pod, D: Dimension>(options: &ArrayOptions) -> Result<Self> {
        let (shape, order) = options.shape.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "size an array", "a shape", "none").or_else_try(
                "give one with `ArrayOptions::shape`: only an NPY file that exists knows its own",
            )
        })?;
        dimensions::<D>(shape)?;
        let layout = Self::new(Geometry::new(shape, *order, size_of::<T>())?, options.offset_bytes)?;
        let misplaced = options.offset_bytes % align_of::<T>() as u64 != 0;
        if misplaced && !layout.data_bytes.is_empty() {
            Err(unaligned::<T>(options.offset_bytes))
        } else {
            Ok(layout)
        }
    }
}

/// A file that is to be made.
pub(crate) struct NewFile<'a> {
    options: &'a ArrayOptions,
    place: Place<'a>,
}

enum Place<'a> {
    Named(&'a Path, Existing),
    Unnamed,
}

impl<'a> NewFile<'a> {
    pub(crate) fn replacing(options: &'a ArrayOptions, path: &'a Path) -> Self {
        Self { options, place: Place::Named(path, Existing::Replace) }
    }

    pub(super) fn refusing(options: &'a ArrayOptions, path: &'a Path) -> Self {
        Self { options, place: Place::Named(path, Existing::Refuse) }
    }

    pub(super) fn unnamed(options: &'a ArrayOptions) -> Self {
        Self { options, place: Place::Unnamed }
    }

    pub(super) fn into_array<T: Pod, D: Dimension>(self) -> Result<MmapArray<T, D, ReadWrite>> {
        match self.place {
            Place::Named(path, existing) => {
                let operation = if existing == Existing::Replace { "create" } else { "create_new" };
                self.create_named(path, existing).map_err(|error| error.during(operation).at(path))
            }
            Place::Unnamed => self.create_unnamed().map_err(|error| error.during("scratch")),
        }
    }

    fn create_named<T: Pod, D: Dimension>(
        &self,
        path: &Path,
        existing: Existing,
    ) -> Result<MmapArray<T, D, ReadWrite>> {
        let options = self.options;
        // What the arguments alone forbid is refused before anything on disk is touched.
        let plan = self.plan::<T, D>()?;
        let path = prepare_path(path, true)?;
        if existing == Existing::Refuse && path.symlink_metadata().is_ok() {
            return Err(Error::new(ErrorKind::AlreadyExists, "create_new", "no file of this name", "one")
                .at(&path)
                .or_else_try("`create` replaces a file, `open_rw` changes one"));
        }
        let staged = Staged::new(&path)?;
        fill(staged.file(), &plan, options.allocation).map_err(|error| error.at(&path))?;
        // Only now: where there is no room for the new file, the old one's arrays stay open.
        if options.close_existing.unwrap_or(existing == Existing::Replace) {
            close_path(&path)?;
        }
        let array = plan.map(options, staged.shared_file(), path, true)?;
        staged.publish(existing)?;
        Ok(array)
    }

    fn create_unnamed<T: Pod, D: Dimension>(&self) -> Result<MmapArray<T, D, ReadWrite>> {
        let plan = self.plan::<T, D>()?;
        let directory = self.options.scratch_directory.clone().unwrap_or_else(scratch_directory);
        let path = prepare_path(directory, false)?.join("(scratch)");
        let file = Staged::new(&path)?.unnamed()?;
        fill(&file, &plan, self.options.allocation).map_err(|error| error.at(&path))?;
        plan.map(self.options, file, path, false)
    }

    /// What the file will hold, or why there can be no such file.
    pub(crate) fn plan<T: Pod, D: Dimension>(&self) -> Result<FilePlan> {
        let format = match self.place {
            Place::Named(path, _) => self.options.format_of(path)?,
            Place::Unnamed => Format::Raw,
        };
        match format {
            Format::Raw => Ok(FilePlan { header: Vec::new(), layout: Layout::raw::<T, D>(self.options)? }),
            Format::Npy => {
                check_npy_options(self.options)?;
                let layout = Layout::raw::<T, D>(self.options)?;
                let header = npy_header::<T>(&layout.geometry)?;
                let data_offset = header.len() as u64;
                Ok(FilePlan { header, layout: Layout::new(layout.geometry, data_offset)? })
            }
        }
    }
}

/// What a new file will hold.
pub(crate) struct FilePlan {
    header: Vec<u8>,
    layout: Layout,
}

impl FilePlan {
    /// What the file starts with.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    /// Where its data lies.
    pub(crate) fn data_bytes(&self) -> Range<u64> {
        self.layout.data_bytes.clone()
    }

    /// Locks and maps the file, which is as long as was planned.
    pub(crate) fn map<T: Pod, D: Dimension, A: Access>(
        self,
        options: &ArrayOptions,
        file: Arc<File>,
        path: PathBuf,
        named: bool,
    ) -> Result<MmapArray<T, D, A>> {
        let lock = lock(options, &file, &path, &self.layout.data_bytes, A::MODE)?;
        finish(options, file, path, self.layout, lock, named)
    }
}

/// Makes the file as long as it has to be, with disk space if asked for, and writes the header.
fn fill(file: &File, plan: &FilePlan, allocation: Allocation) -> Result<()> {
    let len = plan.layout.data_bytes.end;
    let sized = match allocation {
        Allocation::Sparse => sys::fs::set_len(file, len),
        Allocation::Reserve => sys::fs::reserve_or_zero(file, len),
    };
    sized.map_err(|error| {
        let error = Error::io("create", format!("{len} bytes of disk space"), error);
        match error.kind() {
            ErrorKind::StorageFull => {
                error.or_else_try("free some; `Allocation::Sparse` takes space only as it is written")
            }
            _ => error,
        }
    })?;
    sys::fs::write_all_at(file, &plan.header, 0)
        .map_err(|error| Error::io("create", "to write the header", error))
}

/// A directory on a disk, where there is one.
fn scratch_directory() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(directory) if !directory.is_empty() => directory.into(),
        _ => Some(PathBuf::from("/var/tmp")).filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir),
    }
}

/// A file that exists.
pub(super) struct OpenFile<'a> {
    options: &'a ArrayOptions,
    path: &'a Path,
    access: AccessMode,
}

impl<'a> OpenFile<'a> {
    pub(super) fn new(options: &'a ArrayOptions, path: &'a Path, access: AccessMode) -> Self {
        Self { options, path, access }
    }

    pub(super) fn into_array<T: Pod, D: Dimension, A: Access>(self) -> Result<MmapArray<T, D, A>> {
        let operation = match self.access {
            AccessMode::ReadOnly => "open",
            AccessMode::ReadWrite => "open_rw",
            AccessMode::CopyOnWrite => "open_cow",
        };
        self.map().map_err(|error| error.during(operation).at(self.path))
    }

    fn map<T: Pod, D: Dimension, A: Access>(&self) -> Result<MmapArray<T, D, A>> {
        let format = self.options.format_of(self.path)?;
        let path = prepare_path(self.path, false)?;
        if self.options.close_existing.unwrap_or(false) {
            close_path(&path)?;
        }
        let file =
            open_regular(&path, self.access == AccessMode::ReadWrite).map_err(|error| error.at(&path))?;
        let layout = match format {
            Format::Raw => Layout::raw::<T, D>(self.options),
            Format::Npy => self.npy_layout::<T, D>(&file),
        };
        let layout = layout.map_err(|error| error.at(&path))?;
        let exact = format == Format::Npy;
        map_checked(self.options, Arc::new(file), path, layout, exact)
    }

    /// What the header of an NPY file says, checked against what was asked for.
    fn npy_layout<T: Pod, D: Dimension>(&self, file: &File) -> Result<Layout> {
        check_npy_options(self.options)?;
        let header = npy::decode(&mut sys::fs::reader(file))?;
        let dtype = Dtype::from_descr(&header.descr);
        if !opens::<T>(&dtype) {
            return Err(dtype_mismatch::<T>(&dtype));
        }
        dimensions::<D>(&header.shape)?;
        let order = if header.fortran_order { Order::ColumnMajor } else { Order::RowMajor };
        if let Some((shape, _)) = self.options.shape.as_ref().filter(|(shape, _)| *shape != header.shape) {
            let found = format!("shape {:?}", header.shape);
            return Err(Error::new(ErrorKind::ShapeMismatch, "open", format!("shape {shape:?}"), found));
        }
        Layout::new(Geometry::new(&header.shape, order, size_of::<T>())?, header.data_offset)
    }
}

/// Opens a regular file, and refuses anything else.
pub(crate) fn open_regular(path: &Path, writable: bool) -> Result<File> {
    let file = sys::fs::open(path, writable).map_err(|error| {
        let error = Error::io("open", "a file that can be opened", error);
        match error.kind() {
            ErrorKind::NotFound => error.or_else_try("`create` makes a new one"),
            _ => error,
        }
    })?;
    let metadata = file.metadata().map_err(|error| Error::io("open", "to read the file's length", error))?;
    if metadata.is_file() {
        return Ok(file);
    }
    let found = if metadata.is_dir() { "a directory" } else { "a special file" };
    Err(Error::new(ErrorKind::NotAFile, "open", "a regular file", found))
}

/// Maps an existing file, if it is as long as its layout says: exactly as long, or at least.
fn map_checked<T: Pod, D: Dimension, A: Access>(
    options: &ArrayOptions,
    file: Arc<File>,
    path: PathBuf,
    layout: Layout,
    exact: bool,
) -> Result<MmapArray<T, D, A>> {
    let needed = layout.data_bytes.end;
    let checked_file = Arc::clone(&file);
    let check = |path: &Path| {
        let metadata = checked_file.metadata();
        let len =
            metadata.map_err(|error| Error::io("open", "to read the file's length", error).at(path))?.len();
        if len == needed || (len > needed && !exact) {
            return Ok(());
        }
        let shape = layout.geometry.shape().to_vec();
        let at_least = if exact { "" } else { "at least " };
        let expected = format!(
            "{at_least}{needed} bytes for shape {shape:?} of elements from byte {}",
            layout.data_bytes.start
        );
        Err(Error::new(ErrorKind::LengthMismatch, "open", expected, format!("{len} bytes")).at(path))
    };
    // Before the lock, for the plain answer; under it again, for the one that lasts.
    check(&path)?;
    let lock = lock(options, &file, &path, &layout.data_bytes, A::MODE)?;
    check(&path)?;
    finish(options, file, path, layout, lock, true)
}

fn file_id(file: &File, path: &Path) -> Result<FileId> {
    let metadata =
        file.metadata().map_err(|error| Error::io("open", "to identify the file", error).at(path))?;
    Ok(FileId::of(&metadata))
}

/// The lock that the borrow rules ask for: none for an array without bytes, or without the rules.
fn lock(
    options: &ArrayOptions,
    file: &Arc<File>,
    path: &Path,
    bytes: &Range<u64>,
    access: AccessMode,
) -> Result<Option<RangeLock>> {
    if !options.locked || bytes.is_empty() {
        return Ok(None);
    }
    let id = file_id(file, path)?;
    RangeLock::acquire(file, id, bytes.clone(), access, options.lock_policy(), path).map(Some)
}

fn finish<T: Pod, D: Dimension, A: Access>(
    options: &ArrayOptions,
    file: Arc<File>,
    path: PathBuf,
    layout: Layout,
    lock: Option<RangeLock>,
    named: bool,
) -> Result<MmapArray<T, D, A>> {
    let mapping = Mapping::new(MapRequest {
        id: file_id(&file, &path)?,
        file,
        path,
        bytes: layout.data_bytes,
        access: A::MODE,
        lock,
        on_drop: options.on_drop,
        guarded: options.guarded,
        named,
    })?;
    if options.access_pattern != AccessPattern::Normal {
        mapping.choose_pattern(
            "open",
            advice(options.access_pattern),
            std::iter::once(mapping.file_bytes()),
        )?;
    }
    MmapArray::assemble(mapping, layout.geometry)
}

/// The kernel's word for a pattern.
pub(super) fn advice(pattern: AccessPattern) -> Advice {
    match pattern {
        AccessPattern::Normal => Advice::Normal,
        AccessPattern::Sequential => Advice::Sequential,
        AccessPattern::Random => Advice::Random,
    }
}

/// Whether this build knows NPY, and the caller does not say what the file's header says.
fn check_npy_options(options: &ArrayOptions) -> Result<()> {
    npy::check_enabled()?;
    match options.offset_bytes {
        0 => Ok(()),
        offset => {
            let found = format!("`offset_bytes({offset})`");
            Err(Error::new(ErrorKind::InvalidInput, "open", "no offset for an NPY file", found)
                .or_else_try("its header says where the data starts; `Format::Raw` takes any offset"))
        }
    }
}

/// The header of a new NPY file.
fn npy_header<T: Pod>(geometry: &Geometry) -> Result<Vec<u8>> {
    let dtype = Dtype::of::<T>().ok_or_else(no_dtype::<T>)?;
    // numpy says "C" of what is both.
    let fortran = matches!(geometry.order(), Order::ColumnMajor) && geometry.shape().len() > 1;
    npy::encode(dtype.descr(), fortran, geometry.shape())
}
