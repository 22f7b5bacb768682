//! Batches of reads.

use super::bytes::read_up_to;
use super::failure::is_unsupported;
use super::os;
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
                    read => return read,
                }
            }
        }
        pieces.iter().map(|piece| read_up_to(file, &mut buffer[piece.at.clone()], piece.offset)).collect()
    }
}
