//! This crate, through its public interface.

use std::io;

use ndarray::{Axis, Ix2};
use ndarray_mmap::stream::{Budget, Stream};
use ndarray_mmap::{ArrayOptions, MmapArray, OnDrop, ReadOnly};

use super::job::Job;
use super::plan::{FACTOR, Work};

/// Does the work with this many threads for the elements; a reduction returns its result.
pub fn run(job: &Job, index: &[usize], threads: usize) -> io::Result<Option<Vec<f64>>> {
    let source = open(job)?;
    let budget = match (job.chunk_rows, job.budget_bytes) {
        (0, 0) => Budget::default(),
        (0, bytes) => Budget::bytes(bytes),
        (rows, _) => Budget::rows(rows),
    };
    let stream = Stream::from(&source).budget(budget);
    match job.work {
        Work::Scale => {
            stream
                .map(|chunk, mut out| {
                    ndarray::Zip::from(&mut out)
                        .and(&chunk)
                        .for_each(|out, &value: &f32| *out = value * FACTOR);
                })
                .write_to(&job.target)?;
        }
        Work::Cast => drop(stream.cast::<f64>().write_to(&job.target)?),
        Work::HalfColumns => {
            let half: Vec<usize> = (0..job.columns / 2).collect();
            stream.select(Axis(1), &half).write_to(&job.target)?;
        }
        Work::MeanAxis0 => {
            let stream = if threads > 1 { stream.threads(threads) } else { stream };
            return Ok(Some(stream.mean_axis0()?.to_vec()));
        }
        work if work.is_gather() => drop(stream.select_rows(index).write_to(&job.target)?),
        _ => drop(stream.write_to(&job.target)?),
    }
    Ok(None)
}

fn open(job: &Job) -> io::Result<MmapArray<f32, Ix2, ReadOnly>> {
    let options = ArrayOptions::new().shape((job.rows, job.columns)).on_drop(OnDrop::KeepCached);
    Ok(options.open(&job.source)?)
}
