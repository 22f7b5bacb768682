//! What several modules need.

use std::fs::File;
use std::path::{Path, PathBuf};

/// A folder on a disk, not in memory: page-cache tests mean nothing on tmpfs.
pub fn disk_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("ndarray-mmap-test-").tempdir_in(disk_directory()).unwrap()
}

/// `CARGO_TARGET_TMPDIR` lies in the build directory, which is on a disk wherever builds are.
pub fn disk_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// For each page of the file, whether it is in the page cache, as `mincore` sees it: an answer that owes the crate nothing.
pub fn cached_pages(path: &Path) -> Vec<bool> {
    let file = File::open(path).unwrap();
    let map = memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap();
    let pages = map.len().div_ceil(4096);
    let mut answer = vec![0_u8; pages];
    // SAFETY: the mapping is live and `answer` has a byte for each of its pages.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), answer.as_mut_ptr()) };
    assert_eq!(result, 0);
    answer.into_iter().map(|state| state & 1 == 1).collect()
}

/// Says that a test could not run here.
pub fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    eprintln!("SKIPPED: {reason}");
}
