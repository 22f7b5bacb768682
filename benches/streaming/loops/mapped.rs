//! The copy as it is written with memmap2 and ndarray, without this crate.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;

use memmap2::{Mmap, MmapMut, UncheckedAdvice};
use ndarray::{ArrayView2, ArrayViewMut2};

use super::super::os;
use super::super::verify::npy_offset;
use super::plan::{Contender, Job};

/// Copies chunk by chunk, and evicts each chunk by hand if the contender does so.
pub fn copy(job: &Job) -> io::Result<()> {
    let source_file = File::open(&job.source)?;
    let target_file = OpenOptions::new().read(true).write(true).create_new(true).open(&job.target)?;
    target_file.set_len(source_file.metadata()?.len())?;
    // SAFETY: the file belongs to this benchmark, and no program writes to it while a contender runs.
    let source = unsafe { Mmap::map(&source_file) }?;
    // SAFETY: the file is new, and only this process uses it.
    let mut target = unsafe { MmapMut::map_mut(&target_file) }?;
    let header = npy_offset(&source_file)? as usize;
    target[..header].copy_from_slice(&source[..header]);
    for rows in job.chunks() {
        let row_bytes = job.work.row_bytes() as usize;
        let bytes = header + rows.start * row_bytes..header + rows.end * row_bytes;
        let shape = (rows.len(), job.columns);
        let from = ArrayView2::<f32>::from_shape(shape, bytemuck::cast_slice(&source[bytes.clone()]));
        let to = ArrayViewMut2::from_shape(shape, bytemuck::cast_slice_mut(&mut target[bytes.clone()]));
        to.map_err(io::Error::other)?.assign(&from.map_err(io::Error::other)?);
        if job.contender == Contender::MemmapEvict {
            target.flush_range(bytes.start, bytes.len())?;
            evict(&source, &target, bytes.clone())?;
            let pages = whole_pages(bytes);
            os::drop_cached_range(&source_file, pages.clone())?;
            os::drop_cached_range(&target_file, pages)?;
        }
    }
    target.flush()
}

fn evict(source: &Mmap, target: &MmapMut, bytes: Range<usize>) -> io::Result<()> {
    let pages = whole_pages(bytes);
    let (start, length) = (pages.start as usize, (pages.end - pages.start) as usize);
    let length = length.min(source.len() - start);
    // SAFETY: the mapping is shared, and the stores are in the file, so dropped pages read back the same.
    unsafe { target.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) }?;
    // SAFETY: the mapping is shared and only read, so dropped pages read back the same.
    unsafe { source.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) }
}

/// Returns the pages that contain the bytes.
fn whole_pages(bytes: Range<usize>) -> Range<u64> {
    let page = os::PAGE_BYTES;
    bytes.start as u64 / page * page..(bytes.end as u64).next_multiple_of(page)
}
