//! System calls of Linux. This folder also re-exports the calls that every Unix has.
//!
//! | file | contents |
//! | --- | --- |
//! | `files.rs` | names, disk space and write-back of files |
//! | `cache.rs` | counting, prefetching and dropping pages in the page cache |
//! | `direct.rs` | transfers that bypass the page cache |
//! | `extents.rs` | holes, zeros and shared extents |
//! | `pages.rs` | the pages of this process's mappings |
//! | `locks.rs` | byte-range locks |
//! | `aio.rs` | batches of reads |
//! | `sigbus/` | the signal handler of the fault guard |

mod aio;
mod cache;
mod direct;
mod extents;
mod files;
mod locks;
mod pages;
pub(crate) mod sigbus;

pub(crate) use super::unix::{
    check_file_size_limit, count_by_mincore, discard, free_bytes, mincore_is_truthful, open_options,
    page_bytes, process_lives, protect_read_only, read_at, status, status_of_path, write_at,
};
pub(crate) use aio::ReadQueue;
pub(crate) use cache::{DROPS_CACHED, count_cached, drop_cached, page_store, read_ahead, read_around};
pub(crate) use direct::{open_direct, read_cached, write_uncached};
#[cfg(test)]
pub(crate) use extents::FICLONERANGE;
pub(crate) use extents::{clone_range, next_data, next_hole, zero};
pub(crate) use files::{
    create_unnamed, link_unnamed, rename_no_replace, reserve, start_writeback, sync_filesystem, sync_range,
};
pub(crate) use locks::{lock_holder, lock_range, unlock_range};
pub(crate) use pages::{changed_pages, copy_mapped, page_out, populate};
