//! Tests that check which faults are handled, what is stored about them, and what a guard reports.

use super::super::install;
use super::{Watched, assert_died_of, assert_success, folder, in_child, page, truncate};
use crate::ErrorKind;
use crate::fault::guard;
use memmap2::MmapOptions;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// A tmpfs of 16 MiB that is unmounted when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = folder();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(folder)),
            _ => None,
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[test]
fn stores_on_a_full_disk_are_reported() {
    let child = || {
        let Some(disk) = SmallDisk::mount() else {
            println!("SKIPPED: no right to mount a tmpfs");
            return;
        };
        let array = Watched::sparse(disk.path(), 32 * MIB / page(1));
        let stored = guard(|| (0..array.pages()).for_each(|i| array.store(page(i), (i % 251) as u8 + 1)));
        let error = stored.unwrap_err();
        let Some(offset) = array.watch.first_fault() else { panic!("no fault is remembered") };
        assert_eq!((error.kind(), error.path()), (ErrorKind::Fault { offset }, Some(&*array.path)));
        // Every store can be read back from the mapping, whether its page faulted or not.
        let stored = offset as usize / page(1);
        assert!((3 * MIB..=16 * MIB).contains(&page(stored)), "{offset}");
        assert_eq!(array.watch.count(), array.pages() - stored);
        assert!((0..array.pages()).all(|i| array.load(page(i)) == (i % 251) as u8 + 1));
        // `msync` succeeds, so only the watch knows of the fault.
        array.flush().unwrap();
        assert_eq!(array.watch.first_fault(), Some(offset));
        let (file, mut byte) = (File::open(&array.path).unwrap(), [0]);
        for i in 0..array.pages() {
            file.read_exact_at(&mut byte, page(i) as u64).unwrap();
            assert_eq!(byte[0], if i < stored { (i % 251) as u8 + 1 } else { 0 }, "page {i}");
        }
    };
    let output = in_child("sys::linux::sigbus::tests::reports::stores_on_a_full_disk_are_reported", child);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert_success(&output);
}

#[test]
fn a_file_truncated_under_a_reader_is_reported() {
    let child = || {
        let folder = folder();
        let path = folder.path().join("array");
        fs::write(&path, vec![7; page(64)]).unwrap();
        for array in [Watched::read_only(&path), Watched::private(&path)] {
            truncate(&path, page(64));
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&vec![7; page(64)], 0).unwrap();
            let sum = || (0..page(64)).map(|i| u64::from(array.load(i))).sum::<u64>();
            assert_eq!(guard(sum).unwrap(), 7 * page(64) as u64);
            array.truncate_to_pages(40);
            let error = guard(sum).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fault { offset: page(40) as u64 });
            assert_eq!(error.path(), Some(&*path));
            assert_eq!(array.watch.count(), 24);
            let text = error.to_string();
            assert!(
                text.starts_with(&format!(
                    "guard {path:?}: expected every access to reach the file, found a fault"
                )),
                "{text}"
            );
            assert!(
                text.contains(&format!("byte {}", page(40))) && text.ends_with("open the file again"),
                "{text}"
            );
            // The second pass causes no fault, but reads pages of zeros. So every later guard reports the fault again.
            assert!(guard(sum).is_err() && guard(|| ()).is_err());
            assert_eq!(array.watch.count(), 24);
        }
        // The faults of the dropped arrays are not reported any more.
        assert_eq!(guard(|| 1).unwrap(), 1);
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::reports::a_file_truncated_under_a_reader_is_reported",
        child,
    ));
}

