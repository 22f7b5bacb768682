//! Paths made absolute and unambiguous, and new files that get their name only when they are whole.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, LockMode, LockOutcome};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// How many links in a row are followed, as the kernel has it.
const MAX_LINKS: usize = 40;

/// Makes a path absolute and normalised, with every symlink resolved, whether or not the file exists.
///
/// With `create_parents`, the missing directories above it are created. This is what every constructor does to its path.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) for an empty path; what the file system says if the current directory
/// cannot be read, a parent cannot be created, or links lead in a circle.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = ndarray_mmap::prepare_path(folder.path().join("runs/./7/../8/traj.npy"), true)?;
/// assert!(path.ends_with("runs/8/traj.npy") && path.is_absolute());
/// assert!(path.parent().is_some_and(|parent| parent.is_dir()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn prepare_path(path: impl AsRef<Path>, create_parents: bool) -> Result<PathBuf> {
    let path = path.as_ref();
    if path.as_os_str().is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "prepare path",
            "the path of a file",
            "an empty path",
        ));
    }
    let failed = |error| Error::io("prepare path", "a path that can be resolved", error).at(path);
    let resolved = resolve(std::path::absolute(path).map_err(failed)?).map_err(failed)?;
    if create_parents {
        sys::fs::create_parents(&resolved).map_err(|error| {
            Error::io("create parent directories of", "directories above the file", error).at(&resolved)
        })?;
    }
    Ok(resolved)
}

/// Resolves an absolute path component by component: links are followed, `..` goes up from where they lead, and what
/// does not exist yet is taken as it stands.
fn resolve(path: PathBuf) -> io::Result<PathBuf> {
    if let Ok(resolved) = fs::canonicalize(&path) {
        return Ok(resolved);
    }
    let mut resolved = PathBuf::new();
    let mut links = 0;
    let mut todo: Vec<PathBuf> = components_reversed(&path);
    while let Some(component) = todo.pop() {
        match component.components().next() {
            Some(Component::ParentDir) => _ = resolved.pop(),
            Some(Component::CurDir) | None => {}
            Some(_) => {
                resolved.push(&component);
                if let Ok(target) = fs::read_link(&resolved) {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(sys::too_many_links());
                    }
                    resolved.pop();
                    todo.extend(components_reversed(&target));
                }
            }
        }
    }
    Ok(resolved)
}

/// The components, last first; an absolute path's root leads back to the root when it is pushed.
fn components_reversed(path: &Path) -> Vec<PathBuf> {
    path.components().rev().map(|component| PathBuf::from(component.as_os_str())).collect()
}

/// The directory that holds the file.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What happens when the name of a new file is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// The new file takes its place in one step; who has the old one open keeps it.
    Replace,
    /// An error.
    Refuse,
}

/// A new file beside its target, without the target's name until [`publish`](Self::publish), and gone if that never comes.
///
/// Until then it holds a lock on its last possible byte, so that a sweep can tell a file at work from a leftover.
#[derive(Debug)]
pub(crate) struct Staged {
    file: Option<Arc<File>>,
    staged_path: PathBuf,
    target: PathBuf,
}

/// The byte whose lock says that a staged file's process lives: the last one that a lock can name.
const LIFE_BYTE: std::ops::Range<u64> = i64::MAX as u64 - 1..i64::MAX as u64;

const STAGED_PREFIX: &str = ".ndarray-mmap-";
const STAGED_SUFFIX: &str = ".staged";

