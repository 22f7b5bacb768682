//! Tests that faults in mapped arrays become errors. Each test runs in a child process, because an unhandled fault ends
//! the process.

use crate::support::{FOLDER_OF_CHILD, Tmpfs, disk_folder};
use ndarray::{Axis, Ix1, Ix2, s};
use ndarray_mmap::stream::Budget;
use ndarray_mmap::{Allocation, ArrayOptions, ErrorKind, Format, MmapArray, ReadWrite, fault};
use std::env;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

pub const PAGE: usize = 4096;

/// Runs `body` in a child process and returns the output of the child. The child runs the same test again, and this
/// function does not return in the child.
pub fn in_child(test: &str, body: impl FnOnce()) -> Output {
    const CHILD: &str = "NDARRAY_MMAP_FAULT_CHILD";
    if env::var(CHILD).is_ok_and(|running| running == test) {
        body();
        std::process::exit(0);
    }
    // The time limit ends a child that repeats the same fault forever. A fault repeats if the fault handler returns
    // without mapping a valid page.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120"]).arg(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    let folder = disk_folder();
    command.env(CHILD, test).env(FOLDER_OF_CHILD, folder.path()).env("RUST_BACKTRACE", "0").output().unwrap()
}

#[track_caller]
pub fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn assert_died_of(output: &Output, signal: i32) {
    let status = output.status;
    let died = status.signal() == Some(signal) || status.code() == Some(128 + signal);
    assert!(died, "{status}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Sets the length of a file from another process.
pub fn truncate(path: &Path, len: usize) {
    assert!(Command::new("truncate").arg(format!("--size={len}")).arg(path).status().unwrap().success());
}

/// Writes a raw file of `pages` pages, in which each byte is 7. Returns options to open the file.
pub fn sevens(path: &Path, pages: usize) -> ArrayOptions {
    std::fs::write(path, vec![7_u8; pages * PAGE]).unwrap();
    ArrayOptions::new().format(Format::Raw).shape((pages, PAGE))
}

/// The test fills a sparse array that is larger than the disk. The guard and each later operation must return an error.
#[test]
fn a_full_disk_is_an_error_of_guard_flush_evict_and_close() {
    let child = || {
        let Some(disk) = Tmpfs::mount("size=16m") else { return };
        let new = |name: &str| -> (PathBuf, MmapArray<u8, Ix2, ReadWrite>) {
            let path = disk.path().join(name);
            let options = ArrayOptions::new().allocation(Allocation::Sparse).shape((32 << 8, PAGE));
            (path.clone(), options.guarded().create(path).unwrap())
        };
        let (path, mut array) = new("a.npy");
        let error = fault::guard(|| array.fill(1)).unwrap_err();
        let ErrorKind::Fault { offset } = error.kind() else { panic!("{error}") };
        assert!((8 << 20..=16 << 20).contains(&offset) && offset % PAGE as u64 == 0, "{error}");
        assert_eq!(error.path(), Some(&*path));
        // After the fault, the mapping still shows the stored elements.
        assert!(array.iter().all(|&element| element == 1));
        for error in
            [array.flush(), array.flush_rows(..1), array.evict(), array.evict_rows(5..6), array.flush()]
        {
            let error = error.unwrap_err();
            assert_eq!((error.kind(), error.path()), (ErrorKind::Fault { offset }, Some(&*path)));
        }
        assert!(array.iter().all(|&element| element == 1), "an eviction that fails drops nothing");
        let error = array.close().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fault { offset });
        std::fs::remove_file(&path).unwrap();
        // Closing the array removes the recorded fault and releases the lock.
        assert!(fault::guard(|| ()).is_ok());

        // Without a guard, the array records the fault, and `into_read_only` must report the fault.
        let (path, mut array) = new("b.npy");
        array.fill(1);
        assert!(matches!(array.into_read_only().unwrap_err().kind(), ErrorKind::Fault { .. }));
        std::fs::remove_file(&path).unwrap();
        let options = ArrayOptions::new().allocation(Allocation::Sparse).shape((32 << 8, PAGE)).guarded();
        let mut scratch = options.scratch_directory(disk.path()).scratch::<u8, Ix2>().unwrap();
        scratch.fill(1);
        assert!(matches!(scratch.close().unwrap_err().kind(), ErrorKind::Fault { .. }));
    };
    let output = in_child("fault::a_full_disk_is_an_error_of_guard_flush_evict_and_close", child);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert_success(&output);
}

#[test]
fn a_file_cut_short_is_an_error_for_readers() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let options = sevens(&path, 64);
        let reader = options.open::<u8, Ix2>(&path).unwrap();
        let copy = options.open_cow::<u8, Ix2>(&path).unwrap();
        let sum = |array: &ndarray::ArrayRef<u8, Ix2>| array.map(|&element| u64::from(element)).sum();
        assert_eq!(fault::guard(|| sum(&reader) + sum(&copy)).unwrap(), 2 * 7 * (64 * PAGE) as u64);
        truncate(&path, 40 * PAGE);
        let at_the_end = ErrorKind::Fault { offset: (40 * PAGE) as u64 };
        assert_eq!(fault::guard(|| sum(&reader)).unwrap_err().kind(), at_the_end);
        // The second read raises no fault, but its sum is still wrong. The guard must return the error again.
        assert_eq!(fault::guard(|| sum(&reader)).unwrap_err().kind(), at_the_end);
        assert_eq!(reader.evict().unwrap_err().kind(), at_the_end);
        assert_eq!(reader.close().unwrap_err().kind(), at_the_end);
        assert_eq!(
            fault::guard(|| copy.row(63).sum()).unwrap_err().kind(),
            ErrorKind::Fault { offset: (63 * PAGE) as u64 }
        );
        assert_eq!(copy.close().unwrap_err().kind(), ErrorKind::Fault { offset: (63 * PAGE) as u64 });
        assert_eq!(fault::guard(|| 5).unwrap(), 5);
    };
    assert_success(&in_child("fault::a_file_cut_short_is_an_error_for_readers", child));
}

