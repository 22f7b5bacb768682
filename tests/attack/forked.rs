//! Tests that a child of `fork` cannot harm its parent. Whatever the child does with its copies of the arrays, the
//! parent keeps its elements, its locks and its files.

use crate::harness::{folder, is_alone};
use ndarray::{Array2, Axis, Ix2, s};
use ndarray_mmap::stream::{Budget, Stream};
use ndarray_mmap::{
    Access, ErrorKind, MmapArray, close_path, close_path_and_unlock, close_under, evict_view, flush_view,
    sweep_staged,
};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const SHAPE: (usize, usize) = (300, 40);

/// The operations on the array that the child processes have inherited. Each child runs one of these operations.
const CHILDREN: [&str; 12] = [
    "drop",
    "close",
    "forget",
    "into_read_only",
    "flush and evict",
    "close_path",
    "close_under and drop",
    "give the lock away",
    "sweep",
    "write_to another file",
    "open it",
    "panic",
];

fn live(what: &str, array: MmapArray<u64, Ix2>, path: &Path) {
    let folder = path.parent().unwrap();
    match what {
        "drop" => drop(array),
        "close" => array.close().unwrap(),
        "forget" => std::mem::forget(array),
        "into_read_only" => assert_eq!(array.into_read_only().unwrap_err().kind(), ErrorKind::Unsupported),
        "flush and evict" => {
            array.flush().unwrap();
            flush_view(&array.view()).unwrap();
            array.evict().unwrap();
            assert_eq!(array[[299, 39]], 5);
        }
        "close_path" => assert_eq!(close_path(path).unwrap(), 1),
        "close_under and drop" => {
            assert_eq!(close_under(folder).unwrap(), 1);
            drop(array);
        }
        // SAFETY: this process has one thread, and no borrow of an element is alive.
        "give the lock away" => assert_eq!(unsafe { close_path_and_unlock(path) }.unwrap(), 1),
        "sweep" => assert_eq!(sweep_staged(folder).unwrap(), 0),
        "write_to another file" => {
            let written = Stream::from(&array).write_to(folder.join("child.npy")).unwrap();
            assert_eq!(written, array);
            assert!(MmapArray::<u64, Ix2>::create(folder.join("child.npy"), SHAPE).is_ok());
        }
        "open it" => {
            assert_eq!(MmapArray::<u64, Ix2>::open(path).unwrap_err().kind(), ErrorKind::InUse);
            drop(array);
            assert_eq!(MmapArray::<u64, Ix2>::open(path).unwrap_err().kind(), ErrorKind::InUse);
            assert_eq!(MmapArray::<u64, Ix2>::open_rw(path).unwrap_err().kind(), ErrorKind::InUse);
        }
        "panic" => {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                let _dropped_by_the_panic = array;
                std::panic::resume_unwind(Box::new(()));
            }));
            assert!(panic.is_err());
        }
        other => panic!("child {other}"),
    }
}

/// Forks, and runs `work` in the child. Returns the exit status of the child.
fn child(work: impl FnOnce()) -> i32 {
    // SAFETY: besides the thread that calls this, the process has only the main thread of the test harness, which
    // waits.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: `alarm` has no preconditions. It ends a child that hangs.
            unsafe { libc::alarm(8) };
            let passed = catch_unwind(AssertUnwindSafe(work)).is_ok();
            // SAFETY: `_exit` has no preconditions.
            unsafe { libc::_exit(i32::from(!passed)) }
        }
        pid => {
            assert!(pid > 0);
            let mut status = 0;
            // SAFETY: the pointer is to a live integer.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            status
        }
    }
}

