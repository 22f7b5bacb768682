//! Many reads at once, by the kernel's native asynchronous I/O (`io_submit(2)`).
//!
//! Only a queue keeps a disk busy with small reads. This interface needs no library and is there in containers that
//! refuse io_uring; its calls are asynchronous for direct handles, and that is what it is used for.
#![allow(unsafe_code)]

use super::files::off_len;
use crate::sys::inject::{Call, through};
use crate::sys::types::Piece;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

/// How many reads are under way at once.
const DEPTH: usize = 128;

/// `struct iocb` of the kernel's `aio_abi.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Iocb {
    data: u64,
    // The order of these two depends on the byte order; both are zero.
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

/// `struct io_event` of the same.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    result2: i64,
}

const READ: u16 = 0; // IOCB_CMD_PREAD

/// A queue of reads. Every read that it starts is over when the call that started it returns.
///
/// Dropped queues are kept for the next stream: the kernel takes 40 ms (measured) to destroy one.
#[derive(Debug)]
pub(crate) struct ReadQueue(Option<Context>);

/// How many queues wait for the next stream at most.
const MOST_IDLE: usize = 8;

/// Queues that no stream uses.
static IDLE: Mutex<Vec<Context>> = Mutex::new(Vec::new());

/// A queue as the kernel knows it: by a number that is good in one process only.
#[derive(Debug)]
struct Context {
    id: libc::c_ulong,
    process: u32,
}

/// The answer of a call that returns a count or sets `errno`.
fn counted(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

impl ReadQueue {
    /// `None` where the kernel has no such queue for us.
    pub(crate) fn new() -> Option<Self> {
        // Never waits: in a child of `fork`, the lock may be held by a thread that is not there.
        let held = IDLE.try_lock().ok().and_then(|mut idle| idle.pop());
        let held = held.filter(Context::is_of_this_process);
        held.or_else(Context::new).map(|context| Self(Some(context)))
    }

    fn id(&self) -> libc::c_ulong {
        self.0.as_ref().map_or(0, |context| context.id) // taken out only when the queue is dropped
    }

    /// Fills each piece's part of the buffer from its place in the file, and says how many bytes each one got: fewer than
    /// asked for at the end of the file. `Unsupported` in a child of `fork` that has the queue from its parent.
    ///
    /// # Panics
    /// If a piece reaches over the end of the buffer.
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

    /// Reads up to [`DEPTH`] pieces.
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
                    // A full queue makes room as events are taken.
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

    /// Starts reads, in order; how many.
    fn submit(&mut self, requests: &mut [Iocb]) -> io::Result<usize> {
        let mut pointers: Vec<*mut Iocb> = requests.iter_mut().map(std::ptr::from_mut).collect();
        let (count, list) = (pointers.len(), pointers.as_mut_ptr());
        through(Call::Read, || {
            // SAFETY:
            // - `list` is `count` pointers to live requests;
            // - each request's buffer is a part of one `&mut [u8]` that `read_batch` holds until every request that was
            //   submitted has come back, so the kernel alone writes there.
            unsafe { submit(self.id(), count, list) }
        })
    }

    /// Waits for at least one read to end, and hands out index and result of those that have.
    fn take_events(&mut self, mut take: impl FnMut(usize, i64)) -> usize {
        let mut events = [Event::default(); DEPTH];
        loop {
            match get_events(self.id(), 1, &mut events) {
                Ok(count) => {
                    events[..count].iter().for_each(|event| take(event.data as usize, event.result));
                    return count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The context and the array are ours and valid, and `Context::new` has seen the call allowed. If it fails
                // all the same, returning would let the kernel write to memory that is somebody else's by then.
                Err(_) => std::process::abort(),
            }
        }
    }
}

/// Takes events of a queue, and waits until there are so many.
fn get_events(id: libc::c_ulong, at_least: libc::c_long, events: &mut [Event; DEPTH]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `DEPTH` events of its own layout to an array of that length.
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

/// Starts the reads that `list` points to, and returns how many.
///
/// # Safety
/// `list` is `count` pointers to live requests, whose buffers nobody touches until their events were taken.
unsafe fn submit(id: libc::c_ulong, count: usize, list: *mut *mut Iocb) -> io::Result<usize> {
    // SAFETY: the kernel copies the requests during the call; the rest is the caller's promise.
    counted(unsafe { libc::syscall(libc::SYS_io_submit, id, count as libc::c_long, list) })
}

impl Drop for ReadQueue {
    fn drop(&mut self) {
        if let Some(mut idle) = IDLE.try_lock().ok().filter(|idle| idle.len() < MOST_IDLE) {
            idle.extend(self.0.take().filter(Context::is_of_this_process));
        }
    }
}

impl Context {
    fn new() -> Option<Self> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: the pointer is to a live integer of the type that the kernel fills in, zero as it must be.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, DEPTH as libc::c_long, &raw mut id) };
        let context = (result == 0).then_some(Self { id, process: std::process::id() })?;
        context.is_usable().then_some(context)
    }

    /// Whether the other two calls are allowed as well: a filter may know one of them and not the others. After a read was
    /// started, there would be no way back.
    fn is_usable(&self) -> bool {
        // SAFETY: there are no requests.
        let submitted = unsafe { submit(self.id, 0, std::ptr::null_mut()) };
        submitted.is_ok() && get_events(self.id, 0, &mut [Event::default(); DEPTH]).is_ok()
    }

    /// A child of `fork` has no part in its parent's queues.
    fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.is_of_this_process() {
            // SAFETY: the context is the live one that `io_setup` gave; nothing uses it after this.
            unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{self, AlignedBuf};

    #[test]
    fn a_batch_fills_every_piece_and_tells_where_the_file_ends() {
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
