//! Tests that `row_chunks` and `row_chunks_mut` yield the right rows and keep few pages of the file in the page cache.

use crate::support::{cached_pages, disk_folder};
use ndarray::{Array2, Array3, Ix0, Ix2, Ix3, ShapeBuilder, s};
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

#[test]
fn chunks_of_some_rows_have_the_numbers_of_the_array() {
    for fortran in [false, true] {
        let shape = (3000, 7).set_f(fortran);
        let mut array = MmapArray::<f32, Ix2>::scratch(shape).unwrap();
        for (rows, mut chunk) in array.row_chunks_in_mut(100..2000, Budget::chunk_rows(333)) {
            assert_eq!(rows.len(), chunk.nrows());
            rows.zip(chunk.rows_mut()).for_each(|(number, mut row)| row.fill(number as f32));
        }
        for wanted in [0..3000, 150..151, 2999..9999, 5..5] {
            let mut next = wanted.start;
            for (rows, chunk) in array.row_chunks_in(wanted.clone(), Budget::chunk_rows(100)) {
                assert_eq!(rows.start, next);
                next = rows.end;
                for (number, row) in rows.zip(chunk.rows()) {
                    let value = if (100..2000).contains(&number) { number as f32 } else { 0.0 };
                    assert!(row.iter().all(|&stored| stored == value), "row {number}");
                }
            }
            assert_eq!(next, wanted.end.min(3000));
        }
    }
}

#[test]
fn chunks_of_columns_are_the_columns_of_an_array_in_any_order() {
    let folder = disk_folder();
    let values =
        Array3::from_shape_fn((700, 500, 3), |(row, column, part)| (row * 1500 + column * 3 + part) as f32);
    for fortran in [false, true] {
        let path = folder.path().join("array.npy");
        let mut array = MmapArray::<f32, Ix3>::create(&path, (700, 500, 3).set_f(fortran)).unwrap();
        array.assign(&values);
        array.close().unwrap();
        let array = MmapArray::<f32, Ix3>::open(&path).unwrap();
        for chunk_columns in [1, 64, 499, 1000] {
            let mut next = 0;
            for (columns, chunk) in array.column_chunks(Budget::chunk_rows(chunk_columns)) {
                assert_eq!(columns, next..500.min(next + chunk_columns));
                assert_eq!(chunk, values.slice(s![.., columns.clone(), ..]));
                next = columns.end;
            }
            assert_eq!(next, 500);
            let resident = array.residency().unwrap().resident_bytes;
            assert_eq!(resident, 0, "fortran {fortran}, {chunk_columns} columns");
        }
        assert_eq!(
            array.column_chunks(Budget::default()).len(),
            array.column_chunks(Budget::default()).count()
        );
    }
    let empty = MmapArray::<f32, Ix2>::scratch((10, 0)).unwrap();
    assert_eq!(empty.column_chunks(Budget::default()).count(), 0);
    let no_rows = MmapArray::<f32, Ix2>::scratch((0, 10)).unwrap();
    let widths: usize = no_rows.column_chunks(Budget::default()).map(|(columns, _)| columns.len()).sum();
    assert_eq!(widths, 10);
}

#[test]
#[should_panic = "at least two axes"]
fn an_array_with_one_axis_has_no_columns() {
    let array = MmapArray::<f32, ndarray::Ix1>::scratch(10).unwrap();
    array.column_chunks(Budget::default());
}
