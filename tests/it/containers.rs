//! Tests of conditions that are common in containers: overlayfs, files of other users, and seccomp filters that refuse
//! system calls.

use crate::refuse::{Refusal, refusal, refuse};
use crate::support::{
    Overlay, cached_pages, disk_folder, is_alone, public_folder, run_as_somebody_else, skipped,
};
use crate::syscalls::no_locks;
use ndarray::{Array2, Axis, Ix2};
use ndarray_mmap::stream::{Stream, Transfer, copy};
use ndarray_mmap::{ArrayOptions, ErrorKind, MmapArray, OnDrop};
use std::path::Path;
use std::process::Command;

const ROWS: usize = 4096;
const COLUMNS: usize = 1024;
const PAGES: usize = ROWS * COLUMNS / 4096;

/// Returns options for an array of one-byte elements that starts at a page boundary. Four rows fill a page.
fn options() -> ArrayOptions {
    ArrayOptions::new().format(ndarray_mmap::Format::Raw).on_drop(OnDrop::KeepCached).shape((ROWS, COLUMNS))
}

fn values() -> Array2<u8> {
    Array2::from_shape_fn((ROWS, COLUMNS), |(row, column)| ((row * 31 + column) % 251) as u8)
}

fn store(path: &Path) {
    let mut array = options().create::<u8, Ix2>(path).unwrap();
    array.assign(&values());
    array.close().unwrap();
}

/// Returns how many pages of the file are in the page cache.
fn cached(path: &Path) -> usize {
    cached_pages(path).into_iter().filter(|&cached| cached).count()
}

#[test]
fn on_overlayfs_residency_and_eviction_apply_to_the_underlying_file() {
    let Some(overlay) = Overlay::mount(|lower| store(&lower.join("lower"))) else { return };
    store(&overlay.path().join("upper"));
    for (name, writable) in [("upper", true), ("lower", false), ("lower", true)] {
        let path = overlay.path().join(name);
        let check = |array: &ndarray::ArrayView2<'_, u8>| assert_eq!(array, &values(), "{name}");
        let evict = |evict_part: &dyn Fn(), residency: &dyn Fn() -> usize, evict_all: &dyn Fn()| {
            assert_eq!((cached(&path), residency()), (PAGES, PAGES * 4096), "{name}");
            evict_part();
            let left = cached_pages(&path);
            assert!((0..PAGES).all(|page| left[page] != (256..512).contains(&page)), "{name}");
            assert_eq!(residency(), (PAGES - 256) * 4096);
            evict_all();
            assert_eq!((cached(&path), residency()), (0, 0), "{name}");
        };
        if writable {
            let mut array = options().open_rw::<u8, Ix2>(&path).unwrap();
            array.assign(&values()); // all pages are dirty; `open_rw` has copied the file to the upper layer
            let residency = || array.residency().unwrap().resident_bytes;
            evict(&|| array.evict_rows(1024..2048).unwrap(), &residency, &|| array.evict().unwrap());
            check(&array.view());
        } else {
            let array = options().open::<u8, Ix2>(&path).unwrap();
            check(&array.view());
            let residency = || array.residency().unwrap().resident_bytes;
            evict(&|| array.evict_rows(1024..2048).unwrap(), &residency, &|| array.evict().unwrap());
            check(&array.view());
        }
    }
}

/// Returns how many bytes the kernel has read from disks for this process.
fn bytes_from_disk() -> u64 {
    let counters = std::fs::read_to_string("/proc/self/io").unwrap();
    counters.lines().find_map(|line| line.strip_prefix("read_bytes: ")).unwrap().parse().unwrap()
}

#[test]
fn on_overlayfs_streams_read_cached_pages_and_bypass_the_cache_for_others() {
    if !is_alone("containers::on_overlayfs_streams_read_cached_pages_and_bypass_the_cache_for_others") {
        return;
    }
    let Some(overlay) = Overlay::mount(|lower| store(&lower.join("lower"))) else { return };
    store(&overlay.path().join("upper"));
    let expected = values().map(|&value| f64::from(value)).mean_axis(Axis(0)).unwrap();
    for name in ["lower", "upper"] {
        let path = overlay.path().join(name);
        let array = options().open::<u8, Ix2>(&path).unwrap();
        let read = || {
            let before = bytes_from_disk();
            let mean = Stream::from(&array).mean_axis0().unwrap();
            assert!(mean.iter().zip(&expected).all(|(mean, expected)| (mean - expected).abs() < 1e-9));
            (bytes_from_disk() - before) as usize
        };
        std::fs::read(&path).unwrap();
        // A few pages may be missing from the page cache, because the kernel may reclaim pages at any time.
        assert!(cached(&path) > PAGES * 15 / 16, "{name}");
        assert!(read() < PAGES * 4096 / 16, "{name}: everything is cached");
        assert!(cached(&path) > PAGES * 15 / 16, "{name}: everything stays cached");
        array.evict().unwrap();
        assert!(read() >= PAGES * 4096, "{name}: nothing is cached");
        assert!(cached(&path) < PAGES / 4, "{name}: {} of {PAGES} pages are cached", cached(&path));
        for transfer in [Transfer::Auto, Transfer::Direct, Transfer::Buffered] {
            let copied = overlay.path().join("copied");
            let copied = Stream::from(&array).transfer(transfer).write_to(&copied).unwrap();
            assert_eq!(copied, values(), "{name}, {transfer:?}");
        }
    }
}

