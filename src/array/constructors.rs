//! The constructors of [`MmapArray`] with the default options.

use super::MmapArray;
use crate::access::{CopyOnWrite, ReadOnly};
use crate::error::Result;
use crate::file::ArrayOptions;
use bytemuck::Pod;
use ndarray::{Dimension, ShapeBuilder};
use std::ops::Range;
use std::path::Path;

/// Constructors. All of them belong to the type with the default access mode, so that `MmapArray::<T, D>::open` needs no
/// third parameter. The returned array can have another access mode.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{ErrorKind, MmapArray};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.npy");
/// MmapArray::<f32, Ix1>::create(&path, 4)?.fill(1.0); //          dropped, hence flushed and closed
/// assert_eq!(MmapArray::<f32, Ix1>::create_new(&path, 4).unwrap_err().kind(), ErrorKind::AlreadyExists);
/// MmapArray::<f32, Ix1>::open_rw(&path)?[0] = 2.0; //             changes the file
/// MmapArray::<f32, Ix1>::open_cow(&path)?[1] = 3.0; //            changes this process's copy alone
/// assert_eq!(MmapArray::<f32, Ix1>::open(&path)?, ndarray::array![2.0, 1.0, 1.0, 1.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<T: Pod, D: Dimension> MmapArray<T, D> {
    /// Creates a file of zeros in this shape, replaces any file of that name, and maps it.
    ///
    /// The file is NPY if its name ends in `.npy`, otherwise raw. See [`ArrayOptions::create`].
    ///
    /// # Errors
    /// As for [`ArrayOptions::create`].
    #[doc(alias = "w+")]
    pub fn create(path: impl AsRef<Path>, shape: impl ShapeBuilder<Dim = D>) -> Result<Self> {
        ArrayOptions::new().shape(shape).create(path)
    }

    /// Creates a file as [`create`](Self::create) does, but fails if a file of that name exists.
    ///
    /// # Errors
    /// As for [`ArrayOptions::create_new`].
    pub fn create_new(path: impl AsRef<Path>, shape: impl ShapeBuilder<Dim = D>) -> Result<Self> {
        ArrayOptions::new().shape(shape).create_new(path)
    }

    /// Maps an existing NPY file for reading. To map a raw file, use [`ArrayOptions`], which take its shape.
    ///
    /// # Errors
    /// As for [`ArrayOptions::open`].
    #[doc(alias = "r")]
    pub fn open(path: impl AsRef<Path>) -> Result<MmapArray<T, D, ReadOnly>> {
        ArrayOptions::new().open(path)
    }

    /// Maps an existing NPY file for reading and writing. To map a raw file, use [`ArrayOptions`], which take its shape.
    ///
    /// # Errors
    /// As for [`ArrayOptions::open_rw`].
    #[doc(alias = "r+")]
    pub fn open_rw(path: impl AsRef<Path>) -> Result<Self> {
        ArrayOptions::new().open_rw(path)
    }

    /// Maps an existing NPY file so that writes stay in this process. To map a raw file, use [`ArrayOptions`], which take
    /// its shape.
    ///
    /// # Errors
    /// As for [`ArrayOptions::open_cow`].
    #[doc(alias = "c")]
    pub fn open_cow(path: impl AsRef<Path>) -> Result<MmapArray<T, D, CopyOnWrite>> {
        ArrayOptions::new().open_cow(path)
    }

    /// Maps some rows of an existing NPY file for reading, and locks only the bytes of these rows. See
    /// [`ArrayOptions::rows`], which also opens the rows of a raw file.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::MmapArray;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.npy");
    /// MmapArray::<f32, Ix2>::create(&path, (10, 3))?.close()?;
    /// MmapArray::<f32, Ix2>::open_rows_rw(&path, 4..8)?.fill(1.0); // rows 4, 5, 6 and 7 of the file
    /// assert_eq!(MmapArray::<f32, Ix2>::open_rows(&path, 7..9)?.sum(), 3.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`ArrayOptions::open`], and those of [`ArrayOptions::rows`].
    pub fn open_rows(path: impl AsRef<Path>, rows: Range<usize>) -> Result<MmapArray<T, D, ReadOnly>> {
        ArrayOptions::new().rows(rows).open(path)
    }

    /// Maps some rows of an existing NPY file for reading and writing, and locks only the bytes of these rows. See
    /// [`open_rows`](Self::open_rows).
    ///
    /// # Errors
    /// As for [`ArrayOptions::open_rw`], and those of [`ArrayOptions::rows`].
    pub fn open_rows_rw(path: impl AsRef<Path>, rows: Range<usize>) -> Result<Self> {
        ArrayOptions::new().rows(rows).open_rw(path)
    }

    /// Creates an array of zeros in a file without a name. The file is removed when the array is dropped.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::MmapArray;
    ///
    /// let mut distances = MmapArray::<f64, Ix2>::scratch((500, 500))?;
    /// distances.diag_mut().fill(1.0);
    /// assert_eq!(distances.sum(), 500.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`ArrayOptions::scratch`].
    pub fn scratch(shape: impl ShapeBuilder<Dim = D>) -> Result<Self> {
        ArrayOptions::new().shape(shape).scratch()
    }
}
