//! Checks what a loop has written or added up.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::job::values_of;
use super::super::verify::npy_offset;
use super::plan::{Contender, Job, Loop, UNALIGNED_OFFSET, chunks_of};

/// How many bytes are compared at a time.
const BLOCK_BYTES: u64 = 4 << 20;

/// Compares the output of the contender with what the loop must give.
pub fn verify(job: &Job) -> io::Result<()> {
    match job.work {
        _ if job.contender == Contender::DirectWrite => Ok(()),
        work if work.adds_up() => verify_sum(job),
        Loop::Fill => verify_rows(job, |rows| {
            let values = rows.flat_map(|row| std::iter::repeat_n(row as f32, job.columns));
            Ok(bytemuck::cast_slice(&values.collect::<Vec<f32>>()).to_vec())
        }),
        _ => {
            let source = Data::open(&job.source)?;
            verify_rows(job, |rows| source.read(job, rows))
        }
    }
}

fn verify_rows(job: &Job, expected: impl Fn(Range<usize>) -> io::Result<Vec<u8>>) -> io::Result<()> {
    let target = Data::open(&job.target)?;
    if target.file.metadata()?.len() != target.offset + job.data_bytes() {
        return Err(io::Error::other("the output has the wrong length"));
    }
    for chunk in job.chunks() {
        for rows in chunks_of(chunk, block_rows(job)) {
            if target.read(job, rows.clone())? != expected(rows.clone())? {
                return Err(io::Error::other(format!("rows {rows:?} differ from the expected rows")));
            }
        }
    }
    Ok(())
}

fn verify_sum(job: &Job) -> io::Result<()> {
    let found = fs::read(&job.target)?;
    let found = *values_of::<f64>(&found).first().ok_or_else(|| io::Error::other("no sum"))?;
    let source = Data::open(&job.source)?;
    let mut expected = 0.0;
    // The order of the elements does not change the sum, so an array in Fortran order is read like any other.
    for rows in chunks_of(0..job.rows, block_rows(job)) {
        let bytes = source.read(job, rows)?;
        expected += if job.work == Loop::Unaligned {
            values_of::<i16>(&bytes).into_iter().map(f64::from).sum::<f64>()
        } else {
            values_of::<f32>(&bytes).into_iter().map(f64::from).sum::<f64>()
        };
    }
    if (found - expected).abs() <= 1e-5 * expected.abs() {
        return Ok(());
    }
    Err(io::Error::other(format!("the sum is {found}, expected {expected}")))
}

fn block_rows(job: &Job) -> usize {
    (BLOCK_BYTES / job.work.row_bytes()) as usize
}

/// The data of an array in a file.
struct Data {
    file: File,
    offset: u64,
}

impl Data {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let is_npy = path.extension().is_some_and(|name| name == "npy");
        let offset = if is_npy { npy_offset(&file)? } else { UNALIGNED_OFFSET };
        Ok(Self { file, offset })
    }

    fn read(&self, job: &Job, rows: Range<usize>) -> io::Result<Vec<u8>> {
        let row_bytes = job.work.row_bytes();
        let mut bytes = vec![0; rows.len() * row_bytes as usize];
        self.file.read_exact_at(&mut bytes, self.offset + rows.start as u64 * row_bytes)?;
        Ok(bytes)
    }
}
