//! Tests that eviction drops the pages of its rows and loses no value, and that `residency` counts the remaining pages.

use super::{LAYOUTS, Outcome, ROW_BYTES, counting, data_offset};
use crate::place::Place;
use ndarray::{Array2, Ix2, ShapeBuilder};
use ndarray_mmap::{ArrayOptions, MmapArray, OnDrop, ReadWrite};
use std::ops::Range;
use std::path::Path;

/// Creates an array whose pages are all clean and in the page cache.
fn cached(path: &Path, values: &Array2<f32>, options: &ArrayOptions) -> MmapArray<f32, Ix2, ReadWrite> {
    let mut array = options.clone().on_drop(OnDrop::KeepCached).create::<f32, Ix2>(path).unwrap();
    array.assign(values);
    array.flush().unwrap();
    array
}

/// Returns the pages that contain any of these bytes.
fn touched(bytes: &Range<usize>) -> Range<usize> {
    bytes.start / 4096..bytes.end.div_ceil(4096)
}

/// Returns how many of these bytes are in the page cache.
fn resident_bytes(pages: &[bool], bytes: &Range<usize>) -> usize {
    let of_page = |page: usize| bytes.end.min((page + 1) * 4096) - bytes.start.max(page * 4096);
    touched(bytes).filter(|&page| pages[page]).map(of_page).sum()
}

/// After an eviction, no page of the evicted rows is in the page cache. Pages that also contain other rows may stay.
pub fn evicted_rows_are_dropped(place: &Place) -> Outcome {
    for (row_bytes, layout) in
        ROW_BYTES.into_iter().flat_map(|bytes| LAYOUTS[..4].iter().map(move |l| (bytes, l)))
    {
        let path = place.path("array");
        let values = counting(if layout.offset_bytes.is_none() { 2 << 20 } else { 256 << 10 }, row_bytes);
        let rows = values.nrows();
        let array = cached(&path, &values, &layout.options(values.dim()));
        let offset = data_offset(&path, 4 * values.len());
        for range in [rows / 3..rows / 2, rows / 2 + 1..rows / 2 + 2, 0..rows / 5, rows - rows / 7..rows] {
            array.evict_rows(range.clone()).unwrap();
            let bytes = offset + range.start * row_bytes..offset + range.end * row_bytes;
            // The pages that contain only bytes of these rows.
            let own = bytes.start.div_ceil(4096)..bytes.end / 4096;
            let left = place.cached_pages(&path)[own.start..own.end.max(own.start)]
                .iter()
                .filter(|&&page| page)
                .count();
            let case = format!("{left} pages of rows {range:?} of {row_bytes} bytes, {layout:?}");
            assert!(left == 0 || place.is_in_memory(), "{case}");
        }
        assert_eq!(array, values, "rows of {row_bytes} bytes, {layout:?}");
        array.evict().unwrap();
        // The pages before the data do not belong to the array.
        let left = place.cached_pages(&path).into_iter().skip(offset / 4096).filter(|&page| page).count();
        assert!(
            left == 0 || place.is_in_memory(),
            "{left} pages of all rows of {row_bytes} bytes, {layout:?}"
        );
        assert_eq!(array, values, "rows of {row_bytes} bytes, {layout:?}");
    }
    Outcome::Done
}

pub fn evicted_rows_of_fortran_order(place: &Place) -> Outcome {
    let path = place.path("array.npy");
    let values = Array2::from_shape_fn((1 << 16, 5), |(row, column)| (row * 5 + column) as f32);
    let array = cached(&path, &values, &ArrayOptions::new().shape(values.dim().f()));
    array.evict_rows(1000..40_000).unwrap();
    let (offset, pages) = (data_offset(&path, 4 * values.len()), place.cached_pages(&path));
    let column_bytes = 4 * values.nrows();
    let left: usize = (0..5)
        .map(|column| {
            let start = offset + column * column_bytes;
            let own = (start + 4000).div_ceil(4096)..(start + 160_000) / 4096;
            pages[own].iter().filter(|&&page| page).count()
        })
        .sum();
    assert!(left == 0 || place.is_in_memory(), "{left} pages");
    assert_eq!(array, values);
    Outcome::Done
}

/// `residency` returns the same count as `mincore` in another process.
pub fn residency_is_what_mincore_says(place: &Place) -> Outcome {
    for (row_bytes, layout) in ROW_BYTES.into_iter().zip(LAYOUTS) {
        let path = place.path("array");
        let values = counting(600_000, row_bytes);
        let rows = values.nrows();
        let array = cached(&path, &values, &layout.options(values.dim()));
        let offset = data_offset(&path, 4 * values.len());
        let check = |when: &str| {
            let pages = place.cached_pages(&path);
            for range in [0..rows, rows / 4..rows / 3, rows / 3..rows / 3 + 1, rows - 1..rows, 5..5] {
                let bytes = offset + range.start * row_bytes..offset + range.end * row_bytes;
                let residency = array.residency_rows(range.clone()).unwrap();
                let expected = (resident_bytes(&pages, &bytes), bytes.len());
                let found = (residency.resident_bytes, residency.total_bytes);
                assert_eq!(found, expected, "{when}: rows {range:?} of {row_bytes} bytes, {layout:?}");
            }
        };
        check("stored");
        array.evict_rows(rows / 4..rows / 2).unwrap();
        check("partly evicted");
        array.evict().unwrap();
        check("evicted");
        let _ = values[[rows / 3, 0]] + array[[rows / 3, 0]];
        check("touched");
    }
    Outcome::Done
}
