//! Transfers between files and buffers: reads and writes at an offset, through the page cache or by direct I/O.
//!
//! This room knows files, byte ranges and buffers. It does not know arrays, mappings or locks: the callers hold the locks
//! during each call.
//!
//! | file | content |
//! | --- | --- |
//! | `route.rs` | decides for each block between direct I/O and the page cache |
//! | `reader.rs` | reads one contiguous part of a file |
//! | `batch.rs` | reads many small parts of a file at once |
//! | `writer.rs` | writes blocks to their offsets in a file, from several threads, in any order |
//! | `seams.rs` | assembles the pages that two blocks share |
//! | `window.rs` | writes through the page cache, and limits the number of dirty and resident pages; the errors of writes |

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

/// The largest gap in bytes between two parts of a file that one request reads together with the gap. For a larger gap, a
/// second request is faster.
pub(crate) const MAX_READ_GAP_BYTES: usize = 16 << 10;
