//! Aligned buffers for direct I/O.

use super::os::page_bytes;
use memmap2::MmapMut;
use std::io;

/// The size of a huge page on most machines, in bytes. On machines with another size, the buffers are still correct.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The size in bytes from which a buffer uses huge pages.
const HUGE_FROM_BYTES: usize = HUGE_PAGE_BYTES / 8;

/// A page-aligned buffer for direct I/O. A buffer of at least an eighth of a huge page is aligned to huge pages and
/// uses them.
///
/// A disk request has one segment for each page of the buffer. Requests with few segments are faster: reading into
/// small pages took twice as long as reading into huge pages. Dropping the buffer unmaps its memory.
#[derive(Debug)]
pub(crate) struct AlignedBuf {
    memory: MmapMut,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// Allocates at least `len` zero bytes, rounded up to whole pages, and at least one page.
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
        // This call is a hint to the kernel: if the system has no huge pages, the buffer uses small pages.
        #[cfg(target_os = "linux")]
        let _ = memory.advise_range(memmap2::Advice::HugePage, start, huge_len);
        Ok(Self { memory, start, len })
    }

    /// Makes sure that the buffer has at least `len` bytes. The old content of the buffer may be lost.
    pub(crate) fn grow(buffer: &mut Option<Self>, len: usize) -> io::Result<&mut Self> {
        match buffer {
            Some(held) if held.len >= len => {}
            _ => {
                *buffer = None; // free the old buffer before the new one is allocated
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
