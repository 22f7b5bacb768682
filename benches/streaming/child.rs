//! The process of one Rust contender. It reports that it is ready, reads one job, does the work, and reports the time
//! and the memory of the work.

use std::fs;
use std::io::{self, BufRead, Write};
use std::process;
use std::time::Instant;

use serde::de::DeserializeOwned;

use super::job::{Job, Measured, Reply};
use super::plan::{Contender, MIB};
use super::{mapped, os, ours, programs, raw};

/// The benchmark starts a process for each contender. This is the first argument of such a process.
pub const ARGUMENT: &str = "--contender-process";

/// Reads one job from standard input, does the work of the job, and writes the reply to standard output.
pub fn serve<J: DeserializeOwned>(measure: impl FnOnce(&J) -> io::Result<Measured>) -> io::Result<()> {
    answer(&Reply::Ready)?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Ok(());
    }
    answer(&match measure(&serde_json::from_str(&line)?) {
        Ok(measured) => Reply::Done(measured),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Reply::Skipped(error.to_string()),
        Err(error) => Reply::Failed(error.to_string()),
    })
}

fn answer(reply: &Reply) -> io::Result<()> {
    println!("{}", serde_json::to_string(reply)?);
    io::stdout().flush()
}

/// Does the work, and returns the result of the work, and the time and memory that the work has used.
pub fn timed<R>(work: impl FnOnce() -> io::Result<R>) -> io::Result<(R, Measured)> {
    fs::write("/proc/self/clear_refs", "5")?;
    let cpu_before = os::usage()?.cpu_seconds;
    let read_before = os::read_bytes()?;
    let start = Instant::now();
    let result = work()?;
    let seconds = start.elapsed().as_secs_f64();
    let usage = os::usage()?;
    let peak_rss_bytes = os::status_bytes(process::id(), "VmHWM")?.max(usage.children_peak_rss_bytes);
    let read_bytes = os::read_bytes()? - read_before;
    Ok((
        result,
        Measured { seconds, cpu_seconds: usage.cpu_seconds - cpu_before, peak_rss_bytes, read_bytes },
    ))
}

/// Does the job of a contender of the works.
pub fn measure(job: &Job) -> io::Result<Measured> {
    let index = job.load_index()?;
    let (result, measured) = timed(|| run(job, &index))?;
    if let Some(values) = result {
        fs::write(&job.target, bytemuck::cast_slice::<f64, u8>(&values))?;
    }
    Ok(measured)
}

/// Does the work. A reduction returns its result.
fn run(job: &Job, index: &[usize]) -> io::Result<Option<Vec<f64>>> {
    match job.contender {
        contender if contender.is_ours() => return ours::run(job, index),
        Contender::ArrayViewReduce => return mapped::reduce(job).map(Some),
        Contender::MappedRead => mapped::read(job),
        Contender::CpSync => programs::cp_sync(&job.source, &job.target),
        Contender::DdDirect => programs::dd_direct(job),
        Contender::DirectOneWorker => raw::copy_direct(job, 1, 4 * MIB),
        Contender::DirectTwoWorkers => raw::copy_direct(job, 2, MIB),
        Contender::DirectSameBytes => raw::move_same_bytes(job),
        Contender::DirectWriteOnly => raw::write_only(&job.target, job.work.target_bytes(job.source_bytes())),
        Contender::SequentialRead => raw::read_sequentially(job, false),
        Contender::SequentialReadDirect => raw::read_sequentially(job, true),
        Contender::DirectReadAndAdd => raw::read_and_add(job),
        Contender::UringDirect => gather_by_uring(job, index),
        Contender::MemmapAssign => mapped::assign(job),
        Contender::MemmapEvict => mapped::assign_and_evict(job),
        _ => Err(io::Error::other("not a Rust contender")),
    }?;
    Ok(None)
}

#[cfg(target_arch = "x86_64")]
fn gather_by_uring(job: &Job, index: &[usize]) -> io::Result<()> {
    super::uring::gather(job, index).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => {
            io::Error::new(io::ErrorKind::Unsupported, format!("io_uring: {error}"))
        }
        _ => error,
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn gather_by_uring(_job: &Job, _index: &[usize]) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring is measured on x86_64 only"))
}
