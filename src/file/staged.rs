//! [`Staged`]: a new file that has no name, or only a temporary one, until it is published.

use super::{directory_of, path};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, LockMode, LockOutcome};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// What happens if the name of a new file exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// The new file replaces the old file atomically. Programs that have opened the old file continue to use the old
    /// file.
    Replace,
    /// Creating the file fails.
    Refuse,
}

/// A new file that does not have its final name yet. Dropping the value before [`publish`](Self::publish) removes the
/// file.
///
/// A staged file with a temporary name holds a lock on the last byte that a lock can cover.
/// [`sweep_staged`](super::sweep_staged) removes only files that no process has locked in this way.
#[derive(Debug)]
pub(crate) struct Staged {
    file: Arc<File>,
    /// The temporary name and the target. `None` after the file was published, and for a file that never gets a name.
    names: Option<Names>,
    /// The process that created the file. A child of `fork` has a copy of this value, but the file belongs to its
    /// parent.
    process: u32,
}

#[derive(Debug)]
struct Names {
    temporary: PathBuf,
    target: PathBuf,
    existing: Existing,
}

/// The byte that the creator of a staged file keeps locked until the file is published. It is the last byte that a lock
/// can cover.
pub(super) const LIFE_BYTE: std::ops::Range<u64> = i64::MAX as u64 - 1..i64::MAX as u64;

const STAGED_PREFIX: &str = ".ndarray-mmap-";
const STAGED_SUFFIX: &str = ".staged";

