//! Windows: arrays on some rows of a file. A window maps and locks only the bytes of its rows.

use super::layout::Layout;
use super::options::ArrayOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Geometry;
use crate::sys::page_bytes;
use std::ops::Range;

impl ArrayOptions {
    /// Sets the rows (indices of axis 0) that the functions `open*` map and lock. Default: all rows.
    ///
    /// The array has only these rows, and row 0 of the array is row `rows.start` of the file. A
    /// [`shape`](Self::shape) in the options is that of the whole file. Two arrays on disjoint rows never conflict,
    /// even if their rows share a page of the file.
    ///
    /// Functions that create a file return [`InvalidInput`](ErrorKind::InvalidInput) if this option is set. Opening
    /// returns `InvalidInput` if the file does not have these rows, or if the range is reversed, and
    /// [`Unsupported`](ErrorKind::Unsupported) for an array in Fortran order, whose rows are not contiguous. An empty
    /// range within the file gives an array without rows.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{ArrayOptions, Format};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("a.bin");
    /// let options = ArrayOptions::new().format(Format::Raw).shape((100, 3));
    /// options.create::<f32, Ix2>(&path)?.close()?;
    /// let mut low = options.clone().rows(0..50).open_rw::<f32, Ix2>(&path)?;
    /// let mut high = options.clone().rows(50..100).open_rw::<f32, Ix2>(&path)?;
    /// low[[0, 0]] = 1.0;
    /// high[[0, 0]] = 2.0; // row 50 of the file
    /// assert_eq!(high.shape(), [50, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rows(mut self, rows: Range<usize>) -> Self {
        self.rows = Some(rows);
        self
    }

    /// Returns an error if the options select rows: a new file has all of its rows.
    pub(super) fn check_no_rows(&self) -> Result<()> {
        match &self.rows {
            None => Ok(()),
            Some(rows) => {
                let found = format!("`rows({rows:?})`");
                Err(Error::new(ErrorKind::InvalidInput, "create", "no rows for a new file", found)
                    .with_remedy("create the whole file, then open its rows"))
            }
        }
    }
}

impl Layout {
    /// Returns the layout of the rows that the options select.
    pub(super) fn selected(self, options: &ArrayOptions) -> Result<Self> {
        let Some(rows) = &options.rows else { return Ok(self) };
        let refused = |kind, expected: String, found: String| Error::new(kind, "open", expected, found);
        let shape = self.geometry.shape();
        let Some(&all) = shape.first() else {
            let found = "an array of zero dimensions".to_owned();
            return Err(refused(ErrorKind::InvalidInput, "an array with rows".to_owned(), found)
                .with_remedy("open it without `rows`"));
        };
        if rows.start > rows.end || rows.end > all {
            let expected = format!("a range of rows within 0..{all}");
            return Err(refused(ErrorKind::InvalidInput, expected, format!("{rows:?}"))
                .with_remedy("give a range whose start is at most its end, and whose end the file has"));
        }
        if !self.geometry.is_row_major() && *rows != (0..all) {
            let expected = "an array in C order, whose rows are contiguous".to_owned();
            return Err(refused(ErrorKind::Unsupported, expected, "one in Fortran order".to_owned())
                .with_remedy("open the whole array, or write it in C order with a stream"));
        }
        let row_bytes = (self.geometry.total_bytes() / all.max(1)) as u64;
        let start = self.data_bytes.start + rows.start as u64 * row_bytes;
        let data_bytes = start..start + rows.len() as u64 * row_bytes;
        let shape: Vec<_> = std::iter::once(rows.len()).chain(shape[1..].iter().copied()).collect();
        let geometry = Geometry::new(&shape, self.geometry.order(), self.geometry.item_bytes())?;
        Ok(Self { geometry, data_bytes })
    }
}

/// Divides `n_rows` rows of `row_bytes` bytes among `parts` windows, in order. The lengths are as equal as the pages
/// allow.
///
/// If a part has at least as many rows as the distance between two rows that start at a page, all parts start at such
/// rows. Otherwise, the lengths differ by at most one row. Pages are counted from the first byte of the data: in an NPY
/// file, neighbouring parts share one page if the length of the header is not a multiple of the page size. Windows that
/// share a page lose nothing. If there are fewer rows than parts, some parts are empty.
///
/// ```
/// use ndarray_mmap::partition_rows;
///
/// assert_eq!(partition_rows(10, 3, 12), [0..3, 3..6, 6..10]);
/// ```
///
/// # Panics
/// If `parts` is 0.
pub fn partition_rows(n_rows: usize, parts: usize, row_bytes: usize) -> Vec<Range<usize>> {
    assert!(parts > 0, "rows are divided among at least one part");
    let step = page_bytes() / gcd(page_bytes(), row_bytes);
    let step = if n_rows / parts >= step { step } else { 1 };
    let bound = |part: usize| match part == parts {
        true => n_rows,
        false => {
            // The product is at most `n_rows` times `parts`, which fits `u128`. The quotient is at most `n_rows`.
            let even = (n_rows as u128 * part as u128 / parts as u128) as usize;
            even - even % step
        }
    };
    (0..parts).map(|part| bound(part)..bound(part + 1)).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_and_start_at_pages() {
        for (n_rows, parts, row_bytes) in
            [(0, 3, 8), (2, 5, 8), (10, 3, 12), (1 << 20, 7, 12), (99_999, 8, 1000), (5, 5, 0)]
        {
            let ranges = partition_rows(n_rows, parts, row_bytes);
            assert_eq!(ranges.len(), parts);
            assert_eq!((ranges[0].start, ranges[parts - 1].end), (0, n_rows));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            let step = page_bytes() / gcd(page_bytes(), row_bytes);
            if n_rows / parts >= step {
                assert!(ranges.iter().all(|rows| rows.start * row_bytes % page_bytes() == 0), "{ranges:?}");
            } else {
                let lengths = || ranges.iter().map(ExactSizeIterator::len);
                assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1, "{ranges:?}");
            }
        }
        assert_eq!(partition_rows(usize::MAX, 2, 1).last().unwrap().end, usize::MAX);
    }
}
