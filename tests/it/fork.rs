//! Tests of `fork`. A child process shares the open files of its parent, but the child must not change the locks, file
//! names or staged files of the parent.

use crate::child::Child;
use crate::support::{disk_folder, is_alone, names_in};
use ndarray::{Array2, Ix1, Ix2};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{ArrayOptions, ErrorKind, MmapArray};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Forks this process. Returns 0 in the child, and the process id of the child in the parent.
fn fork() -> libc::pid_t {
    // SAFETY: the callers run alone in their process, so no other thread holds a lock that the child would wait for.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    pid
}

/// Ends a child without running exit handlers that the parent has registered.
fn exit_child(passed: bool) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(i32::from(!passed)) }
}

/// Waits for a child process and returns whether its assertions passed.
fn child_passed(pid: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status == 0
}

#[test]
fn a_child_does_not_change_its_parents_lock() {
    if !is_alone("fork::a_child_does_not_change_its_parents_lock") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.raw");
    for downgrades in [false, true] {
        let mut array = MmapArray::<u8, Ix1>::create(&path, 5000).unwrap();
        array.fill(1);
        match fork() {
            0 => exit_child(
                catch_unwind(AssertUnwindSafe(|| {
                    if downgrades {
                        let error = array.into_read_only().unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::Unsupported);
                        assert!(error.to_string().contains("found a child of `fork`"), "{error}");
                    } else {
                        drop(array);
                    }
                }))
                .is_ok(),
            ),
            child => assert!(child_passed(child), "downgrades: {downgrades}"),
        }
        let answer = Child::start().open("r", &path, 0, 5000);
        assert!(answer.starts_with("InUse: "), "downgrades: {downgrades}: {answer}");
        array.fill(2);
        array.close().unwrap();
        assert_eq!(Child::start().open("r+", &path, 0, 5000), "open");
        assert_eq!(std::fs::read(&path).unwrap(), [2; 5000]);
    }
}

#[test]
fn a_child_neither_publishes_nor_removes_the_file_of_an_array_that_its_parent_fills() {
    if !is_alone("fork::a_child_neither_publishes_nor_removes_the_file_of_an_array_that_its_parent_fills") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.raw");
    for closes in [false, true] {
        let options = ArrayOptions::new().shape(5000).publish_on_close(true);
        let mut array = options.create::<u8, Ix1>(&path).unwrap();
        match fork() {
            0 => exit_child(
                catch_unwind(AssertUnwindSafe(|| match closes {
                    true => assert_eq!(array.close().unwrap_err().kind(), ErrorKind::Unsupported),
                    false => drop(array),
                }))
                .is_ok(),
            ),
            child => assert!(child_passed(child), "closes: {closes}"),
        }
        assert!(!path.exists());
        array.fill(2);
        array.close().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [2; 5000]);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_child_neither_publishes_nor_removes_its_parents_new_file() {
    if !is_alone("fork::a_child_neither_publishes_nor_removes_its_parents_new_file") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let values = Array2::<f32>::ones((3000, 100));
    for child_goes_on in [false, true] {
        std::fs::write(&path, "old").unwrap();
        let child = Cell::new(None);
        let written = Stream::from(&values)
            .threads(1)
            .progress(|_, _| {
                if child.get().is_none() {
                    child.set(Some(fork()));
                    if let Some(pid @ 1..) = child.get() {
                        assert!(child_passed(pid), "goes on: {child_goes_on}");
                    }
                }
                match child.get() {
                    Some(0) if !child_goes_on => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })
            .write_to(&path);
        if child.get() == Some(0) {
            let expected = if child_goes_on { ErrorKind::Unsupported } else { ErrorKind::Cancelled };
            let is_old = std::fs::read(&path).is_ok_and(|bytes| bytes == b"old");
            exit_child(is_old && written.is_err_and(|error| error.kind() == expected));
        }
        assert_eq!(written.unwrap(), values);
        assert_eq!(names_in(folder.path()), ["a.npy"]);
        assert_eq!(MmapArray::<f32, Ix2>::open(&path).unwrap(), values);
    }
}
