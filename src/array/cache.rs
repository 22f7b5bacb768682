//! Cache control of one array, whole or by rows: flush, evict, prefetch, advise, residency.

use super::{MmapArray, source};
use crate::access::{Access, FileBacked};
use crate::error::Result;
use crate::file::AccessPattern;
use crate::map::Residency;
use std::ops::{Range, RangeBounds};

/// Cache control. A row is an index along axis 0 of the array as it was created or opened; calls such as `swap_axes` do not
/// change what a row is. An array of zero dimensions is one row. Rows after the end are ignored, and an empty or inverted
/// range does nothing.
impl<T: 'static, D, A: FileBacked> MmapArray<T, D, A> {
    /// Writes all changes of the array to disk. The changes are durable on return, and the pages of rows that were evicted
    /// before are gone.
    ///
    /// ```
    /// # use ndarray::Ix2;
    /// # use ndarray_mmap::{AccessPattern, MmapArray};
    /// let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// table.fill(1.0);
    /// table.flush()?; // on disk, or an error
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// The system's error if bytes cannot be written. From then on the array is
    /// [`Poisoned`](crate::ErrorKind::Poisoned): a later flush cannot know what is on disk.
    /// [`Closed`](crate::ErrorKind::Closed) if the array was closed by its path.
    #[doc(alias = "msync")]
    pub fn flush(&self) -> Result<()> {
        self.mapping().flush()?;
        self.mapping().settle()
    }

    /// Writes the pages that contain these rows to disk, and no other pages. The rows are durable on return.
    ///
    /// In Fortran order, the elements of a row are scattered over the file. If the rows lie in more than 64 separate ranges
    /// of pages, the pages between these ranges are written too.
    ///
    /// ```
    /// # use ndarray::Ix2;
    /// # use ndarray_mmap::{AccessPattern, MmapArray};
    /// let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// table.row_mut(10).fill(1.0);
    /// table.flush_rows(10..=10)?;
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`flush`](Self::flush).
    pub fn flush_rows(&self, rows: impl RangeBounds<usize>) -> Result<()> {
        let flushed = self.mapping().flush_ranges(self.page_ranges(rows));
        flushed.map_err(|error| error.during("flush_rows"))
    }

    /// Writes all changes to disk, then drops every page from this process and from the page cache. No data is lost.
    ///
    /// Every array of this process on the same file loses these pages. Some pages stay in the page cache, and then only the
    /// resident memory of this process shrinks: pages that another process has mapped, pages that several
    /// [copy-on-write](crate::CopyOnWrite) arrays have read, and all pages on tmpfs, where the page cache is the file.
    ///
    /// ```
    /// # use ndarray::Ix2;
    /// # use ndarray_mmap::{AccessPattern, MmapArray};
    /// let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// table.fill(1.0);
    /// table.evict()?;
    /// assert_eq!(table[[999, 2]], 1.0); // read from disk again
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`flush`](Self::flush).
    #[doc(alias = "madvise")]
    #[doc(alias = "fadvise")]
    pub fn evict(&self) -> Result<()> {
        self.evict_rows(..).map_err(|error| error.during("evict"))
    }

    /// Evicts the pages that contain these rows, and no other pages. No data is lost. The rows are written back, but they
    /// are durable only after [`flush`](Self::flush) or `close`, which also report writes that have failed.
    ///
    /// A page that also contains part of a neighbouring row is evicted. The pages are gone when this method returns, with
    /// two exceptions:
    /// - *The rows continue a loop*: they follow the rows that were evicted last, precede them, or are at the same
    ///   distance from them as those were from the rows before. Then the write-back of the rows starts, and their pages
    ///   are dropped when the loop has evicted 16 MiB more, or one more chunk if chunks are larger. In this way the disk
    ///   works while the loop does. Each of up to 16 loops, for example in several threads, is recognised.
    /// - *The rows fill less than half of their pages*, as a few rows of an array in Fortran order do. Then the pages are
    ///   dropped when they exceed 16 MiB, or the pages of two chunks.
    ///
    /// [`flush`](Self::flush), [`evict`](Self::evict), [`residency`](Self::residency), `close` and dropping the array
    /// finish what has started, and so does a second call with the same rows.
    ///
    /// If the rows continue a loop, the kernel is told to prepare only the 16 MiB or the chunk that the loop will visit
    /// next. If the order is random, and the device reads more than 2 MiB around each access, the kernel is told to read
    /// less, until an order is seen. [`advise`](Self::advise) and
    /// [`ArrayOptions::access_pattern`](crate::ArrayOptions::access_pattern) turn these hints off.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::MmapArray;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let mut rows = MmapArray::<f64, Ix2>::create(folder.path().join("rows.npy"), (4096, 512))?;
    /// for first in (0..4096).step_by(1024) {
    ///     rows.slice_mut(ndarray::s![first..first + 1024, ..]).fill(1.0);
    ///     rows.evict_rows(first..first + 1024)?; // at most 16 MiB wait to be written
    /// }
    /// assert_eq!(rows.sum(), 4096.0 * 512.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`flush`](Self::flush).
    pub fn evict_rows(&self, rows: impl RangeBounds<usize>) -> Result<()> {
        let geometry = self.geometry();
        let evicted = self.mapping().evict_behind(&geometry.row_runs(geometry.clamp_rows(rows)));
        evicted.map_err(|error| error.during("evict_rows"))
    }

    /// Returns how many of the array's bytes are in the page cache.
    ///
    /// ```
    /// # use ndarray::Ix2;
    /// # use ndarray_mmap::{AccessPattern, MmapArray};
    /// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// let residency = table.residency()?;
    /// assert!(residency.resident_bytes <= residency.total_bytes);
    /// assert_eq!(residency.total_bytes, 12_000);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) on a file that this user neither owns nor may write: the kernel
    /// does not report the cache of such files. [`Closed`](crate::ErrorKind::Closed) if the array was closed by its
    /// path. Any other error of the system.
    #[doc(alias = "mincore")]
    #[doc(alias = "cachestat")]
    pub fn residency(&self) -> Result<Residency> {
        self.residency_rows(..).map_err(|error| error.during("residency"))
    }

    /// Returns how many bytes of these rows are in the page cache.
    ///
    /// ```
    /// # use ndarray::Ix2;
    /// # use ndarray_mmap::{AccessPattern, MmapArray};
    /// let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// table.fill(1.0);
    /// assert_eq!(table.residency_rows(..10)?.resident_bytes, 120);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`residency`](Self::residency).
    pub fn residency_rows(&self, rows: impl RangeBounds<usize>) -> Result<Residency> {
        let counted = self.mapping().residency_of_ranges(self.byte_ranges(rows));
        counted.map_err(|error| error.during("residency_rows"))
    }
}

