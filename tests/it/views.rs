//! Tests of functions that find the mapped array of a view by its address: `backing`, `flush_view` and `evict_view`.

use crate::support::{cached_pages, dirty_pages, disk_folder};
use ndarray::{Array, ArrayRef, ArrayView2, Axis, Dimension, Ix2, Ix3, ShapeBuilder, aview0, s};
use ndarray_mmap::{
    AccessMode, ArrayOptions, MmapArray, OnDrop, backing, evict_view, flush_view, is_mmap_backed,
};
use std::collections::BTreeSet;
use std::path::Path;

/// Creates a raw file of 64 x 16 x 1024 bytes. A row takes 4 pages, and `[i, j, ..]` takes a quarter of a page.
fn cube(path: &Path, offset_bytes: u64) -> MmapArray<u8, Ix3> {
    let options =
        ArrayOptions::new().shape((64, 16, 1024)).offset_bytes(offset_bytes).on_drop(OnDrop::KeepCached);
    let mut cube = options.create::<u8, Ix3>(path).unwrap();
    cube.iter_mut().enumerate().for_each(|(index, x)| *x = (index % 249) as u8);
    cube.flush().unwrap();
    cube
}

/// Returns the pages of the file that hold an element of the view. The function computes the page of each element
/// separately.
fn pages_of<D: Dimension>(view: &ArrayRef<u8, D>, base: *const u8, offset_bytes: usize) -> BTreeSet<usize> {
    view.iter().map(|x| (x as *const u8 as usize - base as usize + offset_bytes) / 4096).collect()
}

type Cut = (&'static str, for<'a> fn(&'a MmapArray<u8, Ix3>) -> ArrayView2<'a, u8>);

/// Returns functions that take a contiguous or non-contiguous view of two dimensions.
fn cuts() -> [Cut; 12] {
    [
        ("a row", |m| m.index_axis(Axis(0), 20)),
        ("a column", |m| m.index_axis(Axis(1), 3)),
        ("a plane of single bytes", |m| m.index_axis(Axis(2), 77)),
        ("every fifth row", |m| m.slice(s![..;5, 2, ..])),
        ("every fifth row, backwards", |m| m.slice(s![..;-5, 2, ..])),
        ("backwards in all", |m| m.slice_move_backwards()),
        ("transposed", |m| m.slice(s![8..12, .., 5]).reversed_axes()),
        ("one element of each row", |m| m.slice(s![.., 9, 100..101])),
        ("one element", |m| m.slice(s![63, 15.., 1023..])),
        ("the last page", |m| m.slice(s![63, 12.., ..])),
        ("a few bytes over a page's end", |m| m.slice(s![5, 3..5, 1020..])),
        ("wide steps", |m| m.slice(s![3..60;19, ..;-7, 1])),
    ]
}

trait Backwards {
    fn slice_move_backwards(&self) -> ArrayView2<'_, u8>;
}

impl Backwards for ArrayRef<u8, Ix3> {
    fn slice_move_backwards(&self) -> ArrayView2<'_, u8> {
        self.slice(s![10..14;-1, ..;-1, 1023])
    }
}

#[test]
fn evicting_a_view_drops_the_pages_that_it_covers_and_no_others() {
    let folder = disk_folder();
    let path = folder.path().join("cube");
    for offset_bytes in [0, 4096, 777] {
        let cube = cube(&path, offset_bytes);
        for (name, cut) in cuts() {
            // Reading the whole file makes every page resident, so the test does not depend on read-ahead.
            std::fs::read(&path).unwrap();
            assert!(!cached_pages(&path).contains(&false));
            let view = cut(&cube);
            let expected = pages_of(&view, cube.as_ptr(), offset_bytes as usize);
            let copy = view.to_owned();
            // The second call also drops pages that the view shares with many other elements.
            evict_view(&view).and_then(|()| evict_view(&view)).unwrap();
            let left = cached_pages(&path);
            let gone: BTreeSet<_> =
                left.iter().enumerate().filter(|(_, cached)| !**cached).map(|(page, _)| page).collect();
            assert_eq!(gone, expected, "{name}, data at {offset_bytes}");
            assert_eq!(view, copy, "{name}, data at {offset_bytes}");
        }
    }
}

#[test]
fn evicting_a_view_in_fortran_order_drops_its_pages_and_no_others() {
    let folder = disk_folder();
    let path = folder.path().join("f.npy");
    let options = ArrayOptions::new().shape((20_000, 40).f()).on_drop(OnDrop::KeepCached);
    let mut array = options.create::<u8, Ix2>(&path).unwrap();
    array.fill(1);
    array.flush().unwrap();
    for slice in [s![.., 3..4], s![100..200, ..], s![..;2, ..;9], s![19_999.., ..;-1]] {
        std::fs::read(&path).unwrap();
        let view = array.slice(slice);
        let expected = pages_of(&view, array.as_ptr(), 128);
        evict_view(&view).and_then(|()| evict_view(&view)).unwrap();
        for (page, cached) in cached_pages(&path).into_iter().enumerate() {
            assert_eq!(cached, !expected.contains(&page), "{slice:?}, page {page}");
        }
    }
}