#[test]
fn a_file_cut_short_is_an_error_for_writers() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let mut array = sevens(&path, 64).guarded().open_rw::<u8, Ix2>(&path).unwrap();
        array.fill(8);
        // Eight threads write to their own rows while another process truncates the file.
        thread::scope(|scope| {
            for mut rows in array.axis_chunks_iter_mut(Axis(0), 8) {
                scope.spawn(move || (0..200).for_each(|round| rows.fill(round)));
            }
            truncate(&path, 10 * PAGE + 1);
        });
        array.fill(9);
        assert!(array.iter().all(|&element| element == 9));
        let ErrorKind::Fault { offset } = array.flush().unwrap_err().kind() else { panic!("no fault") };
        assert!((11 * PAGE..64 * PAGE).contains(&(offset as usize)));
        drop(array);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (10 * PAGE + 1) as u64);
    };
    assert_success(&in_child("fault::a_file_cut_short_is_an_error_for_writers", child));
}

/// A store beyond the new end of a truncated file can be lost without a fault. `flush` must still return an error. The
/// test truncates the file after a store, in one case within the last page.
#[test]
fn stores_past_the_end_of_the_file_are_errors_of_flush() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    for len in [10 * PAGE, 64 * PAGE - 100] {
        let mut array = sevens(&path, 64).open_rw::<u8, Ix2>(&path).unwrap();
        array.slice_mut(s![60.., ..]).fill(8);
        truncate(&path, len);
        let error = array.flush().unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::LengthMismatch, Some(&*path)));
        let text = error.to_string();
        assert!(text.contains(&format!("at least {} bytes, found {len} bytes", 64 * PAGE)), "{text}");
        assert_eq!(array.close().unwrap_err().kind(), ErrorKind::LengthMismatch);
    }
}

#[test]
fn a_guard_reports_a_fault_of_an_array_that_it_dropped() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let error = fault::guard(|| {
            let array = sevens(&path, 4).open::<u8, Ix2>(&path).unwrap();
            truncate(&path, 0);
            array.row(2).sum()
        });
        let error = error.unwrap_err();
        assert_eq!(
            (error.kind(), error.path()),
            (ErrorKind::Fault { offset: (2 * PAGE) as u64 }, Some(&*path))
        );
        assert!(fault::guard(|| ()).is_ok());
    };
    assert_success(&in_child("fault::a_guard_reports_a_fault_of_an_array_that_it_dropped", child));
}

/// `close_path` keeps the mapping while borrows are alive, so a later store through a borrow can fault again.
#[test]
fn a_borrow_of_an_array_that_was_closed_by_path_may_fault_again() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let mut array = sevens(&path, 4).guarded().open_rw::<u8, Ix2>(&path).unwrap();
        let mut rows = array.view_mut();
        truncate(&path, 0);
        rows.fill(1);
        let closed = ndarray_mmap::close_path(&path);
        assert!(matches!(closed.unwrap_err().kind(), ErrorKind::Fault { .. }));
        rows.fill(2);
        assert!(rows.iter().all(|&element| element == 2));
    };
    assert_success(&in_child("fault::a_borrow_of_an_array_that_was_closed_by_path_may_fault_again", child));
}

