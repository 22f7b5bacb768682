//! Tests of `Stream::write_with`, of files that get their name on close, and of staged files.

use crate::refuse::{refusal, refuse};
use crate::support::{Overlay, Tmpfs, disk_folder, is_alone, names_in};
use ndarray::{Array2, Array3, ArrayViewMut2, Axis, Ix2, Ix3, ShapeBuilder};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{
    Allocation, ArrayOptions, ErrorKind, Format, MmapArray, Result, close_path, open_arrays, sweep_staged,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const SHAPE: (usize, usize) = (700, 300);

fn values() -> Array2<f64> {
    Array2::from_shape_fn(SHAPE, |(row, column)| (row * 1000 + column) as f64)
}

fn kind<T>(result: Result<T>) -> Result<(), ErrorKind> {
    result.map(drop).map_err(|error| error.kind())
}

#[test]
fn fortran_order_is_written_from_any_source_and_after_any_step() {
    let folder = disk_folder();
    let path = folder.path().join("out.npy");
    let expected = values();
    let mut fortran = ArrayOptions::new().shape(SHAPE.f()).scratch::<f64, Ix2>().unwrap();
    fortran.assign(&expected);
    let options = ArrayOptions::new().shape(SHAPE.f());
    let check = |written: MmapArray<f64, Ix2, _>| {
        assert_eq!(written.strides(), [1, 700]);
        assert_eq!(written, expected);
        written.close().unwrap();
        let opened = MmapArray::<f64, Ix2>::open(&path).unwrap();
        assert_eq!((opened.strides(), &*opened), (&[1, 700][..], &*expected));
        assert_eq!(names_in(folder.path()), ["out.npy"]);
    };
    check(Stream::from(&expected).write_with(&options, &path).unwrap());
    check(Stream::from(&fortran).write_with(&options, &path).unwrap());
    check(
        Stream::from(&fortran).map(|chunk, mut out| out.assign(&chunk)).write_with(&options, &path).unwrap(),
    );
    let reversed: Vec<usize> = (0..SHAPE.0).rev().collect();
    let twice = Stream::from(&expected).select_rows(&reversed).select_rows(&reversed);
    check(twice.write_with(&options, &path).unwrap());

    // The source of a stream may be the older file of the same name. The array on the older file is closed before the
    // new file takes the name.
    let older = MmapArray::<f64, Ix2>::open(&path).unwrap();
    assert_eq!(Stream::from(&older).rows(..).write_with(&options, &path).unwrap(), expected);
    assert!(older.is_closed());

    let cube = Array3::from_shape_fn((20, 30, 40), |(x, y, z)| (x * 10_000 + y * 100 + z) as f32);
    let options = ArrayOptions::new().shape((20, 30, 40).f()).format(Format::Raw).offset_bytes(64);
    let raw = folder.path().join("cube.bin");
    assert_eq!(Stream::from(&cube).write_with(&options, &raw).unwrap(), cube);
    assert_eq!(options.open::<f32, Ix3>(&raw).unwrap(), cube);
    let bytes = fs::read(&raw).unwrap();
    assert_eq!(
        (bytes.len(), &bytes[..64], &bytes[68..72]),
        (64 + 96_000, &[0; 64][..], &10_000_f32.to_le_bytes()[..])
    );
}

#[test]
fn the_options_of_a_stream_set_format_offset_and_allocation() {
    let folder = disk_folder();
    let expected = values();
    for allocation in [Allocation::Reserve, Allocation::Sparse] {
        for offset in [0, 8, 4096, 12_344] {
            let options = ArrayOptions::new().format(Format::Raw).offset_bytes(offset).allocation(allocation);
            let path = folder.path().join("raw.npy");
            let written = Stream::from(&expected).write_with(&options, &path).unwrap();
            assert_eq!(written, expected);
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len() as u64, offset + 700 * 300 * 8);
            assert!(bytes[..offset as usize].iter().all(|&byte| byte == 0), "{offset}");
            assert_eq!(options.shape(SHAPE).open::<f64, Ix2>(&path).unwrap(), expected);
        }
    }
    let npy = ArrayOptions::new().format(Format::Npy);
    let path = folder.path().join("named.dat");
    Stream::from(&expected).write_with(&npy, &path).unwrap();
    assert_eq!(npy.open::<f64, Ix2>(&path).unwrap(), expected);
}