#[test]
fn flushing_a_view_cleans_its_pages() {
    let folder = disk_folder();
    let path = folder.path().join("cube");
    let mut cube = cube(&path, 0);
    for (name, cut) in cuts() {
        cube.fill(7);
        let pages = pages_of(&cut(&cube), cube.as_ptr(), 0);
        flush_view(&cut(&cube)).unwrap();
        for page in pages {
            let page = page as u64 * 4096;
            assert_eq!(dirty_pages(&path, page..page + 4096).unwrap_or(0), 0, "{name}, page at {page}");
        }
    }
}

#[test]
fn backing_names_the_file_the_access_and_the_bytes() {
    let folder = disk_folder();
    let path = folder.path().join("cube");
    let cube = cube(&path, 777);
    for (name, cut) in cuts() {
        let view = cut(&cube);
        let backing = backing(&view).unwrap();
        let offsets: Vec<_> =
            view.iter().map(|x| x as *const u8 as u64 - cube.as_ptr() as u64 + 777).collect();
        let (first, last) = (*offsets.iter().min().unwrap(), *offsets.iter().max().unwrap());
        assert_eq!(backing.byte_range, first..last + 1, "{name}");
        assert_eq!((backing.path.as_path(), backing.access), (cube.path(), AccessMode::ReadWrite), "{name}");
        assert!(is_mmap_backed(&view), "{name}");
    }
    assert_eq!(backing(&cube).unwrap().byte_range, 777..777 + (1 << 20));
    assert_eq!(
        backing(&aview0(&cube[[63, 15, 1023]])).unwrap().byte_range,
        777 + (1 << 20) - 1..777 + (1 << 20)
    );
    let repeated = cube.index_axis(Axis(0), 1);
    let repeated = repeated.broadcast((5, 16, 1024)).unwrap();
    assert_eq!(backing(&repeated).unwrap().byte_range, 777 + 16_384..777 + 32_768);
    drop(cube);

    let options = ArrayOptions::new().shape((3, 4)).offset_bytes(80);
    let reader = options.open::<f64, Ix2>(&path).unwrap();
    assert_eq!(backing(&reader.t()).unwrap().byte_range, 80..176);
    assert_eq!(backing(&reader.slice(s![1.., 1..;-2])).unwrap().access, AccessMode::ReadOnly);
    let private = options.open_cow::<f64, Ix2>(&path).unwrap();
    assert_eq!(backing(&private).unwrap().access, AccessMode::CopyOnWrite);
}

#[test]
fn arrays_in_memory_have_no_backing_and_do_not_change() {
    fn check<D: Dimension>(view: &ArrayRef<u8, D>) {
        assert!(!is_mmap_backed(view) && backing(view).is_none());
        flush_view(view).unwrap();
        evict_view(view).unwrap();
    }
    let folder = disk_folder();
    let cube = cube(&folder.path().join("cube"), 0);
    let owned = Array::from_elem((100, 100), 3_u8);
    check(&owned);
    check(&owned.slice(s![..;-3, ..;2]));
    check(&cube.to_owned().view());
    check(&cube.slice(s![3..3, .., ..]));
    check(&cube.slice(s![.., .., 1024..]));
    check(&aview0(&7));
    assert_eq!(owned.iter().map(|&x| u64::from(x)).sum::<u64>(), 30_000);
    let own_map = memmap2::MmapOptions::new().len(8192).map_anon().unwrap();
    check(&ndarray::aview1(&own_map));
    let empty = MmapArray::<u8, Ix2>::scratch((0, 5)).unwrap();
    check(&empty);
}

#[test]
fn addresses_of_a_dropped_array_have_no_backing() {
    let folder = disk_folder();
    let path = folder.path().join("cube");
    let cube = cube(&path, 0);
    let address = cube.as_ptr();
    let other = MmapArray::<u8, Ix2>::scratch((1, 1)).unwrap();
    drop(cube);
    assert!(is_mmap_backed(&other));
    // The allocator may reuse the addresses of the dropped array for these vectors.
    let vectors: Vec<_> = (0..50).map(|_| Array::<u8, _>::zeros(1 << 20)).collect();
    assert!(vectors.iter().all(|vector| !is_mmap_backed(vector)), "{address:?}");
}

#[test]
fn backing_distinguishes_arrays_at_adjacent_addresses() {
    let folder = disk_folder();
    let arrays: Vec<_> = (0..20)
        .map(|index| MmapArray::<u8, Ix2>::create(folder.path().join(index.to_string()), (2, 2048)).unwrap())
        .collect();
    for array in &arrays {
        for index in [0, 1] {
            let row = array.row(index);
            let found = backing(&row).unwrap();
            assert_eq!((found.path.as_path(), found.byte_range.start), (array.path(), 2048 * index as u64));
        }
        assert_eq!(backing(array).unwrap().byte_range, 0..4096);
    }
}
