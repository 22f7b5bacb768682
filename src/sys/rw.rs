//! Moving bytes past the page cache: aligned buffers, direct I/O, uncached writes, early write-back.

use super::{Call, fs, page_bytes, through};
use memmap2::MmapMut;
use std::fs::File;
use std::io;
use std::ops::Range;

/// The size of a huge page on most machines. Elsewhere the alignment is merely larger than it need be.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The smallest buffer that is worth a huge page, in bytes.
const HUGE_FROM_BYTES: usize = HUGE_PAGE_BYTES / 8;

/// Memory for direct I/O: aligned to pages, and from an eighth of a huge page on to huge ones.
///
/// The disk wants memory in few pieces: reading into small pages took twice as long as into huge ones, where each small
/// page is a segment of its own in the request. The memory goes back to the system when the buffer goes.
#[derive(Debug)]
pub(crate) struct AlignedBuf {
    memory: MmapMut,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// At least `len` bytes of zeros, a whole number of pages, and at least one.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let len = len.max(1).checked_next_multiple_of(page_bytes()).ok_or_else(too_large)?;
        if len < HUGE_FROM_BYTES {
            return Ok(Self { memory: MmapMut::map_anon(len)?, start: 0, len });
        }
        let huge_len = len.checked_next_multiple_of(HUGE_PAGE_BYTES).ok_or_else(too_large)?;
        let memory = MmapMut::map_anon(huge_len.checked_add(HUGE_PAGE_BYTES).ok_or_else(too_large)?)?;
        let start = memory.as_ptr().align_offset(HUGE_PAGE_BYTES);
        // A hint: where there are no huge pages, small ones do.
        #[cfg(target_os = "linux")]
        let _ = memory.advise_range(memmap2::Advice::HugePage, start, huge_len);
        Ok(Self { memory, start, len })
    }

    /// Makes sure that there are `len` bytes; what the buffer held may be lost.
    pub(crate) fn grow(buffer: &mut Option<Self>, len: usize) -> io::Result<&mut Self> {
        match buffer {
            Some(held) if held.len >= len => {}
            _ => {
                *buffer = None; // give the old one back before the new one is taken
                *buffer = Some(Self::new(len)?);
            }
        }
        Ok(buffer.as_mut().expect("filled just above"))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// One read of a batch: which bytes of the buffer to fill, from where in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) at: Range<usize>,
}

impl Piece {
    /// Which bytes of the file it is.
    pub(crate) fn file_bytes(&self) -> Range<u64> {
        self.offset..self.offset + self.at.len() as u64
    }
}

/// Reads up to the whole buffer; less only at the end of the file. Through a direct handle, buffer and offset must be aligned.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match fs::read_at(file, &mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
        if filled % SECTOR_BYTES != 0 && filled < buffer.len() {
            // Only the end of a file leaves part of a sector, and a direct handle refuses to be asked again from there.
            let rest = filled - filled % SECTOR_BYTES;
            return ends_at(file, offset + filled as u64).map(|ends| if ends { filled } else { rest });
        }
    }
    Ok(filled)
}

/// The smallest unit that disks count in.
const SECTOR_BYTES: usize = 512;

fn ends_at(file: &File, offset: u64) -> io::Result<bool> {
    Ok(file.metadata()?.len() <= offset)
}

pub(crate) use os::{open_direct, read_cached, start_writeback, write_all_uncached};

