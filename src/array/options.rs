//! The methods of [`ArrayOptions`] that create and open arrays.

use super::{MmapArray, source};
use crate::access::{CopyOnWrite, ReadOnly, ReadWrite};
use crate::error::Result;
use crate::file::{ArrayOptions, Existing, Place};
use bytemuck::Pod;
use ndarray::Dimension;
use std::path::Path;

impl ArrayOptions {
    /// Creates a file of zeros, replaces any file of that name, and maps it for reading and writing.
    ///
    /// The old file of that name is not changed: a process that has the old file mapped keeps the old bytes. This
    /// process's arrays on the path are closed, unless [`close_existing`](Self::close_existing) is set to false.
    /// Missing parent directories are created.
    ///
    /// ```
    /// # use ndarray::Ix1;
    /// # use ndarray_mmap::ArrayOptions;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.npy");
    /// let array = ArrayOptions::new().shape(4).create::<f32, Ix1>(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - [`InvalidInput`](crate::ErrorKind::InvalidInput) without a shape or a path, and for an invalid name.
    /// - [`NotAFile`](crate::ErrorKind::NotAFile) if the path leads to a directory or a special file, or through a file.
    /// - [`ShapeMismatch`](crate::ErrorKind::ShapeMismatch) if the number of dimensions of the shape is not that of `D`.
    /// - [`DtypeMismatch`](crate::ErrorKind::DtypeMismatch) if `T` has no numpy dtype.
    /// - [`SizeOverflow`](crate::ErrorKind::SizeOverflow), [`StorageFull`](crate::ErrorKind::StorageFull),
    ///   [`Unaligned`](crate::ErrorKind::Unaligned), or another error that the file system reports.
    pub fn create<T: Pod, D: Dimension>(&self, path: impl AsRef<Path>) -> Result<MmapArray<T, D, ReadWrite>> {
        source::create("create", self, Place::Named(path.as_ref(), Existing::Replace))
    }

    /// Creates a file of zeros and maps it for reading and writing. Fails if the file exists.
    ///
    /// ```
    /// # use ndarray::Ix1;
    /// # use ndarray_mmap::ArrayOptions;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.npy");
    /// let array = ArrayOptions::new().shape(4).create_new::<f32, Ix1>(&path)?;
    /// assert!(ArrayOptions::new().shape(4).create_new::<f32, Ix1>(&path).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`create`](Self::create), and [`AlreadyExists`](crate::ErrorKind::AlreadyExists).
    pub fn create_new<T: Pod, D: Dimension>(
        &self,
        path: impl AsRef<Path>,
    ) -> Result<MmapArray<T, D, ReadWrite>> {
        source::create("create_new", self, Place::Named(path.as_ref(), Existing::Refuse))
    }

    /// Creates an array of zeros on a file without a name. The disk space of the file is freed when the array is
    /// dropped.
    ///
    /// The file has no path, so neither [`close_path`](crate::close_path) nor [`close_under`](crate::close_under)
    /// closes the array. If the filesystem supports files without a name (`O_TMPFILE`), no file remains if the process
    /// is killed.
    ///
    /// ```
    /// # use ndarray_mmap::ArrayOptions;
    /// let array = ArrayOptions::new().shape(4).scratch::<f32, ndarray::Ix1>()?;
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn scratch<T: Pod, D: Dimension>(&self) -> Result<MmapArray<T, D, ReadWrite>> {
        source::create("scratch", self, Place::Unnamed)
    }

    /// Maps an existing file for reading.
    ///
    /// ```
    /// # use ndarray::Ix1;
    /// # use ndarray_mmap::ArrayOptions;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.npy");
    /// ArrayOptions::new().shape(4).create::<f32, Ix1>(&path)?.close()?;
    /// let array = ArrayOptions::new().open::<f32, Ix1>(&path)?;
    /// assert_eq!(array[0], 0.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`InUse`](crate::ErrorKind::InUse) while a writable array maps these
    /// bytes; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a raw file without a shape;
    /// [`ShapeMismatch`](crate::ErrorKind::ShapeMismatch), [`DtypeMismatch`](crate::ErrorKind::DtypeMismatch),
    /// [`InvalidHeader`](crate::ErrorKind::InvalidHeader), [`LengthMismatch`](crate::ErrorKind::LengthMismatch),
    /// [`Unaligned`](crate::ErrorKind::Unaligned), and what else the file system reports.
    pub fn open<T: Pod, D: Dimension>(&self, path: impl AsRef<Path>) -> Result<MmapArray<T, D, ReadOnly>> {
        source::open(self, path.as_ref())
    }

    /// Maps an existing file for reading and writing.
    ///
    /// ```
    /// # use ndarray::Ix1;
    /// # use ndarray_mmap::ArrayOptions;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.npy");
    /// ArrayOptions::new().shape(4).create::<f32, Ix1>(&path)?.close()?;
    /// let mut array = ArrayOptions::new().open_rw::<f32, Ix1>(&path)?;
    /// array[0] = 1.0;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`open`](Self::open); [`InUse`](crate::ErrorKind::InUse) while any other array maps these bytes.
    pub fn open_rw<T: Pod, D: Dimension>(
        &self,
        path: impl AsRef<Path>,
    ) -> Result<MmapArray<T, D, ReadWrite>> {
        source::open(self, path.as_ref())
    }

    /// Maps an existing file for reading and private writing: changes stay in this process's memory.
    ///
    /// ```
    /// # use ndarray::Ix1;
    /// # use ndarray_mmap::ArrayOptions;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.npy");
    /// ArrayOptions::new().shape(4).create::<f32, Ix1>(&path)?.close()?;
    /// let mut array = ArrayOptions::new().open_cow::<f32, Ix1>(&path)?;
    /// array[0] = 1.0;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_cow<T: Pod, D: Dimension>(
        &self,
        path: impl AsRef<Path>,
    ) -> Result<MmapArray<T, D, CopyOnWrite>> {
        source::open(self, path.as_ref())
    }
}
