//! [`Staged`]: a new file that has no name, or only a temporary one, until it is published.

use super::{directory_of, path};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, LockMode, LockOutcome};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
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

/// A new file that does not have its final name yet. If the value is dropped before [`publish`](Self::publish), the
/// file is removed.
///
/// The file has no name at all if the system supports this (`O_TMPFILE`, `linkat`), so nothing remains if the process
/// is killed. Otherwise the file has a temporary name. A file with a temporary name holds a lock on the last byte that
/// a lock can cover. [`sweep_staged`](super::sweep_staged) removes only files that no process has locked in this way.
#[derive(Debug)]
pub(crate) struct Staged {
    file: Arc<File>,
    /// The name that the file will get. `None` after the file was published, and for a file that never gets a name.
    target: Option<Target>,
    temporary: Option<PathBuf>,
    /// The process that created the file. A child of `fork` has a copy of this value, but the file belongs to its
    /// parent.
    process: u32,
}

#[derive(Debug)]
struct Target {
    path: PathBuf,
    existing: Existing,
}

/// The byte that the creator of a staged file with a temporary name keeps locked until the file is published. It is the
/// last byte that a lock can cover.
pub(super) const LIFE_BYTE: std::ops::Range<u64> = i64::MAX as u64 - 1..i64::MAX as u64;

const STAGED_PREFIX: &str = ".ndarray-mmap-";
const STAGED_SUFFIX: &str = ".staged";

impl Staged {
    /// Creates an empty file on the filesystem of the target's directory: without a name if possible, and otherwise
    /// with a temporary name.
    pub(super) fn new(target: &Path, existing: Existing) -> Result<Self> {
        match sys::create_unnamed(directory_of(target)) {
            Ok(file) if can_be_linked(&file, directory_of(target)) => {
                let target = Target { path: target.to_path_buf(), existing };
                Ok(Self::of(file, Some(target), None))
            }
            // If the call failed for another reason than missing support, the next call also fails, and this function
            // returns that error.
            _ => Self::with_temporary_name(target, existing),
        }
    }

