//! Tests that eviction drops exactly the pages of the evicted rows, and loses no stored byte.

use crate::support::{cached_pages, disk_folder, public_folder, run_as_somebody_else};
use ndarray::{Ix2, Order, ShapeBuilder, s};
use ndarray_mmap::{ArrayOptions, Format, MmapArray, OnDrop, ReadWrite};
use std::ops::Range;
use std::path::Path;

/// Creates a file of `rows` rows of `row_bytes` bytes. Neighbouring bytes of the file differ, and all its pages are in
/// the page cache.
fn filled(
    path: &Path,
    format: Format,
    offset_bytes: u64,
    rows: usize,
    row_bytes: usize,
) -> MmapArray<u8, Ix2, ReadWrite> {
    let mut array = ArrayOptions::new()
        .format(format)
        .offset_bytes(offset_bytes)
        .shape((rows, row_bytes))
        .on_drop(OnDrop::KeepCached)
        .create::<u8, Ix2>(path)
        .unwrap();
    for (index, value) in array.iter_mut().enumerate() {
        *value = (index % 251) as u8;
    }
    array.flush().unwrap();
    array
}

/// Returns the pages that hold at least one byte of a range of rows.
fn pages_of(data_offset: u64, row_bytes: usize, rows: &Range<usize>) -> Range<usize> {
    let start = data_offset as usize + rows.start * row_bytes;
    let end = data_offset as usize + rows.end * row_bytes;
    start / 4096..end.div_ceil(4096)
}

#[test]
fn evicting_rows_drops_their_pages_and_no_others() {
    let folder = disk_folder();
    let cases = [(Format::Npy, 0), (Format::Raw, 0), (Format::Raw, 4096), (Format::Raw, 12_345)];
    for row_bytes in [12, 1000, 4096, 36_864] {
        for (format, offset_bytes) in cases {
            let path = folder.path().join("array");
            let rows = (8 << 20) / row_bytes;
            let array = filled(&path, format, offset_bytes, rows, row_bytes);
            let data_offset = if format == Format::Npy { 128 } else { offset_bytes };
            for range in [rows / 3..rows / 2, rows / 2 + 1..rows / 2 + 2, 0..rows / 5, rows - rows / 7..rows]
            {
                let before = cached_pages(&path);
                array.evict_rows(range.clone()).unwrap();
                let evicted = pages_of(data_offset, row_bytes, &range);
                let after = cached_pages(&path);
                let case = format!("rows {range:?} of {row_bytes} bytes, {format:?} at {data_offset}");
                assert_eq!(array.residency_rows(range).unwrap().resident_bytes, 0, "{case}");
                for (page, (before, after)) in before.into_iter().zip(after).enumerate() {
                    assert_eq!(
                        after,
                        before && !evicted.contains(&page),
                        "page {page}, evicted {evicted:?}, {case}"
                    );
                }
            }
            assert!(array.iter().enumerate().all(|(index, &value)| value == (index % 251) as u8));
        }
    }
}

#[test]
fn evicting_rows_in_fortran_order_drops_their_pages_and_no_others() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    let (rows, columns) = (1 << 18, 5);
    let mut array = ArrayOptions::new()
        .shape((rows, columns).f())
        .on_drop(OnDrop::KeepCached)
        .create::<u32, Ix2>(&path)
        .unwrap();
    for (index, value) in array.iter_mut().enumerate() {
        *value = index as u32;
    }
    array.flush().unwrap();
    let before = cached_pages(&path);
    assert!(before.iter().all(|&cached| cached));
    array.evict_rows(1000..50_000).unwrap();
    let after = cached_pages(&path);
    let column_bytes = rows * 4;
    let evicted: Vec<_> = (0..columns)
        .flat_map(|column| {
            let start = 128 + column * column_bytes;
            (start + 4000) / 4096..(start + 200_000).div_ceil(4096)
        })
        .collect();
    for (page, cached) in after.into_iter().enumerate() {
        assert_eq!(cached, !evicted.contains(&page), "page {page}");
    }
    assert_eq!(array.residency_rows(1000..50_000).unwrap().resident_bytes, 0);
    assert_eq!(array.residency_rows(1000..50_000).unwrap().total_bytes, 49_000 * columns * 4);
    let expected = ndarray::Array1::from_iter(0..(rows * columns) as u32);
    assert_eq!(array.view().into_shape_with_order(((rows * columns,), Order::C)).is_err(), columns > 1);
    assert!(array.iter().eq(expected.iter()));
}

#[test]
fn eviction_also_drops_unchanged_pages_of_a_private_copy() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    for offset_bytes in [0, 5000] {
        filled(&path, Format::Raw, offset_bytes, 1000, 1000).close().unwrap();
        let options = ArrayOptions::new().offset_bytes(offset_bytes).shape((1000, 1000));
        let reader = options.open::<u8, Ix2>(&path).unwrap();
        let mut private = options.open_cow::<u8, Ix2>(&path).unwrap();
        assert_eq!(private, reader);
        private.slice_mut(s![100..120, ..]).fill(255);
        reader.evict_rows(50..500).unwrap();
        let pages = pages_of(offset_bytes, 1000, &(50..500));
        for (page, cached) in cached_pages(&path).into_iter().enumerate() {
            assert_eq!(cached, !pages.contains(&page), "page {page}, data at {offset_bytes}");
        }
        assert!(private.slice(s![100..120, ..]).iter().all(|&x| x == 255), "changes are not lost");
        assert_eq!(private.slice(s![..100, ..]), reader.slice(s![..100, ..]));
        assert_eq!(private.slice(s![120.., ..]), reader.slice(s![120.., ..]));
    }
}

/// The kernel does not report the residency of a file to users who do not own the file. Such users must still be able
/// to read and evict the file.
#[test]
fn somebody_elses_file_can_be_evicted() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    filled(&path, Format::Raw, 0, 4096, 1000).close().unwrap();
    let public = public_folder();
    let data = public.path().join("array");
    std::fs::copy(&path, &data).unwrap();
    run_as_somebody_else("evict::as_somebody_else", "NDARRAY_MMAP_TEST_FILE", &data);
}

#[test]
#[ignore = "runs in the child of `somebody_elses_file_can_be_evicted`"]
fn as_somebody_else() {
    let path = std::env::var_os("NDARRAY_MMAP_TEST_FILE").unwrap();
    let array = ArrayOptions::new().shape((4096, 1000)).open::<u8, Ix2>(&path).unwrap();
    assert!(array.iter().enumerate().all(|(index, &value)| value == (index % 251) as u8));
    array.evict_rows(10..3000).unwrap();
    assert!(array.iter().enumerate().all(|(index, &value)| value == (index % 251) as u8));
    array.close().unwrap();
}

#[test]
fn eviction_waits_for_pages_that_are_being_read() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    drop(filled(&path, Format::Raw, 0, 4096, 4096));
    let array = ArrayOptions::new().shape((4096, 4096)).open::<u8, Ix2>(&path).unwrap();
    for round in 0..100 {
        array.evict().unwrap();
        array.prefetch_rows(1000..1200).unwrap();
        array.evict_rows(1000..1200).unwrap();
        let left = array.residency_rows(1000..1200).unwrap().resident_bytes;
        assert_eq!(left, 0, "round {round}");
    }
}
