//! [`Blocks`]: the blocks of rows that a stream processes, and the holes between them.

use crate::error::Result;
use std::ops::Range;

/// A hole is divided into parts of this many blocks, so that a stream can be cancelled between two parts.
const BLOCKS_OF_HOLE: usize = 128;

/// Rows that a thread processes together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Rows that may contain data.
    Data(Range<usize>),
    /// Rows whose bytes are all zero. Such a block can have many more rows than a block of data.
    Hole(Range<usize>),
}

/// All rows of a stream, divided into numbered blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    block_rows: usize,
    /// The parts of the rows: parts that contain data, and holes. The parts are in ascending order. There are at most
    /// two parts for each block.
    parts: Vec<Part>,
    count: usize,
}

#[derive(Debug)]
struct Part {
    /// The number of the first block of this part.
    first_block: usize,
    rows: Range<usize>,
    is_hole: bool,
}

impl Blocks {
    /// Divides `rows` rows into blocks of `block_rows` rows. `next_data` returns the first part of a range of rows that
    /// may contain bytes other than zero. A hole that contains no whole block counts as data.
    pub(super) fn find(
        rows: usize,
        block_rows: usize,
        mut next_data: impl FnMut(Range<usize>) -> Result<Range<usize>>,
    ) -> Result<Self> {
        let mut blocks = Self { block_rows, parts: Vec::new(), count: 0 };
        let mut row = 0;
        while row < rows {
            let data = next_data(row..rows)?;
            let start = if data.is_empty() { rows } else { data.start - data.start % block_rows };
            blocks.push(row..start, true);
            row = data.end.checked_next_multiple_of(block_rows).map_or(rows, |end| end.min(rows));
            blocks.push(start..row, false);
        }
        Ok(blocks)
    }

    fn push(&mut self, rows: Range<usize>, is_hole: bool) {
        if rows.is_empty() {
            return;
        }
        let first_block = self.count;
        self.count += rows.len().div_ceil(self.step(is_hole));
        match self.parts.last_mut().filter(|last| !last.is_hole && !is_hole) {
            Some(last) => last.rows.end = rows.end,
            None => self.parts.push(Part { first_block, rows, is_hole }),
        }
    }

    fn step(&self, is_hole: bool) -> usize {
        if is_hole { self.block_rows.saturating_mul(BLOCKS_OF_HOLE) } else { self.block_rows }
    }

    /// Returns the number of blocks.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns a block by its number.
    pub(super) fn get(&self, block: usize) -> Block {
        let part = &self.parts[self.parts.partition_point(|part| part.first_block <= block) - 1];
        let step = self.step(part.is_hole);
        let start = part.rows.start + (block - part.first_block) * step;
        let rows = start..start.saturating_add(step).min(part.rows.end);
        if part.is_hole { Block::Hole(rows) } else { Block::Data(rows) }
    }

    /// Returns the parts of the rows that may contain data.
    pub(super) fn data(&self) -> impl Iterator<Item = Range<usize>> {
        self.parts.iter().filter(|part| !part.is_hole).map(|part| part.rows.clone())
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of ranges that happen to be one")]
mod tests {
    use super::*;

    /// Divides rows into blocks, and returns the blocks. Only the rows `data` may contain data.
    fn blocks(rows: usize, block_rows: usize, data: &[Range<usize>]) -> Vec<Block> {
        let next = |rows: Range<usize>| {
            let found = data.iter().find(|data| data.end > rows.start);
            let found =
                found.map_or(rows.end..rows.end, |data| data.start.max(rows.start)..data.end.min(rows.end));
            Ok(found)
        };
        let blocks = Blocks::find(rows, block_rows, next).unwrap();
        (0..blocks.count()).map(|block| blocks.get(block)).collect()
    }

    #[test]
    fn blocks_cover_all_rows_in_order_and_holes_are_skipped() {
        use Block::{Data, Hole};
        assert_eq!(blocks(0, 10, &[]), []);
        assert_eq!(blocks(25, 10, &[0..25]), [Data(0..10), Data(10..20), Data(20..25)]);
        assert_eq!(blocks(25, 10, &[]), [Hole(0..25)]);
        assert_eq!(blocks(2000, 10, &[]), [Hole(0..1280), Hole(1280..2000)]);
        assert_eq!(
            blocks(45, 10, &[12..13, 18..31]),
            [Hole(0..10), Data(10..20), Data(20..30), Data(30..40), Hole(40..45)]
        );
        assert_eq!(blocks(45, 10, &[44..45]), [Hole(0..40), Data(40..45)]);
        assert_eq!(
            blocks(40, 10, &[0..1, 11..12, 39..40]),
            [Data(0..10), Data(10..20), Hole(20..30), Data(30..40)]
        );
    }
}
