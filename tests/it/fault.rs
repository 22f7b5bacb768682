//! Faults on arrays become errors. Each test runs in a process of its own: a fault that is not answered would end the run.

use crate::support::{Tmpfs, disk_folder};
use ndarray::{Axis, Ix1, Ix2, s};
use ndarray_mmap::stream::Budget;
use ndarray_mmap::{Allocation, ArrayOptions, ErrorKind, Format, MmapArray, ReadWrite, fault};
use std::env;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

pub const PAGE: usize = 4096;

/// Runs `body` in a child process, by running this very test again, and says how that ended. In the child, the call does
/// not return.
pub fn in_child(test: &str, body: impl FnOnce()) -> Output {
    const CHILD: &str = "NDARRAY_MMAP_FAULT_CHILD";
    if env::var(CHILD).is_ok_and(|running| running == test) {
        body();
        std::process::exit(0);
    }
    // Under a time limit: what must not happen to a fault is that it is answered for ever.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120"]).arg(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, test).env("RUST_BACKTRACE", "0").output().unwrap()
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

/// Another process sets the length of a file.
pub fn truncate(path: &Path, len: usize) {
    assert!(Command::new("truncate").arg(format!("--size={len}")).arg(path).status().unwrap().success());
}

/// A raw file of so many pages of sevens.
pub fn sevens(path: &Path, pages: usize) -> ArrayOptions {
    std::fs::write(path, vec![7_u8; pages * PAGE]).unwrap();
    ArrayOptions::new().format(Format::Raw).shape((pages, PAGE))
}

/// Stores into a sparse array that the disk has no room for; whatever is called then says so, and none says Ok.
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
        // The program goes on, with what it has stored.
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
        // With the array the fault is gone, and so is its lock.
        assert!(fault::guard(|| ()).is_ok());

        // Without a guard, the array itself remembers; turning it into a reader is no way out.
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
        // No page faults any more, and the sum is still wrong.
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
        // Eight threads write on their own rows while the end of the file goes.
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

/// Without a fault, too: what was stored before the file was cut, and what is stored behind the end of its last page.
#[test]
fn stores_behind_the_end_of_the_file_are_reported_by_flush() {
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
fn a_guard_remembers_an_array_that_lived_in_it() {
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
    assert_success(&in_child("fault::a_guard_remembers_an_array_that_lived_in_it", child));
}

/// Closing by path puts another mapping in the place of the pages while borrows are out: they fault anew.
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

/// What a closing by path was told, or what happened after it, is told to the owner as well.
#[test]
fn the_owner_hears_of_a_fault_that_a_closing_by_path_met() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let second_page = ErrorKind::Fault { offset: PAGE as u64 };
        let mut array = sevens(&path, 4).guarded().open_rw::<u8, Ix2>(&path).unwrap();
        truncate(&path, PAGE);
        array.row_mut(1).fill(1);
        assert_eq!(ndarray_mmap::evict_view(&array.row(3)).unwrap_err().kind(), second_page);
        // What was stored in the place of the page that faulted is there for as long as anybody looks.
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
    assert_success(&in_child("fault::the_owner_hears_of_a_fault_that_a_closing_by_path_met", child));
}

#[test]
fn without_a_guard_a_fault_kills() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let array = sevens(&path, 4).open::<u8, Ix2>(&path).unwrap();
        fault::install().unwrap();
        truncate(&path, 0);
        eprintln!("not asked: {}", array.row(0).sum());
    };
    let output = in_child("fault::without_a_guard_a_fault_kills", child);
    assert_died_of(&output, libc::SIGBUS);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("not asked"));
}

/// Readers, writers and loops over chunks of files that another process cuts, and stores into a sparse array on a full disk,
/// over and over in one process: each is an error of the array, and the process goes on.
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
