//! Batches of reads through the kernel's native asynchronous I/O (`io_submit(2)`).
//!
//! A disk reaches its full speed with small reads only if many of them are queued. This interface needs no library and
//! works in containers that refuse io_uring. The reads are asynchronous only if the file was opened for direct I/O.
#![allow(unsafe_code)]

use super::files::off_len;
use crate::sys::inject::{Call, through};
use crate::sys::types::Piece;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The maximum number of reads in the queue.
const DEPTH: usize = 128;

/// `struct iocb` of the kernel's `aio_abi.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Iocb {
    data: u64,
    // In the kernel's structure, the order of key and flags depends on the machine's byte order. Here, both fields are
    // always zero.
    key_and_flags: [u32; 2],
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    len: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_descriptor: u32,
}

/// `struct io_event` of the kernel's `aio_abi.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    result2: i64,
}

const READ: u16 = 0; // IOCB_CMD_PREAD

/// A queue of reads. A call of [`read`](Self::read) returns only when all its reads are complete.
///
/// A dropped queue is kept for the next stream, because the kernel takes 40 ms (measured) to destroy one.
#[derive(Debug)]
pub(crate) struct ReadQueue(Option<Context>);

/// The maximum number of queues that are kept for the next streams.
const MAX_IDLE: usize = 8;

/// The queues that no stream uses.
static IDLE: Mutex<Vec<Context>> = Mutex::new(Vec::new());

/// Whether the system has refused `io_submit` or `io_getevents`. After a refusal, this process creates no other queue,
/// because destroying a queue takes 40 ms.
static UNUSABLE: AtomicBool = AtomicBool::new(false);

/// A queue of the kernel. The number of the queue is valid only in the process that created the queue.
#[derive(Debug)]
struct Context {
    id: libc::c_ulong,
    process: u32,
}

