//! A file of the load test, and an oracle that holds the expected elements of the file.

use crate::Dice;
use ndarray::{Array2, ArrayViewMut2, Axis, Ix2};
use ndarray_mmap::{ErrorKind, MmapArray, ReadOnly, ReadWrite};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

pub const ROWS: usize = 37;
pub const COLUMNS: usize = 53;

/// A file and its expected elements.
pub struct Slot {
    pub path: PathBuf,
    oracle: Mutex<Oracle>,
}

struct Oracle {
    /// The expected elements of the file, without the changes in `pending`.
    elements: Array2<u64>,
    pending: Option<Pending>,
    /// How many writes have begun.
    writes: u64,
}

/// A write to some rows whose outcome is not known yet.
///
/// The writer stores the new values in order, from the first element of the rows to the last. During the write, the
/// first elements therefore have new values, and the remaining elements have old values. After the writer has flushed
/// the array, all elements of the rows have new values. If `close_path` closes the array before the flush, only the
/// file shows how many elements have new values.
struct Pending {
    write: u64,
    first_row: usize,
    rows: usize,
    value: u64,
}

impl Slot {
    pub fn create(path: PathBuf) -> Self {
        MmapArray::<u64, Ix2>::create(&path, (ROWS, COLUMNS)).unwrap().close().unwrap();
        let oracle = Oracle { elements: Array2::zeros((ROWS, COLUMNS)), pending: None, writes: 0 };
        Self { path, oracle: Mutex::new(oracle) }
    }

    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap()
    }

    /// Compares a copy of the whole array with the oracle, unless the array was closed by path. Returns whether the
    /// copy was compared.
    ///
    /// The lock of an open array keeps every writer out, so the copy must equal the oracle.
    pub fn verify(&self, copy: &Array2<u64>, is_closed: impl Fn() -> bool) -> bool {
        let mut oracle = self.oracle();
        if is_closed() {
            return false;
        }
        oracle.settle(copy);
        assert_eq!(oracle.elements, copy, "{:?}", self.path);
        true
    }

    pub fn verify_reader(&self, array: &MmapArray<u64, Ix2, ReadOnly>) -> bool {
        let Ok(view) = array.try_view() else { return false };
        self.verify(&view.to_owned(), || array.is_closed())
    }

    pub fn verify_writer(&self, array: &MmapArray<u64, Ix2, ReadWrite>) -> bool {
        let Ok(view) = array.try_view() else { return false };
        self.verify(&view.to_owned(), || array.is_closed())
    }

    /// Writes some rows of an array that was verified after it was opened, and flushes or evicts them. Returns whether
    /// the array stayed open until the end.
    pub fn write(&self, array: &mut MmapArray<u64, Ix2, ReadWrite>, dice: &mut Dice) -> bool {
        let first_row = dice.below(ROWS);
        let rows = 1 + dice.below(ROWS - first_row);
        let Some((write, value)) = self.begin(array, first_row, rows) else { return false };
        let Ok(mut view) = array.try_view_mut() else { return false };
        fill_in_order(&mut view, first_row, rows, value);
        let range = first_row..first_row + rows;
        let flushed = match dice.below(4) {
            0 => array.flush(),
            1 => array.evict(),
            2 => array.evict_rows(range),
            _ => array.flush_rows(range),
        };
        match flushed {
            Ok(()) => self.finish(write),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
        }
        !array.is_closed()
    }

    /// Records a write in the oracle before the write starts. Returns `None` if the array is closed, because a closed
    /// array cannot be flushed.
    fn begin(
        &self,
        array: &MmapArray<u64, Ix2, ReadWrite>,
        first_row: usize,
        rows: usize,
    ) -> Option<(u64, u64)> {
        let mut oracle = self.oracle();
        if array.is_closed() {
            return None;
        }
        assert!(oracle.pending.is_none(), "{:?}: two writers", self.path);
        oracle.writes += 1;
        let write = oracle.writes;
        let value = write << 16;
        oracle.pending = Some(Pending { write, first_row, rows, value });
        Some((write, value))
    }

    /// Records that the written bytes are in the file, unless `settle` has already recorded the outcome of this write.
    fn finish(&self, write: u64) {
        let mut oracle = self.oracle();
        if oracle.pending.as_ref().is_some_and(|pending| pending.write == write) {
            let Pending { first_row, rows, value, .. } = oracle.pending.take().unwrap();
            fill_in_order(&mut oracle.elements.view_mut(), first_row, rows, value);
        }
    }
}

impl Oracle {
    /// Updates the expected content with the part of the pending write that is stored in the array. The part is
    /// incomplete if `close_path` closed the writer during the write.
    fn settle(&mut self, found: &Array2<u64>) {
        let Some(Pending { first_row, rows, value, .. }) = self.pending.take() else { return };
        let places = first_row * COLUMNS..(first_row + rows) * COLUMNS;
        let elements = self.elements.as_slice_mut().unwrap();
        for place in places {
            if found.as_slice().unwrap()[place] != value + place as u64 {
                return;
            }
            elements[place] = value + place as u64;
        }
    }
}

/// Fills rows from the first element to the last, with a value that grows by one per element.
fn fill_in_order(array: &mut ArrayViewMut2<'_, u64>, first_row: usize, rows: usize, value: u64) {
    for row in first_row..first_row + rows {
        for (column, element) in array.index_axis_mut(Axis(0), row).iter_mut().enumerate() {
            // `black_box` keeps the compiler from storing the elements in another order.
            *std::hint::black_box(element) = value + (row * COLUMNS + column) as u64;
        }
    }
}