    /// Creates an empty file in the target's directory, under a temporary name.
    pub(super) fn with_temporary_name(target: &Path, existing: Existing) -> Result<Self> {
        let directory = directory_of(target);
        let failed = |error| {
            let needs = || format!("write and search permission on the directory {directory:?}");
            path::name_error("to create a file in its directory", error, needs).at(target)
        };
        loop {
            let temporary = directory.join(staged_name(target));
            match sys::fs::create_exclusive(&temporary) {
                Ok(file) => {
                    let target = Target { path: target.to_path_buf(), existing };
                    let staged = Self::of(file, Some(target), Some(temporary));
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
            Ok(file) => Ok(Self::of(file, None, None)),
            Err(error) if sys::is_unsupported(&error) => {
                let mut staged = Self::with_temporary_name(&directory.join("scratch"), Existing::Refuse)?;
                staged.target = None;
                if let Some(temporary) = &staged.temporary {
                    sys::fs::remove_file(temporary).map_err(failed)?;
                }
                staged.temporary = None;
                Ok(staged)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn of(file: File, target: Option<Target>, temporary: Option<PathBuf>) -> Self {
        Self { file: Arc::new(file), target, temporary, process: std::process::id() }
    }

    /// Locks the [`LIFE_BYTE`]. Returns `false` if a sweep has locked or removed the file before. The caller then
    /// creates another file.
    fn claim_life(&self) -> io::Result<bool> {
        match sys::lock_range(&self.file, LIFE_BYTE, LockMode::Exclusive)? {
            LockOutcome::Taken => {
                Ok(self.temporary.as_ref().is_none_or(|temporary| fs::symlink_metadata(temporary).is_ok()))
            }
            LockOutcome::Conflict => Ok(false),
            LockOutcome::Unsupported => Ok(true),
        }
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Returns whether the file gets a name when it is published. A scratch file never gets a name.
    pub(crate) fn is_named(&self) -> bool {
        self.target.is_some()
    }

    pub(super) fn has_temporary_name(&self) -> bool {
        self.temporary.is_some()
    }

    /// Makes the file durable, gives it its final name, and makes the name durable, in this order. After a crash, the
    /// name refers either to the complete new file or to the old file. Does nothing for a file without a target.
    pub(crate) fn publish(mut self) -> Result<()> {
        let Some(target) = self.target.take() else { return Ok(()) };
        if self.process != std::process::id() {
            let (expected, found) = ("the process that created the file", "a child of `fork`");
            return Err(Error::new(ErrorKind::Unsupported, "create", expected, found)
                .at(&target.path)
                .with_remedy("finish the file in the process that created it"));
        }
        let path = &target.path;
        let failed = |expected: &'static str| move |error| Error::io("create", expected, error).at(path);
        sys::fs::sync_all(&self.file).map_err(failed("to write the new file to disk"))?;
        // The directory is opened before the file gets its name: if this fails, nothing has changed.
        let directory = sys::fs::open_directory(directory_of(&target.path))
            .map_err(failed("to write the directory to disk"))?;
        self.give_name(&target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_exists().at(&target.path),
            _ => {
                let needs = || format!("the right to replace {:?}", target.path);
                path::name_error("to give the new file its name", error, needs).at(&target.path)
            }
        })?;
        // The file has its final name. From here on the file is not removed, even if a later step fails.
        if self.temporary.take().is_some() {
            let _ = sys::unlock_range(&self.file, LIFE_BYTE);
        }
        sys::fs::sync_directory(directory.as_ref(), &self.file)
            .map_err(failed("to write the directory to disk"))
    }

    fn give_name(&mut self, target: &Target) -> io::Result<()> {
        if self.temporary.is_none() {
            match (sys::link_unnamed(&self.file, &target.path), target.existing) {
                (Err(error), Existing::Replace) if error.kind() == io::ErrorKind::AlreadyExists => {}
                (linked, _) => return linked,
            }
            // Only a rename replaces a file, so the complete file has a temporary name for a moment.
            self.claim_life()?;
            self.temporary = Some(self.link_temporary(&target.path)?);
        }
        let Some(temporary) = &self.temporary else { return Ok(()) };
        match target.existing {
            Existing::Replace => sys::fs::rename(temporary, &target.path),
            Existing::Refuse => sys::fs::rename_no_replace(temporary, &target.path),
        }
    }

    fn link_temporary(&self, target: &Path) -> io::Result<PathBuf> {
        loop {
            let temporary = directory_of(target).join(staged_name(target));
            match sys::link_unnamed(&self.file, &temporary) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                linked => return linked.map(|()| temporary),
            }
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(temporary) = &self.temporary else { return };
        if self.process == std::process::id() {
            // An error is ignored: the caller already gets the first error, and a sweep can remove the file later.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Returns whether the system lets this process name a file that was created without a name. The function tries to give
/// the file a name that exists: if every earlier check of the system passes, this fails with `AlreadyExists`.
fn can_be_linked(file: &File, directory: &Path) -> bool {
    sys::link_unnamed(file, directory).is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
}

/// Returns the error for a name that exists.
pub(super) fn already_exists() -> Error {
    Error::new(ErrorKind::AlreadyExists, "create_new", "no file of this name", "a file of this name")
        .with_remedy("`create` replaces a file, `open_rw` changes one")
}

/// The process that created a staged file, according to the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Maker {
    pub(super) pid: u32,
    /// The process space of that process, see [`process_space`].
    pub(super) process_space: u64,
    /// The number of the target, see [`target_number`].
    pub(super) target: u64,
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

/// Returns a number that is equal for equal targets, in all processes that run the same program version.
pub(super) fn target_number(target: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    target.file_name().hash(&mut hasher);
    hasher.finish()
}

/// Returns a name that no other staged file has. The name consists of the process id, the process space, the number of
/// the target, and 64 random bits.
pub(super) fn staged_name(target: &Path) -> String {
    let random = std::hash::RandomState::new().build_hasher().finish(); // each state has other keys
    let (pid, space, target) = (std::process::id(), process_space(), target_number(target));
    format!("{STAGED_PREFIX}{pid}-{space:016x}-{target:016x}-{random:016x}{STAGED_SUFFIX}")
}

/// Returns the process that created a staged file. `None` for any other file.
pub(super) fn staged_by(name: &OsStr) -> Option<Maker> {
    let mut parts = name.to_str()?.strip_prefix(STAGED_PREFIX)?.strip_suffix(STAGED_SUFFIX)?.split('-');
    let pid = parts.next()?.parse().ok()?;
    let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
    Some(Maker { pid, process_space: number()?, target: number()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::inject::{Call, Failure, disarm, fail_nth};

    /// Creates a staged file without a name, or with a temporary name.
    fn staged(is_unnamed: bool, target: &Path, existing: Existing) -> Staged {
        let staged = match is_unnamed {
            true => Staged::new(target, existing),
            false => Staged::with_temporary_name(target, existing),
        };
        let staged = staged.unwrap();
        let names = usize::from(staged.has_temporary_name());
        let others = usize::from(target.exists());
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), others + names);
        assert!(is_unnamed || names == 1);
        staged
    }

    #[test]
    fn an_unpublished_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        for is_unnamed in [true, false] {
            drop(staged(is_unnamed, &folder.path().join("a"), Existing::Replace));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn publishing_replaces_an_existing_file_or_fails() {
        for is_unnamed in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("a");
            fs::write(&target, "old").unwrap();
            let error = staged(is_unnamed, &target, Existing::Refuse).publish().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&target).unwrap(), b"old");
            for existing in [Existing::Replace, Existing::Replace, Existing::Refuse] {
                if existing == Existing::Refuse {
                    fs::remove_file(&target).unwrap();
                }
                let staged = staged(is_unnamed, &target, existing);
                sys::fs::write_all_at(&staged.file, b"new", 0).unwrap();
                staged.publish().unwrap();
                assert_eq!(fs::read(&target).unwrap(), b"new");
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            }
        }
    }

    /// The test simulates a child of `fork`. The child has a copy of the value, which contains the process id of the
    /// parent.
    #[test]
    fn a_child_of_fork_neither_publishes_nor_removes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        for publishes in [true, false] {
            let mut staged = Staged::with_temporary_name(&target, Existing::Replace).unwrap();
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

    /// The test lets two system calls fail: the call that creates a file without a name, and the call that checks
    /// whether such a file can get a name.
    #[test]
    #[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
    fn a_file_gets_a_temporary_name_where_it_cannot_be_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        for refused in [Call::Open, Call::Publish] {
            fail_nth(refused, 1, Failure::UNSUPPORTED);
            let staged = Staged::new(&target, Existing::Refuse).unwrap();
            assert!(disarm() && staged.has_temporary_name());
        }
        assert!(
            !Staged::new(&target, Existing::Refuse).unwrap().has_temporary_name(),
            "this test needs `O_TMPFILE`"
        );
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
        let target = Path::new("/folder/a.npy");
        let maker = staged_by(OsStr::new(&staged_name(target)));
        let (pid, target) = (std::process::id(), target_number(target));
        assert_eq!(maker, Some(Maker { pid, process_space: process_space(), target }));
        assert_eq!(staged_by(OsStr::new(".ndarray-mmap-17-notes.staged")), None);
        assert_eq!(staged_by(OsStr::new(".ndarray-mmap-notes.txt")), None);
    }
}
