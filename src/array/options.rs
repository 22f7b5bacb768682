//! The methods of [`ArrayOptions`] that make arrays.

use super::{MmapArray, source};
use crate::access::{CopyOnWrite, ReadOnly, ReadWrite};
use crate::error::Result;
use crate::file::{ArrayOptions, Existing, Place};
use bytemuck::Pod;
use ndarray::Dimension;
use std::path::Path;

impl ArrayOptions {
    /// Creates a file of zeros, in the place of any file of that name, and maps it for reading and writing.
    ///
    /// An older file of that name is not changed: a process that has it mapped keeps its bytes. This process's arrays on the
    /// path are closed, unless [`close_existing`](Self::close_existing) says otherwise. Missing parent directories are created.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) without a shape or a path, and for a name that no file can have;
    /// [`NotAFile`](crate::ErrorKind::NotAFile) if the path leads to a directory or a special file, or through a file;
    /// [`ShapeMismatch`](crate::ErrorKind::ShapeMismatch) if the shape has not `D`'s number of dimensions;
    /// [`SizeOverflow`](crate::ErrorKind::SizeOverflow), [`StorageFull`](crate::ErrorKind::StorageFull),
    /// [`DtypeMismatch`](crate::ErrorKind::DtypeMismatch) if numpy has no name for `T`,
    /// [`Unaligned`](crate::ErrorKind::Unaligned), and what else the file system reports.
    pub fn create<T: Pod, D: Dimension>(&self, path: impl AsRef<Path>) -> Result<MmapArray<T, D, ReadWrite>> {
        source::create("create", self, Place::Named(path.as_ref(), Existing::Replace))
    }

    /// Creates a file of zeros and maps it for reading and writing; fails if the file exists.
    ///
    /// # Errors
    /// As for [`create`](Self::create), and [`AlreadyExists`](crate::ErrorKind::AlreadyExists).
    pub fn create_new<T: Pod, D: Dimension>(
        &self,
        path: impl AsRef<Path>,
    ) -> Result<MmapArray<T, D, ReadWrite>> {
        source::create("create_new", self, Place::Named(path.as_ref(), Existing::Refuse))
    }

    /// Creates an array of zeros on a file without a name: its disk space is freed when the array is dropped.
    ///
    /// No path leads to the file, so neither [`close_path`](crate::close_path) nor [`close_under`](crate::close_under) closes
    /// the array. Where the filesystem has unnamed files (`O_TMPFILE`), a killed process leaves nothing behind.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn scratch<T: Pod, D: Dimension>(&self) -> Result<MmapArray<T, D, ReadWrite>> {
        source::create("scratch", self, Place::Unnamed)
    }

    /// Maps an existing file for reading.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`InUse`](crate::ErrorKind::InUse) while another array writes these bytes;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a raw file without a shape;
    /// [`ShapeMismatch`](crate::ErrorKind::ShapeMismatch), [`DtypeMismatch`](crate::ErrorKind::DtypeMismatch),
    /// [`InvalidHeader`](crate::ErrorKind::InvalidHeader), [`LengthMismatch`](crate::ErrorKind::LengthMismatch),
    /// [`Unaligned`](crate::ErrorKind::Unaligned), and what else the file system reports.
    pub fn open<T: Pod, D: Dimension>(&self, path: impl AsRef<Path>) -> Result<MmapArray<T, D, ReadOnly>> {
        source::open(self, path.as_ref())
    }

    /// Maps an existing file for reading and writing.
    ///
    /// # Errors
    /// As for [`open`](Self::open); [`InUse`](crate::ErrorKind::InUse) while any other array maps these bytes.
    pub fn open_rw<T: Pod, D: Dimension>(
        &self,
        path: impl AsRef<Path>,
    ) -> Result<MmapArray<T, D, ReadWrite>> {
        source::open(self, path.as_ref())
    }

    /// Maps an existing file for reading and private writing: what is written stays in this process's memory.
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
