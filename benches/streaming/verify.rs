//! Checks the output of a contender.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::job::{Job, values_of};
use super::plan::{Contender, FACTOR, MIB, Work};

/// Compares the output of the contender with the output that is computed from the source.
pub fn verify(job: &Job) -> io::Result<()> {
    match (job.contender, job.work) {
        (Contender::SequentialRead | Contender::SequentialReadDirect, _)
        | (Contender::DirectReadAndAdd | Contender::MappedRead, _) => Ok(()),
        (Contender::DirectWriteOnly, work) => verify_length(job, work.target_bytes(job.source_bytes())),
        (Contender::DirectSameBytes, _) => verify_length(job, job.source_bytes() * 2),
        (_, work) if work.is_reduction() => verify_reduction(job),
        _ => verify_rows(job),
    }
}

/// An array in a file, read as rows of bytes.
struct Rows {
    file: File,
    data_offset: u64,
    row_bytes: usize,
}

impl Rows {
    fn open(path: &std::path::Path, row_bytes: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let data_offset =
            if path.extension().is_some_and(|name| name == "npy") { npy_offset(&file)? } else { 0 };
        Ok(Self { file, data_offset, row_bytes })
    }

    fn read(&self, first_row: usize, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, self.data_offset + first_row as u64 * self.row_bytes as u64)
    }

    fn data_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len() - self.data_offset)
    }
}

/// Returns where the data of an NPY file starts.
pub fn npy_offset(file: &File) -> io::Result<u64> {
    let mut prefix = [0; 10];
    file.read_exact_at(&mut prefix, 0)?;
    Ok(10 + u64::from(u16::from_le_bytes([prefix[8], prefix[9]])))
}

fn verify_rows(job: &Job) -> io::Result<()> {
    let index = job.load_index()?;
    let rows = if job.work.is_gather() { index.len() } else { job.rows };
    let source = Rows::open(&job.source, job.row_bytes())?;
    let target_row_bytes = job.work.target_bytes(job.source_bytes()) as usize / rows;
    let target = Rows::open(&job.target, target_row_bytes)?;
    expect_equal("bytes of data", (rows * target_row_bytes) as u64, target.data_bytes()?)?;

    let block_rows = (4 * MIB as usize / job.row_bytes()).max(1);
    let mut read = vec![0; block_rows * job.row_bytes()];
    let mut found = vec![0; block_rows * target_row_bytes];
    for first in (0..rows).step_by(block_rows) {
        let count = block_rows.min(rows - first);
        let read = &mut read[..count * job.row_bytes()];
        if job.work.is_gather() {
            for (place, &row) in read.chunks_exact_mut(job.row_bytes()).zip(&index[first..]) {
                source.read(row, place)?;
            }
        } else {
            source.read(first, read)?;
        }
        let found = &mut found[..count * target_row_bytes];
        target.read(first, found)?;
        if expected(job, read) != *found {
            return Err(io::Error::other(format!("rows {first}.. differ from the expected rows")));
        }
    }
    Ok(())
}

/// Computes the output bytes of the work for these rows.
fn expected(job: &Job, rows: &[u8]) -> Vec<u8> {
    let values = values_of::<f32>(rows);
    match job.work {
        Work::Scale => bytes_of(values.iter().map(|value| value * FACTOR)),
        Work::Cast => bytes_of(values.iter().map(|&value| f64::from(value))),
        Work::HalfColumns => {
            bytes_of(values.chunks_exact(job.columns).flat_map(|row| &row[..job.columns / 2]).copied())
        }
        _ => rows.to_vec(),
    }
}

fn bytes_of<T: bytemuck::Pod>(values: impl Iterator<Item = T>) -> Vec<u8> {
    bytemuck::cast_slice(&values.collect::<Vec<T>>()).to_vec()
}

fn verify_reduction(job: &Job) -> io::Result<()> {
    let found = values_of::<f64>(&fs::read(&job.target)?);
    let mut expected = reduce(job)?;
    if job.work == Work::MedianAxis0 {
        expected.truncate(1); // only the first column is sorted here
        expect_equal("columns", job.columns as u64, found.len() as u64)?;
    } else {
        expect_equal("results", expected.len() as u64, found.len() as u64)?;
    }
    // ndarray sums in the element type, so its error grows with the number of elements.
    let tolerance = match (job.work, job.contender) {
        (Work::Zip, _) => 1e-2,
        (_, Contender::ArrayViewReduce) => 0.5,
        _ => 1e-9,
    };
    let wrong = expected
        .iter()
        .zip(&found)
        .any(|(expected, found)| (expected - found).abs() > tolerance * expected.abs());
    if wrong { Err(io::Error::other(format!("expected {expected:?}, found {found:?}"))) } else { Ok(()) }
}

/// Computes the result of a reduction in a simple way.
fn reduce(job: &Job) -> io::Result<Vec<f64>> {
    let source = Rows::open(&job.source, job.row_bytes())?;
    let (mut sums, mut halves, mut squares) = (vec![0_f64; job.columns], [0.0; 2], 0.0);
    let (mut low, mut high, mut first_column) = (f64::INFINITY, f64::NEG_INFINITY, Vec::new());
    let mut row = vec![0; job.row_bytes()];
    for number in 0..job.rows {
        source.read(number, &mut row)?;
        let values = values_of::<f32>(&row);
        first_column.push(f64::from(values[0]));
        for (sum, value) in sums.iter_mut().zip(values.into_iter().map(f64::from)) {
            *sum += value;
            squares += value * value;
            (low, high) = (low.min(value), high.max(value));
            halves[usize::from(number >= job.rows / 2)] += value;
        }
    }
    let count = (job.rows * job.columns) as f64;
    let mean = sums.iter().sum::<f64>() / count;
    first_column.sort_by(f64::total_cmp);
    let middle = [first_column[(job.rows - 1) / 2], first_column[job.rows / 2]];
    Ok(match job.work {
        Work::Mean => vec![mean],
        Work::Var => vec![squares / count - mean * mean],
        Work::MinMax => vec![low, high],
        Work::MedianAxis0 => vec![(middle[0] + middle[1]) / 2.0],
        Work::Zip => vec![halves[0] - halves[1]],
        _ => sums.iter().map(|sum| sum / job.rows as f64).collect(),
    })
}

fn verify_length(job: &Job, bytes: u64) -> io::Result<()> {
    expect_equal("bytes", bytes, fs::metadata(&job.target)?.len())
}

fn expect_equal(what: &str, expected: u64, found: u64) -> io::Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(io::Error::other(format!("expected {expected} {what}, found {found}")))
}