#[test]
fn somebody_elses_file_is_streamed_from_the_cache_and_evicted() {
    let public = public_folder();
    let path = public.path().join("array");
    store(&path);
    assert_eq!(cached(&path), PAGES);
    if run_as_somebody_else("containers::with_somebody_elses_file", "NDARRAY_MMAP_TEST_FILE", &path) {
        let cached = cached(&path);
        assert!(
            cached < PAGES / 4,
            "{cached} of {PAGES} pages are cached after an eviction and a stream that bypasses the cache"
        );
    }
}

#[test]
#[ignore = "runs in the child of `somebody_elses_file_is_streamed_from_the_cache_and_evicted`"]
fn with_somebody_elses_file() {
    let path = std::env::var_os("NDARRAY_MMAP_TEST_FILE").unwrap();
    let array = options().open::<u8, Ix2>(&path).unwrap();
    // The kernel reports residency only to the owner of the file, so `residency` returns an error.
    let error = array.residency().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("tells this process nothing of the file's cached pages"), "{error}");
    let sum: u64 = values().iter().map(|&value| u64::from(value)).sum();
    let bytes_for_a_stream = || {
        let before = bytes_from_disk();
        let add = |sum: u64, rows: ndarray::ArrayView2<'_, u8>| {
            sum + rows.iter().map(|&value| u64::from(value)).sum::<u64>()
        };
        assert_eq!(Stream::from(&array).fold(0, |sum, rows| add(sum, rows)).unwrap(), sum);
        (bytes_from_disk() - before) as usize
    };
    std::fs::read(&path).unwrap();
    assert!(bytes_for_a_stream() < PAGES * 4096 / 16, "everything is cached");
    array.evict().unwrap();
    assert!(bytes_for_a_stream() >= PAGES * 4096, "nothing is cached");
}

/// Returns sets of system calls that seccomp filters of containers refuse. Each set is tested in a separate child
/// process.
fn refusals(errno: libc::c_int) -> Vec<Vec<Refusal>> {
    let counts = || [451, libc::SYS_mincore, libc::SYS_preadv2];
    let moves = || [libc::SYS_pwritev2, libc::SYS_sync_file_range, libc::SYS_fadvise64, libc::SYS_fallocate];
    let others = || {
        [
            libc::SYS_renameat2,
            libc::SYS_io_setup,
            libc::SYS_process_vm_readv,
            libc::SYS_madvise,
            libc::SYS_syncfs,
        ]
    };
    let set = |calls: &[libc::c_long]| calls.iter().map(|&call| refusal(call, errno)).collect::<Vec<_>>();
    let mut all = set(&[&counts()[..], &moves(), &others()].concat());
    all.push(no_locks(errno));
    vec![set(&counts()), set(&moves()), set(&others()), all]
}

const REFUSED: &str = "NDARRAY_MMAP_TEST_REFUSED";

#[test]
fn arrays_and_streams_work_when_a_filter_refuses_system_calls() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        for index in 0..refusals(errno).len() {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "containers::under_a_filter", "--ignored", "--nocapture"])
                .env(REFUSED, format!("{errno} {index}"))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            let passed = output.status.success() && text.contains("1 passed");
            assert!(passed, "set {index}, error {errno}: {text}{errors}");
            if text.contains("SKIPPED") {
                return skipped("this process may not filter its system calls");
            }
        }
    }
}

#[test]
#[ignore = "runs in the children of `arrays_and_streams_work_when_a_filter_refuses_system_calls`"]
fn under_a_filter() {
    let Ok(task) = std::env::var(REFUSED) else { return };
    let (errno, index) = task.split_once(' ').unwrap();
    let index: usize = index.parse().unwrap();
    let folder = disk_folder();
    if !refuse(&refusals(errno.parse().unwrap())[index]) {
        return;
    }
    let path = folder.path().join("array");
    store(&path);
    let array = options().open::<u8, Ix2>(&path).unwrap();
    array.evict_rows(1000..2000).unwrap();
    array.evict().unwrap();
    assert_eq!(array, values());
    array.prefetch_rows(5..10).unwrap();
    match array.residency() {
        Ok(residency) => assert_eq!(residency.total_bytes, ROWS * COLUMNS),
        Err(error) => {
            assert_eq!((error.kind(), index == 0 || index == 3), (ErrorKind::Unsupported, true));
            let text = error.to_string();
            assert!(text.starts_with("residency \"") && text.contains("cached pages"), "{text}");
        }
    }
    let rows: Vec<usize> = (0..ROWS).step_by(37).rev().collect();
    let selected = values().select(Axis(0), &rows);
    for transfer in [Transfer::Auto, Transfer::Direct, Transfer::Buffered] {
        array.evict().unwrap();
        let copied = folder.path().join("copied.npy");
        assert_eq!(Stream::from(&array).transfer(transfer).write_to(&copied).unwrap(), values());
        let chosen = folder.path().join("chosen.npy");
        let stream = Stream::from(&array).select_rows(&rows).transfer(transfer);
        assert_eq!(stream.write_to(&chosen).unwrap(), selected);
    }
    let mut private = options().open_cow::<u8, Ix2>(&path).unwrap();
    private.row_mut(77).fill(252);
    let mut expected = values();
    expected.row_mut(77).fill(252);
    let mut destination = options().create_new::<u8, Ix2>(folder.path().join("new")).unwrap();
    copy(&private, &mut destination).unwrap();
    assert_eq!(destination, expected);
    assert_eq!(
        options().create_new::<u8, Ix2>(destination.path()).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    destination.close().unwrap();
    assert_eq!(MmapArray::<u8, Ix2>::open(folder.path().join("copied.npy")).unwrap(), values());
}
