//! Bytes between files and buffers: positioned reads and writes, through the page cache or with direct I/O.
//!
//! This room knows files, byte ranges and buffers. It does not know arrays, mappings or locks: the callers above hold those for as
//! long as a call here runs.
//!
//! | file | content |
//! | --- | --- |
//! | `route.rs` | decides how the bytes of a block travel: direct I/O, or through the page cache |
//! | `reader.rs` | reads one contiguous part of a file |
//! | `batch.rs` | reads many small parts of a file at once |
//! | `writer.rs` | writes blocks to their places in a file, from several threads, in any order |
//! | `seams.rs` | assembles the pages that two blocks share |
//! | `window.rs` | writes through the page cache, and keeps the number of dirty and cached pages bounded; the errors of writes |

mod batch;
mod reader;
mod route;
mod seams;
mod window;
mod writer;

pub(crate) use self::batch::{Batch, Batches, Run};
pub(crate) use self::reader::Reader;
pub use self::route::Transfer;
pub(crate) use self::window::{WriteError, drop_cached_behind};
pub(crate) use self::writer::Writer;

use crate::error::{Error, Result};
use crate::sys::AlignedBuf;

/// Returns a buffer of at least `len` bytes. What the buffer held may be lost.
pub(crate) fn grow(buffer: &mut Option<AlignedBuf>, len: usize) -> Result<&mut AlignedBuf> {
    AlignedBuf::grow(buffer, len).map_err(|error| Error::no_memory("stream", len, error))
}

/// The largest gap between two parts of a file that is read rather than skipped, in bytes: a second request costs the disk at
/// least as much time.
pub(crate) const MAX_READ_GAP_BYTES: usize = 16 << 10;
