//! Transfers of bytes between buffers and files. Unit tests can make each transfer fail (see `inject.rs`).

use super::inject::{Call, let_through, through};
use super::os::{self, check_file_size_limit};
use std::fs::File;
use std::io;

/// Returns a buffered reader that starts at the first byte of the file. The reader neither uses nor moves the file's
/// cursor.
pub(crate) fn reader(file: &File) -> impl io::Read + '_ {
    struct FromStart<'a>(&'a File, u64);
    impl io::Read for FromStart<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = read_at(self.0, buffer, self.1)?;
            self.1 += read as u64;
            Ok(read)
        }
    }
    io::BufReader::with_capacity(4096, FromStart(file, 0))
}

/// Reads with one system call, which may fill only a part of the buffer. Returns 0 at the end of the file.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let len = let_through(Call::Read, buffer.len());
    through(Call::Read, || os::read_at(file, &mut buffer[..len], offset))
}

/// Reads until the buffer is full, or fails with `UnexpectedEof`.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, &mut buffer[filled..], offset + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}

/// The smallest sector size of a disk.
const SECTOR_BYTES: usize = 512;

/// Reads until the buffer is full or the file ends, and returns the number of bytes that were read. If the file was
/// opened for direct I/O, the buffer and the offset must be aligned.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, &mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
        if filled % SECTOR_BYTES != 0 && filled < buffer.len() {
            // A direct read returns part of a sector only at the end of the file. The next direct read must not start
            // in the middle of a sector, because its offset must be aligned.
            let rest = filled - filled % SECTOR_BYTES;
            let is_end = os::status(file)?.len <= offset + filled as u64;
            return Ok(if is_end { filled } else { rest });
        }
    }
    Ok(filled)
}

/// Reads only pages that are resident in the page cache, and stops at the first page that is not resident. Reads
/// nothing from disk.
pub(crate) fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let len = let_through(Call::Read, buffer.len());
    os::read_cached(file, &mut buffer[..len], offset)
}

/// Writes the whole buffer.
pub(crate) fn write_all_at(file: &File, buffer: &[u8], offset: u64) -> io::Result<()> {
    write_all(buffer, offset, |block, offset| through(Call::Write, || os::write_at(file, block, offset)))
}

/// Writes the whole buffer through pages that the kernel drops from the page cache after write-back. If this function
/// fails with an [unsupported](super::is_unsupported) error, the caller repeats the write with [`write_all_at`].
pub(crate) fn write_all_uncached(file: &File, buffer: &[u8], offset: u64) -> io::Result<()> {
    write_all(buffer, offset, |block, offset| os::write_uncached(file, block, offset))
}

fn write_all(buffer: &[u8], offset: u64, write: impl Fn(&[u8], u64) -> io::Result<usize>) -> io::Result<()> {
    check_file_size_limit(offset.saturating_add(buffer.len() as u64))?;
    let mut written = 0;
    while written < buffer.len() {
        let len = let_through(Call::Write, buffer.len() - written);
        match write(&buffer[written..written + len], offset + written as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => written += count,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{AlignedBuf, fs, is_unsupported};

    #[test]
    fn reads_stop_at_the_end_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, &[7; 5000], 0).unwrap();
        let mut buffer = AlignedBuf::new(12_288).unwrap();
        assert_eq!(read_up_to(&file, buffer.bytes_mut(), 0).unwrap(), 5000);
        assert_eq!(read_up_to(&file, &mut buffer.bytes_mut()[..4096], 4096).unwrap(), 904);
        assert_eq!(read_up_to(&file, buffer.bytes_mut(), 8192).unwrap(), 0);
    }

    #[test]
    fn uncached_writes_succeed_or_are_unsupported() {
        let file = tempfile::tempfile().unwrap();
        match write_all_uncached(&file, b"abc", 5) {
            Ok(()) => assert_eq!(file.metadata().unwrap().len(), 8),
            Err(error) => assert!(is_unsupported(&error), "{error}"),
        }
        fs::start_writeback(&file, 0..8).unwrap();
    }
}
