//! Memory that direct I/O can fill and empty.

use super::os::page_bytes;
use memmap2::MmapMut;
use std::io;

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
        let addressable = |len: &usize| *len <= isize::MAX as usize - 2 * HUGE_PAGE_BYTES;
        let len = Some(len.max(1)).filter(addressable).ok_or_else(too_large)?.next_multiple_of(page_bytes());
        if len < HUGE_FROM_BYTES {
            return Ok(Self { memory: MmapMut::map_anon(len)?, start: 0, len });
        }
        let huge_len = len.next_multiple_of(HUGE_PAGE_BYTES);
        let memory = MmapMut::map_anon(huge_len + HUGE_PAGE_BYTES)?;
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
        for len in [usize::MAX, usize::MAX / 2, isize::MAX as usize - HUGE_PAGE_BYTES] {
            assert_eq!(AlignedBuf::new(len).unwrap_err().kind(), io::ErrorKind::OutOfMemory, "{len}");
        }
    }
}