/// Converts the result of a system call that returns a count, or sets `errno` and returns a negative number.
fn counted(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

impl ReadQueue {
    /// Returns an unused queue or a new one. `None` if the kernel refuses to create one.
    pub(crate) fn new() -> Option<Self> {
        // This code does not wait for the lock. In a child of `fork` the lock can stay taken for ever, because the
        // thread that took it exists only in the parent.
        let held = IDLE.try_lock().ok().and_then(|mut idle| idle.pop());
        let held = held.filter(Context::is_of_this_process);
        held.or_else(Context::new).map(|context| Self(Some(context)))
    }

    fn id(&self) -> libc::c_ulong {
        self.0.as_ref().map_or(0, |context| context.id) // `None` only while the queue is dropped
    }

    /// Reads each piece at `offset` of the file into the part `at` of the buffer. Returns the number of bytes for each
    /// piece, which is less than requested only at the end of the file. Fails with `Unsupported` in a child of `fork`
    /// that inherited the queue.
    ///
    /// # Panics
    /// If a piece reaches beyond the end of the buffer.
    pub(crate) fn read(
        &mut self,
        file: &File,
        buffer: &mut [u8],
        pieces: &[Piece],
    ) -> io::Result<Vec<usize>> {
        if !self.0.as_ref().is_some_and(Context::is_of_this_process) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut results = vec![0; pieces.len()];
        for (pieces, results) in pieces.chunks(DEPTH).zip(results.chunks_mut(DEPTH)) {
            self.read_batch(file, buffer, pieces, results)?;
        }
        Ok(results)
    }

    /// Reads at most [`DEPTH`] pieces.
    fn read_batch(
        &mut self,
        file: &File,
        buffer: &mut [u8],
        pieces: &[Piece],
        results: &mut [usize],
    ) -> io::Result<()> {
        let request = |(index, piece): (usize, &Piece)| {
            let target = &mut buffer[piece.at.clone()];
            Ok(Iocb {
                data: index as u64,
                opcode: READ,
                descriptor: file.as_raw_fd() as u32, // an open descriptor is not negative
                buffer: target.as_mut_ptr() as u64,
                len: target.len() as u64,
                offset: off_len(&(piece.offset..piece.offset))?.0,
                ..Iocb::default()
            })
        };
        let mut requests = pieces.iter().enumerate().map(request).collect::<io::Result<Vec<_>>>()?;
        let (mut submitted, mut done, mut failed) = (0, 0, None);
        while done < requests.len() {
            if submitted < requests.len() && failed.is_none() {
                match self.submit(&mut requests[submitted..]) {
                    Ok(count) => submitted += count,
                    // The queue is full. The code below takes completed events, which frees entries of the queue.
                    Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && done < submitted => {}
                    Err(error) => failed = Some(error),
                }
            }
            if done == submitted {
                break;
            }
            done += self.take_events(|index, result| match usize::try_from(result) {
                Ok(count) => results[index] = count,
                Err(_) => failed = Some(io::Error::from_raw_os_error(-result as i32)), // a negated errno
            });
        }
        failed.map_or(Ok(()), Err)
    }

    /// Starts as many reads as possible from the beginning of `requests`, and returns their number.
    fn submit(&mut self, requests: &mut [Iocb]) -> io::Result<usize> {
        let mut pointers: Vec<*mut Iocb> = requests.iter_mut().map(std::ptr::from_mut).collect();
        let (count, list) = (pointers.len(), pointers.as_mut_ptr());
        through(Call::Read, || {
            // SAFETY:
            // - `list` points to `count` pointers to live requests;
            // - the buffer of each request is a part of one `&mut [u8]`. `read_batch` borrows this slice until every
            //   submitted request has completed, so only the kernel writes there.
            unsafe { submit(self.id(), count, list) }
        })
    }

    /// Waits until at least one read is complete. Passes the index and the result of every completed read to `take`,
    /// and returns the number of completed reads.
    fn take_events(&mut self, mut take: impl FnMut(usize, i64)) -> usize {
        let mut events = [Event::default(); DEPTH];
        loop {
            match get_events(self.id(), 1, &mut events) {
                Ok(count) => {
                    events[..count].iter().for_each(|event| take(event.data as usize, event.result));
                    return count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The context and the array are valid, and `Context::new` has checked that the call is allowed. If the
                // call fails nevertheless, the process must end: after a return, the kernel could write to memory that
                // was freed.
                Err(_) => std::process::abort(),
            }
        }
    }
}

/// Waits until a queue has at least `at_least` events, stores the events of completed reads in `events`, and returns
/// their number.
fn get_events(id: libc::c_ulong, at_least: libc::c_long, events: &mut [Event; DEPTH]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `DEPTH` events, of the layout that it documents, to an array of that length.
    counted(unsafe {
        libc::syscall(
            libc::SYS_io_getevents,
            id,
            at_least,
            DEPTH as libc::c_long,
            events.as_mut_ptr(),
            std::ptr::null_mut::<libc::timespec>(),
        )
    })
}

/// Starts reads from the beginning of `list`, and returns the number of reads that were started.
///
/// # Safety
/// `list` points to `count` pointers to live requests. No code accesses their buffers until their events have been
/// read.
unsafe fn submit(id: libc::c_ulong, count: usize, list: *mut *mut Iocb) -> io::Result<usize> {
    // SAFETY: the kernel copies the requests during the call. The caller promises the rest.
    counted(unsafe { libc::syscall(libc::SYS_io_submit, id, count as libc::c_long, list) })
}

impl Drop for ReadQueue {
    fn drop(&mut self) {
        if let Some(mut idle) = IDLE.try_lock().ok().filter(|idle| idle.len() < MAX_IDLE) {
            idle.extend(self.0.take().filter(Context::is_of_this_process));
        }
    }
}

impl Context {
    fn new() -> Option<Self> {
        if UNUSABLE.load(Ordering::Relaxed) {
            return None;
        }
        let mut id: libc::c_ulong = 0;
        // SAFETY: the pointer is to a live integer of the type that the kernel fills in. The integer is zero, as the
        // call requires.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, DEPTH as libc::c_long, &raw mut id) };
        let context = (result == 0).then_some(Self { id, process: std::process::id() })?;
        if context.is_usable() {
            return Some(context);
        }
        UNUSABLE.store(true, Ordering::Relaxed);
        None
    }

    /// Returns whether the system also allows `io_submit` and `io_getevents`, because a filter may allow only
    /// `io_setup`. This must be known before the first read starts: without `io_getevents`, the crate cannot wait for
    /// the end of a read.
    fn is_usable(&self) -> bool {
        // SAFETY: the list is empty.
        let submitted = unsafe { submit(self.id, 0, std::ptr::null_mut()) };
        submitted.is_ok() && get_events(self.id, 0, &mut [Event::default(); DEPTH]).is_ok()
    }

    /// Returns whether this process created the queue. A child of `fork` cannot use its parent's queues.
    fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.is_of_this_process() {
            // SAFETY: `io_setup` returned this context, and nothing uses it after this call.
            unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{self, AlignedBuf};

    #[test]
    fn a_batch_fills_every_piece_up_to_the_end_of_the_file() {
        let Some(mut queue) = ReadQueue::new() else {
            println!("SKIPPED: the kernel refuses io_setup here");
            return;
        };
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let content: Vec<u8> = (0..300 * 4096 + 100).map(|byte| (byte % 251) as u8).collect();
        sys::fs::write_all_at(&file, &content, 0).unwrap();
        sys::fs::sync_all(&file).unwrap();
        let direct = sys::open_direct(&file, false).unwrap_or(file);
        let mut buffer = AlignedBuf::new(301 * 4096).unwrap();
        let pieces: Vec<_> = (0..301_usize)
            .map(|page| Piece { offset: (300 - page) as u64 * 4096, at: page * 4096..(page + 1) * 4096 })
            .collect();
        let counts = queue.read(&direct, buffer.bytes_mut(), &pieces).unwrap();
        assert_eq!(counts[0], 100);
        assert!(counts[1..].iter().all(|&count| count == 4096));
        for (piece, count) in pieces.iter().zip(counts) {
            let from = piece.offset as usize;
            assert_eq!(buffer.bytes()[piece.at.clone()][..count], content[from..from + count]);
        }
        let past = Piece { offset: u64::MAX, at: 0..4096 };
        assert!(queue.read(&direct, buffer.bytes_mut(), &[past]).is_err());
    }
}
