//! [`Held`]: an array that a thread of a random program owns, with the expected contents of its elements.

use crate::harness::{inode_at, judge};
use crate::table::{Content, Table};
use crate::world::World;
use ndarray::{ArrayView2, Ix2};
use ndarray_mmap::{CopyOnWrite, ErrorKind, MmapArray, ReadOnly, Result, fault};
use std::ops::Range;

pub enum Array {
    Reader(MmapArray<u64, Ix2, ReadOnly>),
    Writer(MmapArray<u64, Ix2>),
    Private(MmapArray<u64, Ix2, CopyOnWrite>),
}

/// Evaluates the same expression for the array in an [`Array`], for each of the three access modes.
macro_rules! with_array {
    ($held:expr, $array:ident => $work:expr) => {
        match $held {
            $crate::held::Array::Reader($array) => $work,
            $crate::held::Array::Writer($array) => $work,
            $crate::held::Array::Private($array) => $work,
        }
    };
}
pub(crate) use with_array;

impl Array {
    pub fn try_view(&self) -> Result<ArrayView2<'_, u64>> {
        with_array!(self, array => array.try_view())
    }

    pub fn is_closed(&self) -> bool {
        with_array!(self, array => array.is_closed())
    }

    /// Returns the inode of the mapped file, or `None` if the array is closed.
    pub fn inode(&self) -> Option<u64> {
        let view = self.try_view().ok()?;
        Some(inode_at(view.as_ptr() as usize).expect("the memory of an array is mapped"))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Reader(_) => "reader",
            Self::Writer(_) => "writer",
            Self::Private(_) => "copy-on-write array",
        }
    }
}

pub struct Held {
    pub array: Array,
    /// The index of the array's file in `World::files`.
    pub file: usize,
    pub inode: u64,
    pub cells: Range<usize>,
    pub expected: Vec<Content>,
    /// The number of the array's entry in the shared table (`table.rs`).
    pub hold: u64,
    pub fragile: bool,
}

impl Held {
    /// Describes the array for the log.
    pub fn name(&self) -> String {
        format!(
            "{} on cells {:?} of file {} (inode {})",
            self.array.name(),
            self.cells,
            self.file,
            self.inode
        )
    }

    /// Checks every element, unless the array is closed or its file is fragile.
    pub fn verify(&self, world: &World, when: &str) {
        match self.array.try_view() {
            Ok(view) => self.verify_view(world, &view, when),
            Err(error) => judge(error.kind() == ErrorKind::Closed, || format!("{}: {error}", self.name())),
        }
    }

    pub fn verify_view(&self, world: &World, view: &ArrayView2<'_, u64>, when: &str) {
        if self.fragile {
            let _ = fault::guard(|| std::hint::black_box(view.fold(0_u64, |sum, &x| sum.wrapping_add(x))));
            return;
        }
        let items = view.as_slice().expect("the arrays of the attack are in C order");
        for (cell, items) in items.chunks(world.cell_elements()).enumerate() {
            let expected = self.expected[cell];
            let wrong = items.iter().enumerate().find(|(index, value)| !expected.allows(*index, **value));
            judge(wrong.is_none(), || {
                let (index, value) = wrong.unwrap();
                format!(
                    "{when}: element {index} of cell {} of a {} is {value:#x}, expected {expected:x?}",
                    self.cells.start + cell,
                    self.name()
                )
            });
        }
    }

    /// Returns a sum that changes if any element changes. Returns zero for a fragile file, whose elements may change.
    pub fn checksum(&self, view: &ArrayView2<'_, u64>) -> u64 {
        let sum = || {
            view.iter().fold(0_u64, |sum, &value| {
                sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(value).rotate_left(5)
            })
        };
        if self.fragile { fault::guard(sum).map_or(0, |_| 0) } else { sum() }
    }

    /// Removes the array's entry from the shared table (`table.rs`), and returns the array. The entry must be removed
    /// before the lock of the array is released.
    pub fn leave(self, table: &Table) -> Array {
        let written = matches!(self.array, Array::Writer(_)).then_some(&self.expected[..]);
        table.with(|state| state.release(self.hold, written));
        self.array
    }
}
