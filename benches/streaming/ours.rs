//! The contender that uses this crate, through its public interface.

use std::io;

use ndarray::{Array1, ArrayView2, ArrayViewMut2, Axis, Ix2, Zip};
use ndarray_mmap::stream::{Budget, Source, Stream};
use ndarray_mmap::{ArrayOptions, MmapArray, OnDrop, ReadOnly, Result};

use super::job::Job;
use super::plan::{Contender, FACTOR, Work};

/// Does the work. A reduction returns its result.
pub fn run(job: &Job, index: &[usize]) -> io::Result<Option<Vec<f64>>> {
    if job.work == Work::MeanAxis0 {
        return Ok(Some(mean(job)?.to_vec()));
    }
    write(job, index)?;
    Ok(None)
}

fn write(job: &Job, index: &[usize]) -> Result<()> {
    let source = open(job)?;
    let stream = stream(&source, job);
    match job.work {
        Work::Scale => {
            let scale = |chunk: ArrayView2<'_, f32>, out: ArrayViewMut2<'_, f32>| {
                Zip::from(out).and(chunk).for_each(|out, value| *out = value * FACTOR);
            };
            stream.map(scale).write_to(&job.target)?.close()
        }
        Work::Cast => stream.cast::<f64>().write_to(&job.target)?.close(),
        Work::HalfColumns => {
            let columns: Vec<usize> = (0..job.columns / 2).collect();
            stream.select(Axis(1), &columns).write_to(&job.target)?.close()
        }
        work if work.is_gather() => stream.select_rows(index).write_to(&job.target)?.close(),
        _ => stream.write_to(&job.target)?.close(),
    }?;
    source.close()
}

fn mean(job: &Job) -> Result<Array1<f64>> {
    let source = open(job)?;
    let stream = stream(&source, job);
    let mean = match job.contender {
        Contender::OursOneThread => stream.threads(1).mean_axis0(),
        Contender::OursTwoThreads => stream.threads(2).mean_axis0(),
        _ => stream.mean_axis0(),
    }?;
    source.close()?;
    Ok(mean)
}

/// Opens the source. Pages of the source that were in the page cache stay there, as with every other contender.
fn open(job: &Job) -> Result<MmapArray<f32, Ix2, ReadOnly>> {
    let options = ArrayOptions::new().on_drop(OnDrop::KeepCached);
    match job.work {
        Work::CopyNpy => options.open(&job.source),
        _ => options.shape((job.rows, job.columns)).open(&job.source),
    }
}

fn stream<'a>(source: &'a MmapArray<f32, Ix2, ReadOnly>, job: &Job) -> Stream<'static, Source<'a, f32, Ix2>> {
    let stream = Stream::from(source);
    match (job.budget_bytes, job.chunk_rows) {
        (0, 0) => stream,
        (0, chunk_rows) => stream.budget(Budget::chunk_rows(chunk_rows)),
        (budget_bytes, _) => stream.budget(Budget::bytes(budget_bytes)),
    }
}
