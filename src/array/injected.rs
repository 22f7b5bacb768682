//! Tests that run every operation of arrays, and make each system call of the operation fail in turn.
//!
//! Whichever call fails, these conditions must be true: there is no panic; the result is an error or correct; the
//! target's name leads to the complete old file or the complete new file; no staged file remains, unless its removal
//! failed; the next attempt succeeds.

use super::{MmapArray, close_path, close_under, evict_view, flush_view};
use crate::error::{ErrorKind, Result};
use crate::file::{Allocation, ArrayOptions, Format, sweep_staged};
use crate::sys::inject::{ALL, Call, Failure, disarm, fail_nth};
use ndarray::{Array2, Ix2, s};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The failures that are tried for each kind of call.
const FAILURES: [Failure; 5] =
    [Failure::DISK_FULL, Failure::MEDIUM, Failure::INTERRUPTED, Failure::MEMORY_FULL, Failure::Short];

const SHAPE: (usize, usize) = (3000, 7);

fn old_array() -> Array2<u32> {
    Array2::from_elem(SHAPE, 7)
}

fn new_array() -> Array2<u32> {
    Array2::from_shape_fn(SHAPE, |(row, column)| (row * 10 + column) as u32)
}

/// Opens a file on which no lock is left. If the release of a lock was made to fail, the kernel releases the lock when
/// the last copy of its descriptor is closed. A child process that another test starts has such a copy until it calls
/// `exec`, so this function waits for a moment. A lock that this process keeps is an error.
pub(crate) fn open_unlocked(path: &Path) -> Result<MmapArray<u32, Ix2>> {
    ArrayOptions::new().lock_timeout(Duration::from_secs(10)).open_rw(path)
}

/// Creates an array that replaces an old one, fills, flushes, evicts and closes it, and reads it again.
fn use_array(path: &Path) -> Result<()> {
    let mut array = MmapArray::<u32, Ix2>::create(path, SHAPE)?;
    array.assign(&new_array());
    array.flush_rows(10..500)?;
    array.evict_rows(..1000)?;
    array.flush()?;
    let array = array.into_read_only()?;
    array.prefetch_rows(..)?;
    array.residency()?;
    array.close()?;
    let array = MmapArray::<u32, Ix2>::open(path)?;
    assert_eq!(array, new_array(), "an array that was closed with Ok holds what was stored");
    close_path(path)?;
    Ok(())
}

/// Runs the other operations of arrays on a raw file: opening it for writing and copy-on-write, flushing and evicting
/// views, scratch arrays, and the removal of staged files.
fn use_other_operations(path: &Path, new_path: &Path) -> Result<()> {
    let raw = ArrayOptions::new().format(Format::Raw).shape(SHAPE).offset_bytes(128);
    let mut array = raw.open_rw::<u32, Ix2>(path)?;
    array.slice_mut(s![5..9, ..]).fill(9);
    flush_view(&array.slice(s![5..7, 2..]))?;
    evict_view(&array.slice(s![..;3, ..]))?;
    array.close()?;
    let mut private = raw.open_cow::<u32, Ix2>(path)?;
    private.fill(1);
    private.close()?;
    let sparse = ArrayOptions::new().allocation(Allocation::Sparse).shape(SHAPE);
    let mut made = sparse.create_new::<u32, Ix2>(new_path)?;
    made.row_mut(3).fill(4);
    close_under(new_path)?;
    drop(made); // the closed array held its lock until here
    let mut scratch = MmapArray::<u32, Ix2>::scratch(SHAPE)?;
    scratch.fill(2);
    scratch.evict()?;
    assert_eq!(scratch[[2999, 6]], 2, "an eviction with Ok loses nothing");
    sweep_staged(path.parent().expect("it lies in a folder"))?;
    assert_eq!(ArrayOptions::new().open::<u32, Ix2>(new_path)?.row(3).sum(), 28);
    assert_eq!(raw.open::<u32, Ix2>(path)?.slice(s![4..10, 0]).to_vec(), [7, 9, 9, 9, 9, 7]);
    Ok(())
}

