//! The input of the target `operations`: a file, and a list of operations on this file.

use arbitrary::Arbitrary;
use ndarray::{ArrayView2, Ix2, SliceInfo, SliceInfoElem};
use std::ops::Range;

#[derive(Arbitrary, Debug)]
pub struct Input {
    pub file: FileSpec,
    pub operations: Vec<Operation>,
}

/// The file that the operations use.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct FileSpec {
    pub rows: u8,
    pub columns: u16,
    pub fortran: bool,
    pub npy: bool,
    pub sparse: bool,
    pub keep_cached: bool,
    /// The offset of the data in a raw file, in elements.
    pub offset: u16,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Operation {
    Create,
    CreateNew,
    OpenRead,
    OpenWrite,
    OpenPrivate,
    IntoReadOnly,
    Drop,
    Close,
    ClosePath,
    CloseUnder,
    WriteElement {
        row: u8,
        column: u16,
        value: u16,
    },
    WriteRows {
        rows: Rows,
        value: u16,
    },
    WriteColumn {
        column: u16,
        value: u16,
    },
    /// Inverts axes of the array in place. A row of the array must remain the same row of the file.
    InvertAxes {
        row_axis: bool,
        column_axis: bool,
    },
    Flush,
    FlushRows(Rows),
    Evict,
    EvictRows(Rows),
    /// Flushes a slice by `flush_view`, which finds the array by the address of the slice.
    FlushSlice(Part),
    EvictSlice(Part),
    PrefetchRows(Rows),
    AdviseRows {
        random: bool,
        rows: Rows,
    },
    Residency(Rows),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Rows {
    pub start: u8,
    pub end: u8,
}

impl Rows {
    pub fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }

    /// Returns the range clamped to `rows`, for the oracle.
    pub fn within(self, rows: usize) -> Range<usize> {
        let end = usize::from(self.end).min(rows);
        usize::from(self.start).min(end)..end
    }
}

/// A slice with steps on both axes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Part {
    pub rows: (u8, i8),
    pub columns: (u16, i8),
}

impl Part {
    pub fn of<'a>(self, view: &'a ArrayView2<'a, u16>) -> ArrayView2<'a, u16> {
        let axis = |len: usize, start: usize, step: i8| SliceInfoElem::Slice {
            start: start.min(len) as isize,
            end: None,
            step: if step == 0 { 1 } else { step.into() },
        };
        let elements = [
            axis(view.nrows(), self.rows.0.into(), self.rows.1),
            axis(view.ncols(), self.columns.0.into(), self.columns.1),
        ];
        let info = SliceInfo::<_, Ix2, Ix2>::try_from(elements).expect("two slices of two axes");
        view.slice_move(info)
    }
}
