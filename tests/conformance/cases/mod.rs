//! The list of cases, and functions that several cases use.

mod close;
mod evict;
mod files;
mod full;
mod locks;
pub mod publish;
mod streams;
pub mod truncate;

use crate::place::Place;
use ndarray::{Array2, Ix2, ShapeBuilder};
use ndarray_mmap::stream::{Element, Transfer};
use ndarray_mmap::{ArrayOptions, Format, OnDrop};
use std::path::{Path, PathBuf};

/// The result of a case that has not panicked.
pub enum Outcome {
    Done,
    Skipped(String),
}

pub struct Case {
    pub name: &'static str,
    pub run: fn(&Place) -> Outcome,
}

macro_rules! cases {
    ($($module:ident: $($name:ident)*;)*) => {
        pub const ALL: &[Case] =
            &[$($(Case { name: concat!(stringify!($module), "::", stringify!($name)), run: $module::$name },)*)*];
    };
}

cases! {
    files: written_and_opened_again changes_of_each_access new_files_and_names unnamed_files elements_of_every_size
        older_mappings_outlive_a_replacement;
    evict: evicted_rows_are_dropped evicted_rows_of_fortran_order residency_is_what_mincore_says;
    streams: copies_to_new_files copies_into_parts_of_files selections_and_steps reductions copies_between_arrays;
    locks: one_writer_or_many_readers disjoint_ranges_do_not_conflict;
    truncate: small_sources_cut_short large_sources_cut_short arrays_cut_short;
    close: sources_closed_in_the_middle destinations_closed_in_the_middle;
    publish: killed_while_publishing;
    full: creating_on_a_full_disk storing_on_a_full_disk streaming_to_a_full_disk;
}

pub const TRANSFERS: [Transfer; 3] = [Transfer::Auto, Transfer::Direct, Transfer::Buffered];

/// The sizes of the rows in the test arrays, in bytes.
pub const ROW_BYTES: [usize; 4] = [12, 1000, 4096, 36_864];

/// The layout of an array in its file. The format is NPY if there is no offset, else raw data that starts at the
/// offset.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub offset_bytes: Option<u64>,
    pub fortran: bool,
}

/// The tested layouts: NPY in C order and in Fortran order, and raw data in C order. The raw data starts at offset
/// zero, at the second page, or inside a page.
pub const LAYOUTS: [Layout; 5] = [
    Layout { offset_bytes: None, fortran: false },
    Layout { offset_bytes: Some(0), fortran: false },
    Layout { offset_bytes: Some(4096), fortran: false },
    Layout { offset_bytes: Some(12_344), fortran: false },
    Layout { offset_bytes: None, fortran: true },
];

impl Layout {
    pub fn options(self, shape: (usize, usize)) -> ArrayOptions {
        let format = if self.offset_bytes.is_none() { Format::Npy } else { Format::Raw };
        let options = ArrayOptions::new().format(format).offset_bytes(self.offset_bytes.unwrap_or(0));
        if self.fortran { options.shape(shape.f()) } else { options.shape(shape) }
    }

    /// Creates a file with these values. If `cold`, drops the values from the page cache. Returns the options that open
    /// the file.
    pub fn store<T: Element>(self, path: &Path, values: &Array2<T>, cold: bool) -> ArrayOptions {
        let options = self.options(values.dim());
        let on_drop = if cold { OnDrop::Evict } else { OnDrop::KeepCached };
        let mut array = options.clone().on_drop(on_drop).create::<T, Ix2>(path).unwrap();
        array.assign(values);
        array.close().unwrap();
        options
    }
}

/// Returns an array with rows of `row_bytes` bytes. Neighbouring values differ.
pub fn counting(total_bytes: usize, row_bytes: usize) -> Array2<f32> {
    let columns = row_bytes / size_of::<f32>();
    let rows = total_bytes.div_ceil(row_bytes);
    Array2::from_shape_fn((rows, columns), |(row, column)| ((row * columns + column) % 1_000_003) as f32)
}

/// Returns a list of indices below `len`, unsorted and with repeats.
pub fn scattered(len: usize) -> Vec<usize> {
    (0..len.min(60)).map(|index| index * 7919 % len).chain([len - 1, 0, 0]).collect()
}

/// Returns the offset at which the data of an array starts in its file. The data is at the end of the file.
pub fn data_offset(path: &Path, data_bytes: usize) -> usize {
    usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap() - data_bytes
}

/// A file of zeros that fills its filesystem completely.
pub struct Filler(PathBuf);

impl Filler {
    pub fn new(path: PathBuf) -> Self {
        use std::io::Write;
        let mut file = std::fs::File::create(&path).unwrap();
        let (mut len, mut piece) = (0, 32 << 20);
        while piece >= 4096 {
            // SAFETY: the call takes integers; the descriptor is open.
            let result = unsafe { libc::fallocate(std::os::fd::AsRawFd::as_raw_fd(&file), 0, len, piece) };
            if result == 0 { len += piece } else { piece /= 2 }
        }
        // Writes fill the rest: `fallocate` may be refused, or may have left some free space.
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(len as u64)).unwrap();
        let mut zeros = &[0; 1 << 20][..];
        while !zeros.is_empty() {
            if file.write_all(zeros).and_then(|()| file.sync_data()).is_err() {
                zeros = &zeros[..zeros.len() / 4];
            }
        }
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        // Some filesystems free the space of a removed file only with the next journal commit.
        // SAFETY: `sync` has no arguments and no preconditions.
        unsafe { libc::sync() };
    }
}