#[test]
fn wrong_options_of_a_stream_are_errors_and_leave_nothing() {
    let folder = disk_folder();
    let source = values();
    let written = |options: &ArrayOptions, name: &str| {
        kind(Stream::from(&source).write_with(options, folder.path().join(name)))
    };
    let other_shape = ArrayOptions::new().shape((700, 301).f());
    assert_eq!(written(&other_shape, "a.npy"), Err(ErrorKind::ShapeMismatch));
    assert_eq!(written(&ArrayOptions::new().offset_bytes(8), "a.npy"), Err(ErrorKind::InvalidInput));
    let misaligned = ArrayOptions::new().offset_bytes(3);
    assert_eq!(written(&misaligned, "a.raw"), Err(ErrorKind::Unaligned));
    assert_eq!(written(&ArrayOptions::new(), "a.npz"), Err(ErrorKind::InvalidInput));
    for order in [ArrayOptions::new(), ArrayOptions::new().shape(SHAPE.f())] {
        let panics = Stream::from(&source).map(|_, _: ArrayViewMut2<f64>| panic!("a test"));
        assert_eq!(kind(panics.write_with(&order, folder.path().join("a.npy"))), Err(ErrorKind::Panicked));
    }
    assert_eq!(names_in(folder.path()), [""; 0]);
}

/// With `Allocation::Sparse`, a stream allocates disk space while it writes, so it starts although the disk has too
/// little space.
#[test]
fn a_sparse_destination_reserves_nothing() {
    let Some(tmpfs) = Tmpfs::mount("size=4m") else { return };
    let source = ndarray::Array1::<u8>::zeros(8 << 20);
    let path = tmpfs.path().join("big.raw");
    for (allocation, starts) in [(Allocation::Reserve, false), (Allocation::Sparse, true)] {
        let blocks = std::cell::Cell::new(0);
        let stream = Stream::from(&source).threads(1).progress(|done, _| {
            blocks.set(done);
            std::ops::ControlFlow::Continue(())
        });
        let error = stream.write_with(&ArrayOptions::new().allocation(allocation), &path).unwrap_err();
        assert_eq!((error.kind(), blocks.get() > 0), (ErrorKind::StorageFull, starts));
        let text = error.to_string();
        assert!(
            text.contains("expected 8388608 bytes of disk space") && text.contains(" bytes are free"),
            "{text}"
        );
        assert_eq!(names_in(tmpfs.path()), [""; 0]);
    }
}

fn deferred() -> ArrayOptions {
    ArrayOptions::new().shape(SHAPE).publish_on_close(true)
}

#[test]
fn a_fill_gets_its_name_when_it_is_closed() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    for old in [false, true] {
        let reader = old.then(|| MmapArray::<f64, Ix2>::open(&path).unwrap());
        let mut array = deferred().create::<f64, Ix2>(&path).unwrap();
        assert_eq!(array.path(), path);
        array.assign(&values());
        array.flush().unwrap();
        array.evict().unwrap();
        assert_eq!(names_in(folder.path()), if old { vec!["a.npy"] } else { vec![] });
        assert!(reader.as_ref().is_none_or(|reader| !reader.is_closed()), "the old file is still in use");
        array.close().unwrap();
        assert!(reader.is_none_or(|reader| reader.is_closed()));
        assert_eq!(MmapArray::<f64, Ix2>::open(&path).unwrap(), values());
        assert_eq!(names_in(folder.path()), ["a.npy"]);
    }
    let mut array = deferred().create::<f64, Ix2>(&path).unwrap();
    array.fill(3.0);
    let finished = array.into_read_only().unwrap();
    assert_eq!(MmapArray::<f64, Ix2>::open(&path).unwrap(), finished, "`into_read_only` publishes");
    finished.close().unwrap();
}

