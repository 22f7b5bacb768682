//! Cache control for any ndarray. The address of the elements determines the mapping.

use super::by_path::Backing;
use crate::error::Result;
use crate::geometry::ByteRuns;
use crate::map::{self, Mapping};
use crate::sys::page_bytes;
use ndarray::{ArrayRef, Dimension};
use std::sync::Arc;

/// Returns whether the elements of an array lie in a file that a [`MmapArray`](crate::MmapArray) has open.
///
/// Takes any ndarray: a view, a slice of a view, an array in memory. An array without elements lies in no file.
///
/// ```
/// use ndarray::{Array2, Ix2, s};
/// use ndarray_mmap::{MmapArray, is_mmap_backed};
///
/// let mapped = MmapArray::<f32, Ix2>::scratch((100, 3))?;
/// assert!(is_mmap_backed(&mapped.slice(s![10..;2, 1..])));
/// assert!(!is_mmap_backed(&Array2::<f32>::zeros((100, 3))));
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub fn is_mmap_backed<T, D: Dimension>(view: &ArrayRef<T, D>) -> bool {
    Placed::find(view).is_some_and(|placed| placed.has_bytes())
}

/// Returns the file that contains an array's elements, and the range of the file that the elements span.
///
/// ```
/// use ndarray::{Array1, Ix1, s};
/// use ndarray_mmap::{MmapArray, backing};
///
/// let array = MmapArray::<f64, Ix1>::scratch(100)?;
/// assert_eq!(backing(&array.slice(s![10..20])).map(|found| found.byte_range), Some(80..160));
/// assert_eq!(backing(&Array1::<f64>::zeros(100)), None);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub fn backing<T, D: Dimension>(view: &ArrayRef<T, D>) -> Option<Backing> {
    let Placed { mapping, runs } = Placed::find(view).filter(Placed::has_bytes)?;
    Some(Backing::new(&mapping, mapping.hull_in_file(&runs)))
}

/// Writes the changed elements of an array to disk if they lie in a file. Does nothing for an array in ordinary memory.
///
/// For a non-contiguous view, writes only the pages that contain its elements. If these pages form more than 64
/// separate ranges, also writes the pages between the ranges.
///
/// For an empty slice of a mapped array, writes nothing, but returns the error of an array that is closed or has faulted.
/// There is no error if the array is not known. This is so if the slice starts where the array's bytes start, and that
/// address is the start of a page, because other memory may end there. Such an array is raw in almost all cases.
///
/// ```
/// use ndarray::{Ix2, s};
/// use ndarray_mmap::{MmapArray, flush_view};
///
/// let mut array = MmapArray::<f32, Ix2>::scratch((1000, 100))?;
/// let mut part = array.slice_mut(s![..100, ..]);
/// part.fill(1.0);
/// flush_view(&part)?;
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
///
/// # Errors
/// As for [`MmapArray::flush`](crate::MmapArray::flush).
pub fn flush_view<T, D: Dimension>(view: &ArrayRef<T, D>) -> Result<()> {
    let Some(Placed { mapping, runs }) = Placed::find(view) else { return Ok(()) };
    mapping.flush_ranges(mapping.pages_in_file(runs)).map_err(|error| error.during("flush_view"))
}

/// Evicts the pages that contain an array's elements, if they lie in a file. Does nothing for an array in ordinary memory,
/// and for a copy-on-write array, whose changes exist in memory only.
///
/// For a non-contiguous view, drops only the pages that contain its elements. In a loop, and for elements that fill less
/// than half of their pages, the pages are dropped later, as [`MmapArray::evict_rows`](crate::MmapArray::evict_rows)
/// describes. An empty slice is treated as in
/// [`flush_view`].
///
/// ```
/// use ndarray::{Axis, Ix2};
/// use ndarray_mmap::{MmapArray, evict_view};
///
/// let mut array = MmapArray::<f32, Ix2>::scratch((4096, 256))?;
/// for mut rows in array.axis_chunks_iter_mut(Axis(0), 1024) {
///     rows.fill(1.0);
///     evict_view(&rows)?;
/// }
/// assert_eq!(array[[4095, 255]], 1.0);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
///
/// # Errors
/// As for [`MmapArray::evict`](crate::MmapArray::evict).
pub fn evict_view<T, D: Dimension>(view: &ArrayRef<T, D>) -> Result<()> {
    let Some(Placed { mapping, runs }) = Placed::find(view) else { return Ok(()) };
    mapping.evict_behind(&runs).map_err(|error| error.during("evict_view"))
}

/// A view and the mapping that contains it.
pub(crate) struct Placed {
    pub(crate) mapping: Arc<Mapping>,
    /// The bytes of the view, relative to the start of the mapping's data.
    pub(crate) runs: ByteRuns,
}

impl Placed {
    /// Returns the mapping that contains all elements of the view.
    ///
    /// For a view without bytes, returns the mapping that contains the address of the view: ndarray keeps the address of
    /// an empty slice within the array that was sliced. An array that never had elements has an address in no mapping.
    /// An empty view at the end of other memory has an address directly above that memory, which can be the first page of
    /// a mapping. So the mapping is not known, and the result is `None`, if a view without bytes starts with a mapping
    /// that starts with a page.
    pub(crate) fn find<T, D: Dimension>(view: &ArrayRef<T, D>) -> Option<Self> {
        let (runs, above) = ByteRuns::of_view(view.shape(), view.strides(), size_of::<T>());
        let lowest = view.as_ptr() as usize - above;
        let mapping = map::at_address(lowest)?;
        let addresses = mapping.addresses();
        let placed = Self { mapping, runs: runs.moved_up(lowest - addresses.start) };
        let may_be_an_end = lowest == addresses.start && lowest % page_bytes() == 0;
        let is_known = placed.has_bytes() || !may_be_an_end;
        (is_known && placed.runs.hull().end <= addresses.len()).then_some(placed)
    }

    /// Returns whether the view has elements, and these have bytes.
    pub(crate) fn has_bytes(&self) -> bool {
        self.runs.run_bytes() > 0
    }
}
