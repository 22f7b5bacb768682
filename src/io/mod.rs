//! Transfers between files and buffers: reads and writes at an offset, through the page cache or by direct I/O.
//!
//! This module works with files, byte ranges and buffers. It does not know arrays, mappings or locks: the caller of
//! each function holds the necessary locks during the call.
//!
//! | file | content |
//! | --- | --- |
//! | `route.rs` | decides for each block between direct I/O and the page cache |
//! | `reader.rs` | reads one contiguous part of a file, finds its holes, and shares its disk space |
//! | `batch.rs` | reads many small parts of a file at once |
//! | `writer.rs` | writes blocks and zeros to their offsets in a file, from several threads, in any order |
//! | `seams.rs` | assembles the pages that two blocks share |
//! | `window.rs` | writes through the page cache, limits dirty and resident pages, and defines the errors of writes |

mod batch;
mod reader;
mod route;
mod seams;
mod window;
mod writer;

pub(crate) use self::batch::{Batch, Batches, Run};
pub(crate) use self::reader::Reader;
pub use self::route::Transfer;
pub(crate) use self::seams::split_at_pages;
pub(crate) use self::window::{WriteError, drop_cached_behind};
pub(crate) use self::writer::Writer;

use crate::error::{Error, Result};
use crate::sys::AlignedBuf;

/// Returns a buffer of at least `len` bytes. The previous content of the buffer may be lost.
pub(crate) fn grow(buffer: &mut Option<AlignedBuf>, len: usize) -> Result<&mut AlignedBuf> {
    AlignedBuf::grow(buffer, len).map_err(|error| Error::no_memory("stream", len, error))
}

/// If the gap between two parts of a file has at most this many bytes, one request reads both parts and the gap. For a
/// larger gap, two requests are faster.
pub(crate) const MAX_READ_GAP_BYTES: usize = 16 << 10;
