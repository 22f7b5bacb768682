//! Direct I/O without arrays: how fast the disk can possibly move these bytes.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::job::Job;
use super::os;
use super::plan::MIB;

/// Copies the source `repeats` times as often as it reads it, block by block.
struct Mover {
    source: File,
    target: File,
    /// Bytes of the source in whole blocks of the disk.
    aligned_bytes: u64,
    request_bytes: u64,
    repeats: u64,
    next_request: AtomicU64,
}

/// Copies the file with `workers` threads, each moving one request at a time.
pub fn copy_direct(job: &Job, workers: usize, request_bytes: u64) -> io::Result<()> {
    move_direct(job, workers, request_bytes, 1)
}

/// Reads what a cast to a type of twice the size reads, and writes as many bytes as it writes.
pub fn move_same_bytes(job: &Job) -> io::Result<()> {
    move_direct(job, 2, 2 * MIB, 2)
}

fn move_direct(job: &Job, workers: usize, request_bytes: u64, repeats: u64) -> io::Result<()> {
    let source = open_direct(&job.source)?;
    let length = source.metadata()?.len();
    let target = create_direct(&job.target)?;
    os::reserve(&target, length * repeats)?;
    let aligned_bytes = length / os::PAGE_BYTES * os::PAGE_BYTES;
    let next_request = AtomicU64::new(0);
    let mover = Mover { source, target, aligned_bytes, request_bytes, repeats, next_request };
    on_threads(workers, || mover.work())?;
    copy_tail(job, aligned_bytes)?;
    mover.target.sync_data()
}

/// Writes as many bytes as the result has, from memory, two requests at a time.
pub fn write_only(job: &Job) -> io::Result<()> {
    let target = create_direct(&job.target)?;
    let length = job.work.target_bytes(job.source_bytes());
    os::reserve(&target, length)?;
    each_request(2, length, |buffer, start| target.write_all_at(buffer, start))?;
    target.sync_data()
}

/// Reads the source, three requests at a time, and adds up the words of each: no more than looking at what was read.
pub fn read_and_add(job: &Job) -> io::Result<()> {
    let source = open_direct(&job.source)?;
    let aligned_bytes = job.source_bytes() / os::PAGE_BYTES * os::PAGE_BYTES;
    each_request(3, aligned_bytes, |buffer, start| {
        source.read_exact_at(buffer, start)?;
        let words: &[u64] = bytemuck::cast_slice(buffer);
        black_box(words.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word)));
        Ok(())
    })
}

/// Calls `work` for every 2 MiB of `length` bytes, with a buffer of that size and where they start, on so many threads.
fn each_request(
    workers: usize,
    length: u64,
    work: impl Fn(&mut [u8], u64) -> io::Result<()> + Sync,
) -> io::Result<()> {
    const REQUEST_BYTES: u64 = 2 * MIB;
    let next_request = AtomicU64::new(0);
    let labour = || -> io::Result<()> {
        let mut buffer = os::aligned_buffer(REQUEST_BYTES as usize)?;
        loop {
            let start = next_request.fetch_add(1, Ordering::Relaxed) * REQUEST_BYTES;
            if start >= length {
                return Ok(());
            }
            work(&mut buffer[..REQUEST_BYTES.min(length - start) as usize], start)?;
        }
    };
    on_threads(workers, labour)
}

/// Runs the same on so many threads, of which this is one.
fn on_threads(workers: usize, labour: impl Fn() -> io::Result<()> + Sync) -> io::Result<()> {
    thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(&labour)).collect();
        labour()?;
        others
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| io::Error::other("worker died"))?)
    })
}

impl Mover {
    fn work(&self) -> io::Result<()> {
        let mut buffer = os::aligned_buffer(self.request_bytes as usize)?;
        loop {
            let request = self.next_request.fetch_add(1, Ordering::Relaxed);
            let start = request * self.request_bytes;
            if start >= self.aligned_bytes {
                return Ok(());
            }
            let block = &mut buffer[..self.request_bytes.min(self.aligned_bytes - start) as usize];
            self.source.read_exact_at(block, start)?;
            for repeat in 0..self.repeats {
                let length = block.len() as u64;
                self.target.write_all_at(block, start * self.repeats + repeat * length)?;
            }
        }
    }
}

/// What does not fill a block of the disk cannot go the direct way.
fn copy_tail(job: &Job, from: u64) -> io::Result<()> {
    let source = File::open(&job.source)?;
    let mut tail = vec![0; (source.metadata()?.len() - from) as usize];
    if tail.is_empty() {
        return Ok(());
    }
    source.read_exact_at(&mut tail, from)?;
    let target = OpenOptions::new().write(true).open(&job.target)?;
    target.write_all_at(&tail, from)?;
    target.sync_data()
}

/// Reads the file from beginning to end and does nothing with it.
pub fn read_sequentially(job: &Job, direct: bool) -> io::Result<()> {
    let mut source = if direct { open_direct(&job.source)? } else { File::open(&job.source)? };
    let request_bytes = if direct { 4 * MIB } else { MIB } as usize;
    let mut buffer = os::aligned_buffer(request_bytes)?;
    let mut total = 0;
    loop {
        let read = source.read(&mut buffer[..request_bytes])?;
        total += read as u64;
        if read == 0 {
            break;
        }
    }
    if total == job.source_bytes() { Ok(()) } else { Err(io::Error::other(format!("read {total} bytes"))) }
}

pub fn open_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)
}

pub fn create_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(path)
}
