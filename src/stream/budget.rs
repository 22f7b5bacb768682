//! [`Budget`]: how much memory a stream may use, and how many rows it passes to a function at a time.

use crate::sys::page_bytes;
use std::ops::Range;

/// The default budget, in bytes.
const DEFAULT_BYTES: usize = 64 << 20;

/// The size of a block that one request reads or writes, if the budget allows it. A block fits a huge page together
/// with the pages that it shares with other blocks at its two ends. Larger blocks were not faster, and smaller blocks
/// were slower.
pub(super) const BLOCK_BYTES: usize = (2 << 20) - (16 << 10);

/// A loop over mapped rows needs the memory of this many chunks: the current chunk, pages that the kernel has read
/// ahead, and pages under write-back.
const CHUNKS_IN_MEMORY: usize = 16;

/// The size of the largest chunk of mapped rows, in bytes, unless the caller has chosen the number of rows.
const CHUNK_BYTES: usize = 4 << 20;

/// The memory that a stream may use, or the number of rows that it passes to a function at a time.
///
/// ```
/// use ndarray::Ix2;
/// use ndarray_mmap::{MmapArray, stream::Budget};
///
/// let array = MmapArray::<f32, Ix2>::scratch((1000, 16))?;
/// let lengths: Vec<_> = array.row_chunks(Budget::chunk_rows(400)).map(|(rows, _)| rows.len()).collect();
/// assert_eq!(lengths, [400, 400, 200]);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    memory_bytes: usize,
    chunk_rows: Option<usize>,
}

impl Default for Budget {
    /// Returns a budget of 64 MiB.
    fn default() -> Self {
        Self::bytes(DEFAULT_BYTES)
    }
}

impl Budget {
    /// Limits the total memory: the buffers, and the pages of source and destination in the page cache. A chunk has 1
    /// to 4 MiB, which suits disks. A smaller budget makes chunks smaller, but a chunk always has at least one row.
    ///
    /// ```
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream}};
    /// let table = MmapArray::<f32, ndarray::Ix2>::scratch((1000, 3))?;
    /// let mean = Stream::from(&table).budget(Budget::bytes(8 << 20)).mean_axis0()?;
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn bytes(memory_bytes: usize) -> Self {
        Self { memory_bytes, chunk_rows: None }
    }

    /// Sets the number of rows of each chunk that a function or a loop of the caller gets (the last chunk may have
    /// fewer), whatever memory these rows need. Zero counts as one. The size of reads and writes does not depend on
    /// this number.
    ///
    /// ```
    /// # use ndarray_mmap::{MmapArray, stream::Budget};
    /// let table = MmapArray::<f32, ndarray::Ix2>::scratch((1000, 3))?;
    /// assert_eq!(table.row_chunks(Budget::chunk_rows(300)).len(), 4);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn chunk_rows(chunk_rows: usize) -> Self {
        Self { memory_bytes: DEFAULT_BYTES, chunk_rows: Some(chunk_rows.max(1)) }
    }

    pub(super) fn memory_bytes(self) -> usize {
        self.memory_bytes
    }

    /// Returns the budget that remains after `bytes` were allocated.
    pub(super) fn less(self, bytes: usize) -> Self {
        Self { memory_bytes: self.memory_bytes.saturating_sub(bytes), ..self }
    }

    /// Returns the number of rows of a chunk, if the caller has chosen this number.
    pub(super) fn chosen_rows(self) -> Option<usize> {
        self.chunk_rows
    }

    /// Returns the number of mapped rows in a chunk, if a row has `row_bytes`.
    pub(super) fn mapped_rows(self, row_bytes: usize) -> usize {
        let chunk_bytes = (self.memory_bytes / CHUNKS_IN_MEMORY).min(CHUNK_BYTES);
        self.chunk_rows.unwrap_or(rows_in(chunk_bytes, row_bytes)).max(1)
    }

    /// Divides rows into blocks for at most `threads` threads.
    pub(super) fn plan(self, cost: RowCost, threads: usize) -> Plan {
        let RowCost { widest_bytes, total_bytes, rows, block_bytes } = cost;
        let per_thread = self.memory_bytes / threads.max(1);
        let by_block = rows_in(block_bytes, widest_bytes);
        let by_budget = rows_in(per_thread, total_bytes);
        // Blocks are not smaller than a page, because the overhead of a smaller block would exceed its work.
        let by_page = rows_in(page_bytes().min(block_bytes), widest_bytes);
        let fitting = by_block.min(by_budget).max(by_page).max(1);
        // A block is a whole number of chunks if the caller has chosen their size.
        let block_rows = match self.chunk_rows {
            Some(chunk) => (fitting / chunk).max(1) * chunk,
            None => fitting,
        };
        let block_rows = block_rows.min(rows.max(1));
        let in_budget = self.memory_bytes / block_rows.saturating_mul(total_bytes).max(1);
        let blocks = rows.div_ceil(block_rows);
        Plan { block_rows, blocks, threads: threads.min(in_budget).min(blocks).max(1) }
    }
}

