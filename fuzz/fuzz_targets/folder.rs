//! The folder in which the fuzz targets keep their files.

use std::path::PathBuf;
use std::sync::LazyLock;
use tempfile::TempDir;

/// One folder for the whole run, on tmpfs for speed. `NDARRAY_MMAP_FUZZ_DIR=target` puts the folder on a disk, where
/// the kernel can evict pages from the page cache.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let parent = match std::env::var_os("NDARRAY_MMAP_FUZZ_DIR") {
        Some(parent) => PathBuf::from(parent),
        None => {
            Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir)
        }
    };
    tempfile::Builder::new().prefix("ndarray-mmap-fuzz-").tempdir_in(parent).expect("a folder for the files")
});

/// Returns the path of a file in the folder of the run.
pub fn file(name: &str) -> PathBuf {
    FOLDER.path().join(name)
}
