//! Many reads at once.

use super::bytes::read_up_to;
use super::failure::is_unsupported;
use super::os;
use super::types::Piece;
use std::fs::File;
use std::io;

/// Reads pieces of a file: all at once by a queue of the kernel, or, where there is none, one after the other.
#[derive(Debug, Default)]
pub(crate) struct ReadQueue {
    kernel: Option<os::ReadQueue>,
}

impl ReadQueue {
    /// Fills each piece's part of the buffer from its place in the file, and returns how many bytes each piece got: fewer
    /// than asked for only at the end of the file. The queue of the kernel is for direct handles.
    ///
    /// # Panics
    /// If a piece reaches over the end of the buffer.
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
