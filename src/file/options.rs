//! [`ArrayOptions`]: the options for creating or opening an array, as plain data.

use super::lock::LockPolicy;
use crate::error::Result;
use crate::format::is_npy_name;
use ndarray::{Array, Dimension, Order, ShapeBuilder};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How an array's bytes are laid out in its file.
///
/// ```
/// use ndarray_mmap::{ArrayOptions, Format};
///
/// let options = ArrayOptions::new().format(Format::Raw); // whatever the name of the file
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The file contains only the elements, and the caller passes shape and offset in the options.
    Raw,
    /// numpy's format: a header with type, order and shape, then the elements.
    Npy,
}

/// How the kernel should read ahead.
///
/// ```
/// assert_eq!(ndarray_mmap::AccessPattern::default(), ndarray_mmap::AccessPattern::Normal);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "madvise")]
pub enum AccessPattern {
    /// The kernel's default: it reads pages around a fault, and reads ahead of sequential accesses. This is the default
    /// of the crate, too, until a part of the array is [evicted](crate::MmapArray::evict_rows).
    #[default]
    Normal,
    /// The kernel reads far ahead. It expects that pages are not used again soon.
    Sequential,
    /// The kernel does not read ahead. Since Linux 6.4, the kernel also reclaims pages with this pattern before other
    /// pages. This can slow a program down, so measure the effect.
    Random,
}

/// When a new file gets its disk space.
///
/// If the options of a new file do not choose an allocation, an array reserves its space, and a stream reserves the
/// space of its rows, but not that of the holes of its source.
///
/// ```
/// assert_eq!(ndarray_mmap::Allocation::default(), ndarray_mmap::Allocation::Reserve);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "fallocate")]
pub enum Allocation {
    /// The space is reserved when the file is created, so `create` fails if the disk is full. This is the default.
    #[default]
    Reserve,
    /// The space is allocated when pages are written. Holes take no disk space, but a store into a hole causes a signal
    /// (SIGBUS) if the disk is full.
    Sparse,
}

/// What happens to the pages when an array is dropped or closed.
///
/// ```
/// assert_eq!(ndarray_mmap::OnDrop::default(), ndarray_mmap::OnDrop::Evict);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDrop {
    /// Flushes, drops the pages from the page cache, and closes. This is the default.
    #[default]
    Evict,
    /// Flushes and closes. The pages stay in the page cache for the next reader.
    KeepCached,
}

/// All options for creating and opening an array. The defaults are those of [`MmapArray`](crate::MmapArray)'s own
/// constructors.
///
/// ```
/// use ndarray::{Ix2, ShapeBuilder};
/// use ndarray_mmap::{AccessPattern, ArrayOptions, Format};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("columns.bin");
/// let mut columns = ArrayOptions::new().shape((1000, 3).f()).offset_bytes(128).create::<f32, Ix2>(&path)?;
/// columns.column_mut(1).fill(2.5);
/// columns.close()?;
///
/// let columns = ArrayOptions::new()
///     .format(Format::Raw)
///     .shape((1000, 3).f())
///     .offset_bytes(128)
///     .access_pattern(AccessPattern::Sequential)
///     .open::<f32, Ix2>(&path)?;
/// assert_eq!(columns.sum(), 2500.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ArrayOptions {
    pub(super) format: Option<Format>,
    pub(super) shape: Option<(Vec<usize>, Order)>,
    pub(super) offset_bytes: u64,
    /// The rows to map and lock. `None` for all rows.
    pub(super) rows: Option<Range<usize>>,
    pub(crate) access_pattern: AccessPattern,
    /// `None` if the caller has not chosen.
    pub(super) allocation: Option<Allocation>,
    pub(crate) close_existing: Option<bool>,
    pub(crate) publish_on_close: bool,
    pub(crate) on_drop: OnDrop,
    pub(super) scratch_directory: Option<PathBuf>,
    pub(super) lock_timeout: Duration,
    pub(super) require_lock: bool,
    pub(crate) locked: bool,
    pub(crate) guarded: bool,
}

impl Default for ArrayOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ArrayOptions {
    /// Returns the default options.
    pub fn new() -> Self {
        Self {
            format: None,
            shape: None,
            offset_bytes: 0,
            rows: None,
            access_pattern: AccessPattern::Normal,
            allocation: None,
            close_existing: None,
            publish_on_close: false,
            on_drop: OnDrop::Evict,
            scratch_directory: None,
            lock_timeout: Duration::ZERO,
            require_lock: false,
            locked: true,
            guarded: false,
        }
    }

