//! Where the arrays go: a folder on a disk that removes itself.

use crate::Result;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Makes a folder in `chosen`, or else in the first usable directory that is on a disk.
pub fn temporary(chosen: Option<&Path>) -> Result<TempDir> {
    let new_in = |parent: &Path| tempfile::Builder::new().prefix("trajectory-").tempdir_in(parent);
    if let Some(parent) = chosen {
        if is_in_memory(parent) {
            eprintln!("warning: {parent:?} is in memory: its files are page cache, whatever is evicted");
        }
        return new_in(parent).map_err(|error| format!("--dir {parent:?}: {error}").into());
    }
    let on_disk = candidates().into_iter().filter(|parent| !is_in_memory(parent));
    let made = on_disk.map(|parent| new_in(&parent)).find_map(|folder| folder.ok());
    made.ok_or_else(|| "found no temporary folder on a disk; name one with --dir".into())
}

/// The usual places, and the build directory, which is on a disk more often than not.
fn candidates() -> Vec<PathBuf> {
    let build = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let tmpdir = std::env::var_os("TMPDIR").map(PathBuf::from);
    tmpdir.into_iter().chain([PathBuf::from("/var/tmp")]).chain(build).chain([std::env::temp_dir()]).collect()
}

/// Whether files in this directory live in the page cache and nowhere else.
#[cfg(target_os = "linux")]
fn is_in_memory(directory: &Path) -> bool {
    const TMPFS_MAGIC: u32 = 0x0102_1994;
    const RAMFS_MAGIC: u32 = 0x8584_58f6;
    rustix::fs::statfs(directory)
        .is_ok_and(|filesystem| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&(filesystem.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &Path) -> bool {
    false
}