#[test]
fn a_file_truncated_under_a_writer_is_reported() {
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), 64);
        let (cut, is_cut) = mpsc::channel();
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                array.truncate_to_pages(10);
                cut.send(()).unwrap();
            });
            guard(|| {
                while is_cut.try_recv().is_err() {
                    (0..page(64)).step_by(64).for_each(|i| array.store(i, 1));
                }
                (0..page(64)).step_by(64).for_each(|i| array.store(i, 2));
            })
            .unwrap_err()
        });
        let Some(offset) = array.watch.first_fault() else { panic!("no fault is remembered") };
        assert_eq!(error.kind(), ErrorKind::Fault { offset });
        assert!((page(10)..page(64)).contains(&(offset as usize)));
        assert_eq!(array.watch.count(), 54);
        assert!((0..page(64)).step_by(64).all(|i| array.load(i) == 2));
        assert_eq!(
            fs::metadata(&array.path).unwrap().len(),
            page(10) as u64,
            "the file is not made longer again"
        );
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::reports::a_file_truncated_under_a_writer_is_reported",
        child,
    ));
}

#[test]
fn the_offset_is_that_of_the_file() {
    let child = || {
        let folder = folder();
        let path = folder.path().join("array");
        let file = File::create_new(&path).unwrap();
        file.set_len(page(100) as u64).unwrap();
        // The array starts in the middle of page 20, like an array after a header.
        let offset = page(20) + 1000;
        let memory = MmapOptions::new().offset(offset as u64).len(page(30)).map_raw_read_only(&file).unwrap();
        let array = Watched::of(memory, &path, false, offset as u64);
        truncate(&path, 0);
        let last = guard(|| array.load(page(30) - 1)).unwrap_err();
        assert_eq!(last.kind(), ErrorKind::Fault { offset: page(50) as u64 });
        let first = guard(|| array.load(0)).unwrap_err();
        assert_eq!(first.kind(), ErrorKind::Fault { offset: page(20) as u64 });
        // The first fault is the earliest one, not the one at the lowest offset.
        assert_eq!((array.watch.first_fault(), array.watch.count()), (Some(page(50) as u64), 2));
    };
    assert_success(&in_child("sys::linux::sigbus::tests::reports::the_offset_is_that_of_the_file", child));
}

#[test]
fn a_guard_reports_faults_of_dropped_arrays() {
    let child = || {
        let folder = folder();
        let (one, other) =
            (Watched::sparse(folder.path(), 1).truncated(), Watched::sparse(folder.path(), 2).truncated());
        let path = one.path.clone();
        let error = guard(move || {
            one.load(0);
            drop(one);
            // With `one`, this is the maximum number of faults whose path the crate stores.
            for _ in 0..63 {
                Watched::writable(&folder_file(folder.path())).truncated().load(0);
            }
        })
        .unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Fault { offset: 0 }, Some(&*path)));
        assert!(guard(|| ()).is_ok(), "the array was dropped before the guard");

        // Guards nest: the outer guard reports what the inner one has reported, too.
        let outer = guard(|| {
            let inner = guard(|| other.load(page(1))).unwrap_err();
            assert_eq!(inner.kind(), ErrorKind::Fault { offset: page(1) as u64 });
            drop(other);
            assert!(guard(|| ()).is_ok());
        });
        assert_eq!(outer.unwrap_err().kind(), ErrorKind::Fault { offset: page(1) as u64 });
        assert!(guard(|| ()).is_ok());
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::reports::a_guard_reports_faults_of_dropped_arrays",
        child,
    ));
}

/// Creates a file of one page.
fn folder_file(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("again");
    fs::write(&path, vec![1; page(1)]).unwrap();
    path
}

#[test]
fn a_panic_passes_through_and_ends_the_guard() {
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), 2).truncated();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            guard(|| {
                array.load(0);
                panic!("on purpose");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(array.watch.count(), 1);
        eprintln!("the guard is off");
        array.load(page(1));
    };
    let output =
        in_child("sys::linux::sigbus::tests::reports::a_panic_passes_through_and_ends_the_guard", child);
    assert_died_of(&output, libc::SIGBUS);
    assert!(String::from_utf8_lossy(&output.stderr).contains("the guard is off"));
}