/// Returns how many rows fit in `bytes`. Any number of rows without bytes fits.
fn rows_in(bytes: usize, row_bytes: usize) -> usize {
    bytes.checked_div(row_bytes).unwrap_or(usize::MAX)
}

/// The number of rows, and the memory that each row needs in a pipeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowCost {
    /// The largest number of bytes per row that any single buffer needs.
    pub(super) widest_bytes: usize,
    /// The bytes of a row in all buffers together.
    pub(super) total_bytes: usize,
    /// The number of rows.
    pub(super) rows: usize,
    /// The preferred size of the largest buffer.
    pub(super) block_bytes: usize,
}

/// The division of rows into blocks, and the number of threads that process the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) block_rows: usize,
    pub(super) blocks: usize,
    pub(super) threads: usize,
}

impl Plan {
    /// Returns the rows of a block, if there are `rows` rows in all.
    pub(super) fn rows_of_block(&self, block: usize, rows: usize) -> Range<usize> {
        let first = block * self.block_rows;
        first..first.saturating_add(self.block_rows).min(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(row_bytes: usize, rows: usize) -> RowCost {
        RowCost { widest_bytes: row_bytes, total_bytes: 2 * row_bytes, rows, block_bytes: BLOCK_BYTES }
    }

    #[test]
    fn blocks_fill_a_huge_page() {
        let plan = Budget::default().plan(cost(1000, 1 << 30), 3);
        assert_eq!((plan.block_rows, plan.threads), (2080, 3));
    }

    #[test]
    fn a_small_budget_means_small_blocks() {
        let plan = Budget::bytes(60_000).plan(cost(1000, 1 << 30), 3);
        assert_eq!((plan.block_rows, plan.threads), (10, 3));
        let page_rows = page_bytes() / 1000;
        let plan = Plan { block_rows: page_rows, blocks: 50_usize.div_ceil(page_rows), threads: 1 };
        assert_eq!(Budget::bytes(0).plan(cost(1000, 50), 3), plan);
    }

    #[test]
    fn a_row_larger_than_the_budget_is_a_block() {
        let plan = Budget::default().plan(cost(1 << 30, 7), 3);
        assert_eq!(plan, Plan { block_rows: 1, blocks: 7, threads: 1 });
    }

    #[test]
    fn blocks_are_multiples_of_chosen_chunks() {
        for chunk in [1, 7, 100, 5000] {
            let plan = Budget::chunk_rows(chunk).plan(cost(1000, 1 << 30), 3);
            assert_eq!(plan.block_rows % chunk, 0, "{chunk} {plan:?}");
        }
        assert_eq!(Budget::chunk_rows(5000).plan(cost(1000, 1 << 30), 3).block_rows, 5000);
        assert_eq!(Budget::chunk_rows(100).plan(cost(1000, 1 << 30), 3).block_rows, 2000);
    }

    #[test]
    fn no_rows_are_no_blocks() {
        assert_eq!(Budget::default().plan(cost(1000, 0), 3).blocks, 0);
        for rows in [10, 1 << 60] {
            let plan = Plan { block_rows: rows, blocks: 1, threads: 1 };
            assert_eq!(Budget::default().plan(cost(0, rows), 3), plan, "rows without bytes are one block");
        }
        assert_eq!(Budget::default().mapped_rows(0), usize::MAX);
    }
}