/// `close` returns the error that `close_path` has returned. It also returns a fault that happens after `close_path`.
#[test]
fn close_reports_faults_before_and_after_close_path() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let second_page = ErrorKind::Fault { offset: PAGE as u64 };
        let mut array = sevens(&path, 4).guarded().open_rw::<u8, Ix2>(&path).unwrap();
        truncate(&path, PAGE);
        array.row_mut(1).fill(1);
        assert_eq!(ndarray_mmap::evict_view(&array.row(3)).unwrap_err().kind(), second_page);
        // After a fault, the fault handler maps a replacement page. A store to the replacement page stays visible as
        // long as a borrow is alive.
        let row = array.try_view().unwrap();
        assert_eq!(ndarray_mmap::close_path(&path).unwrap_err().kind(), second_page);
        assert_eq!(row[[1, 5]], 1);
        assert_eq!(array.close().unwrap_err().kind(), second_page);

        let mut array = sevens(&path, 4).guarded().open_rw::<u8, Ix2>(&path).unwrap();
        let mut rows = array.view_mut();
        assert_eq!(ndarray_mmap::close_path(&path).unwrap(), 1);
        truncate(&path, PAGE);
        rows.row_mut(1).fill(1);
        assert_eq!(array.close().unwrap_err().kind(), second_page);

        let copy = sevens(&path, 4).guarded().open_cow::<u8, Ix2>(&path).unwrap();
        truncate(&path, PAGE);
        assert_eq!(copy[[1, 0]], 0);
        assert_eq!(ndarray_mmap::evict_view(&copy.view()).unwrap_err().kind(), second_page);
    };
    assert_success(&in_child("fault::close_reports_faults_before_and_after_close_path", child));
}

#[test]
fn a_fault_without_a_guard_ends_the_process() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let array = sevens(&path, 4).open::<u8, Ix2>(&path).unwrap();
        fault::install().unwrap();
        truncate(&path, 0);
        eprintln!("no signal: {}", array.row(0).sum());
    };
    let output = in_child("fault::a_fault_without_a_guard_ends_the_process", child);
    assert_died_of(&output, libc::SIGBUS);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("no signal"));
}

/// Repeats faults in one process. The test truncates the files of readers, writers and loops over chunks, and fills a
/// sparse array on a disk that is too small. Each fault must become an error of its array, and the process must
/// continue.
#[test]
fn every_fault_is_survived() {
    const ROUNDS: usize = 50;
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let (mut tried, mut survived) = (0, 0);
        let mut count = |closed: ndarray_mmap::Result<()>| {
            tried += 1;
            survived += usize::from(matches!(closed.unwrap_err().kind(), ErrorKind::Fault { .. }));
        };
        for round in 0..ROUNDS {
            let options = sevens(&path, 64).guarded();
            let reader = options.open::<u8, Ix2>(&path).unwrap();
            truncate(&path, (round + 1) * PAGE);
            assert_eq!(reader[[63, 5]], 0);
            count(reader.close());
            let mut writer = sevens(&path, 64).guarded().open_rw::<u8, Ix2>(&path).unwrap();
            truncate(&path, (round + 1) * PAGE);
            writer.fill(8);
            count(writer.close());
            let looped = sevens(&path, 64).guarded().open::<u8, Ix2>(&path).unwrap();
            for (rows, chunk) in looped.row_chunks(Budget::chunk_rows(4)) {
                if rows.start == 8 {
                    truncate(&path, 9 * PAGE);
                }
                assert!(chunk.iter().all(|&element| element == 7 || element == 0));
            }
            count(looped.close());
        }
        if let Some(disk) = Tmpfs::mount("size=16m") {
            let options = ArrayOptions::new().allocation(Allocation::Sparse).shape((20 << 8, PAGE)).guarded();
            for _ in 0..ROUNDS / 5 {
                let mut array = options.clone().scratch_directory(disk.path()).scratch::<u8, Ix2>().unwrap();
                array.fill(1);
                count(array.close());
            }
        }
        println!("faults survived: {survived} of {tried}");
        assert_eq!(survived, tried);
    };
    let output = in_child("fault::every_fault_is_survived", child);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert_success(&output);
}

#[test]
fn zero_sized_arrays_have_nothing_to_guard() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    let array = ArrayOptions::new().shape(0).guarded().create::<u8, Ix1>(&path).unwrap();
    assert_eq!(array.len(), 0);
    array.close().unwrap();
}