/// The result of one run of an operation, in which one system call failed.
pub(crate) struct Outcome {
    pub(crate) result: Result<()>,
    pub(crate) failed: Call,
    /// A description of the failure, for assertion messages.
    pub(crate) case: String,
}

/// Runs an operation many times. In each run, one of its system calls fails with one of the failures, until each call
/// has failed with each failure. `before` restores the initial state, and `after` checks the result. Returns the number
/// of failures.
pub(crate) fn run_with_failures(
    before: impl Fn(),
    operation: impl Fn() -> Result<()>,
    after: impl Fn(Outcome),
) -> usize {
    let mut failures = 0;
    for (failed, failure) in ALL.into_iter().flat_map(|call| FAILURES.map(|failure| (call, failure))) {
        for nth in 1.. {
            before();
            fail_nth(failed, nth, failure);
            let result = operation();
            if !disarm() {
                result.expect("nothing has failed");
                break;
            }
            failures += 1;
            let case = format!("{failure:?} at {failed:?} {nth}: {result:?}");
            let harmless = matches!(failure, Failure::Short | Failure::INTERRUPTED);
            assert!(!harmless || result.is_ok(), "a short or interrupted call must be repeated: {case}");
            after(Outcome { result, failed, case });
        }
    }
    failures
}

fn write_old(path: &Path) {
    let mut array = MmapArray::<u32, Ix2>::create(path, SHAPE).unwrap();
    array.assign(&old_array());
    array.close().unwrap();
}

/// Where the system cannot name a file that was created without a name, new files have temporary names.
#[test]
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
fn no_failed_call_loses_data_where_new_files_have_temporary_names() {
    // The filter and the planned failures affect only this thread.
    let tested = std::thread::spawn(|| {
        let is_refused = crate::sys::refused::refuse_links();
        if is_refused { no_failed_call_loses_data() } else { println!("SKIPPED: no seccomp") }
    });
    tested.join().unwrap();
}

#[test]
fn no_failed_call_loses_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    let failures = run_with_failures(
        || write_old(&path),
        || use_array(&path),
        |Outcome { failed, case, .. }| {
            let staged = fs::read_dir(folder.path()).unwrap().count() - 1;
            assert!(staged == 0 || failed == Call::Remove, "{case}");
            let left = MmapArray::<u32, Ix2>::open(&path).unwrap_or_else(|error| panic!("{case}: {error}"));
            let zeros = Array2::<u32>::zeros(SHAPE);
            let whole = left == old_array() || left == new_array() || left == zeros;
            assert!(whole, "{case}: neither the old file nor the new one");
        },
    );
    assert!(failures > 50, "only {failures} failures were tried");
}

#[test]
fn no_failed_call_of_other_operations_loses_data() {
    let folder = tempfile::tempdir().unwrap();
    let (path, new_path) = (folder.path().join("array.npy"), folder.path().join("new.npy"));
    let before = || {
        _ = fs::remove_file(&new_path);
        write_old(&path);
    };
    let failures = run_with_failures(
        before,
        || use_other_operations(&path, &new_path),
        |Outcome { failed, case, .. }| {
            let names = fs::read_dir(folder.path()).unwrap().count();
            assert!(names <= 2 || failed == Call::Remove, "{case}: a staged file remains");
            let left = open_unlocked(&path).unwrap_or_else(|error| panic!("{case}: {error}"));
            let mut changed = old_array();
            changed.slice_mut(s![5..9, ..]).fill(9);
            assert!(
                left == old_array() || left == changed,
                "{case}: the file does not contain the stored bytes"
            );
        },
    );
    assert!(failures > 50, "only {failures} failures were tried");
}

