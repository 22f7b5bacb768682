//! The interface to the operating system: safe functions for system calls that std does not offer.
//!
//! Code outside this folder sees no error numbers, no types of memmap2 and no system-specific metadata. There is one
//! folder for Linux, `linux/`, and one for any other Unix, `stub/`. This file selects one of them as `mod os`. Both
//! folders re-export the calls that every Unix has (`unix.rs`). To port the crate to another system, add a folder. The
//! build flag `--cfg ndarray_mmap_portable` compiles `stub/` on Linux, so that `stub/` can be tested.
//!
//! Each file uses only files from earlier lines of this table:
//!
//! | files | contents |
//! | --- | --- |
//! | `types.rs` `failure.rs` `inject.rs` | shared types; classification of errors; fault injection and recording |
//! | `unix.rs` | calls that every Unix has |
//! | `linux/` `stub/` | calls of one system |
//! | `bytes.rs` `buffer.rs` `fault.rs` | transfers between buffers and files; aligned buffers; the fault guard |
//! | `fs.rs` `memory.rs` `reads.rs` `residency.rs` | files; mappings; batches of reads; resident pages |
//!
//! If the failure of a call can lose data, names or locks, the call is made by [`through`](inject::through), so that a
//! test can make the N-th call of a kind fail. Hints (`madvise`, `fadvise`) and queries (`fstat`, `cachestat`,
//! `mincore`) are called directly.
//!
//! # What happens if a call is missing or forbidden
//!
//! An old kernel lacks calls (`ENOSYS`, `EINVAL`), a filesystem lacks operations (`EOPNOTSUPP`), and the filter of a
//! container refuses calls (`EPERM`, `ENOSYS`). Therefore every call that is not in POSIX has a fallback:
//!
//! | refused call | fallback |
//! | --- | --- |
//! | `cachestat` | `mincore`, then samples by `preadv2`, then "unknown": see `residency.rs` |
//! | `preadv2(RWF_NOWAIT)` | a direct read or a read through the page cache |
//! | `pwritev2(RWF_DONTCACHE)` | a plain write, then `sync_file_range` and `fadvise` |
//! | `sync_file_range` | `fadvise`, to start write-back; `fdatasync`, to wait for it |
//! | `posix_fadvise` | none: the pages stay in the page cache |
//! | `syncfs` | `sync` |
//! | `fallocate` | zeros are written, or the file is sparse if the caller has allowed it |
//! | `fallocate(ZERO_RANGE)` | zeros are written |
//! | `lseek(SEEK_DATA)`, `lseek(SEEK_HOLE)` | the whole file is data |
//! | `ioctl(FICLONERANGE)` | the bytes are copied |
//! | `renameat2` | `link`, then `unlink` |
//! | `open(O_TMPFILE)`, `linkat` of an unnamed file, `/proc/self/fd` | a new file has a temporary name from the start |
//! | `fcntl(F_OFD_SETLK)` | the lock table of this process |
//! | `io_setup`, `io_submit`, `io_getevents` | one read after the other |
//! | `process_vm_readv` | a copy under the fault guard, then a check that the mapping has not faulted |
//! | `/proc/self/pagemap` | every page counts as changed |
//! | `open(O_DIRECT)`, `/proc/self/fd` | transfers through the page cache |
//! | `madvise(MADV_POPULATE_READ)` | the kernel copies one byte of the page, which makes it resident |
//! | `madvise(MADV_PAGEOUT)` | none: unchanged pages of private mappings stay resident, and so do folios that reach across an edge of the evicted range |
//! | `madvise`, all other advice | none: it is a hint |

mod buffer;
mod bytes;
mod failure;
pub(crate) mod fault;
pub(crate) mod fs;
#[cfg_attr(
    not(all(target_os = "linux", not(ndarray_mmap_portable))),
    allow(dead_code, reason = "only `linux/` uses all of it")
)]
pub(crate) mod inject;
mod memory;
mod reads;
#[cfg(test)]
#[cfg_attr(
    not(all(target_os = "linux", feature = "npy")),
    allow(dead_code, reason = "only the tests of crash states record")
)]
pub(crate) mod record;
#[cfg(test)]
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
pub(crate) mod refused;
mod residency;
#[cfg_attr(
    not(all(target_os = "linux", not(ndarray_mmap_portable))),
    allow(dead_code, reason = "only `linux/` uses all of it")
)]
mod types;
mod unix;
mod vectors;

#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod linux;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
use linux as os;

#[cfg(not(all(target_os = "linux", not(ndarray_mmap_portable))))]
mod stub;
#[cfg(not(all(target_os = "linux", not(ndarray_mmap_portable))))]
use stub as os;

pub(crate) use buffer::AlignedBuf;
pub(crate) use bytes::{read_cached, read_up_to, write_all_uncached};
pub(crate) use failure::{
    cannot_share, in_words, is_bad_address, is_unsupported, refuses_arguments, too_many_links,
};
pub(crate) use fs::{drop_cached, finds_holes, is_memory_filesystem, next_data, start_writeback, sync_range};
pub(crate) use memory::{Memory, reclaim_page};
pub(crate) use os::{
    check_file_size_limit, clone_range, create_unnamed, free_bytes, link_unnamed, lock_holder, lock_range,
    open_direct, page_bytes, process_lives, read_ahead, read_around, reserve, status, status_of_path,
    unlock_range, zero,
};
pub(crate) use reads::ReadQueue;
pub(crate) use residency::PageCounter;
pub(crate) use types::{FileId, FileStatus, Hint, Left, LockMode, LockOutcome, Piece, Protection, Residency};
pub(crate) use vectors::{prefetch, with_wide_vectors};