#[test]
fn an_array_can_handle_the_faults_of_every_thread() {
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), 8).truncated();
        install().unwrap();
        array.watch.handle_in_all_threads();
        // The guard also reports a fault of another thread that works for the guarded thread.
        let error =
            guard(|| thread::scope(|scope| scope.spawn(|| array.load(page(3))).join().unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fault { offset: page(3) as u64 });
        array.store(page(4), 1);
        assert_eq!((array.load(page(4)), array.watch.count()), (1, 2));
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::reports::an_array_can_handle_the_faults_of_every_thread",
        child,
    ));
}

#[test]
fn a_fault_in_a_thread_without_a_guard_ends_the_process() {
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), 8).truncated();
        _ = guard(|| {
            array.load(0);
            eprintln!("handled here: {}", array.watch.count());
            thread::scope(|scope| scope.spawn(|| array.load(page(1))).join().unwrap())
        });
    };
    let output = in_child(
        "sys::linux::sigbus::tests::reports::a_fault_in_a_thread_without_a_guard_ends_the_process",
        child,
    );
    assert_died_of(&output, libc::SIGBUS);
    assert!(String::from_utf8_lossy(&output.stderr).contains("handled here: 1"));
}

#[test]
fn faults_on_addresses_that_are_mapped_again_are_handled_again() {
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), 4).truncated();
        let file = File::open(&array.path).unwrap();
        for round in 1..=200 {
            let stored = guard(|| (0..4).for_each(|i| array.store(page(i), round as u8)));
            assert!(stored.is_err());
            assert_eq!(array.watch.count(), 4 * round);
            assert!((0..4).all(|i| array.load(page(i)) == round as u8));
            map_private_anew(array.address(0), page(4), &file);
        }
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::reports::faults_on_addresses_that_are_mapped_again_are_handled_again",
        child,
    ));
}

/// Maps the file privately over an existing mapping of it.
fn map_private_anew(start: *mut u8, len: usize, file: &File) {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_FIXED);
    // SAFETY: the range is a live mapping of this file from its first page on, and no reference into it exists.
    let mapped = unsafe { libc::mmap(start.cast(), len, protection, flags, file.as_raw_fd(), 0) };
    assert_eq!(mapped, start.cast());
}

#[test]
fn pages_keep_the_protection_of_the_mapping() {
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), 2).truncated();
        // SAFETY: the range is the live mapping, and no reference into it exists.
        unsafe { crate::sys::unix::protect_read_only(array.address(0), page(2)) }.unwrap();
        array.watch.set_read_only();
        assert_eq!(guard(|| array.load(0)).unwrap_err().kind(), ErrorKind::Fault { offset: 0 });
        eprintln!("read");
        array.store(0, 1);
    };
    let output =
        in_child("sys::linux::sigbus::tests::reports::pages_keep_the_protection_of_the_mapping", child);
    assert_died_of(&output, libc::SIGSEGV);
    assert!(String::from_utf8_lossy(&output.stderr).contains("read"));
}

#[test]
fn at_the_limit_of_mappings_the_previous_handler_gets_the_fault() {
    let most = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let most: usize = most.trim().parse().unwrap();
    if most > 1 << 20 {
        println!("SKIPPED: a process may have {most} mappings, too many to try");
        return;
    }
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), 2 * most).truncated();
        _ = guard(|| {
            for i in (0..array.pages()).step_by(2) {
                if array.watch.count() == most / 4 {
                    eprintln!("half-way: {} handled", array.watch.count());
                }
                array.load(page(i));
            }
        });
        eprintln!("never");
    };
    let output = in_child(
        "sys::linux::sigbus::tests::reports::at_the_limit_of_mappings_the_previous_handler_gets_the_fault",
        child,
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_died_of(&output, libc::SIGBUS);
    assert!(said.contains("half-way") && !said.contains("never"), "{said}");
}
