//! Tests that make each system call of a build fail in turn.

use super::open_or_build;
use crate::array::MmapArray;
use crate::array::injected::{Outcome, run_with_failures};
use crate::error::{ErrorKind, Result};
use crate::file::sweep_staged;
use crate::stream::Stream;
use crate::sys::inject::{Call, Failure, disarm, fail_nth};
use ndarray::{Array2, Ix2};
use std::cell::Cell;
use std::path::Path;

/// Opens or builds the result for a parameter. Returns the result, and whether it was built.
fn result(path: &Path, number: u32) -> Result<(MmapArray<u32, Ix2, crate::ReadOnly>, bool)> {
    let mut is_built = false;
    let array = open_or_build(path, &number, |out| {
        is_built = true;
        Stream::from(&values(number)).write_to(out)
    })?;
    Ok((array, is_built))
}

fn values(number: u32) -> Array2<u32> {
    Array2::from_elem((300, 7), number)
}

/// After any failure the old result is complete, or the new one, and the next call succeeds.
#[test]
fn no_failed_call_makes_an_unfinished_result_complete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.npy");
    let number = Cell::new(0);
    let failures = run_with_failures(
        || {
            number.set(number.get() + 2);
            result(&path, number.get()).unwrap();
        },
        || {
            let (array, is_built) = result(&path, number.get() + 1)?;
            assert!(is_built && array == values(number.get() + 1));
            Ok(())
        },
        |Outcome { result: outcome, failed, case }| {
            let names = || std::fs::read_dir(folder.path()).unwrap().count();
            if failed == Call::Remove {
                sweep_staged(folder.path()).unwrap();
            } else {
                assert_eq!(names(), 2, "{case}");
            }
            let found = MmapArray::<u32, Ix2>::open(&path).unwrap();
            let is_new = found == values(number.get() + 1);
            assert!(is_new || outcome.is_err() && found == values(number.get()), "{case}");
            drop(found);
            // The file that has the name is known to be complete, whatever has failed.
            let expected = number.get() + u32::from(is_new);
            let (array, is_built) = result(&path, expected).unwrap();
            assert!(!is_built && array == values(expected), "{case}");
        },
    );
    assert!(failures > 50, "only {failures} failures were tried");
}

/// The first build of a result leaves nothing if a call fails, or leaves a complete result.
#[test]
fn no_failed_call_of_a_first_build_leaves_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.npy");
    let names = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    run_with_failures(
        || names().for_each(|name| std::fs::remove_file(folder.path().join(name)).unwrap()),
        || result(&path, 1).map(drop),
        |Outcome { result: outcome, failed, case }| {
            let left: Vec<_> = names().collect();
            // An error of the lock call leaves the empty record file: another process can have locked the file.
            let is_clean = left.is_empty() || matches!(failed, Call::Remove | Call::Lock);
            assert!(is_clean || path.exists(), "{case}: {left:?}");
            assert!(path.exists() || outcome.is_err(), "{case}");
            let is_complete = path.exists();
            let (array, is_built) = result(&path, 1).unwrap();
            assert_eq!((array, is_built), (result(&path, 1).unwrap().0, !is_complete), "{case}");
            sweep_staged(folder.path()).unwrap();
            assert_eq!(names().count(), 2, "{case}");
        },
    );
}

#[test]
fn a_filesystem_without_locks_is_an_error_unless_the_result_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.npy");
    fail_nth(Call::Lock, 1, Failure::UNSUPPORTED);
    let error = result(&path, 1).unwrap_err();
    assert!(disarm());
    assert_eq!(error.kind(), ErrorKind::LockUnavailable);
    assert!(error.to_string().contains("build the result on a filesystem with locks"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    result(&path, 1).unwrap();
    fail_nth(Call::Lock, 1, Failure::UNSUPPORTED);
    assert!(!result(&path, 1).unwrap().1);
    assert!(disarm());
}