impl Staged {
    /// Creates an empty file in the target's directory, under a temporary name.
    pub(super) fn new(target: &Path, existing: Existing) -> Result<Self> {
        let directory = directory_of(target);
        let failed = |error| {
            let needs = || format!("write and search permission on the directory {directory:?}");
            path::name_error("to create a file in its directory", error, needs).at(target)
        };
        loop {
            let temporary = directory.join(staged_name());
            match sys::fs::create_exclusive(&temporary) {
                Ok(file) => {
                    let names = Names { temporary, target: target.to_path_buf(), existing };
                    let staged =
                        Self { file: Arc::new(file), names: Some(names), process: std::process::id() };
                    if staged.claim_life().map_err(failed)? {
                        return Ok(staged);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Creates an empty file that never gets a name. The kernel frees the file's space when the last descriptor is
    /// closed.
    ///
    /// If the filesystem does not support files without a name, the file has a temporary name for a moment.
    pub(super) fn unnamed(directory: &Path) -> Result<Self> {
        let failed = |error| {
            let needs = || format!("write and search permission on the directory {directory:?}");
            path::name_error("to create a file in the scratch directory", error, needs).at(directory)
        };
        match sys::create_unnamed(directory) {
            Ok(file) => Ok(Self { file: Arc::new(file), names: None, process: std::process::id() }),
            Err(error) if sys::is_unsupported(&error) => {
                let mut staged = Self::new(&directory.join("scratch"), Existing::Refuse)?;
                if let Some(names) = &staged.names {
                    sys::fs::remove_file(&names.temporary).map_err(failed)?;
                }
                staged.names = None;
                Ok(staged)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Locks the [`LIFE_BYTE`]. Returns `false` if a sweep has locked or removed the file before. The caller then
    /// creates another file.
    fn claim_life(&self) -> io::Result<bool> {
        match sys::lock_range(&self.file, LIFE_BYTE, LockMode::Exclusive)? {
            LockOutcome::Taken => {
                let names = self.names.as_ref();
                Ok(names.is_none_or(|names| fs::symlink_metadata(&names.temporary).is_ok()))
            }
            LockOutcome::Conflict => Ok(false),
            LockOutcome::Unsupported => Ok(true),
        }
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Returns whether the file will have a name.
    pub(super) fn is_named(&self) -> bool {
        self.names.is_some()
    }

    /// Makes the file durable, renames it to its final name, and makes the name durable, in this order. After a crash,
    /// the name refers either to the complete new file or to the old file. Does nothing for a file without a name.
    pub(crate) fn publish(mut self) -> Result<()> {
        let Some(Names { temporary, target, existing }) = &self.names else { return Ok(()) };
        if self.process != std::process::id() {
            let (expected, found) = ("the process that created the file", "a child of `fork`");
            return Err(Error::new(ErrorKind::Unsupported, "create", expected, found)
                .at(target)
                .with_remedy("finish the file in the process that created it"));
        }
        let failed = |expected: &'static str| move |error| Error::io("create", expected, error).at(target);
        sys::fs::sync_all(&self.file).map_err(failed("to write the new file to disk"))?;
        // The directory is opened before the rename: if this fails, nothing has changed.
        let directory = sys::fs::open_directory(directory_of(target))
            .map_err(failed("to write the directory to disk"))?;
        give_name(temporary, target, *existing).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_exists().at(target),
            _ => {
                let needs = || format!("the right to replace {target:?}");
                path::name_error("to give the new file its name", error, needs).at(target)
            }
        })?;
        // The file has its final name. From here on the file is not removed, even if a later step fails.
        let target = self.names.take().map(|names| names.target).unwrap_or_default();
        let _ = sys::unlock_range(&self.file, LIFE_BYTE);
        sys::fs::sync_directory(directory.as_ref(), &self.file)
            .map_err(|error| Error::io("create", "to write the directory to disk", error).at(&target))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(names) = &self.names else { return };
        if self.process == std::process::id() {
            // An error is ignored: the caller already gets the first error, and a sweep can remove the file later.
            let _ = fs::remove_file(&names.temporary);
        }
    }
}

/// Returns the error for a name that exists.
pub(super) fn already_exists() -> Error {
    Error::new(ErrorKind::AlreadyExists, "create_new", "no file of this name", "a file of this name")
        .with_remedy("`create` replaces a file, `open_rw` changes one")
}

fn give_name(temporary: &Path, target: &Path, existing: Existing) -> io::Result<()> {
    match existing {
        Existing::Replace => sys::fs::rename(temporary, target),
        Existing::Refuse => sys::fs::rename_no_replace(temporary, target),
    }
}

/// The process that created a staged file, according to the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Maker {
    pub(super) pid: u32,
    /// The process space of that process, see [`process_space`].
    pub(super) process_space: u64,
}

/// Returns a number that is equal in all processes of one container on one machine, until the machine is booted again.
/// Process ids can be compared only between processes with the same number.
pub(super) fn process_space() -> u64 {
    static PROCESS_SPACE: LazyLock<u64> = LazyLock::new(|| {
        let mut hasher = DefaultHasher::new(); // the result need only be equal in processes that run the same program version
        fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default().hash(&mut hasher);
        fs::read_link("/proc/self/ns/pid").unwrap_or_default().hash(&mut hasher);
        hasher.finish()
    });
    *PROCESS_SPACE
}

/// Returns a name that no other staged file has. The name consists of the process id, the process space, a counter, and
/// 64 random bits.
pub(super) fn staged_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u64(counter);
    let (pid, random) = (std::process::id(), hasher.finish());
    format!("{STAGED_PREFIX}{pid}-{:016x}-{counter}-{random:016x}{STAGED_SUFFIX}", process_space())
}

/// Returns the process that created a staged file. `None` for any other file.
pub(super) fn staged_by(name: &OsStr) -> Option<Maker> {
    let mut parts = name.to_str()?.strip_prefix(STAGED_PREFIX)?.strip_suffix(STAGED_SUFFIX)?.split('-');
    let pid = parts.next()?.parse().ok()?;
    let process_space = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some(Maker { pid, process_space })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::inject::{Call, Failure, disarm, fail_nth};

    #[test]
    fn an_unpublished_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        drop(Staged::new(&folder.path().join("a"), Existing::Replace).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn publishing_replaces_an_existing_file_or_fails() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        fs::write(&target, "old").unwrap();
        let error = Staged::new(&target, Existing::Refuse).unwrap().publish().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let staged = Staged::new(&target, Existing::Replace).unwrap();
        sys::fs::write_all_at(&staged.file, b"new", 0).unwrap();
        staged.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// The test simulates a child of `fork`. The child has a copy of the value, which contains the process id of the
    /// parent.
    #[test]
    fn a_child_of_fork_neither_publishes_nor_removes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        for publishes in [true, false] {
            let mut staged = Staged::new(&target, Existing::Replace).unwrap();
            staged.process += 1;
            if publishes {
                let error = staged.publish().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(error.to_string().contains("found a child of `fork`"), "{error}");
            }
        }
        assert!(!target.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "both staged files are still there");
    }

    #[test]
    fn an_unnamed_file_has_no_name_on_any_filesystem() {
        let folder = tempfile::tempdir().unwrap();
        for lacks_unnamed_files in [false, true] {
            if lacks_unnamed_files {
                fail_nth(Call::Open, 1, Failure::UNSUPPORTED);
            }
            let staged = Staged::unnamed(folder.path()).unwrap();
            assert!(disarm() && !staged.is_named());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
            sys::fs::write_all_at(&staged.file, b"bytes", 0).unwrap();
            staged.publish().unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        let missing = Staged::unnamed(&folder.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn the_name_of_a_staged_file_contains_its_creator() {
        let maker = staged_by(OsStr::new(&staged_name()));
        assert_eq!(maker, Some(Maker { pid: std::process::id(), process_space: process_space() }));
        assert_eq!(staged_by(OsStr::new(".ndarray-mmap-17-notes.staged")), None);
        assert_eq!(staged_by(OsStr::new(".ndarray-mmap-notes.txt")), None);
    }
}
