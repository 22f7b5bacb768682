//! The contract with the operating system: calls that std lacks, with safe signatures, in the crate's own words.
//!
//! No error number, no type of memmap2 and no metadata of one system leaves this folder. A system is one folder behind
//! `mod os`, chosen here and nowhere else: `linux/`, or `stub/` for a Unix of which nothing more is known. Both hand on what
//! every Unix has (`unix.rs`). A port to another system is one more folder. The build flag `--cfg ndarray_mmap_portable`
//! compiles a Linux build with `stub/`, to test it.
//!
//! Files use only files of the lines above their own:
//!
//! | files | what lives there |
//! | --- | --- |
//! | `types.rs` `failure.rs` `inject.rs` | the words; errors classified; the door of fault injection |
//! | `unix.rs` | what every Unix has |
//! | `linux/` `stub/` | the system |
//! | `bytes.rs` `buffer.rs` `fault.rs` | bytes between buffers and files; aligned buffers; the fault guard |
//! | `fs.rs` `memory.rs` `reads.rs` `residency.rs` | files; mappings; many reads at once; what is in the page cache |
//!
//! Every call whose failure can lose bytes, names or locks goes [through](inject::through) a door, so that a test can make the N-th call of
//! a kind fail. Hints (`madvise`, `fadvise`) and questions (`fstat`, `cachestat`, `mincore`) do not.
//!
//! # What happens where a call is missing or forbidden
//!
//! Kernels lack calls (`ENOSYS`, `EINVAL`), filesystems lack operations (`EOPNOTSUPP`), and the filters of containers refuse
//! calls (`EPERM`, `ENOSYS`). Each call beyond POSIX can be refused, alone or with others:
//!
//! | refused | instead |
//! | --- | --- |
//! | `cachestat` | `mincore`, then samples by `preadv2`, then "unknown": see `residency.rs` |
//! | `preadv2(RWF_NOWAIT)` | a direct or a plain read |
//! | `pwritev2(RWF_DONTCACHE)` | a plain write, then `sync_file_range` and `fadvise` |
//! | `sync_file_range` | to start: `fadvise`, which starts write-back; to wait: `fdatasync` |
//! | `posix_fadvise` | the pages stay cached |
//! | `syncfs` | `sync` |
//! | `fallocate` | zeros are written, or the file is sparse where that was allowed |
//! | `renameat2` | `link`, then `unlink` |
//! | `fcntl(F_OFD_SETLK)` | the process's own table of locks |
//! | `io_setup`, `io_submit`, `io_getevents` | one read after the other |
//! | `process_vm_readv` | a copy under the fault guard, then a check that the mapping never faulted |
//! | `/proc/self/pagemap` | every page counts as changed |
//! | `open(O_DIRECT)`, `/proc/self/fd` | transfers through the page cache |
//! | `madvise(MADV_POPULATE_READ)` | a copy of one byte by the kernel brings the page in |
//! | `madvise(MADV_PAGEOUT)` | unchanged pages of private copies, and folios across the edge of an eviction, stay |
//! | `madvise`, all other advice | nothing: a hint |

mod buffer;
mod bytes;
mod failure;
pub(crate) mod fault;
pub(crate) mod fs;
pub(crate) mod inject;
mod memory;
mod reads;
#[cfg(test)]
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod refused;
mod residency;
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
pub(crate) use failure::{in_words, is_bad_address, is_unsupported, refuses_arguments, too_many_links};
pub(crate) use fs::{drop_cached, is_memory_filesystem, start_writeback, sync_range};
pub(crate) use memory::{Memory, reclaim_page};
pub(crate) use os::{
    check_file_size_limit, create_unnamed, free_bytes, lock_holder, lock_range, open_direct, page_bytes,
    process_lives, read_ahead, reserve, status, status_of_path, unlock_range,
};
pub(crate) use reads::ReadQueue;
pub(crate) use residency::PageCounter;
pub(crate) use types::{FileId, Hint, Left, LockMode, LockOutcome, Piece, Protection, Residency};
pub(crate) use vectors::with_wide_vectors;