#[test]
fn a_fill_that_is_not_closed_leaves_nothing() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    for old in [false, true] {
        if old {
            fs::write(&path, "old").unwrap();
        }
        drop(deferred().create::<f64, Ix2>(&path).unwrap());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut array = deferred().create::<f64, Ix2>(&path).unwrap();
            array.fill(1.0);
            panic!("a test");
        }));
        assert!(panicked.is_err());
        assert_eq!(names_in(folder.path()), if old { vec!["a.npy"] } else { vec![] });
        assert!(!old || fs::read(&path).unwrap() == b"old");
        assert!(open_arrays().iter().all(|open| open.path != path));
    }
}

#[test]
fn a_fill_that_was_closed_by_its_path_never_gets_its_name() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let array = deferred().create::<f64, Ix2>(&path).unwrap();
    assert_eq!(close_path(&path).unwrap(), 1);
    assert_eq!(kind(array.close()), Err(ErrorKind::Closed));
    assert_eq!(names_in(folder.path()), [""; 0]);

    // Another `create` of the same path also closes the array, so the array's file does not replace the newer file.
    let older = deferred().create::<f64, Ix2>(&path).unwrap();
    let mut newer = deferred().close_existing(true).create::<f64, Ix2>(&path).unwrap();
    newer.fill(2.0);
    newer.close().unwrap();
    assert_eq!(kind(older.close()), Err(ErrorKind::Closed));
    let older = deferred().create::<f64, Ix2>(&path).unwrap();
    MmapArray::<u8, ndarray::Ix1>::create(&path, 5).unwrap().close().unwrap();
    assert_eq!(kind(older.into_read_only()), Err(ErrorKind::Closed));
    assert_eq!(MmapArray::<u8, ndarray::Ix1>::open(&path).unwrap().len(), 5);
    assert_eq!(names_in(folder.path()), ["a.npy"]);
}

#[test]
fn create_new_with_a_later_name_refuses_a_name_that_was_taken_meanwhile() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let array = deferred().create_new::<f64, Ix2>(&path).unwrap();
    fs::write(&path, "meanwhile").unwrap();
    assert_eq!(kind(deferred().create_new::<f64, Ix2>(&path)), Err(ErrorKind::AlreadyExists));
    let error = array.close().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().starts_with("close "), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"meanwhile");
    assert_eq!(names_in(folder.path()), ["a.npy"]);
}

#[test]
fn a_scratch_array_ignores_publish_on_close() {
    let folder = disk_folder();
    let options = deferred().scratch_directory(folder.path());
    let mut scratch = options.scratch::<f64, Ix2>().unwrap();
    scratch.fill(1.0);
    scratch.close().unwrap();
    options.scratch::<f64, Ix2>().unwrap().into_read_only().unwrap().close().unwrap();
    assert_eq!(names_in(folder.path()), [""; 0]);
}

/// While a file is written, its folder contains no new name if the system can create files without a name.
#[test]
fn a_file_has_no_name_while_it_is_written() {
    let folder = disk_folder();
    assert_eq!(names_while_written(folder.path()), [""; 0]);
    if let Some(tmpfs) = Tmpfs::mount("size=16m") {
        assert_eq!(names_while_written(tmpfs.path()), [""; 0]);
    }
    if let Some(overlay) = Overlay::mount(|_| {}) {
        assert!(names_while_written(&overlay.path()).len() <= 1);
    }
}