impl Staged {
    /// Creates an empty file in the target's directory.
    pub(crate) fn new(target: &Path) -> Result<Self> {
        // A rename would replace a pipe or a device as readily as a file.
        let special = sys::status_of_path(target).is_ok_and(|status| !status.is_regular);
        if special || target.file_name().is_none() {
            let found = if target.is_dir() { "a directory" } else { "a special file" };
            return Err(Error::new(ErrorKind::NotAFile, "create", "the path of a file", found).at(target));
        }
        let failed = |error| Error::io("create", "to create a file in its directory", error).at(target);
        loop {
            let staged_path = directory_of(target).join(staged_name());
            match sys::fs::create_exclusive(&staged_path) {
                Ok(file) => {
                    let staged =
                        Self { file: Some(Arc::new(file)), staged_path, target: target.to_path_buf() };
                    if staged.claim_life().map_err(failed)? {
                        return Ok(staged);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Locks the life byte; false if a sweep was quicker and has the file, so that another one is needed.
    fn claim_life(&self) -> io::Result<bool> {
        match sys::lock_range(self.file(), LIFE_BYTE, LockMode::Exclusive)? {
            LockOutcome::Taken => Ok(fs::symlink_metadata(&self.staged_path).is_ok()),
            LockOutcome::Conflict => Ok(false),
            LockOutcome::Unsupported => Ok(true),
        }
    }

    pub(crate) fn file(&self) -> &File {
        self.file.as_ref().expect("taken only by `publish`, which consumes the staged file")
    }

    /// The same, to be kept.
    pub(crate) fn shared_file(&self) -> Arc<File> {
        Arc::clone(self.file.as_ref().expect("taken only by `publish`, which consumes the staged file"))
    }

    /// Makes the bytes durable, gives the file its name, and makes the name durable, in this order: whoever finds the
    /// name finds the whole file, also after a crash.
    pub(crate) fn publish(mut self, existing: Existing) -> Result<Arc<File>> {
        let target = self.target.clone();
        sys::fs::sync_all(self.file())
            .map_err(|error| Error::io("create", "to write the new file to disk", error).at(&target))?;
        let not_durable = |error| Error::io("create", "to write the directory to disk", error).at(&target);
        // Before anything is changed: what can fail without harm fails here.
        let directory = sys::fs::open_directory(directory_of(&target)).map_err(not_durable)?;
        self.give_name(existing).map_err(|error| {
            let error = Error::io("create", "to give the new file its name", error).at(&target);
            match error.kind() {
                ErrorKind::AlreadyExists => {
                    error.or_else_try("`create` replaces a file, `open_rw` changes one")
                }
                _ => error,
            }
        })?;
        let file = self.file.take().expect("taken only here");
        // The name is taken: from here on the file belongs to the caller, whatever else fails.
        let _ = sys::unlock_range(&file, LIFE_BYTE);
        sys::fs::sync_directory(directory.as_ref(), &file).map_err(not_durable)?;
        Ok(file)
    }

    fn give_name(&self, existing: Existing) -> io::Result<()> {
        match existing {
            Existing::Replace => sys::fs::rename(&self.staged_path, &self.target),
            Existing::Refuse => sys::fs::rename_no_replace(&self.staged_path, &self.target),
        }
    }

    /// Takes the file without ever giving it a name: its space is free again when the last handle goes.
    pub(crate) fn unnamed(mut self) -> Result<Arc<File>> {
        let file = self.file.take().expect("taken only here");
        sys::fs::remove_file(&self.staged_path).map_err(|error| {
            Error::io("create scratch file", "to remove its name", error).at(&self.target)
        })?;
        Ok(file)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.file.is_some() {
            // The error that led here is already on its way to the caller; a leftover can be swept.
            let _ = fs::remove_file(&self.staged_path);
        }
    }
}

/// Who made a staged file, as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Maker {
    pid: u32,
    neighbourhood: u64,
}

/// Which processes this one sees by their number: those of the same boot of the same machine, in the same container.
fn neighbourhood() -> u64 {
    static NEIGHBOURHOOD: LazyLock<u64> = LazyLock::new(|| {
        let mut hasher = DefaultHasher::new(); // the same in every process of one version, which is enough
        fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default().hash(&mut hasher);
        fs::read_link("/proc/self/ns/pid").unwrap_or_default().hash(&mut hasher);
        hasher.finish()
    });
    *NEIGHBOURHOOD
}

/// A name that no other staged file has: the process and its neighbourhood, a counter, and 64 random bits.
fn staged_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u64(counter);
    let (pid, random) = (std::process::id(), hasher.finish());
    format!("{STAGED_PREFIX}{pid}-{:016x}-{counter}-{random:016x}{STAGED_SUFFIX}", neighbourhood())
}

/// Who made a staged file; `None` for any other file.
fn staged_by(name: &OsStr) -> Option<Maker> {
    let mut parts = name.to_str()?.strip_prefix(STAGED_PREFIX)?.strip_suffix(STAGED_SUFFIX)?.split('-');
    let pid = parts.next()?.parse().ok()?;
    let neighbourhood = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some(Maker { pid, neighbourhood })
}

/// Removes the files that killed processes left unfinished in a directory, and returns how many there were.
///
/// `create` and `write_to` fill a file named `.ndarray-mmap-*.staged` beside its target before they rename it. A file
/// whose process still works on it holds a lock and is never touched.
///
/// # Errors
/// What the file system says if the directory cannot be read or a leftover cannot be removed.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// assert_eq!(ndarray_mmap::sweep_staged(folder.path())?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sweep_staged(directory: impl AsRef<Path>) -> Result<usize> {
    let directory = directory.as_ref();
    let failed = |error| Error::io("sweep staged files", "to read the directory", error).at(directory);
    let (mut swept, mut first_error) = (0, None);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(maker) = staged_by(&entry.file_name()) else { continue };
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // The lock on it is held until the name is gone: whoever has just created the file finds that it is not his.
        let Some(_leftover) = open_leftover(&path, maker) else { continue };
        match sys::fs::remove_file(&path) {
            Ok(()) => swept += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let error = Error::io("sweep staged files", "to remove a leftover", error).at(&path);
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(swept), Err)
}

/// The staged file, locked, if nobody works on it any more. Where there are no locks, its process must have been one that
/// this one would see, and be gone.
fn open_leftover(path: &Path, maker: Maker) -> Option<File> {
    let file = sys::fs::open(path, true).ok()?;
    let is_dead = match sys::lock_range(&file, LIFE_BYTE, LockMode::Exclusive).ok()? {
        LockOutcome::Taken => true,
        LockOutcome::Unsupported => maker.neighbourhood == neighbourhood() && !sys::process_lives(maker.pid),
        LockOutcome::Conflict => false,
    };
    is_dead.then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_do_not_exist_are_resolved_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere/file", root.join("dangling")).unwrap();
        std::os::unix::fs::symlink("circle", root.join("circle")).unwrap();
        let prepared = |path: &str| prepare_path(root.join(path), false).unwrap();
        assert_eq!(prepared("link/new.npy"), root.join("real/new.npy"));
        assert_eq!(prepared("link/a/../../new.npy"), root.join("new.npy"));
        assert_eq!(prepared("dangling"), root.join("nowhere/file"));
        assert_eq!(prepare_path(root.join("circle"), false).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(prepare_path("", true).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn an_unpublished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Staged::new(&folder.path().join("a")).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn publishing_replaces_or_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        fs::write(&target, "old").unwrap();
        let error = Staged::new(&target).unwrap().publish(Existing::Refuse).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let staged = Staged::new(&target).unwrap();
        sys::fs::write_all_at(staged.file(), b"new", 0).unwrap();
        staged.publish(Existing::Replace).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// A creator whose file has no lock yet is not robbed of one that it believes to have.
    #[test]
    fn sweeps_and_creations_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                let target = folder.path().join(name);
                scope.spawn(move || {
                    while std::time::Instant::now() < until {
                        Staged::new(&target).unwrap().publish(Existing::Replace).unwrap();
                    }
                });
                scope.spawn(|| {
                    while std::time::Instant::now() < until {
                        sweep_staged(folder.path()).unwrap();
                    }
                });
            }
        });
        assert_eq!(sweep_staged(folder.path()).unwrap(), 0);
    }

    #[test]
    fn without_locks_only_a_neighbour_is_known_to_be_dead() {
        let Maker { pid, neighbourhood } = staged_by(OsStr::new(&staged_name())).unwrap();
        assert_eq!((pid, neighbourhood), (std::process::id(), super::neighbourhood()));
        assert!(
            sys::process_lives(pid) && !sys::process_lives(4_000_000_000) && !sys::process_lives(1 << 29)
        );
        assert_eq!(staged_by(OsStr::new(".ndarray-mmap-17-notes.staged")), None);
        assert_eq!(staged_by(OsStr::new(".ndarray-mmap-notes.txt")), None);
    }

    #[test]
    fn a_sweep_takes_leftovers_and_leaves_the_living() {
        let folder = tempfile::tempdir().unwrap();
        let living = Staged::new(&folder.path().join("a")).unwrap();
        let of_the_dead = staged_name().replacen(&std::process::id().to_string(), "4000000000", 1);
        fs::write(folder.path().join(of_the_dead), "left").unwrap();
        fs::write(folder.path().join(".ndarray-mmap-notes.txt"), "mine").unwrap();
        assert_eq!(sweep_staged(folder.path()).unwrap(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        living.publish(Existing::Refuse).unwrap();
    }
}
