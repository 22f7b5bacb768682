//! Every operation with every call of the system failing in turn, until none fails.
//!
//! What must hold whatever fails: no panic; an error or a right result; under the target's name the old file or the new
//! one, whole; no staged file left, unless removing it was what failed; and the next attempt works.

use super::{MmapArray, close_path};
use crate::error::{ErrorKind, Result};
use crate::sys::inject::{ALL, Call, Failure, disarm, fail_nth};
use ndarray::{Array2, Ix2};
use std::fs;
use std::path::Path;

/// The failures that each kind of call is put through.
const FAILURES: [Failure; 5] = [
    Failure::Errno(libc::ENOSPC),
    Failure::Errno(libc::EIO),
    Failure::Errno(libc::EINTR),
    Failure::Errno(libc::ENOMEM),
    Failure::Short,
];

const SHAPE: (usize, usize) = (3000, 7);

fn old_array() -> Array2<u32> {
    Array2::from_elem(SHAPE, 7)
}

fn new_array() -> Array2<u32> {
    Array2::from_shape_fn(SHAPE, |(row, column)| (row * 10 + column) as u32)
}

/// The whole life of an array: made in the place of an old one, filled, flushed, evicted, closed, read back.
fn life(path: &Path) -> Result<()> {
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

/// How an operation ended with one of its calls failing.
pub(crate) struct Ended {
    pub(crate) result: Result<()>,
    pub(crate) failed: Call,
    /// What happened, for the message of an assertion.
    pub(crate) case: String,
}

/// Runs an operation with every call of every kind failing in every way, one at a time, until there is no such call any
/// more. `before` puts everything as it was, `after` judges. Returns how many failures were met.
pub(crate) fn drive(before: impl Fn(), operation: impl Fn() -> Result<()>, after: impl Fn(Ended)) -> usize {
    let mut met = 0;
    for (failed, failure) in ALL.into_iter().flat_map(|call| FAILURES.map(|failure| (call, failure))) {
        for nth in 1.. {
            before();
            fail_nth(failed, nth, failure);
            let result = operation();
            if !disarm() {
                result.expect("nothing has failed");
                break;
            }
            met += 1;
            let case = format!("{failure:?} at {failed:?} {nth}: {result:?}");
            let harmless = matches!(failure, Failure::Short | Failure::Errno(libc::EINTR));
            assert!(!harmless || result.is_ok(), "repeated calls hide it: {case}");
            after(Ended { result, failed, case });
        }
    }
    met
}

fn write_old(path: &Path) {
    let mut array = MmapArray::<u32, Ix2>::create(path, SHAPE).unwrap();
    array.assign(&old_array());
    array.close().unwrap();
}

#[test]
fn whatever_call_fails_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    let met = drive(
        || write_old(&path),
        || life(&path),
        |Ended { failed, case, .. }| {
            let staged = fs::read_dir(folder.path()).unwrap().count() - 1;
            assert!(staged == 0 || failed == Call::Remove, "{case}");
            let left = MmapArray::<u32, Ix2>::open(&path).unwrap_or_else(|error| panic!("{case}: {error}"));
            let zeros = Array2::<u32>::zeros(SHAPE);
            let whole = left == old_array() || left == new_array() || left == zeros;
            assert!(whole, "{case}: neither the old file nor the new one");
        },
    );
    assert!(met > 50, "only {met} failures were met");
}

#[test]
fn a_failed_flush_is_remembered_until_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    let mut array = MmapArray::<u32, Ix2>::create(&path, SHAPE).unwrap();
    array.fill(3);
    fail_nth(Call::Sync, 1, Failure::Errno(libc::EIO));
    assert_eq!(array.flush().unwrap_err().kind(), ErrorKind::Io);
    assert!(disarm());
    assert_eq!(array.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(array.evict_rows(..10).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(array.close().unwrap_err().kind(), ErrorKind::Poisoned);
    let array = MmapArray::<u32, Ix2>::open_rw(&path).unwrap();
    array.flush().unwrap();
}
