//! The three access modes of a mapped file, as types.

use std::fmt;

/// The access mode of an array as a type: [`ReadOnly`], [`ReadWrite`] or [`CopyOnWrite`]. The trait is sealed.
///
/// ```
/// use ndarray_mmap::{Access, AccessMode, CopyOnWrite, ReadOnly};
///
/// fn mode<A: Access>() -> AccessMode {
///     A::MODE
/// }
/// assert_eq!((mode::<ReadOnly>(), mode::<CopyOnWrite>()), (AccessMode::ReadOnly, AccessMode::CopyOnWrite));
/// ```
pub trait Access: sealed::Sealed + 'static {
    /// The access mode as a value.
    const MODE: AccessMode;
}

/// Arrays whose elements can be changed: [`ReadWrite`] and [`CopyOnWrite`].
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, Writable};
///
/// fn clear<A: Writable>(array: &mut MmapArray<f32, Ix1, A>) {
///     array.fill(0.0);
/// }
/// clear(&mut MmapArray::<f32, Ix1>::scratch(10)?);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub trait Writable: Access {}

/// Arrays whose pages belong to the file: [`ReadOnly`] and [`ReadWrite`]. Such pages can be dropped from memory without
/// losing data.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{FileBacked, MmapArray, Result};
///
/// fn release<A: FileBacked>(array: &MmapArray<f32, Ix1, A>) -> Result<()> {
///     array.evict()
/// }
/// release(&MmapArray::<f32, Ix1>::scratch(10)?)?;
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub trait FileBacked: Access {}

/// A shared mapping that can only be read: numpy's mode `"r"`.
///
/// Code that writes to the array does not compile:
///
/// ```compile_fail,E0594
/// # use ndarray::Ix1;
/// # use ndarray_mmap::{MmapArray, ReadOnly};
/// fn clear(array: &mut MmapArray<f32, Ix1, ReadOnly>) {
///     array[0] = 0.0;
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum ReadOnly {}

/// A shared mapping whose writes reach the file: numpy's modes `"r+"` and `"w+"`.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, ReadWrite};
///
/// let mut array: MmapArray<f32, Ix1, ReadWrite> = MmapArray::scratch(10)?;
/// array[3] = 1.5;
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum ReadWrite {}

/// A private mapping whose writes stay in this process: numpy's mode `"c"`.
///
/// The changed pages of such a mapping exist only in memory, so code that evicts the array does not compile:
///
/// ```compile_fail,E0599
/// # use ndarray::Ix1;
/// # use ndarray_mmap::{CopyOnWrite, MmapArray};
/// fn release(array: &MmapArray<f32, Ix1, CopyOnWrite>) {
///     array.evict();
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum CopyOnWrite {}

/// The access mode as a value, for reports and messages. See [`Access`].
///
/// ```
/// assert_eq!(ndarray_mmap::AccessMode::CopyOnWrite.to_string(), "copy-on-write");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessMode {
    /// The mode of [`ReadOnly`](enum@ReadOnly).
    ReadOnly,
    /// The mode of [`ReadWrite`](enum@ReadWrite).
    ReadWrite,
    /// The mode of [`CopyOnWrite`](enum@CopyOnWrite).
    CopyOnWrite,
}

impl fmt::Display for AccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
            Self::CopyOnWrite => "copy-on-write",
        })
    }
}

impl Access for ReadOnly {
    const MODE: AccessMode = AccessMode::ReadOnly;
}
impl Access for ReadWrite {
    const MODE: AccessMode = AccessMode::ReadWrite;
}
impl Access for CopyOnWrite {
    const MODE: AccessMode = AccessMode::CopyOnWrite;
}
impl Writable for ReadWrite {}
impl Writable for CopyOnWrite {}
impl FileBacked for ReadOnly {}
impl FileBacked for ReadWrite {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ReadOnly {}
    impl Sealed for super::ReadWrite {}
    impl Sealed for super::CopyOnWrite {}
}
