//! [`inspect`]: reads the header of an NPY file without mapping the data.

use std::fmt;
use std::path::Path;

use ndarray::Order;

use crate::element::Dtype;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{is_packed_name, npy};
use crate::geometry::Geometry;
use crate::sys;

use super::Format;
use super::existing::open_regular;
use super::path::file_path;
use crate::access::AccessMode;

/// Reads the header of an NPY file, and returns its dtype, shape, order and the offset of the data.
///
/// The name of the file does not matter: the first bytes of the file show whether the file is NPY. Every dtype that
/// numpy can save is described, also the dtypes that no array of this crate can hold. Nothing is mapped and no lock is
/// taken, so a file can be inspected while another process writes it. At most about 40 KiB are read, also from a
/// damaged or hostile file.
///
/// The function also describes a file that is shorter or longer than its header says, although
/// [`MmapArray::open`](crate::MmapArray::open) refuses such a file. [`Description::is_complete`] returns false for such
/// a file.
///
/// # Errors
/// - [`InvalidHeader`](ErrorKind::InvalidHeader) if the file is not NPY (a raw file has no header) or the header is
///   damaged.
/// - [`SizeOverflow`](ErrorKind::SizeOverflow) if the shape cannot be addressed.
/// - [`NotFound`](ErrorKind::NotFound), [`NotAFile`](ErrorKind::NotAFile), or another error that the file system
///   reports.
/// - [`Unsupported`](ErrorKind::Unsupported) without the feature `npy`.
///
/// # Examples
/// ```
/// # #[cfg(target_endian = "little")] {
/// use ndarray::{Ix3, Order};
/// use ndarray_mmap::{Dtype, MmapArray, inspect};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("traj.npy");
/// MmapArray::<f32, Ix3>::create(&path, (1000, 50, 3))?.close()?;
///
/// let description = inspect(&path)?;
/// assert_eq!(*description.dtype(), Dtype::F32);
/// assert_eq!(description.shape(), [1000, 50, 3]);
/// assert_eq!(description.order(), Order::RowMajor);
/// assert_eq!(
///     description.to_string(),
///     "<f4 (1000, 50, 3), C order, data at byte 128, 600000 bytes, NPY 1.0"
/// );
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn inspect(path: impl AsRef<Path>) -> Result<Description> {
    let path = path.as_ref();
    describe(path).map_err(|error| error.during("inspect").at(path))
}

fn describe(path: &Path) -> Result<Description> {
    npy::check_enabled()?;
    let path = file_path(path, false)?;
    let file = open_regular(&path, AccessMode::ReadOnly)?;
    let mut reader = sys::fs::reader(&file);
    npy::read_magic(&mut reader).map_err(|error| match error.kind() {
        ErrorKind::InvalidHeader => error.with_remedy(no_header(&path)),
        _ => error,
    })?;
    let header = npy::decode_after_magic(&mut reader)?;
    let metadata = file.metadata().map_err(|error| Error::io("open", "to read the file's length", error))?;
    Description::new(header, metadata.len())
}

/// Returns advice for the user about a file that does not start with the magic bytes of NPY.
fn no_header(path: &Path) -> &'static str {
    if is_packed_name(path) {
        "unpack it first"
    } else {
        "a raw file has no header to inspect: open it with `Format::Raw` and its shape"
    }
}

/// The description of an array in an NPY file, as [`inspect`] returns it.
///
/// `Display` is one line: `<f4 (1000, 50, 3), C order, data at byte 128, 600000 bytes, NPY 1.0`. For an incomplete file
/// the line ends in `, file ends 40 bytes early` or `, 40 bytes too many`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    dtype: Dtype,
    shape: Vec<usize>,
    order: Order,
    offset_bytes: u64,
    len_bytes: u64,
    file_bytes: u64,
    npy_version: (u8, u8),
}

impl Description {
    fn new(header: npy::Header, file_bytes: u64) -> Result<Self> {
        let npy::Header { descr, fortran_order, shape, data_offset, version } = header;
        let dtype = Dtype::from_descr(&descr);
        let order = if fortran_order { Order::ColumnMajor } else { Order::RowMajor };
        let len_bytes = match dtype.size_bytes() {
            Some(item_bytes) => Geometry::new(&shape, order, item_bytes)?.total_bytes() as u64,
            None => file_bytes.saturating_sub(data_offset),
        };
        Ok(Self {
            dtype,
            shape,
            order,
            offset_bytes: data_offset,
            len_bytes,
            file_bytes,
            npy_version: version,
        })
    }

    /// Returns the element type.
    pub fn dtype(&self) -> &Dtype {
        &self.dtype
    }

    /// Returns the length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns which axis varies fastest in the file: the last (`RowMajor`, C order), or the first (`ColumnMajor`,
    /// Fortran order).
    pub fn order(&self) -> Order {
        self.order
    }

    /// Returns the offset of the data in the file, in bytes.
    pub fn offset_bytes(&self) -> u64 {
        self.offset_bytes
    }

    /// Returns the number of bytes of data according to the header.
    ///
    /// If the header contains no [element size](Dtype::size_bytes), returns the number of bytes after the header.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Returns the length that the whole file had when it was inspected, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Returns whether the file is exactly as long as header and data.
    ///
    /// [`MmapArray::open`](crate::MmapArray::open) refuses any other file with
    /// [`LengthMismatch`](crate::ErrorKind::LengthMismatch). Always returns true if the header does not contain the
    /// size of the elements.
    ///
    /// ```
    /// use ndarray::Ix1;
    /// use ndarray_mmap::{MmapArray, inspect};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("a.npy");
    /// MmapArray::<u8, Ix1>::create(&path, 100)?.close()?;
    /// std::fs::OpenOptions::new().write(true).open(&path)?.set_len(128 + 60)?; // as an interrupted copy leaves it
    ///
    /// let description = inspect(&path)?;
    /// assert!(!description.is_complete());
    /// assert!(description.to_string().ends_with("100 bytes, NPY 1.0, file ends 40 bytes early"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_complete(&self) -> bool {
        self.file_bytes == self.end_bytes()
    }

    /// Returns the file's format, which is always [`Format::Npy`], because a raw file has no header that could be
    /// inspected.
    pub fn format(&self) -> Format {
        Format::Npy
    }

    /// Returns the version of the NPY format, major and minor.
    pub fn npy_version(&self) -> (u8, u8) {
        self.npy_version
    }

    /// Returns the offset at which the data ends. The sum does not overflow, because the data has at most `isize::MAX`
    /// bytes, and the header has at most 40,012 bytes.
    fn end_bytes(&self) -> u64 {
        self.offset_bytes + self.len_bytes
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.order == Order::RowMajor { "C" } else { "Fortran" };
        let (major, minor) = self.npy_version;
        write!(
            f,
            "{} {}, {order} order, data at byte {}, {} bytes, NPY {major}.{minor}",
            self.dtype,
            npy::python_tuple(&self.shape),
            self.offset_bytes,
            self.len_bytes
        )?;
        let end_bytes = self.end_bytes();
        if self.file_bytes < end_bytes {
            write!(f, ", file ends {} bytes early", end_bytes - self.file_bytes)
        } else if self.file_bytes > end_bytes {
            write!(f, ", {} bytes too many", self.file_bytes - end_bytes)
        } else {
            Ok(())
        }
    }
}
