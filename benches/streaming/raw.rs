//! Direct I/O without arrays, which shows how fast the disk can move these bytes.

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

/// Copies the file with `workers` threads. Each thread has one request in flight at a time.
pub fn copy_direct(job: &Job, workers: usize, request_bytes: u64) -> io::Result<()> {
    move_direct(job, workers, request_bytes, 1)
}

/// Reads the source, and writes twice as many bytes. A cast to an element type of twice the size moves the same number
/// of bytes.
pub fn move_same_bytes(job: &Job) -> io::Result<()> {
    move_direct(job, 2, 2 * MIB, 2)
}

/// Copies the source, and writes each block `repeats` times.
fn move_direct(job: &Job, workers: usize, request_bytes: u64, repeats: u64) -> io::Result<()> {
    let source = open_direct(&job.source)?;
    let length = source.metadata()?.len();
    let target = create_direct(&job.target)?;
    os::reserve(&target, length * repeats)?;
    let aligned_bytes = whole_blocks(length);
    each_request(workers, request_bytes, aligned_bytes, |block, start| {
        source.read_exact_at(block, start)?;
        let length = block.len() as u64;
        (0..repeats).try_for_each(|repeat| target.write_all_at(block, start * repeats + repeat * length))
    })?;
    copy_tail(job, aligned_bytes)?;
    target.sync_data()
}

/// Returns the length, rounded down to whole blocks of the disk.
fn whole_blocks(length: u64) -> u64 {
    length / os::PAGE_BYTES * os::PAGE_BYTES
}

/// Writes `length` bytes, a multiple of the page size. The bytes come from memory, and two requests are in flight.
pub fn write_only(target: &Path, length: u64) -> io::Result<()> {
    let target = create_direct(target)?;
    os::reserve(&target, length)?;
    each_request(2, 2 * MIB, length, |block, start| target.write_all_at(block, start))?;
    target.sync_data()
}

/// Reads the source with three requests in flight, and adds up the words of each block. The addition is the least work
/// that uses every byte.
pub fn read_and_add(job: &Job) -> io::Result<()> {
    let source = open_direct(&job.source)?;
    each_request(3, 2 * MIB, whole_blocks(job.source_bytes()), |block, start| {
        source.read_exact_at(block, start)?;
        let words: &[u64] = bytemuck::cast_slice(block);
        black_box(words.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word)));
        Ok(())
    })
}

/// Calls `work` for each request of at most `request_bytes`, until the requests cover `length` bytes. `work` gets a
/// buffer as long as the request, and the offset of the request. The calling thread is one of the `workers` threads.
fn each_request(
    workers: usize,
    request_bytes: u64,
    length: u64,
    work: impl Fn(&mut [u8], u64) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let next_request = AtomicU64::new(0);
    let process_requests = || -> io::Result<()> {
        let mut buffer = os::aligned_buffer(request_bytes as usize)?;
        loop {
            let start = next_request.fetch_add(1, Ordering::Relaxed) * request_bytes;
            if start >= length {
                return Ok(());
            }
            work(&mut buffer[..request_bytes.min(length - start) as usize], start)?;
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(process_requests)).collect();
        process_requests()?;
        others
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| io::Error::other("a worker thread panicked"))?)
    })
}

/// Copies the bytes after the last whole block of the disk through the page cache, because direct I/O moves only whole
/// blocks.
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

/// Reads the file from beginning to end, without computing.
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
