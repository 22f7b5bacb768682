//! The division of rows into strips, whose running results fit the registers of the processor.

use crate::sys::{prefetch, with_wide_vectors};
use bytemuck::Pod;

/// The number of lanes that are processed together. A lane is a running result of one column.
pub(super) const STRIP: usize = 16;

/// The maximum number of lanes, unless there are more columns.
const MAX_LANES: usize = 1024;

/// Returns the number of lanes for rows with this number of columns. Lane `l` belongs to column `l % columns`. If rows
/// are narrow, each column has several lanes, so that the lanes fill whole strips and several rows are processed in
/// parallel.
pub(super) fn lanes_of(columns: usize) -> usize {
    let rows = STRIP >> columns.trailing_zeros().min(STRIP.trailing_zeros());
    if rows * columns <= MAX_LANES { rows * columns } else { columns }
}

/// Returns the number of elements in a piece of a block. All results of a piece are computed before the next piece is
/// read, so a piece should fit the processor's caches. It contains whole rows.
pub(super) fn piece_len<T>(columns: usize) -> usize {
    let lanes = lanes_of(columns);
    (lanes * rows_together::<T>(lanes)).max(1)
}

/// The maximum number of rows that are processed together.
pub(super) const MAX_ROWS: usize = 64;

/// Returns how many rows of `lanes` elements are processed together.
fn rows_together<T>(lanes: usize) -> usize {
    const BYTES: usize = 64 << 10;
    const MIN_ROWS: usize = 32;
    (BYTES / size_of::<T>().max(1) / lanes.max(1)).clamp(MIN_ROWS, MAX_ROWS)
}

/// Some rows of a strip, at most [`MAX_ROWS`]. The rows have the same length, which is at most [`STRIP`].
///
/// The number of rows is not a constant, because the compiler does not vectorise the loops over a strip if it unrolls the
/// loop over the rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'i, T> {
    /// The elements from the first element of the first row to the last element of the last row.
    items: &'i [T],
    /// The distance between the starts of two rows.
    pitch: usize,
    width: usize,
    /// The items that the processor should load while it processes these rows.
    ahead: *const T,
}

impl<'i, T: Pod> Rows<'i, T> {
    /// Returns each row.
    #[inline(always)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &'i [T]> + use<'i, T> {
        let width = self.width;
        self.items.chunks(self.pitch).map(move |row| &row[..width])
    }

    /// Returns the length of the rows.
    #[inline(always)]
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Returns each row. The rows must have the length [`STRIP`].
    #[inline(always)]
    pub(super) fn full(&self) -> impl Iterator<Item = &'i [T; STRIP]> + use<'i, T> {
        let Self { items: mut rest, pitch, mut ahead, .. } = *self;
        std::iter::from_fn(move || {
            let row = rest.first_chunk()?;
            rest = rest.get(pitch..).unwrap_or_default();
            prefetch(ahead, STRIP);
            ahead = ahead.wrapping_add(STRIP);
            Some(row)
        })
    }

    /// Returns rows that have the length [`STRIP`].
    #[inline(always)]
    pub(super) fn of(rows: &'i [[T; STRIP]]) -> Self {
        Self { items: rows.as_flattened(), pitch: STRIP, width: STRIP, ahead: rows.as_ptr().cast() }
    }

    /// Copies the rows, and fills them with zeros up to the length [`STRIP`].
    pub(super) fn padded(&self) -> Vec<[T; STRIP]> {
        let pad = |row: &[T]| std::array::from_fn(|lane| row.get(lane).copied().unwrap_or_else(T::zeroed));
        self.iter().map(pad).collect()
    }
}

/// Divides rows of `lanes` elements into groups of at most [`MAX_ROWS`] rows, and each group into strips. Calls `add` with
/// the first lane and the rows of each strip. The last row may be shorter. `add` must be `#[inline(always)]`: see
/// [`with_wide_vectors`].
#[inline(always)]
pub(super) fn by_strips<T: Pod>(lanes: usize, items: &[T], mut add: impl FnMut(usize, Rows<'_, T>)) {
    if lanes == 0 {
        return;
    }
    let (whole, last) = items.split_at(items.len() - items.len() % lanes);
    let group_len = lanes * rows_together::<T>(lanes);
    with_wide_vectors(
        #[inline(always)]
        || {
            let groups = whole.chunks(group_len).map(|group| (group, lanes));
            for (group, lanes) in groups.chain([(last, last.len())]) {
                // While the strips of a group are processed, the processor loads the next group, in the order of the
                // addresses. By itself, it would detect this order only within the rows.
                let mut ahead = group.as_ptr().wrapping_add(group_len);
                for first in (0..lanes).step_by(STRIP) {
                    let width = STRIP.min(lanes - first);
                    let items = &group[first..group.len() - (lanes - first - width)];
                    add(first, Rows { items, pitch: lanes, width, ahead });
                    ahead = ahead.wrapping_add(group.len() / lanes * STRIP);
                }
            }
        },
    );
}