#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
#[allow(unsafe_code)]
mod os {
    use super::*;
    use crate::sys::inject::let_through;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    /// Opens the same file once more, whatever has become of its name, for transfers past the page cache.
    pub(crate) fn open_direct(file: &File, writable: bool) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(writable).custom_flags(libc::O_DIRECT);
        through(Call::Open, || options.open(&path))
    }

    /// Starts writing the range's dirty pages to disk, and waits for nothing.
    pub(crate) fn start_writeback(file: &File, range: Range<u64>) -> io::Result<()> {
        let overflow = |_| io::Error::from_raw_os_error(libc::EOVERFLOW);
        let offset = libc::off_t::try_from(range.start).map_err(overflow)?;
        let len = libc::off_t::try_from(range.end.saturating_sub(range.start)).map_err(overflow)?;
        through(Call::Sync, || {
            // SAFETY: `sync_file_range` takes an open descriptor and integers, and touches no memory of ours.
            let result =
                unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        })
    }

    /// Reads what is in the page cache, and lets the kernel read nothing: it stops short at a page that is not there, and at one
    /// at which the kernel would have read ahead.
    pub(crate) fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = let_through(Call::Read, buffer.len());
        let target = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: len };
        let at = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        through(Call::Read, || {
            // SAFETY: `target` is one vector of `len` writable bytes of `buffer`, which lives through the call.
            let result =
                unsafe { libc::preadv2(file.as_raw_fd(), &raw const target, 1, at, libc::RWF_NOWAIT) };
            usize::try_from(result).map_err(|_| io::Error::last_os_error())
        })
    }

    /// `RWF_DONTCACHE` of Linux 6.14, which libc does not declare.
    const RWF_DONTCACHE: libc::c_int = 0x80;

    /// Writes the whole buffer by way of pages that the kernel drops from its cache once they are on disk.
    ///
    /// `EOPNOTSUPP` where kernel or filesystem cannot: then nothing was written.
    pub(crate) fn write_all_uncached(file: &File, buffer: &[u8], offset: u64) -> io::Result<()> {
        crate::sys::check_file_size_limit(offset.saturating_add(buffer.len() as u64))?;
        let mut written = 0;
        while written < buffer.len() {
            let len = let_through(Call::Write, buffer.len() - written);
            let block = libc::iovec { iov_base: buffer[written..].as_ptr().cast_mut().cast(), iov_len: len };
            let at = libc::off_t::try_from(offset + written as u64)
                .map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
            let count = through(Call::Write, || {
                // SAFETY: `block` is one vector of `len` readable bytes of `buffer`, which lives through the call.
                let result =
                    unsafe { libc::pwritev2(file.as_raw_fd(), &raw const block, 1, at, RWF_DONTCACHE) };
                usize::try_from(result).map_err(|_| io::Error::last_os_error())
            })?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            written += count;
        }
        Ok(())
    }
}

#[cfg(not(all(target_os = "linux", not(ndarray_mmap_portable))))]
mod os {
    use super::*;

    pub(crate) fn open_direct(_file: &File, _writable: bool) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A hint that no other system takes.
    pub(crate) fn start_writeback(_file: &File, _range: Range<u64>) -> io::Result<()> {
        through(Call::Sync, || Ok(()))
    }

    pub(crate) fn read_cached(_file: &File, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn write_all_uncached(_file: &File, _buffer: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero() {
        for len in [0, 1, 4096, 100_000, 300_000, HUGE_PAGE_BYTES - 1, HUGE_PAGE_BYTES * 2 + 5] {
            let mut buffer = AlignedBuf::new(len).unwrap();
            let alignment = if len < HUGE_FROM_BYTES { page_bytes() } else { HUGE_PAGE_BYTES };
            assert!(buffer.bytes().len() >= len.max(1) && buffer.bytes().len() % page_bytes() == 0);
            assert_eq!(buffer.bytes().as_ptr() as usize % alignment, 0);
            assert!(buffer.bytes().iter().all(|&byte| byte == 0));
            buffer.bytes_mut().fill(1);
        }
        assert!(AlignedBuf::new(usize::MAX).is_err());
    }

    #[test]
    fn reads_stop_at_the_end_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        fs::write_all_at(&file, &[7; 5000], 0).unwrap();
        let mut buffer = AlignedBuf::new(12_288).unwrap();
        assert_eq!(read_up_to(&file, buffer.bytes_mut(), 0).unwrap(), 5000);
        assert_eq!(read_up_to(&file, &mut buffer.bytes_mut()[..4096], 4096).unwrap(), 904);
        assert_eq!(read_up_to(&file, buffer.bytes_mut(), 8192).unwrap(), 0);
    }

    #[test]
    fn uncached_writes_write_or_are_refused_whole() {
        let file = tempfile::tempfile().unwrap();
        match write_all_uncached(&file, b"abc", 5) {
            Ok(()) => assert_eq!(file.metadata().unwrap().len(), 8),
            Err(error) => assert!(crate::sys::is_unsupported(&error), "{error}"),
        }
        start_writeback(&file, 0..8).unwrap();
    }
}
