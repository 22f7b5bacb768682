//! Making paths absolute and unambiguous, and refusing invalid names.

use crate::error::{Error, ErrorKind, Result};
use crate::sys;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The maximum number of symlinks that are followed for one path: the kernel's own limit.
const MAX_LINKS: usize = 40;

/// The longest name of a file or directory, in bytes (the kernel's `NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;

/// The longest path that a system call takes, in bytes (the kernel's `PATH_MAX` without the final NUL).
const MAX_PATH_BYTES: usize = 4095;

/// Makes a path absolute and normalised, with every symlink resolved, whether or not the file exists.
///
/// With `create_parents`, the missing directories above the file are created. Every constructor prepares its path in
/// this way.
///
/// # Errors
/// - [`InvalidInput`](ErrorKind::InvalidInput) if the path is empty, contains a NUL byte, has more than 4095 bytes, or
///   contains a name of more than 255 bytes.
/// - [`NotAFile`](ErrorKind::NotAFile) if the path uses a file as a directory.
/// - The system's own error if the current directory cannot be read, a parent cannot be created, or symlinks form a
///   cycle.
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
    let resolved = resolve_path(path)?;
    check_lengths(&resolved).map_err(|error| error.at(path))?;
    check_parents(&resolved).map_err(|error| error.at(path))?;
    if create_parents {
        let needs = || format!("write and search permission on the directories above {resolved:?}");
        sys::fs::create_parents(&resolved)
            .map_err(|error| name_error("directories above the file", error, needs).at(path))?;
    }
    Ok(resolved)
}

/// [Prepares](prepare_path) the path of a file. A path that ends in `/`, `.` or `..` is refused, because it names a
/// directory.
pub(crate) fn file_path(path: &Path, create_parents: bool) -> Result<PathBuf> {
    let last = path.as_os_str().as_encoded_bytes().rsplit(|&byte| byte == b'/').next();
    if path.has_root() && path.parent().is_none()
        || !path.as_os_str().is_empty() && matches!(last, Some(b"" | b"." | b".."))
    {
        let found = if path.is_dir() { "a directory" } else { "the path of a directory" };
        return Err(Error::new(ErrorKind::NotAFile, "prepare_path", "the path of a file", found)
            .at(path)
            .with_remedy("add the name of a file"));
    }
    prepare_path(path, create_parents)
}

/// Makes a path absolute and normalised. The path need not exist, and nothing is created.
pub(crate) fn resolve_path(path: &Path) -> Result<PathBuf> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let invalid = |found| {
        Err(Error::new(ErrorKind::InvalidInput, "prepare_path", "the path of a file", found)
            .at(path)
            .with_remedy("give the path of a file or a directory"))
    };
    if bytes.is_empty() {
        return invalid("an empty path");
    }
    if bytes.contains(&0) {
        return invalid("a path with a NUL byte");
    }
    let failed = |error| Error::io("prepare_path", "a path that can be resolved", error).at(path);
    follow_links(std::path::absolute(path).map_err(failed)?).map_err(failed)
}

/// Resolves an absolute path component by component. Follows symlinks, resolves `..` after them, and keeps components
/// that do not exist.
fn follow_links(path: PathBuf) -> io::Result<PathBuf> {
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

/// Returns the components in reverse order. The caller pushes each component to a path. If the component is the root
/// `/`, it replaces the path.
fn components_reversed(path: &Path) -> Vec<PathBuf> {
    path.components().rev().map(|component| PathBuf::from(component.as_os_str())).collect()
}

/// Returns an error if the path, or a name in it, is longer than any filesystem allows.
fn check_lengths(resolved: &Path) -> Result<()> {
    let invalid = |expected: String, found| {
        Err(Error::new(ErrorKind::InvalidInput, "prepare_path", expected, found)
            .with_remedy("choose a shorter name"))
    };
    let longest = resolved.components().map(|component| component.as_os_str().len()).max().unwrap_or(0);
    if longest > MAX_NAME_BYTES {
        return invalid(
            format!("names of at most {MAX_NAME_BYTES} bytes"),
            format!("a name of {longest} bytes"),
        );
    }
    match resolved.as_os_str().len() {
        0..=MAX_PATH_BYTES => Ok(()),
        len => invalid(format!("a path of at most {MAX_PATH_BYTES} bytes"), format!("a path of {len} bytes")),
    }
}

/// Returns an error if the nearest existing name above the path is not a directory.
fn check_parents(resolved: &Path) -> Result<()> {
    for above in resolved.ancestors().skip(1) {
        match fs::metadata(above) {
            Ok(metadata) if metadata.is_dir() => return Ok(()),
            Ok(_) => {
                let found = format!("the file {above:?}");
                let expected = "directories above the file";
                return Err(Error::new(ErrorKind::NotAFile, "prepare_path", expected, found)
                    .with_remedy("choose another directory"));
            }
            // A directory does not exist or cannot be accessed. A later call that needs the directory reports the
            // error.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Returns the error for a failed system call on a name. If access was refused, the error contains the permission that
/// the process `needs`.
pub(super) fn name_error(expected: &'static str, error: io::Error, needs: impl FnOnce() -> String) -> Error {
    let read_only = error.kind() == io::ErrorKind::ReadOnlyFilesystem;
    let error = Error::io("prepare_path", expected, error);
    match error.kind() {
        ErrorKind::PermissionDenied if read_only => {
            error.with_remedy("mount it writable, or choose another directory")
        }
        ErrorKind::PermissionDenied => error.with_remedy(format!("the process needs {}", needs())),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

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
    fn invalid_names_are_refused_and_no_directory_is_created() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let kind = |path: PathBuf| prepare_path(path, true).map_err(|error| error.kind());
        for path in ["new/file", "file2"].map(|name| folder.path().join(name)) {
            let long = |bytes| path.with_file_name("x".repeat(bytes)).join("y");
            assert_eq!(kind(long(256)), Err(ErrorKind::InvalidInput), "{path:?}");
            let nul = path.with_file_name(OsStr::from_bytes(b"a\0b")).join("y");
            assert_eq!(kind(nul), Err(ErrorKind::InvalidInput), "{path:?}");
        }
        let deep: PathBuf = std::iter::repeat_n("x".repeat(200), 30).collect();
        assert_eq!(kind(folder.path().join(deep)), Err(ErrorKind::InvalidInput));
        for path in ["file/a", "file/new/a", "file/a/../b"] {
            assert_eq!(kind(folder.path().join(path)), Err(ErrorKind::NotAFile), "{path}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(kind(folder.path().join("x".repeat(255))).is_ok());
    }

    #[test]
    fn the_path_of_a_directory_is_not_the_path_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["", "a/", "a/.", "a/..", ".", "..", "a/b/../"] {
            let path = folder.path().join(path);
            assert_eq!(file_path(&path, true).unwrap_err().kind(), ErrorKind::NotAFile, "{path:?}");
        }
        for path in ["/", ".", "..", "a/"] {
            assert_eq!(file_path(Path::new(path), true).unwrap_err().kind(), ErrorKind::NotAFile, "{path:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for path in ["a", "a/../b", "./c", ".d", "..e"] {
            assert!(file_path(&folder.path().join(path), true).is_ok(), "{path}");
        }
    }
}