/// Writes a file, and returns the names in its folder while the file is written. Checks the file and the folder.
fn names_while_written(folder: &Path) -> Vec<String> {
    let path = folder.join("out.npy");
    let seen = std::cell::RefCell::new(Vec::new());
    let expected = values();
    for _ in 0..2 {
        let stream = Stream::from(&expected).threads(1).progress(|_, _| {
            seen.borrow_mut().extend(names_in(folder).into_iter().filter(|name| name != "out.npy"));
            std::ops::ControlFlow::Continue(())
        });
        assert_eq!(stream.write_to(&path).unwrap(), expected);
        let mut array = deferred().create::<f64, Ix2>(&path).unwrap();
        seen.borrow_mut().extend(names_in(folder).into_iter().filter(|name| name != "out.npy"));
        array.assign(&expected);
        array.close().unwrap();
        assert_eq!(MmapArray::<f64, Ix2>::open(&path).unwrap(), expected);
        assert_eq!(names_in(folder), ["out.npy"]);
    }
    let mut seen = seen.into_inner();
    seen.sort();
    seen.dedup();
    let made_by_us = format!(".ndarray-mmap-{}-", std::process::id());
    assert!(seen.iter().all(|name| name.starts_with(&made_by_us) && name.ends_with(".staged")), "{seen:?}");
    seen
}

/// Where a filter refuses `linkat`, files have a temporary name until they are published.
#[test]
fn without_linkat_files_are_staged_under_a_name_and_published() {
    if !is_alone("destinations::without_linkat_files_are_staged_under_a_name_and_published") {
        return;
    }
    let folder = disk_folder();
    for errno in [libc::EPERM, libc::ENOSYS] {
        if !refuse(&[refusal(libc::SYS_linkat, errno)]) {
            return;
        }
        assert!(!names_while_written(folder.path()).is_empty());
        drop(deferred().create::<f64, Ix2>(folder.path().join("b.npy")).unwrap());
        let created = deferred().create_new::<f64, Ix2>(folder.path().join("c.npy")).unwrap();
        created.close().unwrap();
        fs::remove_file(folder.path().join("c.npy")).unwrap();
        assert_eq!(names_in(folder.path()), ["out.npy"]);
    }
}

/// Creating a file removes the staged files that a dead process has left for the same name, and no other file.
#[test]
fn the_next_create_sweeps_what_dead_processes_left_of_its_target() {
    if !is_alone("destinations::the_next_create_sweeps_what_dead_processes_left_of_its_target") {
        return;
    }
    let folder = disk_folder();
    let (path, other) = (folder.path().join("a.npy"), folder.path().join("b.npy"));
    let leave = |target: &Path| {
        // SAFETY: no other thread runs in this process.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let refused = refuse(&[refusal(libc::SYS_linkat, libc::EPERM)]);
            let array = deferred().create::<f64, Ix2>(target);
            // SAFETY: `_exit` has no preconditions.
            unsafe { libc::_exit(i32::from(!refused || array.is_err())) }
        }
        let mut status = 1;
        // SAFETY: the pointer is to a live integer.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        status == 0
    };
    if !leave(&path) {
        return crate::support::skipped("no seccomp");
    }
    assert_eq!(names_in(folder.path()).len(), 1);
    assert!(names_in(folder.path())[0].ends_with(".staged"));
    // The target exists, so the next creation searches for staged files of dead processes.
    fs::write(&path, "old").unwrap();
    assert!(leave(&other));
    MmapArray::<f64, Ix2>::create(&path, SHAPE).unwrap().close().unwrap();
    let names = names_in(folder.path());
    assert_eq!(names.len(), 2, "only the leftover of the other target remains: {names:?}");
    assert!(leave(&path));
    Stream::from(&values()).write_to(&path).unwrap();
    assert_eq!(names_in(folder.path()).len(), 2);
    assert_eq!(sweep_staged(folder.path()).unwrap(), 1);
    assert_eq!(names_in(folder.path()), ["a.npy"]);
}

#[test]
fn a_published_file_has_one_name_and_the_mode_of_a_new_file() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    for _ in 0..2 {
        Stream::from(&values()).select(Axis(1), &[0, 2]).write_to(&path).unwrap();
        let (file, plain) = (fs::metadata(&path).unwrap(), fs::metadata(&plain).unwrap());
        assert_eq!((file.nlink(), file.mode(), file.uid()), (1, plain.mode(), plain.uid()));
    }
}
