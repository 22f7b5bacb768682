//! [`sweep_staged`]: removes the staged files of processes that were killed.

use super::directory_of;
use super::staged::{LIFE_BYTE, Maker, process_space, staged_by, target_number};
use crate::error::{Error, Result};
use crate::sys::{self, LockMode, LockOutcome};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Removes the unfinished files that killed processes have left in a directory, and returns the number of removed
/// files.
///
/// `create` and `write_to` fill a file without a name, and name it when it is complete: if the process is killed, the
/// file does not remain. Filesystems such as NFS have no files without a name. On such a filesystem, a file named
/// `.ndarray-mmap-*.staged` beside the target is filled and then renamed. The next `create` or `write_to` with the same
/// target removes the files that killed processes have left for this target. This function removes such files for all
/// targets. A process holds a lock on such a file while it fills the file, and a locked file is never removed.
///
/// # Errors
/// [`NotFound`](crate::ErrorKind::NotFound) and [`NotAFile`](crate::ErrorKind::NotAFile) if there is no such directory;
/// the system's own error if the directory cannot be read or a leftover cannot be removed.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// assert_eq!(ndarray_mmap::sweep_staged(folder.path())?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sweep_staged(directory: impl AsRef<Path>) -> Result<usize> {
    sweep(directory.as_ref(), |_| true)
}

/// Removes the unfinished files that killed processes have left of this target. Ignores errors: a file that cannot be
/// removed does not prevent the creation of a new one.
pub(super) fn sweep_target(target: &Path) {
    let number = target_number(target);
    let _ = sweep(directory_of(target), |maker| maker.target == number);
}

/// Removes the unfinished files that killed processes have left in a directory, if `is_wanted` returns true for the
/// creator of the file.
fn sweep(directory: &Path, is_wanted: impl Fn(&Maker) -> bool) -> Result<usize> {
    let failed = |error| Error::io("sweep_staged", "a directory that can be read", error).at(directory);
    let (mut swept, mut first_error) = (0, None);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(maker) = staged_by(&entry.file_name()).filter(&is_wanted) else { continue };
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // The lock is held until the file is removed. If a process has just created the file, that process then finds
        // the file locked or removed, and creates another file.
        let Some(_leftover) = open_leftover(&path, maker) else { continue };
        match sys::fs::remove_file(&path) {
            Ok(()) => swept += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let error = Error::io("sweep_staged", "to remove a leftover", error).at(&path);
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(swept), Err)
}

/// Opens and locks a staged file that no process fills any more. If the filesystem has no locks, the function checks
/// instead that the creator belonged to the same process space as this process, and that the creator has ended.
fn open_leftover(path: &Path, maker: Maker) -> Option<File> {
    let file = sys::fs::open(path, true).ok()?;
    let is_dead = match sys::lock_range(&file, LIFE_BYTE, LockMode::Exclusive).ok()? {
        LockOutcome::Taken => true,
        LockOutcome::Unsupported => maker.process_space == process_space() && !sys::process_lives(maker.pid),
        LockOutcome::Conflict => false,
    };
    is_dead.then_some(file)
}

#[cfg(test)]
mod tests {
    use super::super::staged::{Existing, Staged, staged_name};
    use super::*;
    use crate::error::ErrorKind;
    use std::time::{Duration, Instant};

    /// Tests that `sweep_staged` never removes a staged file while the creator of the file still uses the file.
    #[test]
    fn sweeps_and_creations_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let until = Instant::now() + Duration::from_secs(2);
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                let target = folder.path().join(name);
                scope.spawn(move || {
                    while Instant::now() < until {
                        Staged::with_temporary_name(&target, Existing::Replace).unwrap().publish().unwrap();
                        Staged::new(&target, Existing::Replace).unwrap().publish().unwrap();
                    }
                });
                scope.spawn(|| {
                    while Instant::now() < until {
                        sweep_staged(folder.path()).unwrap();
                    }
                });
            }
        });
        assert_eq!(sweep_staged(folder.path()).unwrap(), 0);
    }

    #[test]
    fn a_process_that_has_ended_is_known_to_be_dead() {
        assert!(sys::process_lives(std::process::id()));
        assert!(!sys::process_lives(4_000_000_000) && !sys::process_lives(1 << 29));
    }

    #[test]
    fn a_sweep_removes_only_the_leftovers_of_ended_processes() {
        let folder = tempfile::tempdir().unwrap();
        let (target, other) = (folder.path().join("a"), folder.path().join("b"));
        let living = Staged::with_temporary_name(&target, Existing::Refuse).unwrap();
        for target in [&target, &other] {
            let of_the_dead = staged_name(target).replacen(&std::process::id().to_string(), "4000000000", 1);
            fs::write(folder.path().join(of_the_dead), "left").unwrap();
        }
        fs::write(folder.path().join(".ndarray-mmap-notes.txt"), "mine").unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().count();
        sweep_target(&target);
        assert_eq!(names(), 3, "the leftover of the other target is still there");
        assert_eq!(sweep_staged(folder.path()).unwrap(), 1);
        assert_eq!(names(), 2);
        living.publish().unwrap();
    }

    #[test]
    fn sweeping_anything_but_a_directory_fails() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let kind = |path: &Path| sweep_staged(path).map_err(|error| error.kind());
        assert_eq!(kind(&file), Err(ErrorKind::NotAFile));
        assert_eq!(kind(&file.join("below")), Err(ErrorKind::NotAFile));
        assert_eq!(kind(&folder.path().join("missing")), Err(ErrorKind::NotFound));
    }
}
