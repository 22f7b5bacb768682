//! Tests of windows: arrays on some rows of a file.

use crate::support::disk_folder;
use ndarray::{Array2, Ix0, Ix1, Ix2, ShapeBuilder, s};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{
    ArrayOptions, ErrorKind, Format, MmapArray, close_path, evict_view, inspect, partition_rows,
};
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// An NPY file of shape (1000, 3), whose elements are their indices.
fn counted(path: &Path) -> Array2<f64> {
    let expected = Array2::from_shape_fn((1000, 3), |(row, column)| (3 * row + column) as f64);
    let mut array = MmapArray::<f64, Ix2>::create(path, (1000, 3)).unwrap();
    array.assign(&expected);
    array.close().unwrap();
    expected
}

#[test]
fn a_window_is_its_rows_and_can_be_flushed_evicted_and_streamed() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let mut expected = counted(&path);
    let mut window = MmapArray::<f64, Ix2>::open_rows_rw(&path, 301..700).unwrap();
    assert_eq!(*window, expected.slice(s![301..700, ..]));
    window.row_mut(0).fill(-1.0);
    expected.row_mut(301).fill(-1.0);
    window.flush().unwrap();
    window.evict_rows(0..200).unwrap();
    evict_view(&window.slice(s![200.., ..])).unwrap();
    let copy = Stream::from(&window).write_to(folder.path().join("copy.npy")).unwrap();
    assert_eq!(*copy, expected.slice(s![301..700, ..]));
    window.residency().unwrap();
    window.close().unwrap();
    assert_eq!(*MmapArray::<f64, Ix2>::open(&path).unwrap(), expected);
    let mut private = ArrayOptions::new().rows(10..20).open_cow::<f64, Ix2>(&path).unwrap();
    private.fill(0.0);
    assert_eq!(*MmapArray::<f64, Ix2>::open_rows(&path, 10..20).unwrap(), expected.slice(s![10..20, ..]));
}

#[test]
fn windows_lock_only_their_rows_and_lose_nothing_of_a_shared_page() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let mut expected = counted(&path);
    let mut low = MmapArray::<f64, Ix2>::open_rows_rw(&path, 0..50).unwrap();
    let mut high = MmapArray::<f64, Ix2>::open_rows_rw(&path, 50..100).unwrap();
    let conflict = MmapArray::<f64, Ix2>::open_rows(&path, 99..101).unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::InUse, "{conflict}");
    MmapArray::<f64, Ix2>::open_rows_rw(&path, 100..1000).unwrap();
    // The rows of both windows are in the first page. The eviction of one window keeps the stores of the other.
    for round in 0..10 {
        low.fill(f64::from(round));
        high.fill(f64::from(-round));
        if round % 2 == 0 { low.evict() } else { high.evict() }.unwrap();
    }
    expected.slice_mut(s![..50, ..]).fill(9.0);
    expected.slice_mut(s![50..100, ..]).fill(-9.0);
    low.close().unwrap();
    assert_eq!(close_path(&path).unwrap(), 1);
    assert!(high.is_closed());
    drop(high);
    assert_eq!(*MmapArray::<f64, Ix2>::open(&path).unwrap(), expected);
}

