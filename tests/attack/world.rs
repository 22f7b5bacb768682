//! The files that the random programs share, and the options that open them.

use crate::harness::Dice;
use crate::table::{CELLS, value_of};
use ndarray::{Array2, Ix2};
use ndarray_mmap::{AccessPattern, ArrayOptions, Format, MmapArray, OnDrop};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A file that the random programs open.
pub struct FileSpec {
    pub path: PathBuf,
    pub npy: bool,
    /// The offset in the file at which the data of the array starts.
    pub offset_bytes: u64,
    /// Whether steps may cut the file short or overwrite it without the library. The elements of such a file are
    /// accessed only inside a fault guard, and its contents are not checked.
    pub fragile: bool,
}

/// What all threads of a process share.
pub struct World {
    pub folder: PathBuf,
    pub table: PathBuf,
    pub files: Vec<FileSpec>,
    pub columns: usize,
    pub cell_rows: usize,
    /// The header of an NPY file that contains all cells.
    header: Vec<u8>,
    next_number: AtomicU64,
}

impl World {
    /// `seed` determines the sizes, so that both processes use the same sizes.
    pub fn new(folder: &Path, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let columns = [1, 3, 37, 129, 512][dice.below(5)];
        // Cells have from 600 bytes, less than a page, to 1.5 MB. Streams write the inside of a large array by direct
        // I/O.
        let cell_bytes = [600, 4096, 19_000, 90_000, 1_500_000][[0, 1, 2, 2, 3, 3, 4][dice.below(7)]];
        let cell_rows = (cell_bytes / (columns * 8)).max(1);
        let file = |name: &str, offset_bytes, fragile| FileSpec {
            path: folder.join("files").join(name),
            npy: name.ends_with(".npy"),
            offset_bytes,
            fragile,
        };
        let files = vec![
            file("solid.npy", 128, false),
            file("solid.raw", 8 * dice.below(1000) as u64, false),
            file("fragile.npy", 128, true),
            file("fragile.raw", 4096, true),
        ];
        let template = folder.join(format!("template-{}.npy", std::process::id()));
        let shape = (CELLS * cell_rows, columns);
        MmapArray::<u64, Ix2>::create(&template, shape).unwrap().close().unwrap();
        let header = std::fs::read(&template).unwrap()[..128].to_vec();
        std::fs::remove_file(template).unwrap();
        let next_number = AtomicU64::new(u64::from(std::process::id()) << 32);
        Self {
            folder: folder.join("files"),
            table: folder.join("table"),
            files,
            columns,
            cell_rows,
            header,
            next_number,
        }
    }

    /// Returns a number that no other call returns, neither in this process nor in another.
    pub fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a new stamp. A stamp marks the cells that one call writes. Two stamps never stand for the same value.
    pub fn stamp(&self) -> u64 {
        let number = self.number();
        ((number >> 32) << 44) | ((number & 0xf_ffff) << 24) | 1 << 23
    }

    pub fn cell_elements(&self) -> usize {
        self.cell_rows * self.columns
    }

    /// Returns an array of cells, one for each stamp.
    pub fn values(&self, stamps: &[u64]) -> Array2<u64> {
        let elements = self.cell_elements();
        let shape = (stamps.len() * self.cell_rows, self.columns);
        let values = stamps.iter().flat_map(|&stamp| (0..elements).map(move |index| value_of(stamp, index)));
        Array2::from_shape_vec(shape, values.collect()).unwrap()
    }

    /// Returns the bytes of a whole file in which every cell has the same stamp.
    pub fn file_bytes(&self, file: &FileSpec, stamp: u64) -> Vec<u8> {
        let mut bytes = if file.npy { self.header.clone() } else { vec![0; file.offset_bytes as usize] };
        let values = self.values(&[stamp; CELLS]);
        bytes.extend_from_slice(bytemuck::cast_slice(values.as_slice().unwrap()));
        bytes
    }

    /// Returns random options that open some cells of a file.
    pub fn options(&self, file: &FileSpec, cells: &Range<usize>, dice: &mut Dice) -> ArrayOptions {
        let shape = (cells.len() * self.cell_rows, self.columns);
        let options = ArrayOptions::new().shape(shape);
        let start = file.offset_bytes + (cells.start * self.cell_elements() * 8) as u64;
        let options = match file.npy && cells.len() == CELLS && dice.once_in(2) {
            true => options.format(Format::Npy),
            false => options.format(Format::Raw).offset_bytes(start),
        };
        let options = match dice.below(4) {
            0 => options.lock_timeout(Duration::from_millis(dice.below(30) as u64)),
            1 => options.on_drop(OnDrop::KeepCached),
            2 => options.access_pattern(AccessPattern::Sequential),
            _ => options,
        };
        if file.fragile && dice.once_in(2) { options.guarded() } else { options }
    }

    /// Returns options that create a file with all cells.
    pub fn new_file_options(&self, file: &FileSpec) -> ArrayOptions {
        let options = ArrayOptions::new().shape((CELLS * self.cell_rows, self.columns));
        if file.npy { options } else { options.offset_bytes(file.offset_bytes) }
    }
}