/// A fill that gets its name on close replaces the old file completely, or leaves the old file and nothing else.
#[test]
fn no_failed_call_publishes_an_incomplete_fill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    let fill = |ends: fn(MmapArray<u32, Ix2>) -> Result<()>| {
        run_with_failures(
            || write_old(&path),
            || {
                let options = ArrayOptions::new().shape(SHAPE).publish_on_close(true);
                let mut array = options.create::<u32, Ix2>(&path)?;
                array.assign(&new_array());
                ends(array)
            },
            |Outcome { result, failed, case }| {
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{case}");
                let left = open_unlocked(&path).unwrap_or_else(|error| panic!("{case}: {error}"));
                // If the name cannot be made durable, the result is an error although the new file is published.
                let is_new = result.is_ok() || failed == Call::SyncDirectory;
                assert_eq!(left, if is_new { new_array() } else { old_array() }, "{case}");
            },
        )
    };
    assert!(fill(MmapArray::close) > 30);
    assert!(fill(|array| array.into_read_only().map(drop)) > 30);
}

/// The kernel reports a failed sync only once. No later call may return `Ok`, whichever sync failed.
#[test]
fn no_call_succeeds_after_a_failed_sync() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    let mut failures = 0;
    for nth in 1.. {
        let mut array = MmapArray::<u32, Ix2>::create(&path, SHAPE).unwrap();
        array.fill(3);
        fail_nth(Call::Sync, nth, Failure::MEDIUM);
        let done = array
            .flush_rows(..100)
            .and_then(|()| array.evict_rows(..1000))
            .and_then(|()| evict_view(&*array))
            .and_then(|()| array.flush());
        if !disarm() {
            done.unwrap();
            break;
        }
        failures += 1;
        assert_eq!(done.unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(array.flush().unwrap_err().kind(), ErrorKind::Poisoned, "after sync {nth}");
        assert_eq!(array.evict().unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(array.close().unwrap_err().kind(), ErrorKind::Poisoned);
    }
    assert!(failures >= 4, "only {failures} syncs failed");
}

/// If closing an array by its path has failed, closing it by its owner returns the same error.
#[test]
fn the_owner_also_gets_the_error_of_a_failed_close() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    for nth in [1, 2] {
        let mut array = MmapArray::<u32, Ix2>::create(&path, SHAPE).unwrap();
        array.fill(3);
        fail_nth(Call::Sync, nth, Failure::MEMORY_FULL);
        let error = close_path(&path).unwrap_err();
        assert!(disarm());
        assert!(array.is_closed(), "it is closed although the flush failed");
        assert_eq!(close_path(&path).unwrap_err().kind(), error.kind());
        assert_eq!(array.close().unwrap_err().kind(), error.kind());
    }
}

/// After the first sync the lock is released, so a second one could write what the next owner has stored.
#[test]
fn closing_syncs_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut array = MmapArray::<u32, Ix2>::create(folder.path().join("array.npy"), SHAPE).unwrap();
    array.fill(3);
    // The owner flushes (one call) and evicts (one call).
    fail_nth(Call::Sync, 3, Failure::MEDIUM);
    array.close().unwrap();
    assert!(!disarm(), "there was no third call");
}

/// Another thread that lists the open arrays keeps the mapping alive for a moment after its owner has closed it.
#[test]
fn no_search_by_path_finds_an_array_after_its_owner_has_closed_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    let mut array = MmapArray::<u32, Ix2>::create(&path, SHAPE).unwrap();
    array.fill(3);
    let listed = crate::map::at_address(array.as_ptr() as usize).unwrap();
    fail_nth(Call::Sync, 1, Failure::MEDIUM);
    array.close().unwrap_err();
    assert!(disarm());
    assert_eq!(close_path(&path).unwrap(), 0);
    MmapArray::<u32, Ix2>::create(&path, SHAPE).unwrap();
    drop(listed);
}

#[test]
fn a_failed_flush_is_remembered_until_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    let mut array = MmapArray::<u32, Ix2>::create(&path, SHAPE).unwrap();
    array.fill(3);
    fail_nth(Call::Sync, 1, Failure::MEDIUM);
    assert_eq!(array.flush().unwrap_err().kind(), ErrorKind::Io);
    assert!(disarm());
    assert_eq!(array.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(array.evict_rows(..10).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(array.close().unwrap_err().kind(), ErrorKind::Poisoned);
    let array = MmapArray::<u32, Ix2>::open_rw(&path).unwrap();
    array.flush().unwrap();
}