#[test]
fn rows_that_cannot_be_opened_are_refused() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    counted(&path);
    let kind = |rows: Range<usize>| MmapArray::<f64, Ix2>::open_rows(&path, rows).unwrap_err().kind();
    assert_eq!(kind(0..1001), ErrorKind::InvalidInput);
    assert_eq!(kind(1001..1001), ErrorKind::InvalidInput);
    assert_eq!(kind(usize::MAX - 1..usize::MAX), ErrorKind::InvalidInput);
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 5..4;
    assert_eq!(kind(reversed), ErrorKind::InvalidInput);
    for empty in [0, 500, 1000] {
        assert_eq!(MmapArray::<f64, Ix2>::open_rows_rw(&path, empty..empty).unwrap().shape(), [0, 3]);
    }
    let created = ArrayOptions::new().shape(4).rows(0..2).create::<f64, Ix1>(&path).unwrap_err();
    assert_eq!(created.kind(), ErrorKind::InvalidInput, "{created}");
    assert_eq!(inspect(&path).unwrap().shape(), [1000, 3], "the refused `create` has kept the file");

    let fortran = folder.path().join("f.npy");
    MmapArray::<f64, Ix2>::create(&fortran, (10, 3).f()).unwrap().close().unwrap();
    let error = MmapArray::<f64, Ix2>::open_rows(&fortran, 2..4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(MmapArray::<f64, Ix2>::open_rows(&fortran, 0..10).unwrap().strides(), [1, 10]);

    let scalar = folder.path().join("s.npy");
    MmapArray::<f64, Ix0>::create(&scalar, ()).unwrap().close().unwrap();
    let error = MmapArray::<f64, Ix0>::open_rows(&scalar, 0..1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn a_raw_file_with_an_offset_has_windows() {
    let folder = disk_folder();
    let path = folder.path().join("a.bin");
    let options = ArrayOptions::new().format(Format::Raw).offset_bytes(12).shape((2000, 5));
    options.create::<i32, Ix2>(&path).unwrap().close().unwrap();
    options.clone().rows(1999..2000).guarded_where_possible().open_rw::<i32, Ix2>(&path).unwrap().fill(7);
    let all = options.open::<i32, Ix2>(&path).unwrap();
    assert_eq!((all.sum(), all[[1999, 4]], all[[1998, 4]]), (35, 7, 0));
}

trait GuardedWherePossible {
    fn guarded_where_possible(self) -> Self;
}

impl GuardedWherePossible for ArrayOptions {
    fn guarded_where_possible(self) -> Self {
        if cfg!(all(target_os = "linux", not(ndarray_mmap_portable))) { self.guarded() } else { self }
    }
}

const WINDOW: &str = "NDARRAY_MMAP_TEST_WINDOW";
const COLUMNS: usize = 3;

fn element(row: usize, column: usize) -> u32 {
    (row as u32).wrapping_mul(2_654_435_761) ^ column as u32
}

/// Eight processes fill eight windows. `NDARRAY_MMAP_WINDOW_BYTES` sets the size of the file.
#[test]
fn eight_processes_fill_a_file() {
    let bytes = std::env::var("NDARRAY_MMAP_WINDOW_BYTES").map_or(1 << 20, |text| text.parse().unwrap());
    let rows: usize = bytes / (COLUMNS * size_of::<u32>());
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    for round in 0..20 {
        MmapArray::<u32, Ix2>::create(&path, (rows, COLUMNS)).unwrap().close().unwrap();
        // In odd rounds, the windows end in the middle of pages.
        let row_bytes = if round % 2 == 0 { COLUMNS * size_of::<u32>() } else { 0 };
        let parts = partition_rows(rows, 8, row_bytes);
        let children = parts.iter().map(|part| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "windows::fills_a_window", "--ignored", "--test-threads=1", "--quiet"])
                .env(WINDOW, format!("{} {} {}", part.start, part.end, path.display()))
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        });
        let children = children.collect::<Vec<_>>();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let all = MmapArray::<u32, Ix2>::open(&path).unwrap();
        let wrong = all.indexed_iter().find(|&((row, column), &found)| found != element(row, column));
        assert_eq!(wrong, None, "round {round}");
    }
}

#[test]
#[ignore = "a child process of `eight_processes_fill_a_file`"]
fn fills_a_window() {
    let Ok(window) = std::env::var(WINDOW) else { return };
    let mut words = window.splitn(3, ' ');
    let mut number = || words.next().unwrap().parse::<usize>().unwrap();
    let rows = number()..number();
    let mut window = MmapArray::<u32, Ix2>::open_rows_rw(words.next().unwrap(), rows.clone()).unwrap();
    window.indexed_iter_mut().for_each(|((row, column), value)| *value = element(rows.start + row, column));
    window.close().unwrap();
}

/// Opens windows of one row each, and returns the time that this takes.
fn time_to_open(path: &Path, windows: usize) -> Duration {
    let started = Instant::now();
    let open = |row| MmapArray::<f64, Ix2>::open_rows(path, row..row + 1).unwrap();
    let opened: Vec<_> = (0..windows).map(open).collect();
    let elapsed = started.elapsed();
    assert_eq!(opened.len(), windows);
    elapsed
}

/// Ten times as many windows take about ten times as long, not a hundred times.
#[test]
#[ignore = "needs 10,000 descriptors: CONTRIBUTING.md"]
fn the_time_to_open_windows_is_linear() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    MmapArray::<f64, Ix2>::create(&path, (10_000, 3)).unwrap().close().unwrap();
    let (few, many) = (time_to_open(&path, 1000), time_to_open(&path, 10_000));
    println!("1,000 windows: {few:?}; 10,000 windows: {many:?}");
    assert!(many < few * 30 + Duration::from_millis(100), "{few:?}, {many:?}");
}
