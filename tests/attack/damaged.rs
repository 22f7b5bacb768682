//! Tests that cut a file short while an array is open. A stream into or from such an array must not return `Ok`.
//!
//! A stream must not extend the file to its old length either: the file would look complete although rows are lost.

use crate::harness::{folder, is_alone};
use ndarray::{Array2, Ix2, s};
use ndarray_mmap::stream::{Budget, Stream, Transfer};
use ndarray_mmap::{Allocation, ArrayOptions, CopyOnWrite, ErrorKind, MmapArray};
use std::fs::File;
use std::path::Path;

const SHAPE: (usize, usize) = (4000, 50);
const BYTES: u64 = (SHAPE.0 * SHAPE.1 * 8) as u64;

fn cut(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn no_stream_into_a_file_that_was_cut_short_is_ok() {
    if !is_alone("damaged::no_stream_into_a_file_that_was_cut_short_is_ok") {
        return;
    }
    let values = Array2::<u64>::ones(SHAPE);
    for in_memory in [false, true] {
        let folder = folder(in_memory);
        let path = folder.path().join("array");
        for len in [0, 1, 4096, BYTES / 2, BYTES - 1] {
            for allocation in [Allocation::Reserve, Allocation::Sparse] {
                for transfer in [Transfer::Auto, Transfer::Direct, Transfer::Buffered] {
                    for columns in [50, 20] {
                        let what = format!("cut to {len}, {allocation:?}, {transfer:?}, {columns} columns");
                        let options = ArrayOptions::new().shape(SHAPE).allocation(allocation);
                        let mut array = options.create::<u64, Ix2>(&path).unwrap();
                        cut(&path, len);
                        let part = s![2000.., ..columns];
                        let copied = Stream::from(values.slice(part))
                            .budget(Budget::bytes(1 << 20))
                            .transfer(transfer)
                            .copy_into(&mut array.slice_mut(part));
                        let error = copied.expect_err(&what);
                        let is_expected =
                            matches!(error.kind(), ErrorKind::LengthMismatch | ErrorKind::Fault { .. });
                        assert!(is_expected, "{what}: {error}");
                        assert_eq!(std::fs::metadata(&path).unwrap().len(), len, "{what}");
                        assert!(array.flush().is_err(), "{what}: flush");
                        assert!(array.close().is_err(), "{what}: close");
                    }
                }
            }
        }
    }
}

#[test]
fn a_stream_from_a_file_that_was_cut_short_is_an_error() {
    if !is_alone("damaged::a_stream_from_a_file_that_was_cut_short_is_an_error") {
        return;
    }
    let folder = folder(false);
    let (path, out) = (folder.path().join("array"), folder.path().join("out"));
    let options = ArrayOptions::new().shape(SHAPE);
    for len in [0, 4096, BYTES / 2, BYTES - 1] {
        options.create::<u64, Ix2>(&path).unwrap().fill(1);
        let reader = options.open::<u64, Ix2>(&path).unwrap();
        let mut private: MmapArray<u64, Ix2, CopyOnWrite> = options.open_cow(&path).unwrap();
        private.row_mut(5).fill(2);
        cut(&path, len);
        for (what, view) in [("reader", reader.view()), ("copy-on-write array", private.view())] {
            let last = s![2000.., ..];
            let mut memory = Array2::<u64>::zeros((2000, 50));
            for failed in [
                Stream::from(view).write_to(&out).map(drop),
                Stream::from(view).fold((), |(), _| ()),
                Stream::from(view.reversed_axes()).mean_axis0().map(drop),
                Stream::from(view.slice(last)).copy_into(&mut memory),
                Stream::from(view).select_rows(&[3999, 2]).fold((), |(), _| ()),
            ] {
                assert_eq!(failed.expect_err(what).kind(), ErrorKind::LengthMismatch, "{what} cut to {len}");
            }
            assert!(!out.exists());
        }
    }
}

/// Tests that a stream can write to a copy-on-write array of a sparse file. Stores to such an array need no disk space
/// and no permission to write the file.
#[test]
fn a_copy_on_write_array_of_a_sparse_file_takes_a_stream() {
    let folder = folder(false);
    let path = folder.path().join("array");
    let options = ArrayOptions::new().shape(SHAPE).allocation(Allocation::Sparse);
    options.create::<u64, Ix2>(&path).unwrap().close().unwrap();
    let values = Array2::<u64>::ones(SHAPE);
    for columns in [50, 20] {
        let mut private = options.open_cow::<u64, Ix2>(&path).unwrap();
        let part = s![.., ..columns];
        Stream::from(values.slice(part)).copy_into(&mut private.slice_mut(part)).unwrap();
        assert_eq!(private.sum(), 4000 * columns as u64);
        private.close().unwrap();
        assert_eq!(options.open::<u64, Ix2>(&path).unwrap().sum(), 0, "the file is as it was");
    }
}
