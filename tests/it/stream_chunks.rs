//! Tests that `row_chunks` and `row_chunks_mut` yield the right rows and keep few pages of the file in the page cache.

use crate::support::{cached_pages, disk_folder};
use ndarray::{Array2, Ix0, Ix2, Ix3, ShapeBuilder};
use ndarray_mmap::stream::Budget;
use ndarray_mmap::{ArrayOptions, MmapArray, OnDrop};
use std::path::Path;

fn cached_bytes(path: &Path) -> usize {
    cached_pages(path).into_iter().filter(|&cached| cached).count() * 4096
}

fn filled(path: &Path, rows: usize, columns: usize) -> MmapArray<f32, Ix2> {
    let options = ArrayOptions::new().shape((rows, columns)).on_drop(OnDrop::KeepCached);
    let mut array = options.create::<f32, Ix2>(path).unwrap();
    for (rows, mut chunk) in array.row_chunks_mut(Budget::default()) {
        for (row, mut values) in rows.zip(chunk.rows_mut()) {
            values.fill(row as f32);
        }
    }
    array
}

#[test]
fn chunks_cover_every_row_once_and_in_order() {
    let folder = disk_folder();
    for (rows, columns) in [(1000, 3), (1, 1), (10_000, 1000), (0, 4), (7, 0)] {
        let array = filled(&folder.path().join("array.npy"), rows, columns);
        for budget in [
            Budget::default(),
            Budget::chunk_rows(1),
            Budget::chunk_rows(999),
            Budget::bytes(0),
            Budget::bytes(1 << 20),
        ] {
            if budget == Budget::bytes(0) && rows * columns > 10_000 {
                continue;
            }
            let chunks = array.row_chunks(budget);
            let expected_chunks = chunks.len();
            let (mut next, mut count) = (0, 0);
            for (range, chunk) in chunks {
                assert_eq!((range.start, range.len(), chunk.ncols()), (next, chunk.nrows(), columns));
                next = range.end;
                count += 1;
                assert!(
                    chunk
                        .rows()
                        .into_iter()
                        .zip(range)
                        .all(|(row, index)| row.iter().all(|&value| value == index as f32))
                );
            }
            assert_eq!((next, count), (rows, expected_chunks));
        }
    }
}

#[test]
fn reading_chunks_keeps_the_page_cache_within_its_limit() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    let array = filled(&path, 30_000, 1000);
    array.evict().unwrap();
    let mut most = 0;
    for (_, chunk) in array.row_chunks(Budget::default()) {
        assert!(chunk[[0, 0]] >= 0.0);
        most = most.max(cached_bytes(&path));
    }
    assert!(most <= 64 << 20, "{most} bytes at once");
    assert_eq!(cached_bytes(&path), 0, "the loop has evicted every chunk");
    let mut chunks = array.row_chunks(Budget::default());
    for _ in 0..5 {
        assert!(chunks.next().unwrap().1.sum() >= 0.0);
    }
    drop(chunks);
    let left = cached_bytes(&path);
    assert!(left <= 4096, "{left} bytes were left when the loop ended early");
}

#[test]
fn written_chunks_are_in_the_file_and_not_in_the_page_cache() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    let mut array = filled(&path, 30_000, 1000);
    let mut most = 0;
    for (rows, mut chunk) in array.row_chunks_mut(Budget::default()) {
        chunk += 0.5;
        most = most.max(cached_bytes(&path));
        assert_eq!(chunk[[0, 999]], rows.start as f32 + 0.5);
    }
    assert!(most <= 64 << 20, "{most} bytes at once");
    assert!(cached_bytes(&path) <= 4096, "{} bytes were left", cached_bytes(&path));
    array.close().unwrap();
    let again = MmapArray::<f32, Ix2>::open(&path).unwrap();
    assert!(again.rows().into_iter().enumerate().all(|(row, values)| values[7] == row as f32 + 0.5));
}

#[test]
fn a_loop_that_ends_early_keeps_its_writes() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    let mut array = filled(&path, 3000, 1000);
    for (rows, mut chunk) in array.row_chunks_mut(Budget::chunk_rows(500)) {
        chunk.fill(-1.0);
        if rows.end == 1500 {
            break;
        }
    }
    array.close().unwrap();
    let again = MmapArray::<f32, Ix2>::open(&path).unwrap();
    assert!(
        again
            .rows()
            .into_iter()
            .enumerate()
            .all(|(row, values)| values[0] == if row < 1500 { -1.0 } else { row as f32 })
    );
}

#[test]
fn chunks_of_private_copies_fortran_order_and_no_dimensions() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    filled(&path, 3000, 10).close().unwrap();
    let mut private = MmapArray::<f32, Ix2>::open_cow(&path).unwrap();
    for (_, mut chunk) in private.row_chunks_mut(Budget::chunk_rows(100)) {
        chunk *= 2.0;
    }
    assert!(
        private
            .row_chunks(Budget::chunk_rows(7))
            .all(|(rows, chunk)| chunk[[0, 0]] == 2.0 * rows.start as f32)
    );
    drop(private);
    let mut fortran =
        ArrayOptions::new().shape((100, 7, 30).f()).create::<u16, Ix3>(folder.path().join("f.npy")).unwrap();
    for (rows, mut chunk) in fortran.row_chunks_mut(Budget::chunk_rows(9)) {
        chunk.fill(rows.start as u16);
    }
    fortran.close().unwrap();
    let fortran = MmapArray::<u16, Ix3>::open(folder.path().join("f.npy")).unwrap();
    assert!(
        fortran
            .row_chunks(Budget::chunk_rows(9))
            .all(|(rows, chunk)| chunk.iter().all(|&value| value == rows.start as u16))
    );
    let mut scalar = MmapArray::<f64, Ix0>::scratch(()).unwrap();
    for (rows, mut chunk) in scalar.row_chunks_mut(Budget::default()) {
        assert_eq!(rows, 0..1);
        chunk.fill(4.0);
    }
    assert_eq!(scalar.row_chunks(Budget::default()).map(|(_, chunk)| chunk[()]).collect::<Vec<_>>(), [4.0]);
}

#[test]
fn chunks_can_be_collected() {
    let folder = disk_folder();
    let array = filled(&folder.path().join("array.npy"), 1000, 10);
    let chunks: Vec<_> = array.row_chunks(Budget::chunk_rows(100)).collect();
    let together = ndarray::concatenate(
        ndarray::Axis(0),
        &chunks.iter().map(|(_, chunk)| chunk.view()).collect::<Vec<_>>(),
    );
    assert_eq!(together.unwrap(), Array2::from_shape_fn((1000, 10), |(row, _)| row as f32));
}
