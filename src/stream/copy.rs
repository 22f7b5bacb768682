//! Copying: one call for arrays, and the way of bytes that nothing has to look at.

use super::Stream;
use super::budget::{BLOCK_BYTES, Budget, RowCost};
use super::reader::Reader;
use super::sink::Sink;
use super::source::Source;
use super::stage::{Element, Whole, grow};
use super::workers::{self, Progress};
use crate::error::{Error, Result};
use crate::geometry::to_pages;
use crate::sys::{self, AlignedBuf, page_bytes};
use ndarray::{ArrayRef, Dimension};
use std::io;
use std::ops::Range;

/// Copies an array into another of the same shape and type: `Stream::from(source).copy_into(destination)`.
///
/// ```
/// use ndarray::Ix2;
/// use ndarray_mmap::{MmapArray, stream};
///
/// let mut source = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
/// source.fill(2.5);
/// let mut destination = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
/// stream::copy(&source, &mut destination)?;
/// assert_eq!(destination.sum(), 7500.0);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
///
/// # Errors
/// As for [`Stream::copy_into`].
///
/// # Panics
/// If the destination is an [`MmapArray`](crate::MmapArray) that was closed by its path.
pub fn copy<'a, T: Element, D: Dimension + 'a>(
    source: impl Into<Stream<'static, Source<'a, T, D>>>,
    destination: &mut ArrayRef<T, D>,
) -> Result<()> {
    source.into().copy_into(destination)
}

/// Copies a source that lies in one piece in a file, if its bytes lie in their pages as they will in the sink's: then
/// what is read into a buffer, or is in the cache already, can be written as it stands. `false` if they do not.
pub(super) fn copy_whole(
    whole: &Whole<'_>,
    sink: &Sink<'_>,
    budget: Budget,
    threads: usize,
    progress: &mut Progress<'_>,
    failed: &(dyn Fn(io::Error) -> Error + Sync),
) -> Result<bool> {
    let Some((reader, bytes)) = &whole.in_file else { return Ok(false) };
    let page = page_bytes() as u64;
    if bytes.start % page != sink.start() % page {
        return Ok(false);
    }
    let first_page = bytes.start - bytes.start % page;
    let pages = ((bytes.end - first_page).div_ceil(page)) as usize; // at most the bytes of an array
    let cost = RowCost {
        widest_bytes: page_bytes(),
        total_bytes: page_bytes(),
        rows: pages,
        block_bytes: BLOCK_BYTES.next_multiple_of(1 << 20),
    };
    let plan = Budget::bytes(budget.memory_bytes()).plan(cost, threads);
    let block_bytes = (plan.block_rows * page_bytes()) as u64;
    progress.count_in(pages);
    workers::run(plan.blocks, plan.threads, progress, |buffer: &mut Option<AlignedBuf>, block| {
        let start = first_page + block as u64 * block_bytes;
        let read = start.max(bytes.start)..(start + block_bytes).min(bytes.end);
        let at = sink.start() + (read.start - bytes.start);
        if reader.is_at_hand(&read) {
            let from = (read.start - bytes.start) as usize;
            let len = (read.end - read.start) as usize;
            copy_resident(reader, &whole.bytes[from..from + len], &read, sink, at, failed)?;
        } else {
            let pages = to_pages(read.clone(), page_bytes());
            let buffer = grow(buffer, (pages.end - pages.start) as usize)?;
            reader.read_span(buffer, &read)?;
            sink.write(buffer, &(at..at + (read.end - read.start))).map_err(failed)?;
        }
        Ok((read.end.div_ceil(page) - read.start / page) as usize)
    })?;
    Ok(true)
}

/// Hands the mapped pages of the source to the kernel, which copies them or sends them to disk as they are. Where the file
/// has been cut short, it refuses the pages: no signal comes of it.
fn copy_resident(
    reader: &Reader,
    mapped: &[u8],
    read: &Range<u64>,
    sink: &Sink<'_>,
    at: u64,
    failed: &(dyn Fn(io::Error) -> Error + Sync),
) -> Result<()> {
    sink.write_in_place(mapped, at).map_err(|error| match sys::is_bad_address(&error) {
        true => reader.shrunk(),
        false => failed(error),
    })?;
    reader.mapping().release(read);
    // Of a page that was cut, the rest reads as zeros; so does a page that faulted in another thread.
    reader.mapping().check_usable("stream")?;
    reader.check_length(read.end)
}
