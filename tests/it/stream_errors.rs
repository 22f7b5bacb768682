//! Tests that a failing stream returns an error of the right kind and publishes no file.

use crate::support::{Tmpfs, disk_folder, names_in};
use ndarray::{Array2, Axis, Ix1, Ix2, s};
use ndarray_mmap::stream::{Budget, Stream, Transfer, concat, copy};
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, MmapArray, ReadOnly, close_path};
use std::fs::OpenOptions;
use std::ops::ControlFlow;
use std::path::Path;

const TRANSFERS: [Transfer; 3] = [Transfer::Auto, Transfer::Direct, Transfer::Buffered];

fn stored(folder: &Path, rows: usize, columns: usize) -> MmapArray<f32, Ix2, ReadOnly> {
    let path = folder.join("source.npy");
    let mut array = MmapArray::<f32, Ix2>::create(&path, (rows, columns)).unwrap();
    for (index, mut row) in array.rows_mut().into_iter().enumerate() {
        row.fill(index as f32);
    }
    array.close().unwrap();
    MmapArray::<f32, Ix2>::open(&path).unwrap()
}

#[test]
fn wrong_shapes_and_selections_are_named_before_anything_is_written() {
    let folder = disk_folder();
    let source = stored(folder.path(), 10, 4);
    let mut target = Array2::zeros((10, 5));
    let error = copy(&source, &mut target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
    assert_eq!(
        error.to_string(),
        format!(
            "copy {:?}: expected a destination of shape [10, 4], found one of shape [10, 5]; slice the destination, or \
             select other rows",
            source.path()
        )
    );
    let out = folder.path().join("out.npy");
    let far = [0, 10];
    let error = Stream::from(&source).select_rows(&far).write_to(&out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfBounds);
    assert!(error.to_string().contains("indices below 10, the length of axis 0, found index 10"), "{error}");
    let error =
        Stream::from(&source).select(Axis(1), &[4]).select(Axis(7), &[0; 0]).write_to(&out).unwrap_err();
    assert!(error.to_string().contains("axis 1, found index 4"), "the first error is returned: {error}");
    let error = Stream::from(&source).select(Axis(2), &[0]).write_to(&out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfBounds);
    let error = Stream::from(&source).rows(s![3]).write_to(&out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = Stream::from(&source).var_axis0(11.0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let narrow = Array2::<f32>::zeros((3, 3));
    let error = concat(Axis(0), [source.view(), narrow.view()]).write_to(&out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
    assert!(error.to_string().contains("[10, 4], except along axis 0, found shape [3, 3]"), "{error}");
    assert!(concat(Axis(2), [source.view()]).write_to(&out).is_err());
    let nothing: [&MmapArray<f32, Ix2>; 0] = [];
    assert_eq!(concat(Axis(0), nothing).write_to(&out).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(names_in(folder.path()), ["source.npy"]);
}

#[test]
fn an_element_type_that_numpy_does_not_know() {
    let folder = disk_folder();
    let values = Array2::<[f32; 3]>::from_elem((4, 4), [1.0; 3]);
    let error = Stream::from(&values).write_to(folder.path().join("out.npy")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DtypeMismatch);
    assert_eq!(names_in(folder.path()), [""; 0]);
    assert_eq!(Stream::from(&values).write_to(folder.path().join("out.bin")).unwrap(), values);
}

#[test]
fn a_panic_in_a_function_is_an_error_and_publishes_nothing() {
    let folder = disk_folder();
    let source = stored(folder.path(), 5000, 1000);
    let out = folder.path().join("out.npy");
    let map = |chunk: ndarray::ArrayView2<'_, f32>, mut out: ndarray::ArrayViewMut2<'_, f32>| {
        assert!(chunk[[0, 0]] < 3000.0, "too far");
        out.assign(&chunk);
    };
    for threads in [1, 3] {
        let error = Stream::from(&source).threads(threads).map(map).write_to(&out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(error.to_string().contains("a panic: too far"), "{error}");
    }
    let mut target = MmapArray::<f32, Ix2>::create(&out, (5000, 1000)).unwrap();
    assert_eq!(
        Stream::from(&source).map(map).copy_into(&mut target).unwrap_err().kind(),
        ErrorKind::Panicked
    );
    target.close().unwrap();
    std::fs::remove_file(&out).unwrap();
    let fold = Stream::from(&source).fold(0, |count, chunk| {
        assert!(count < 1000, "{count} is enough");
        count + chunk.nrows()
    });
    assert_eq!(fold.unwrap_err().kind(), ErrorKind::Panicked);
    let report = Stream::from(&source).progress(|_, _| assert_eq!(1, 2, "no progress")).write_to(&out);
    assert_eq!(report.map(|_: MmapArray<f32, Ix2, ReadOnly>| ()).unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!(names_in(folder.path()), ["source.npy"]);
    drop(source);
    MmapArray::<f32, Ix2>::open_rw(folder.path().join("source.npy")).expect("no lock was left behind");
}

#[test]
fn a_cancelled_stream_publishes_nothing() {
    let folder = disk_folder();
    let source = stored(folder.path(), 5000, 1000);
    let out = folder.path().join("out.npy");
    std::fs::write(&out, "old").unwrap();
    let stop_at = |limit: usize| {
        move |done: usize, _| if done >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    for limit in [0, 2000, 5000] {
        let error = Stream::from(&source).progress(stop_at(limit)).write_to(&out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        let error = Stream::from(&source).cast::<f64>().progress(stop_at(limit)).write_to(&out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        let error = Stream::from(&source).progress(stop_at(limit)).fold((), |(), _| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
    assert_eq!(names_in(folder.path()), ["out.npy", "source.npy"]);
}

#[test]
fn a_full_disk_is_an_error_and_publishes_nothing() {
    let Some(disk) = Tmpfs::mount("size=8m") else { return };
    let values = Array2::<f32>::ones((4000, 1000));
    for transfer in TRANSFERS {
        let error =
            Stream::from(&values).transfer(transfer).write_to(disk.path().join("out.npy")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
    assert_eq!(names_in(disk.path()), [""; 0]);
}

#[test]
fn a_source_that_is_cut_short_is_an_error() {
    let folder = disk_folder();
    let path = folder.path().join("source.npy");
    let out = folder.path().join("out.npy");
    for transfer in TRANSFERS {
        for warm in [false, true] {
            for kind in 0..5 {
                let source = stored(folder.path(), 10_000, 1000);
                if warm {
                    assert_eq!(std::fs::read(&path).unwrap().len(), 40_000_128); // reads the file into the page cache
                }
                let cut = |_, _| {
                    // The new end of the file is not at a page boundary. Through the mapping, the rest of the last page
                    // reads as zeros.
                    OpenOptions::new().write(true).open(&path).unwrap().set_len(20_001_000).unwrap();
                };
                let stream = Stream::from(&source).transfer(transfer);
                let list: Vec<_> = (0..10_000).rev().map(|row| row ^ 1).collect();
                let result = match kind {
                    0 => stream.progress(cut).write_to(&out).map(drop),
                    1 => {
                        stream.progress(cut).map(|chunk, mut out| out.assign(&chunk)).write_to(&out).map(drop)
                    }
                    2 => stream.progress(cut).fold((), |(), _| ()),
                    3 => stream.progress(cut).mean_axis0().map(drop),
                    _ => {
                        cut(0, 0);
                        stream.select_rows(&list).write_to(&out).map(drop)
                    }
                };
                let error = result.unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::LengthMismatch,
                    "{transfer:?}, warm {warm}, {kind}: {error}"
                );
                assert!(error.to_string().contains("expected at least 40000128 bytes of source"), "{error}");
                assert_eq!(names_in(folder.path()), ["source.npy"]);
                drop(source);
            }
        }
    }
}

#[test]
fn bytes_that_are_read_and_written_overlap() {
    let folder = disk_folder();
    let path = folder.path().join("both");
    std::fs::write(&path, vec![1_u8; 10_000]).unwrap();
    let options =
        |offset: u64, len: usize| ArrayOptions::new().format(Format::Raw).offset_bytes(offset).shape(len);
    {
        let source = options(0, 5000).open::<u8, Ix1>(&path).unwrap();
        let mut target = options(5000, 5000).open_rw::<u8, Ix1>(&path).unwrap();
        copy(&source, &mut target).unwrap();
    }
    // SAFETY: only this test uses the file, and no reference into one array lives while the other array changes.
    let source = unsafe { options(0, 5000).unlocked() }.open::<u8, Ix1>(&path).unwrap();
    // SAFETY: only this test uses the file, and no reference into one array lives while the other array changes.
    let mut target = unsafe { options(4999, 5000).unlocked() }.open_rw::<u8, Ix1>(&path).unwrap();
    let error = copy(&source, &mut target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overlap);
    assert_eq!(error.path(), Some(target.path()));
    assert!(error.to_string().contains("expected a source outside bytes 4999..9999"), "{error}");
    let error = Stream::from(&source)
        .rows(4000..)
        .map(|a, mut b| b.assign(&a))
        .copy_into(&mut target.slice_mut(s![..1000]))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overlap);
    Stream::from(&source).rows(..1000).copy_into(&mut target.slice_mut(s![1..1001])).unwrap();
}

#[test]
fn a_closed_source_is_an_error() {
    let folder = disk_folder();
    let source = stored(folder.path(), 3000, 1000);
    let out = folder.path().join("out.npy");
    let error = Stream::from(&source)
        .progress(|_, _| _ = close_path(source.path()).unwrap())
        .threads(1)
        .write_to(&out)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = Stream::from(&source).write_to(&out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(names_in(folder.path()), ["source.npy"]);
}

#[test]
fn a_place_that_cannot_be_written() {
    let folder = disk_folder();
    let values = Array2::<f32>::ones((10, 10));
    let error = Stream::from(&values).write_to(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAFile);
    let error = Stream::from(&values).write_to("").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let made = Stream::from(&values)
        .budget(Budget::chunk_rows(3))
        .write_to(folder.path().join("a/b/c.npy"))
        .unwrap();
    assert_eq!(made, values);
}
