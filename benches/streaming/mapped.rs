//! Contenders that use memmap2 and ndarray without this crate.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;

use memmap2::{Mmap, MmapMut, UncheckedAdvice};
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};

use super::job::Job;
use super::plan::Work;

/// Copies with one `assign` from mapping to mapping, and one flush.
pub fn assign(job: &Job) -> io::Result<()> {
    let source = map_source(job)?;
    let mut target = map_target(job)?;
    view_mut(&mut target, job).assign(&view(&source, job));
    target.flush()
}

/// Copies with one `assign` for each chunk. Writes each chunk back, and drops its pages from this process.
pub fn assign_and_evict(job: &Job) -> io::Result<()> {
    let source = map_source(job)?;
    let mut target = map_target(job)?;
    for start in (0..job.rows).step_by(job.chunk_rows) {
        let rows = start..job.rows.min(start + job.chunk_rows);
        let chunk = view(&source, job).slice_move(s![rows.clone(), ..]);
        view_mut(&mut target, job).slice_mut(s![rows.clone(), ..]).assign(&chunk);
        evict(&source, &target, rows.start * job.row_bytes()..rows.end * job.row_bytes())?;
    }
    target.flush()
}

fn evict(source: &Mmap, target: &MmapMut, bytes: Range<usize>) -> io::Result<()> {
    target.flush_range(bytes.start, bytes.len())?;
    // SAFETY: the mapping is shared, and the stores are in the file, so dropped pages read back the same.
    unsafe { target.unchecked_advise_range(UncheckedAdvice::DontNeed, bytes.start, bytes.len()) }?;
    // SAFETY: the mapping is shared and only read, so dropped pages read back the same.
    unsafe { source.unchecked_advise_range(UncheckedAdvice::DontNeed, bytes.start, bytes.len()) }
}

/// Reduces with ndarray, over a view of the mapped file.
pub fn reduce(job: &Job) -> io::Result<Vec<f64>> {
    let source = map_source(job)?;
    let view = view(&source, job);
    let mean = || view.mean().ok_or_else(|| io::Error::other("no rows"));
    Ok(match job.work {
        Work::Mean => vec![f64::from(mean()?)],
        Work::Var => vec![f64::from(view.var(0.0))],
        Work::MinMax => {
            let wider = |(low, high): (f32, f32), &value: &f32| (low.min(value), high.max(value));
            let (low, high) = view.iter().fold((f32::INFINITY, f32::NEG_INFINITY), wider);
            vec![low.into(), high.into()]
        }
        _ => view.mean_axis(Axis(0)).into_iter().flatten().map(f64::from).collect(),
    })
}

/// Reads every word of the mapped file once.
pub fn read(job: &Job) -> io::Result<()> {
    let source = map_source(job)?;
    let mut words = [0_u64; 32];
    for block in
        bytemuck::cast_slice::<u8, u64>(&source[..job.source_bytes() as usize]).chunks_exact(words.len())
    {
        words.iter_mut().zip(block).for_each(|(word, read)| *word ^= read);
    }
    std::hint::black_box(words);
    Ok(())
}

fn map_source(job: &Job) -> io::Result<Mmap> {
    let file = File::open(&job.source)?;
    // SAFETY: the file belongs to this benchmark, and no program writes to it while a contender runs.
    unsafe { Mmap::map(&file) }
}

fn map_target(job: &Job) -> io::Result<MmapMut> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&job.target)?;
    file.set_len(job.source_bytes())?;
    // SAFETY: the file is new, and only this process uses it.
    unsafe { MmapMut::map_mut(&file) }
}

fn view<'a>(map: &'a Mmap, job: &Job) -> ArrayView2<'a, f32> {
    let elements = bytemuck::cast_slice(&map[..job.source_bytes() as usize]);
    ArrayView2::from_shape((job.rows, job.columns), elements).expect("the shape has as many elements")
}

fn view_mut<'a>(map: &'a mut MmapMut, job: &Job) -> ArrayViewMut2<'a, f32> {
    let elements = bytemuck::cast_slice_mut(&mut map[..]);
    ArrayViewMut2::from_shape((job.rows, job.columns), elements).expect("the shape has as many elements")
}