/// Returns which kind of lock would conflict with an exclusive lock on a byte in the middle of the data.
fn lock_on(path: &Path) -> i16 {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 5000,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and the pointer is to a live `flock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    assert_eq!(result, 0);
    lock.l_type
}

#[test]
fn no_child_changes_anything_of_its_parent() {
    if !is_alone("forked::no_child_changes_anything_of_its_parent") {
        return;
    }
    for in_memory in [false, true] {
        let folder = folder(in_memory);
        let path = folder.path().join("a.npy");
        for what in CHILDREN {
            let mut parents = MmapArray::<u64, Ix2>::create(&path, SHAPE).unwrap();
            parents.fill(5);
            let status = child(|| {
                // SAFETY: the child has its own copy of all memory. It neither uses nor drops its `parents`, for it
                // ends with `_exit`.
                let inherited = unsafe { std::ptr::read(&parents) };
                live(what, inherited, &path);
            });
            assert_eq!(status, 0, "{what}: the child");
            assert_eq!(lock_on(&path), libc::F_WRLCK as i16, "{what}: the parent's lock");
            assert!(!parents.is_closed() && parents.iter().all(|&value| value == 5), "{what}");
            assert_eq!(
                MmapArray::<u64, Ix2>::open(&path).unwrap_err().kind(),
                ErrorKind::InUse,
                "{what}: the parent's claim"
            );
            parents.fill(6);
            parents.flush().unwrap();
            let reader = parents.into_read_only().unwrap();
            assert_eq!(lock_on(&path), libc::F_RDLCK as i16, "{what}: the parent's shared lock");
            assert_eq!(MmapArray::<u64, Ix2>::open(&path).unwrap(), reader, "{what}");
            reader.close().unwrap();
            assert_eq!(lock_on(&path), libc::F_UNLCK as i16, "{what}: no lock is left");
            assert_eq!(MmapArray::<u64, Ix2>::open_rw(&path).unwrap(), Array2::from_elem(SHAPE, 6));
        }
    }
}

/// Tests that a child neither publishes nor removes the new file that its parent is writing.
#[test]
fn no_child_touches_a_file_that_its_parent_writes() {
    if !is_alone("forked::no_child_touches_a_file_that_its_parent_writes") {
        return;
    }
    let folder = folder(false);
    let values = Array2::<u64>::from_elem((30_000, 40), 5);
    for (number, sweeps) in [false, true].into_iter().enumerate() {
        let path = folder.path().join(format!("{number}.npy"));
        let mut forked = 0;
        let written = Stream::from(&values)
            .threads(1)
            .progress(|_, _| {
                forked += 1;
                let status = child(|| match sweeps {
                    true => assert_eq!(sweep_staged(folder.path()).unwrap(), 0),
                    false => assert!(MmapArray::<u64, Ix2>::scratch(SHAPE).is_ok()),
                });
                assert_eq!(status, 0);
            })
            .write_to(&path);
        assert!(forked > 1);
        assert_eq!(written.unwrap(), values);
    }
    assert_eq!(sweep_staged(folder.path()).unwrap(), 0);
}

/// The operations on a read-only array or a copy-on-write array that the child processes have inherited.
const READING_CHILDREN: [&str; 7] =
    ["drop", "close", "close_path", "evict", "run streams", "loop over chunks", "open it"];

fn read<A: Access>(what: &str, array: MmapArray<u64, Ix2, A>, expected: &Array2<u64>, path: &Path) {
    match what {
        "drop" => drop(array),
        "close" => array.close().unwrap(),
        "close_path" => {
            assert_eq!(close_path(path).unwrap(), 1);
            assert_eq!(Stream::from(&array).sum().unwrap_err().kind(), ErrorKind::Closed);
        }
        "evict" => evict_view(&array.view()).unwrap(),
        "run streams" => {
            let out = path.with_file_name("child.npy");
            for threads in [1, 4] {
                let stream = || Stream::from(&array).threads(threads).budget(Budget::bytes(100_000));
                assert_eq!(stream().sum().unwrap(), expected.sum() as f64);
                assert!(stream().write_to(&out).unwrap() == *expected);
                let mut memory = Array2::<u64>::zeros(SHAPE);
                stream().map(|chunk, mut out| out.assign(&chunk)).copy_into(&mut memory).unwrap();
                assert_eq!(memory, expected);
                let rows = stream().select_rows(&[299, 7, 7]).write_to(&out).unwrap();
                assert_eq!(rows, expected.select(Axis(0), &[299, 7, 7]));
                assert_eq!(stream().fold(0, |rows, chunk| rows + chunk.nrows()).unwrap(), SHAPE.0);
            }
        }
        "loop over chunks" => {
            for (rows, chunk) in array.row_chunks(Budget::chunk_rows(70)) {
                assert_eq!(chunk, expected.slice(s![rows, ..]));
            }
        }
        "open it" => {
            let in_use = || MmapArray::<u64, Ix2>::open_rw(path).unwrap_err().kind();
            let again = MmapArray::<u64, Ix2>::open(path).unwrap();
            assert_eq!((again.shape(), in_use()), (array.shape(), ErrorKind::InUse));
            drop(array);
            drop(again);
            assert_eq!(in_use(), ErrorKind::InUse, "the parent has a lock");
        }
        other => panic!("child {other}"),
    }
    assert_eq!(std::fs::metadata(path).unwrap().len(), 128 + 300 * 40 * 8);
}

/// Runs the children of one reader. Checks after each child that the reader has its elements and its lock.
fn have_children<A: Access>(array: &MmapArray<u64, Ix2, A>, expected: &Array2<u64>, path: &Path) {
    for what in READING_CHILDREN {
        // The parent has run streams of several threads before it forks.
        assert_eq!(Stream::from(array).threads(4).sum().unwrap(), expected.sum() as f64, "{what}");
        let status = child(|| {
            // SAFETY: the child has its own copy of all memory. It neither uses nor drops `array`, for it ends with
            // `_exit`.
            let inherited = unsafe { std::ptr::read(array) };
            read(what, inherited, expected, path);
        });
        assert_eq!(status, 0, "{what}: the child");
        assert_eq!(lock_on(path), libc::F_RDLCK as i16, "{what}: the parent's lock");
        assert!(*array == *expected, "{what}");
        assert_eq!(MmapArray::<u64, Ix2>::open_rw(path).unwrap_err().kind(), ErrorKind::InUse, "{what}");
    }
}

#[test]
fn no_child_changes_a_reader_or_a_private_copy_of_its_parent() {
    if !is_alone("forked::no_child_changes_a_reader_or_a_private_copy_of_its_parent") {
        return;
    }
    for in_memory in [false, true] {
        let folder = folder(in_memory);
        let path = folder.path().join("a.npy");
        let in_file = Array2::from_shape_fn(SHAPE, |(row, column)| (row * 40 + column) as u64);
        MmapArray::<u64, Ix2>::create(&path, SHAPE).unwrap().assign(&in_file);
        have_children(&MmapArray::<u64, Ix2>::open(&path).unwrap(), &in_file, &path);

        let mut copy = MmapArray::<u64, Ix2>::open_cow(&path).unwrap();
        copy.row_mut(17).fill(1000);
        let mut expected = in_file.clone();
        expected.row_mut(17).fill(1000);
        have_children(&copy, &expected, &path);
        let status = child(|| {
            copy.fill(9);
            assert_eq!(Stream::from(&copy).threads(4).min_max().unwrap(), Some((9, 9)));
        });
        assert_eq!((status, copy == expected), (0, true), "the child has stored into its own copy");
        copy.row_mut(18).fill(2000);
        expected.row_mut(18).fill(2000);
        assert_eq!(Stream::from(&copy).threads(4).write_to(folder.path().join("b.npy")).unwrap(), expected);
        drop(copy);
        assert_eq!(lock_on(&path), libc::F_UNLCK as i16, "no lock is left");
        assert_eq!(MmapArray::<u64, Ix2>::open(&path).unwrap(), in_file, "the file is as it was");
    }
}

/// Tests that a child that ends at once does not disturb the threads of its parent's stream. Such a child has only the
/// thread that forked.
#[test]
fn a_child_in_the_middle_of_a_stream_with_threads_changes_nothing() {
    if !is_alone("forked::a_child_in_the_middle_of_a_stream_with_threads_changes_nothing") {
        return;
    }
    let folder = folder(false);
    let values = Array2::from_shape_fn((30_000, 40), |(row, column)| (row * 40 + column) as u64);
    let source = Stream::from(&values).write_to(folder.path().join("source.npy")).unwrap();
    for (number, threads) in [1, 2, 4].into_iter().enumerate() {
        let mut forked = 0;
        let copied = Stream::from(&source)
            .threads(threads)
            .budget(Budget::bytes(1 << 20))
            .progress(|_, _| {
                forked += 1;
                assert_eq!(child(|| ()), 0);
            })
            .write_to(folder.path().join(format!("{number}.npy")));
        assert_eq!(copied.unwrap(), values);
        assert!(forked > 1);
    }
}
