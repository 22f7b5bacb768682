//! The contender that uses this crate, through its public interface.

use std::io;

use ndarray::{ArrayView2, ArrayViewMut2, Axis, Ix2, Zip};
use ndarray_mmap::stream::{Budget, Source, Stream};
use ndarray_mmap::{ArrayOptions, MmapArray, OnDrop, ReadOnly, Result};

use super::job::Job;
use super::plan::{Contender, FACTOR, Work};

/// Does the work. A reduction returns its result.
pub fn run(job: &Job, index: &[usize]) -> io::Result<Option<Vec<f64>>> {
    if job.work.is_reduction() {
        return Ok(Some(reduce(job)?));
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

fn reduce(job: &Job) -> Result<Vec<f64>> {
    let source = open(job)?;
    let stream = || {
        let stream = stream(&source, job);
        match job.contender {
            Contender::OursOneThread => stream.threads(1),
            Contender::OursTwoThreads => stream.threads(2),
            _ => stream,
        }
    };
    let half = job.rows / 2;
    let result = match (job.work, job.contender) {
        (Work::Mean, _) => vec![stream().mean()?],
        (Work::Var, _) => vec![stream().var(0.0)?],
        (Work::MinMax, _) => {
            stream().min_max()?.into_iter().flat_map(|(low, high)| [low.into(), high.into()]).collect()
        }
        (Work::MedianAxis0, _) => stream().quantile_axis0(0.5)?.to_vec(),
        (Work::Zip, Contender::OursParts) => {
            let sum = |sum: f64, rows: ArrayView2<'_, f32>| sum + f64::from(rows.sum());
            vec![stream().rows(..half).fold(0.0, sum)? - stream().rows(half..2 * half).fold(0.0, sum)?]
        }
        (Work::Zip, _) => {
            let pairs = stream().rows(..half).zip(stream().rows(half..2 * half));
            vec![pairs.fold(0.0, |sum: f64, (a, b)| sum + f64::from(a.sum()) - f64::from(b.sum()))?]
        }
        _ => stream().mean_axis0()?.to_vec(),
    };
    source.close()?;
    Ok(result)
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
