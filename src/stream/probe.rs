//! Which way bytes take between memory and files: decided here, from a short look at the file, and nowhere else.

use crate::geometry::to_pages;
use crate::sys::{self, page_bytes};
use std::fs::File;
use std::ops::Range;

/// How a stream moves bytes between memory and files.
///
/// ```
/// assert_eq!(ndarray_mmap::stream::Transfer::default(), ndarray_mmap::stream::Transfer::Auto);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transfer {
    /// What suits each block: from the page cache what is in it, past it what is not. The default.
    #[default]
    Auto,
    /// Past the page cache, wherever the filesystem can.
    Direct,
    /// Through the page cache, out of which the pages are dropped behind the stream.
    Buffered,
}

/// How many threads overlap reading, working and writing.
pub(super) const THREADS: usize = 3;

/// How many threads a stream uses if nobody says: enough to keep the disk busy; with the feature `rayon`, enough to keep
/// every core busy beside it.
pub(super) fn threads() -> usize {
    if cfg!(feature = "rayon") { THREADS.max(cores() + 1) } else { THREADS }
}

/// How many threads share work that waits for no disk: one, or, with the feature `rayon`, those of the pool that this thread
/// belongs to, else one for each core. Rayon's own pool is not started for the answer: its threads look for work for a while,
/// which took a quarter of the speed of a short reduction on two cores.
#[cfg(feature = "rayon")]
pub(super) fn cores() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// How many threads share work that waits for no disk.
#[cfg(not(feature = "rayon"))]
pub(super) fn cores() -> usize {
    1
}

/// A second handle on the file that goes past the page cache, where there is such a way and it is wanted.
pub(super) fn direct_handle(file: &File, writable: bool, transfer: Transfer) -> Option<File> {
    let wanted = transfer != Transfer::Buffered && !sys::is_memory_filesystem(file);
    wanted.then(|| sys::open_direct(file, writable).ok()).flatten()
}

/// Whether the kernel copies memory for us that may not be there.
pub(super) fn can_copy_memory() -> bool {
    sys::copy_mapped([1].as_ptr(), &mut [0]).is_ok()
}

/// Whether an error says that a direct transfer is not possible here, so that a buffered one has to do.
pub(super) fn refuses_direct(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL) || sys::is_unsupported(error)
}

/// Whether every page of a part of the file is in the page cache.
pub(super) fn is_resident(file: &File, bytes: &Range<u64>) -> bool {
    let pages = to_pages(bytes.clone(), page_bytes());
    let wanted = (pages.end - pages.start) / page_bytes() as u64;
    sys::cached_pages(file, pages).is_ok_and(|cached| cached >= wanted)
}

/// Whether more than half of a part of the file is in the page cache.
pub(super) fn is_warm(file: &File, bytes: &Range<u64>) -> bool {
    let pages = to_pages(bytes.clone(), page_bytes());
    let half = (pages.end - pages.start) / page_bytes() as u64 / 2;
    sys::cached_pages(file, pages).is_ok_and(|cached| cached > half)
}
