//! The loops as users of this crate write them.

use std::ops::Range;
use std::thread;

use bytemuck::Pod;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, Ix2, s};
use ndarray_mmap::stream::{Budget, Stream};
use ndarray_mmap::{ArrayOptions, MmapArray, OnDrop, ReadOnly, Result, evict_view};

use super::plan::{Contender, Job, Loop, THREADS, UNALIGNED_OFFSET, chunks_of};

type Source<T = f32> = MmapArray<T, Ix2, ReadOnly>;

/// Runs the loop with this crate. If the loop adds up elements, returns the sum.
pub fn run(job: &Job) -> Result<Option<f64>> {
    match (job.work, job.contender) {
        (Loop::Fill, Contender::Chunks) => fill_chunks(job).map(|()| None),
        (Loop::Fill, _) => fill(job).map(|()| None),
        (Loop::Sum, Contender::Stream) => sum_stream(job).map(Some),
        (Loop::Sum, _) => sum(job, &options(job).open(&job.source)?, sum_of_rows).map(Some),
        (Loop::Unaligned, _) => {
            let raw = options(job).shape((job.rows, job.columns)).offset_bytes(UNALIGNED_OFFSET);
            sum(job, &raw.open::<i16, Ix2>(&job.source)?, sum_of_elements).map(Some)
        }
        (work, _) if work.is_scattered() => {
            sum(job, &options(job).open::<f32, Ix2>(&job.source)?, sum_of_elements).map(Some)
        }
        (_, Contender::Chunks | Contender::ChunksMemcpy) => copy_chunks(job).map(|()| None),
        (_, Contender::EvictThreads) => copy_in_threads(job).map(|()| None),
        (_, Contender::Stream) => copy_stream(job).map(|()| None),
        _ => copy(job).map(|()| None),
    }
}

fn options(job: &Job) -> ArrayOptions {
    let on_drop = if job.keep_cached { OnDrop::KeepCached } else { OnDrop::Evict };
    ArrayOptions::new().on_drop(on_drop)
}

fn create(job: &Job) -> Result<MmapArray<f32, Ix2>> {
    MmapArray::create(&job.target, (job.rows, job.columns))
}

fn copy(job: &Job) -> Result<()> {
    let src: Source = options(job).open(&job.source)?;
    let mut dst = create(job)?;
    for rows in job.chunks() {
        let from = src.slice(s![rows.clone(), ..]);
        copy_chunk(job, from, dst.slice_mut(s![rows.clone(), ..]));
        if job.contender != Contender::Plain {
            src.evict_rows(rows.clone())?;
            dst.evict_rows(rows)?;
        }
    }
    dst.close()?;
    src.close()
}

fn copy_chunk(job: &Job, from: ArrayView2<'_, f32>, mut to: ArrayViewMut2<'_, f32>) {
    if matches!(job.contender, Contender::EvictMemcpy | Contender::ChunksMemcpy) {
        let from = from.as_slice().expect("rows in C order are contiguous");
        to.as_slice_mut().expect("rows in C order are contiguous").copy_from_slice(from);
    } else {
        to.assign(&from);
    }
}

fn copy_chunks(job: &Job) -> Result<()> {
    let src: Source = options(job).open(&job.source)?;
    let mut dst = create(job)?;
    let budget = Budget::chunk_rows(job.chunk_rows);
    for ((_, from), (_, to)) in src.row_chunks(budget).zip(dst.row_chunks_mut(budget)) {
        copy_chunk(job, from, to);
    }
    dst.close()?;
    src.close()
}

fn copy_stream(job: &Job) -> Result<()> {
    let src: Source = options(job).open(&job.source)?;
    Stream::from(&src).budget(Budget::chunk_rows(job.chunk_rows)).write_to(&job.target)?.close()?;
    src.close()
}

fn copy_in_threads(job: &Job) -> Result<()> {
    let src: Source = options(job).open(&job.source)?;
    let mut dst = create(job)?;
    let part_rows = job.rows.div_ceil(THREADS);
    thread::scope(|scope| {
        let workers: Vec<_> = dst
            .axis_chunks_iter_mut(Axis(0), part_rows)
            .enumerate()
            .map(|(part, to)| {
                let first = part * part_rows;
                let src = &src;
                scope.spawn(move || copy_part(job, src, first..first + to.nrows(), to))
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("the worker does not panic"))
    })?;
    dst.close()?;
    src.close()
}

fn copy_part(job: &Job, src: &Source, part: Range<usize>, mut to: ArrayViewMut2<'_, f32>) -> Result<()> {
    for rows in chunks_of(part.clone(), job.chunk_rows) {
        let in_part = rows.start - part.start..rows.end - part.start;
        let mut chunk = to.slice_mut(s![in_part, ..]);
        chunk.assign(&src.slice(s![rows.clone(), ..]));
        src.evict_rows(rows)?;
        evict_view(&chunk)?;
    }
    Ok(())
}

fn fill(job: &Job) -> Result<()> {
    let mut dst = create(job)?;
    for rows in job.chunks() {
        fill_chunk(rows.clone(), dst.slice_mut(s![rows.clone(), ..]));
        if job.contender == Contender::Evict {
            dst.evict_rows(rows)?;
        }
    }
    dst.close()
}

fn fill_chunks(job: &Job) -> Result<()> {
    let mut dst = create(job)?;
    for (rows, chunk) in dst.row_chunks_mut(Budget::chunk_rows(job.chunk_rows)) {
        fill_chunk(rows, chunk);
    }
    dst.close()
}

/// Fills each row with its number.
fn fill_chunk(rows: Range<usize>, mut chunk: ArrayViewMut2<'_, f32>) {
    for (row, mut values) in rows.zip(chunk.outer_iter_mut()) {
        values.fill(row as f32);
    }
}

fn sum_stream(job: &Job) -> Result<f64> {
    let src: Source = options(job).open(&job.source)?;
    let sum: f64 = Stream::from(&src).budget(Budget::chunk_rows(job.chunk_rows)).sum()?;
    src.close()?;
    Ok(sum)
}

fn sum<T: Pod>(job: &Job, src: &Source<T>, sum_of: fn(ArrayView2<'_, T>) -> f64) -> Result<f64> {
    let mut total = 0.0;
    match job.contender {
        Contender::Chunks => {
            for (_, chunk) in src.row_chunks(Budget::chunk_rows(job.chunk_rows)) {
                total += sum_of(chunk);
            }
        }
        Contender::Evict => {
            for rows in job.chunks() {
                total += sum_of(src.slice(s![rows.clone(), ..]));
                src.evict_rows(rows)?;
            }
        }
        _ => {
            for chunk in src.axis_chunks_iter(Axis(0), job.chunk_rows) {
                total += sum_of(chunk);
            }
        }
    }
    Ok(total)
}

/// Adds up each row in `f32`, which is fast, and the rows in `f64`, which keeps the sum exact enough to be checked.
fn sum_of_rows(chunk: ArrayView2<'_, f32>) -> f64 {
    chunk.outer_iter().map(|row| f64::from(row.sum())).sum()
}

/// Adds up the elements in the order in which they lie in memory.
fn sum_of_elements<T: Copy + Into<f64>>(chunk: ArrayView2<'_, T>) -> f64 {
    chunk.fold(0.0, |sum, &value| sum + value.into())
}