    /// Sets the file's format. Default: [`Npy`](Format::Npy) for names that end in `.npy`, [`Raw`](Format::Raw) for
    /// others.
    ///
    /// Without this option, names of packed or unfinished NPY files (`a.npz`, `a.npy.gz`, `a.npy.tmp`) are refused with
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), because such a file has neither format.
    ///
    /// ```
    /// # use ndarray_mmap::{ArrayOptions, Format};
    /// # let folder = tempfile::tempdir()?;
    /// let options = ArrayOptions::new().format(Format::Npy).shape((4, 3));
    /// let array = options.create::<f32, ndarray::Ix2>(folder.path().join("positions.dat"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Sets the shape, in ndarray's own terms: `(n, m)`, `[n, m]`, `IxDyn(&[..])`, and `.f()` on any of them for
    /// Fortran order.
    ///
    /// The shape is required for every new file and for every raw file. An NPY file contains its shape: if the options
    /// also contain a shape, both must be equal. Default: none.
    ///
    /// ```
    /// # use ndarray_mmap::ArrayOptions;
    /// use ndarray::{Ix2, ShapeBuilder};
    /// let columns = ArrayOptions::new().shape((4, 3).f()).scratch::<f32, Ix2>()?;
    /// assert_eq!(columns.strides(), [1, 4]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn shape(mut self, shape: impl ShapeBuilder) -> Self {
        self.shape = Some(lengths_and_order(shape));
        self
    }

    /// Sets the offset in bytes at which the data of a raw file starts. It must be a multiple of the element's
    /// alignment. Default: 0.
    ///
    /// ```
    /// # use ndarray_mmap::{ArrayOptions, backing};
    /// let array = ArrayOptions::new().offset_bytes(128).shape(4).scratch::<f32, ndarray::Ix1>()?;
    /// assert_eq!(backing(&array).unwrap().byte_range, 128..144);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn offset_bytes(mut self, offset_bytes: u64) -> Self {
        self.offset_bytes = offset_bytes;
        self
    }

    /// Sets how the kernel reads ahead. Default: [`AccessPattern::Normal`].
    ///
    /// ```
    /// # use ndarray_mmap::{AccessPattern, ArrayOptions};
    /// let options = ArrayOptions::new().access_pattern(AccessPattern::Sequential).shape(4);
    /// let array = options.scratch::<f32, ndarray::Ix1>()?;
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn access_pattern(mut self, pattern: AccessPattern) -> Self {
        self.access_pattern = pattern;
        self
    }

    /// Sets when disk space for a new file is allocated. Default: [`Allocation::Reserve`].
    ///
    /// ```
    /// # use ndarray_mmap::{Allocation, ArrayOptions};
    /// let options = ArrayOptions::new().allocation(Allocation::Sparse).shape(1 << 30);
    /// let mut array = options.scratch::<f32, ndarray::Ix1>()?; // takes no disk space yet
    /// array[1 << 29] = 1.0; //                                    takes a page
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = Some(allocation);
        self
    }

    /// Sets whether this process's arrays on the same path are [closed](crate::close_path) first. Default: true for
    /// `create`, false for `create_new` and `open*`.
    ///
    /// ```
    /// # use ndarray_mmap::{ArrayOptions, MmapArray};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.npy");
    /// let old = MmapArray::<f32, ndarray::Ix1>::create(&path, 4)?;
    /// let new = ArrayOptions::new().shape(4).close_existing(false).create::<f32, ndarray::Ix1>(&path)?;
    /// assert!(!old.is_closed()); // it keeps the old file, which has lost its name
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_existing(mut self, close_existing: bool) -> Self {
        self.close_existing = Some(close_existing);
        self
    }

    /// Sets whether the file of [`create`](Self::create) and [`create_new`](Self::create_new) gets its name only when
    /// the array is closed. Default: false: the file gets its name at once, and contains zeros until it is filled.
    ///
    /// [`close`](crate::MmapArray::close) flushes the elements, and then gives the file its name, atomically.
    /// [`into_read_only`](crate::MmapArray::into_read_only) does the same without closing the array. Before that, the
    /// name does not exist, or leads to the old file. When the new file gets the name, the arrays of this process on
    /// the old file are closed, unless `close_existing` is set to false.
    ///
    /// A fill that does not end with `close` leaves nothing: neither dropping the array, for example because of an
    /// error or a panic, nor the end of the process gives the file its name. If the array is closed by its
    /// [path](crate::close_path), its file never gets the name, and `close` returns
    /// [`Closed`](crate::ErrorKind::Closed). Another `create` of the same path closes the array in this way, too.
    ///
    /// The option has no effect on scratch arrays, on `open*`, and on streams, which never publish an incomplete file.
    ///
    /// ```
    /// # use ndarray_mmap::{ArrayOptions, MmapArray};
    /// use ndarray::Ix1;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.npy");
    /// let options = ArrayOptions::new().shape(4).publish_on_close(true);
    /// let mut array = options.create::<f32, Ix1>(&path)?;
    /// array.fill(1.0);
    /// assert!(!path.exists());
    /// array.close()?; // the file gets its name
    /// assert_eq!(MmapArray::<f32, Ix1>::open(&path)?.sum(), 4.0);
    ///
    /// drop(options.create::<f32, Ix1>(&path)?); // not closed, so the old file stays
    /// assert_eq!(MmapArray::<f32, Ix1>::open(&path)?.sum(), 4.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish_on_close(mut self, publish_on_close: bool) -> Self {
        self.publish_on_close = publish_on_close;
        self
    }

    /// Sets what happens to the pages when the array is dropped or closed. Default: [`OnDrop::Evict`].
    ///
    /// ```
    /// # use ndarray_mmap::{ArrayOptions, OnDrop};
    /// let options = ArrayOptions::new().on_drop(OnDrop::KeepCached).shape(4);
    /// drop(options.scratch::<f32, ndarray::Ix1>()?);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// Sets the directory in which [`scratch`](Self::scratch) creates its file.
    ///
    /// Default: the directory in the environment variable `TMPDIR`. If the variable is not set, the default is
    /// `/var/tmp`, which is on a disk, whereas `/tmp` is often in memory. If `/var/tmp` does not exist, the default is
    /// the system's temporary directory.
    ///
    /// ```
    /// # use ndarray_mmap::ArrayOptions;
    /// # let folder = tempfile::tempdir()?;
    /// let options = ArrayOptions::new().scratch_directory(folder.path()).shape(4);
    /// assert!(options.scratch::<f32, ndarray::Ix1>()?.path().starts_with(folder.path().canonicalize()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scratch_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.scratch_directory = Some(directory.into());
        self
    }

    /// Sets how long to wait until other arrays, in this process or another, release the bytes. Default: zero.
    ///
    /// ```
    /// # use ndarray_mmap::ArrayOptions;
    /// use std::time::Duration;
    /// let patient = ArrayOptions::new().lock_timeout(Duration::from_secs(30));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets whether to fail with [`LockUnavailable`](crate::ErrorKind::LockUnavailable) if the filesystem does not
    /// support byte-range locks. Default: false; see [`MmapArray::locking`](crate::MmapArray::locking).
    ///
    /// ```
    /// # use ndarray_mmap::{ArrayOptions, ErrorKind, Locking};
    /// let strict = ArrayOptions::new().require_lock(true).shape(4);
    /// match strict.scratch::<f32, ndarray::Ix1>() {
    ///     Ok(array) => assert_eq!(array.locking(), Locking::Kernel),
    ///     Err(error) => assert_eq!(error.kind(), ErrorKind::LockUnavailable),
    /// }
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn require_lock(mut self, require_lock: bool) -> Self {
        self.require_lock = require_lock;
        self
    }

    /// Turns faults on this array into errors in every thread, instead of ending the process: see
    /// [`fault`](crate::fault). Installs the handler. Default: only a [guard](crate::fault::guard) handles faults, in
    /// its thread.
    ///
    /// On platforms without a fault guard, creating or opening such an array fails with
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    ///
    /// ```
    /// # use ndarray_mmap::ArrayOptions;
    /// # #[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
    /// let array = ArrayOptions::new().guarded().shape(4).scratch::<f32, ndarray::Ix1>()?;
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    #[doc(alias = "SIGBUS")]
    pub fn guarded(mut self) -> Self {
        self.guarded = true;
        self
    }

    pub(super) fn lock_policy(&self) -> LockPolicy {
        LockPolicy { timeout: self.lock_timeout, require_kernel: self.require_lock }
    }

    /// Returns the format of the options, or else the format that the file's name implies.
    pub(super) fn format_of(&self, path: &Path) -> Result<Format> {
        match self.format {
            Some(format) => Ok(format),
            None => Ok(if is_npy_name(path)? { Format::Npy } else { Format::Raw }),
        }
    }
}

/// Returns the lengths and the order of a shape. ndarray has no accessor for the order of a shape, but an array of that
/// shape with elements of zero bytes shows the order.
fn lengths_and_order(shape: impl ShapeBuilder) -> (Vec<usize>, Order) {
    let shape = shape.into_shape_with_order();
    let lengths = shape.raw_dim().slice().to_vec();
    let elements =
        lengths.iter().filter(|&&len| len != 0).try_fold(1_usize, |product, &len| product.checked_mul(len));
    if elements.is_none_or(|elements| isize::try_from(elements).is_err()) {
        return (lengths, Order::RowMajor); // its size is refused later
    }
    let layout = Array::<(), _>::uninit(shape);
    let is_row_major = lengths.contains(&0) || layout.is_standard_layout();
    (lengths, if is_row_major { Order::RowMajor } else { Order::ColumnMajor })
}
