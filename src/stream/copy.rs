//! The function [`copy`], which copies arrays, and the copy of a contiguous source byte for byte.

use super::blocks::{Block, Blocks};
use super::budget::{BLOCK_BYTES, Budget, RowCost};
use super::output::Output;
use super::pipeline::Stream;
use super::reader::Reader;
use super::source::Source;
use super::stage::{Element, Whole};
use super::workers::{self, Progress};
use crate::error::Result;
use crate::geometry::to_pages;
use crate::io::{WriteError, grow, split_at_pages};
use crate::sys::{self, AlignedBuf, page_bytes};
use ndarray::{ArrayRef, Dimension};
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
    source.into().copy_as("copy", destination)
}

/// The number of bytes that one system call clones. A stream can be cancelled between two calls.
const CLONE_BYTES: u64 = 256 << 20;

/// Copies a source that is one contiguous part of a file, byte for byte. Writes each page as it was read or mapped. If
/// the offsets of the bytes within their pages differ between source and output, this function copies nothing and
/// returns `false`.
pub(super) fn copy_whole(
    whole: &Whole<'_>,
    output: &Output<'_>,
    budget: Budget,
    threads: usize,
    progress: &mut Progress<'_>,
) -> Result<bool> {
    let Some((reader, bytes)) = &whole.in_file else { return Ok(false) };
    let page = page_bytes() as u64;
    if bytes.start % page != output.start() % page {
        return Ok(false);
    }
    if clone_pages(reader, bytes, output, progress)? {
        return Ok(true);
    }
    let first_page = bytes.start - bytes.start % page;
    let pages = ((bytes.end - first_page).div_ceil(page)) as usize; // at most the number of bytes of an array
    let cost = RowCost {
        widest_bytes: page_bytes(),
        total_bytes: page_bytes(),
        rows: pages,
        block_bytes: BLOCK_BYTES.next_multiple_of(1 << 20),
    };
    let plan = Budget::bytes(budget.memory_bytes()).plan(cost, threads);
    let bytes_of = |pages: &Range<usize>| {
        let start = (first_page + pages.start as u64 * page).max(bytes.start);
        start..(first_page + pages.end as u64 * page).min(bytes.end)
    };
    let written = |read: &Range<u64>| {
        let start = output.start() + (read.start - bytes.start);
        start..start + (read.end - read.start)
    };
    let blocks = Blocks::find(pages, plan.block_rows, |pages| {
        let data = reader.next_data(bytes_of(&pages))?;
        let page_of = |offset: u64| ((offset - first_page) / page) as usize;
        let is_hole = data.is_empty();
        Ok(if is_hole { pages.end..pages.end } else { page_of(data.start)..page_of(data.end - 1) + 1 })
    })?;
    blocks.data().try_for_each(|pages| output.reserve(written(&bytes_of(&pages))))?;
    progress.count_in(pages);
    workers::run(blocks.count(), plan.threads, progress, |buffer: &mut Option<AlignedBuf>, block| {
        let pages = match blocks.get(block) {
            Block::Data(pages) => pages,
            Block::Hole(pages) => {
                output.write_zeros(&written(&bytes_of(&pages)))?;
                return Ok(pages.len());
            }
        };
        let read = bytes_of(&pages);
        let at = written(&read).start;
        if reader.has_mapped_pages(&read) {
            let from = (read.start - bytes.start) as usize;
            let len = (read.end - read.start) as usize;
            copy_mapped(reader, &whole.bytes[from..from + len], &read, output, at)?;
        } else {
            let pages = to_pages(read.clone(), page_bytes());
            let buffer = grow(buffer, (pages.end - pages.start) as usize)?;
            reader.read_span(buffer, &read)?;
            output.write(buffer, &(at..at + (read.end - read.start)))?;
        }
        Ok(pages.len())
    })?;
    Ok(true)
}

/// Makes source and output share the disk space of the whole pages, and copies the bytes before and after these pages.
/// Returns `false` if the files cannot share space, or if the caller's [`Transfer`](super::Transfer) does not permit
/// it. Some of the pages may be shared nevertheless.
fn clone_pages(
    reader: &Reader,
    bytes: &Range<u64>,
    output: &Output<'_>,
    progress: &mut Progress<'_>,
) -> Result<bool> {
    let at = |offset: u64| output.start() + (offset - bytes.start);
    let shared = output.clonable(&(at(bytes.start)..at(bytes.end)), reader.has_whole_file(bytes));
    if shared.is_empty() || reader.is_private() {
        return Ok(false);
    }
    let pages = bytes.start + (shared.start - output.start())..bytes.start + (shared.end - output.start());
    progress.count_in((bytes.end - bytes.start).div_ceil(CLONE_BYTES) as usize);
    for (done, start) in (pages.start..pages.end).step_by(CLONE_BYTES as usize).enumerate() {
        progress.report(done)?;
        let piece = start..pages.end.min(start + CLONE_BYTES);
        let lease = reader.lease()?;
        if !output.clone_from(reader.file(), &piece, at(start))? {
            return Ok(false);
        }
        lease.check_usable()?;
    }
    for edge in [bytes.start..pages.start, pages.end..bytes.end] {
        copy_bytes(reader, edge.clone(), output, at(edge.start))?;
    }
    progress.finish()?;
    Ok(true)
}

/// Copies bytes through a buffer, page by page.
fn copy_bytes(reader: &Reader, mut read: Range<u64>, output: &Output<'_>, mut at: u64) -> Result<()> {
    let mut buffer = None;
    while !read.is_empty() {
        let lead = (read.start % page_bytes() as u64) as usize;
        let part = read.start..read.end.min(read.start + (page_bytes() - lead) as u64);
        let len = (part.end - part.start) as usize; // at most a page
        let buffer = grow(&mut buffer, page_bytes())?;
        reader.read_span(buffer, &part)?;
        output.write_bytes(&buffer.bytes()[lead..lead + len], at)?;
        (read.start, at) = (part.end, at + len as u64);
    }
    Ok(())
}

/// Writes a block from the mapped pages of the source. Only the kernel reads the whole pages: if the source was
/// truncated, the system call fails with `EFAULT`, and no signal is raised. If the block starts or ends inside a page,
/// the block's bytes in that page are read from the file.
fn copy_mapped(
    reader: &Reader,
    mapped: &[u8],
    read: &Range<u64>,
    output: &Output<'_>,
    at: u64,
) -> Result<()> {
    let lease = reader.lease()?;
    let (head, pages, tail) = split_at_pages(read);
    for edge in [head, tail].into_iter().filter(|edge| !edge.is_empty()) {
        let mut part = vec![0; (edge.end - edge.start) as usize]; // less than a page
        reader.file().read_exact(&mut part, edge.start)?;
        output.write_bytes(&part, at + (edge.start - read.start))?;
    }
    let _output_lease = output.lease()?;
    let whole = (pages.start - read.start) as usize..(pages.end - read.start) as usize;
    output.write_mapped_pages(&mapped[whole], at + (pages.start - read.start)).map_err(
        |error| match error {
            WriteError::Refused(error) if sys::is_bad_address(&error) => reader.file().shrunk(),
            error => output.failed(error),
        },
    )?;
    reader.mapping().release(read);
    // Zeros may have been copied instead of the file's bytes. There are two cases: the file was truncated, and the
    // bytes lie between its new end and the end of its last page; or the page faulted in another thread and was
    // replaced by zeros. The two checks detect these cases.
    lease.check_usable()?;
    reader.file().check_length(read.end)
}
