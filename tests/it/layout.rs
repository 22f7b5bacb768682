//! Tests of methods of ndarray that change the layout of an array in place. Such a method changes the view of a mapped
//! array. The row functions of the crate, such as `evict_rows`, still refer to the rows of the file.
//!
//! The tests cover all in-place layout methods of `ArrayRef`. `permute_axes`, `reverse_axes`, `insert_axis_inplace` and
//! `index_axis_inplace` are methods of `ArrayBase`, and a mapped array does not dereference to `ArrayBase`.

use crate::support::{cached_pages, dirty_pages, disk_folder};
use ndarray::{Array, ArrayRef, Axis, Dimension, Ix3, IxDyn, ShapeBuilder, Slice, s};
use ndarray_mmap::{AccessMode, ArrayOptions, MmapArray, OnDrop, backing};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

const HEADER_BYTES: usize = 128;

/// A file under test. In C order, each row has the size of a page and starts after the header. In Fortran order, each
/// row consists of 32 separate bytes.
#[derive(Clone)]
struct Subject<D> {
    shape: D,
    fortran: bool,
    rows: Range<usize>,
}

type Change<D> = (&'static str, fn(&mut ArrayRef<u8, D>));

fn changes() -> Vec<Change<Ix3>> {
    vec![
        ("nothing", |_| {}),
        ("swap_axes", |a| a.swap_axes(0, 2)),
        ("swap_axes of inner axes", |a| a.swap_axes(1, 2)),
        ("invert_axis 0", |a| a.invert_axis(Axis(0))),
        ("invert_axis 2", |a| a.invert_axis(Axis(2))),
        ("slice_collapse", |a| a.slice_collapse(s![100..250;3, ..;-2, 1..3])),
        ("slice_collapse to one row", |a| a.slice_collapse(s![299, .., ..])),
        ("slice_collapse to nothing", |a| a.slice_collapse(s![10..10, .., ..])),
        ("slice_axis_inplace", |a| a.slice_axis_inplace(Axis(0), Slice::new(50, Some(-50), -7))),
        ("collapse_axis 0", |a| a.collapse_axis(Axis(0), 221)),
        ("collapse_axis 1", |a| a.collapse_axis(Axis(1), 7)),
        ("merge_axes", |a| assert!(a.merge_axes(Axis(0), Axis(1)))),
        ("merge_axes of rows", |a| assert!(a.merge_axes(Axis(1), Axis(2)))),
        ("slice_each_axis_inplace", |a| {
            a.slice_each_axis_inplace(|axis| Slice::new(1, Some(-1), 2 + axis.axis.index() as isize))
        }),
        ("all at once", |a| {
            a.invert_axis(Axis(0));
            a.swap_axes(0, 1);
            a.slice_collapse(s![.., 5..;2, ..]);
            a.swap_axes(1, 2);
        }),
    ]
}

fn dynamic_changes() -> Vec<Change<IxDyn>> {
    vec![
        ("slice_collapse", |a| a.slice_collapse(s![3.., 1, ..;-1])),
        ("collapse_axis", |a| a.collapse_axis(Axis(0), 12)),
        ("merge_axes", |a| assert!(a.merge_axes(Axis(0), Axis(1)))),
        ("invert and swap", |a| {
            a.invert_axis(Axis(1));
            a.swap_axes(0, 2);
        }),
    ]
}

impl<D: Dimension> Subject<D> {
    /// Returns byte `index` of the data, counted in the order of the file.
    fn byte(index: usize) -> u8 {
        (index % 251) as u8
    }

    fn create(&self, path: &Path) -> MmapArray<u8, D> {
        let shape = self.shape.clone().set_f(self.fortran);
        let options = ArrayOptions::new().on_drop(OnDrop::KeepCached).shape(shape);
        let mut array = options.create::<u8, D>(path).unwrap();
        let bytes = array.as_slice_memory_order_mut().unwrap();
        bytes.iter_mut().enumerate().for_each(|(index, x)| *x = Self::byte(index));
        array.flush().unwrap();
        array
    }

    /// Returns an array in memory with the content of the file.
    fn in_memory(&self) -> Array<u8, D> {
        let bytes = (0..self.shape.size()).map(Self::byte).collect();
        Array::from_shape_vec(self.shape.clone().set_f(self.fortran), bytes).unwrap()
    }

    /// Returns the pages that hold at least one byte of `self.rows`.
    fn pages(&self) -> BTreeSet<usize> {
        let (all, row_bytes) = (self.shape[0], self.shape.size() / self.shape[0]);
        let pieces: Vec<_> = match self.fortran {
            #[allow(clippy::single_range_in_vec_init, reason = "a list of one run")]
            false => vec![self.rows.start * row_bytes..self.rows.end * row_bytes],
            true => (0..row_bytes).map(|k| k * all + self.rows.start..k * all + self.rows.end).collect(),
        };
        let pages = pieces
            .iter()
            .map(|piece| (HEADER_BYTES + piece.start) / 4096..(HEADER_BYTES + piece.end).div_ceil(4096));
        pages.flatten().collect()
    }

    fn row_bytes(&self) -> usize {
        self.shape.size() / self.shape[0]
    }

    /// Changes the layout of the array by `change`. Then evicts rows, flushes rows, and checks the residency of rows.
    fn rows_stay_rows_of_the_file(&self, path: &Path, (name, change): Change<D>) {
        let mut array = self.create(path);
        let header = std::fs::read(path).unwrap()[..HEADER_BYTES].to_vec();
        let mut whole = self.in_memory();
        let mut expected = whole.view_mut();
        change(&mut array);
        change(&mut expected);
        assert_eq!(array, expected, "{name}");

        assert!(!cached_pages(path).contains(&false), "{name}: a page was not cached before the eviction");
        array.evict_rows(self.rows.clone()).unwrap();
        let residency = array.residency_rows(self.rows.clone()).unwrap();
        assert_eq!(residency.resident_bytes, 0, "{name}");
        assert_eq!(residency.total_bytes, self.rows.len() * self.row_bytes(), "{name}");
        assert_eq!(array.residency().unwrap().total_bytes, self.shape.size(), "{name}");
        for (page, cached) in cached_pages(path).into_iter().enumerate() {
            assert_eq!(cached, !self.pages().contains(&page), "{name}: page {page}");
        }

        // A store through the changed view must change the same element as a store through the array in memory.
        array.map_inplace(|x| *x = x.wrapping_add(1));
        expected.map_inplace(|x| *x = x.wrapping_add(1));
        array.flush_rows(..).unwrap();
        let file_bytes = (HEADER_BYTES + self.shape.size()) as u64;
        assert_eq!(dirty_pages(path, 0..file_bytes).unwrap_or(0), 0, "{name}");

        let finished = array.into_read_only().unwrap();
        assert_eq!(finished, expected, "{name}: into_read_only keeps the changed view");
        finished.evict().unwrap();
        assert!(!cached_pages(path).contains(&true), "{name}: `evict` evicts the whole file");
        finished.close().unwrap();

        assert_eq!(std::fs::read(path).unwrap()[..HEADER_BYTES], header, "{name}");
        let reopened = MmapArray::<u8, D>::open(path).unwrap();
        assert_eq!(reopened.is_standard_layout(), !self.fortran, "{name}");
        assert_eq!(reopened, whole, "{name}: reopened");
    }
}

fn c_order<D: Dimension>(shape: D) -> Subject<D> {
    Subject { shape, fortran: false, rows: 100..160 }
}

fn fortran_order<D: Dimension>(shape: D) -> Subject<D> {
    Subject { shape, fortran: true, rows: 5000..11_000 }
}

#[test]
fn in_c_order() {
    let folder = disk_folder();
    for change in changes() {
        c_order(Ix3(300, 8, 512)).rows_stay_rows_of_the_file(&folder.path().join("array.npy"), change);
    }
}

#[test]
fn in_fortran_order() {
    let folder = disk_folder();
    for change in changes() {
        if !change.0.starts_with("merge_axes") {
            fortran_order(Ix3(16_384, 8, 4))
                .rows_stay_rows_of_the_file(&folder.path().join("array.npy"), change);
        }
    }
}

#[test]
fn of_dynamic_dimensions() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    for change in dynamic_changes() {
        c_order(IxDyn(&[300, 8, 512])).rows_stay_rows_of_the_file(&path, change);
        if change.0 != "merge_axes" {
            fortran_order(IxDyn(&[16_384, 8, 4])).rows_stay_rows_of_the_file(&path, change);
        }
    }
}

#[test]
fn backing_of_a_changed_view_returns_the_bytes_that_it_shows() {
    let folder = disk_folder();
    let mut array = c_order(Ix3(300, 8, 512)).create(&folder.path().join("array.npy"));
    array.slice_collapse(s![10..20;-1, 7, ..]);
    let shown = backing(&array).unwrap();
    assert_eq!(shown.path, array.path());
    assert_eq!(shown.access, AccessMode::ReadWrite);
    let first = HEADER_BYTES as u64 + 10 * 4096 + 7 * 512;
    assert_eq!(shown.byte_range, first..first + 9 * 4096 + 512);
    array.slice_collapse(s![.., .., 3..3]);
    assert_eq!(backing(&array), None, "no element is shown");
    assert_eq!(array.residency().unwrap().total_bytes, 300 * 4096);
    array.evict().unwrap();
    assert!(!cached_pages(array.path()).contains(&true));
}