/// Hints to the kernel, for arrays of every access mode.
impl<T: 'static, D, A: Access> MmapArray<T, D, A> {
    /// Starts reading these rows into the page cache, without waiting for them.
    ///
    /// ```
    /// # use ndarray::Ix2;
    /// # use ndarray_mmap::{AccessPattern, MmapArray};
    /// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// table.prefetch_rows(500..)?; // the disk works meanwhile
    /// let first_half: f32 = table.rows().into_iter().take(500).map(|row| row[0]).sum();
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// The system's error, or [`Closed`](crate::ErrorKind::Closed) if the array was closed by its path.
    pub fn prefetch_rows(&self, rows: impl RangeBounds<usize>) -> Result<()> {
        let started = self.mapping().prefetch(self.page_ranges(rows));
        started.map_err(|error| error.during("prefetch_rows"))
    }

    /// Tells the kernel how the array will be used.
    ///
    /// ```
    /// # use ndarray::Ix2;
    /// # use ndarray_mmap::{AccessPattern, MmapArray};
    /// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// table.advise(AccessPattern::Random)?; // single rows will be looked up
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`prefetch_rows`](Self::prefetch_rows).
    #[doc(alias = "madvise")]
    pub fn advise(&self, pattern: AccessPattern) -> Result<()> {
        self.advise_rows(pattern, ..).map_err(|error| error.during("advise"))
    }

    /// Tells the kernel how these rows will be used.
    ///
    /// ```
    /// # use ndarray::Ix2;
    /// # use ndarray_mmap::{AccessPattern, MmapArray};
    /// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// table.advise_rows(AccessPattern::Sequential, ..500)?;
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`prefetch_rows`](Self::prefetch_rows).
    pub fn advise_rows(&self, pattern: AccessPattern, rows: impl RangeBounds<usize>) -> Result<()> {
        self.mapping().check_open("advise_rows")?;
        self.mapping().choose_pattern("advise_rows", source::hint(pattern), self.page_ranges(rows))
    }

    /// Returns the ranges of the file that contain these rows.
    fn byte_ranges(&self, rows: impl RangeBounds<usize>) -> impl Iterator<Item = Range<u64>> + Clone {
        let geometry = self.geometry();
        self.mapping().in_file(geometry.row_runs(geometry.clamp_rows(rows)))
    }

    /// Returns the whole pages that contain these rows.
    fn page_ranges(&self, rows: impl RangeBounds<usize>) -> impl Iterator<Item = Range<u64>> + Clone {
        let geometry = self.geometry();
        self.mapping().pages_in_file(geometry.row_runs(geometry.clamp_rows(rows)))
    }
}
