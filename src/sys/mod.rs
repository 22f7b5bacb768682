//! The one door to the operating system: thin wrappers with safe signatures over the calls that std and memmap2 lack.
//!
//! `linux.rs` holds the calls of Linux; everywhere else `stub.rs` answers with the nearest portable call, or with
//! [`Unsupported`](std::io::ErrorKind::Unsupported). `fs.rs` holds the file operations that exist everywhere, and every
//! wrapper whose failure can lose bytes, names or locks goes [`through`] a door, so that a test can make the N-th call of a kind
//! fail. Hints (`madvise`, `fadvise`) and questions (`fstat`, `cachestat`, `mincore`) do not.
//!
//! Unix only: `unix.rs` holds what every Unix has. The build flag `--cfg ndarray_mmap_portable` compiles a Linux build with `stub.rs`: a way to test it.

pub(crate) mod fault;
pub(crate) mod fs;
pub(crate) mod inject;

#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod linux;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
use linux as os;

#[cfg(not(all(target_os = "linux", not(ndarray_mmap_portable))))]
mod stub;
#[cfg(not(all(target_os = "linux", not(ndarray_mmap_portable))))]
use stub as os;

#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod aio;
mod rw;
mod unix;
mod vectors;

#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
pub(crate) use aio::ReadQueue;
pub(crate) use inject::{Call, through};
pub(crate) use os::{
    cached_pages, changed_pages, copy_mapped, drop_cached, is_memory_filesystem, left_in_cache, lock_holder,
    lock_range, page_out, reclaim_page, rename_no_replace, reserve, sync_filesystem, sync_range,
    unlock_range,
};
pub(crate) use rw::{
    AlignedBuf, Piece, open_direct, read_cached, read_up_to, start_writeback, write_all_uncached,
};
#[cfg(not(all(target_os = "linux", not(ndarray_mmap_portable))))]
pub(crate) use stub::ReadQueue;
pub(crate) use unix::{
    FileId, OPEN_FLAGS, check_file_size_limit, page_bytes, process_lives, protect_read_only, remap_private,
};
pub(crate) use vectors::with_wide_vectors;

/// Whether an error says that the platform or the filesystem has no such call.
pub(crate) fn is_unsupported(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY))
}

/// What an attempt to drop pages has left in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// No page.
    Nothing,
    /// Pages that somebody has mapped, or that could be dropped now.
    Settled,
    /// Pages that are being read, and locked until they are there.
    BeingRead,
}

/// What a byte-range lock allows its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// Many may hold the range.
    Shared,
    /// One may hold the range.
    Exclusive,
}

/// How a request for a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockOutcome {
    /// The lock is held.
    Taken,
    /// Somebody else holds the range, or part of it.
    Conflict,
    /// The platform or the filesystem knows no such locks.
    Unsupported,
}
