//! Tests of concatenations of very many parts, with few descriptors.

use crate::support::{disk_folder, is_alone};
use ndarray::{Array2, Axis, Ix2, s};
use ndarray_mmap::stream::{Budget, Stream, concat};
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, MmapArray, ReadOnly};

/// Limits the number of descriptors of this process.
fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: 4096 };
    // SAFETY: the pointer is to a live structure; no other test runs in this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

fn values(rows: usize) -> Array2<u32> {
    Array2::from_shape_fn((rows, 500), |(row, column)| (row * 500 + column) as u32)
}

#[test]
fn parts_of_one_file_share_its_descriptors() {
    if !is_alone("stream_concat::parts_of_one_file_share_its_descriptors") {
        return;
    }
    let folder = disk_folder();
    let array = Stream::from(&values(2200)).write_to(folder.path().join("source.npy")).unwrap();
    array.evict().unwrap();
    limit_descriptors(40);
    let parts = || (0..1100).rev().map(|part| array.slice(s![2 * part..2 * part + 2, ..]));
    let mut expected = values(2200);
    for (part, mut rows) in expected.axis_chunks_iter_mut(Axis(0), 2).enumerate() {
        rows.assign(&array.slice(s![2 * (1099 - part)..2 * (1099 - part) + 2, ..]));
    }
    array.evict().unwrap();
    let stacked = concat(Axis(0), parts()).budget(Budget::bytes(1 << 20));
    assert_eq!(stacked.write_to(folder.path().join("stacked.npy")).unwrap(), expected);
    array.evict().unwrap();
    let side_by_side = concat(Axis(1), parts()).boxed();
    assert_eq!(side_by_side.fold(0, |elements, chunk| elements + chunk.len()).unwrap(), 2200 * 500);
    let listed = concat(Axis(0), parts().map(|part| Stream::from(part).select_rows(&[1, 1, 0])));
    assert_eq!(listed.fold(0, |rows, chunk| rows + chunk.nrows()).unwrap(), 3300);
}

/// Tests that a stream reads as many files as a process may open. Each array needs one descriptor. A descriptor for
/// direct I/O is optional: a file without one is read through the page cache.
#[test]
fn as_many_files_as_the_limit_allows_are_concatenated() {
    if !is_alone("stream_concat::as_many_files_as_the_limit_allows_are_concatenated") {
        return;
    }
    let folder = disk_folder();
    let path = |part: usize| folder.path().join(format!("{part}.raw"));
    let whole = values(300);
    for (part, row) in whole.rows().into_iter().enumerate() {
        std::fs::write(path(part), bytemuck::cast_slice(row.as_slice().unwrap())).unwrap();
    }
    limit_descriptors(256);
    let options = ArrayOptions::new().format(Format::Raw).shape((1, 500));
    let mut arrays = Vec::<MmapArray<u32, Ix2, ReadOnly>>::new();
    let error = (0..300)
        .find_map(|part| options.open(path(part)).map(|array| arrays.push(array)).err())
        .expect("256 descriptors are too few for 300 files");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("`ulimit -n`"), "{error}");
    for spare in [16, 40, 120] {
        arrays.truncate(256 - spare);
        let rows = arrays.len();
        let expected = whole.slice(s![..rows, ..]);
        let stream = || {
            arrays.iter().for_each(|array| array.evict().unwrap());
            concat(Axis(0), &arrays).budget(Budget::bytes(1 << 20))
        };
        assert_eq!(stream().write_to(folder.path().join("all.npy")).unwrap(), expected, "{spare} spare");
        let mut memory = Array2::<u32>::zeros((rows, 500));
        stream().copy_into(&mut memory).unwrap();
        assert_eq!(memory, expected, "{spare} spare");
        assert_eq!(stream().sum().unwrap(), expected.iter().map(|&value| f64::from(value)).sum::<f64>());
    }
}
