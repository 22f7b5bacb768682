//! [`Scenario`]: one operation, and what a disk may contain after each of its calls. `files.rs` and `streams.rs` list the
//! operations.
//!
//! An operation calls [`acknowledge`](crate::sys::record::acknowledge) after each call that promises something. What is
//! legal after a number of acknowledged calls is legal until the next one returns.

use super::model::Image;
use crate::array::MmapArray;
use crate::error::Result;
use crate::file::{ArrayOptions, Format};
use ndarray::{Array2, Ix2, s};
use std::path::Path;

pub(super) type Array = Array2<u32>;

pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// The shape of raw files in C order, and the offset of their elements. `None` for NPY files.
    pub(super) raw: Option<((usize, usize), usize)>,
    /// Creates the files that the operation finds when it starts, and makes them durable.
    pub(super) before: fn(&Path) -> Result<()>,
    pub(super) run: fn(&Path) -> Result<()>,
    /// Whether the operation can run again after it has succeeded.
    pub(super) can_repeat: bool,
    pub(super) legal: fn(usize) -> Vec<Expected>,
    /// Returns what else is wrong with a state, after a number of acknowledged calls.
    pub(super) also: fn(&Image, usize) -> Result<(), String>,
}

/// What a path may lead to.
pub(super) struct Expected {
    pub(super) path: &'static str,
    pub(super) outcomes: Vec<Outcome>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Absent,
    Directory,
    /// A file that is no array, or that may be incomplete.
    #[cfg_attr(
        not(all(feature = "serde", not(ndarray_mmap_portable))),
        allow(dead_code, reason = "only `reused.rs` uses it")
    )]
    Anything,
    /// An array with these elements.
    Holds(Array),
    /// An array whose elements each come from one of these two arrays.
    Mixes(Array, Array),
}

impl Outcome {
    pub(super) fn contains(&self, found: &Array) -> bool {
        match self {
            Self::Absent | Self::Directory | Self::Anything => false,
            Self::Holds(array) => found.dim() == array.dim() && found.as_slice() == array.as_slice(),
            Self::Mixes(one, other) => {
                let is_mixed = |((found, one), other): ((&[u32], &[u32]), &[u32])| {
                    let mut elements = found.iter().zip(one).zip(other);
                    let is_one = |((found, one), other)| found == one || found == other;
                    found == one || found == other || elements.all(is_one)
                };
                found.dim() == one.dim() && slices(found).zip(slices(one)).zip(slices(other)).all(is_mixed)
            }
        }
    }
}

/// Returns the elements in pieces, because comparing slices is fast.
fn slices(array: &Array) -> impl Iterator<Item = &[u32]> {
    array.as_slice().expect("it is in standard layout").chunks(128)
}

use Outcome::{Holds, Mixes};

pub(super) const SHAPE: (usize, usize) = (700, 7);
pub(super) const PATH: &str = "a.npy";
pub(super) const RAW: Option<((usize, usize), usize)> = Some((SHAPE, 512));

pub(super) fn old() -> Array {
    Array::from_shape_fn(SHAPE, |(row, column)| 1_000_000 + (row * 10 + column) as u32)
}

pub(super) fn new() -> Array {
    Array::from_shape_fn(SHAPE, |(row, column)| 1 + (row * 10 + column) as u32)
}

pub(super) fn zeros() -> Array {
    Array::zeros(SHAPE)
}

/// Returns the old array, in which some rows are new.
pub(super) fn patched(rows: std::ops::Range<usize>, mut array: Array) -> Array {
    array.slice_mut(s![rows.clone(), ..]).assign(&new().slice(s![rows, ..]));
    array
}

pub(super) fn write(path: &Path, array: &Array) -> Result<()> {
    let mut written = MmapArray::<u32, Ix2>::create(path, array.dim())?;
    written.assign(array);
    written.close()
}

pub(super) fn raw() -> ArrayOptions {
    ArrayOptions::new().format(Format::Raw).shape(SHAPE).offset_bytes(512)
}

pub(super) fn at(path: &'static str, outcomes: impl Into<Vec<Outcome>>) -> Vec<Expected> {
    vec![Expected { path, outcomes: outcomes.into() }]
}

/// What a path may lead to before and after a new file appears as a whole.
pub(super) fn appears(acknowledged: usize, before: Outcome, after: Array) -> Vec<Outcome> {
    if acknowledged == 0 { vec![before, Holds(after)] } else { vec![Holds(after)] }
}

pub(super) fn nothing(_: &Path) -> Result<()> {
    Ok(())
}

pub(super) fn old_file(folder: &Path) -> Result<()> {
    write(&folder.join(PATH), &old())
}

impl Scenario {
    /// An NPY file in an empty folder, and an operation that can be repeated.
    pub(super) const BASE: Self = Self {
        name: "",
        raw: None,
        before: nothing,
        run: nothing,
        can_repeat: true,
        legal: |_| Vec::new(),
        also: |_, _| Ok(()),
    };
}

/// What the old file may contain before and after it is filled in place.
pub(super) fn filled(acknowledged: usize, after: Array) -> Vec<Outcome> {
    if acknowledged == 0 { vec![Mixes(old(), after)] } else { vec![Holds(after)] }
}
