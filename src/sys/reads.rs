//! Batches of reads.

use super::bytes::read_up_to;
use super::failure::is_unsupported;
use super::os::{self, page_bytes};
use super::types::Piece;
use std::fs::File;
use std::io;

/// Reads pieces of a file in one batch, through a queue of the kernel. If there is no such queue, reads one piece after
/// the other.
#[derive(Debug, Default)]
pub(crate) struct ReadQueue {
    kernel: Option<os::ReadQueue>,
}

impl ReadQueue {
    /// Reads each piece at `offset` of the file into the part `at` of the buffer. Returns the number of bytes that were
    /// read for each piece. This number is less than requested only at the end of the file. The kernel's queue reads in
    /// parallel only from files that were opened for direct I/O.
    ///
    /// # Panics
    /// If a piece reaches beyond the end of the buffer.
    pub(crate) fn read(
        &mut self,
        file: &File,
        buffer: &mut [u8],
        pieces: &[Piece],
    ) -> io::Result<Vec<usize>> {
        if pieces.len() > 1 {
            self.kernel = self.kernel.take().or_else(os::ReadQueue::new);
            if let Some(queue) = &mut self.kernel {
                match queue.read(file, buffer, pieces) {
                    Err(error) if is_unsupported(&error) => self.kernel = None,
                    Err(error) => return Err(error),
                    Ok(mut counts) => {
                        for (count, piece) in counts.iter_mut().zip(pieces) {
                            read_rest(file, buffer, piece, count)?;
                        }
                        return Ok(counts);
                    }
                }
            }
        }
        pieces.iter().map(|piece| read_up_to(file, &mut buffer[piece.at.clone()], piece.offset)).collect()
    }
}

/// Reads what a short read of the kernel's queue has left out of a piece. A short read does not mean that the file ends
/// there. Direct I/O needs an offset that is a multiple of a page, so this function reads the last page again.
fn read_rest(file: &File, buffer: &mut [u8], piece: &Piece, count: &mut usize) -> io::Result<()> {
    if *count < piece.at.len() {
        let done = *count - *count % page_bytes();
        let rest = &mut buffer[piece.at.start + done..piece.at.end];
        *count = done + read_up_to(file, rest, piece.offset + done as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_read_is_continued_up_to_the_end_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        let (page, start) = (page_bytes(), 100);
        let content: Vec<u8> = (0..4 * page + 10).map(|byte| (byte % 251) as u8).collect();
        super::super::fs::write_all_at(&file, &content, 0).unwrap();
        for already_read in [0, 1, page, page + 7, 3 * page + 10] {
            let mut buffer = vec![0; start + 5 * page];
            buffer[start..start + already_read].copy_from_slice(&content[page..page + already_read]);
            let piece = Piece { offset: page as u64, at: start..start + 5 * page };
            let mut count = already_read;
            read_rest(&file, &mut buffer, &piece, &mut count).unwrap();
            assert_eq!(count, 3 * page + 10);
            assert_eq!(buffer[start..start + count], content[page..]);
        }
    }
}
