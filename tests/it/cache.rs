//! Tests of flush, evict, prefetch, advise and residency, for whole arrays and for row ranges.

use crate::support::{Tmpfs, cached_pages, dirty_pages, disk_folder};
use ndarray::{Ix1, Ix2, ShapeBuilder, s};
use ndarray_mmap::{AccessPattern, ArrayOptions, Format, MmapArray, OnDrop, ReadWrite, Residency};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Creates an array of 512 rows of one page each. All pages are in the page cache and clean.
fn pages(path: &Path) -> MmapArray<u8, Ix2, ReadWrite> {
    let options = ArrayOptions::new().format(Format::Raw).shape((512, 4096)).on_drop(OnDrop::KeepCached);
    let mut array = options.create::<u8, Ix2>(path).unwrap();
    array.fill(1);
    array.flush().unwrap();
    array
}

fn cached_rows(path: &Path) -> Vec<usize> {
    cached_pages(path).into_iter().enumerate().filter(|(_, cached)| *cached).map(|(page, _)| page).collect()
}

/// Returns the dirty pages of the file. Prints `SKIPPED` and returns `None` if the kernel lacks `cachestat`.
fn dirty_rows(path: &Path) -> Option<Vec<usize>> {
    let is_dirty = |row: u64| dirty_pages(path, row * 4096..(row + 1) * 4096).map(|pages| pages > 0);
    let rows = path.metadata().unwrap().len() / 4096;
    let dirty: Option<Vec<bool>> = (0..rows).map(is_dirty).collect();
    if dirty.is_none() {
        crate::support::skipped("this kernel lacks cachestat, so the test cannot find the dirty pages");
    }
    Some(dirty?.into_iter().enumerate().filter(|(_, dirty)| *dirty).map(|(row, _)| row).collect())
}

/// Runs `check` until it succeeds, at most three times. The kernel may write a dirty page back at any time, so a single
/// run of `check` can fail.
fn one_of_three(mut check: impl FnMut() -> Result<(), String>) {
    let failures: Vec<_> = (0..3).map_while(|_| check().err()).collect();
    assert!(failures.len() < 3, "{failures:?}");
}

#[test]
fn flush_rows_writes_these_rows_and_no_others() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    let mut array = pages(&path);
    one_of_three(|| {
        array.fill(2);
        let Some(before) = dirty_rows(&path) else { return Ok(()) };
        array.flush_rows(100..200).unwrap();
        let after = dirty_rows(&path).unwrap_or_default();
        assert!(!after.iter().any(|row| (100..200).contains(row)), "the rows are on disk");
        let expected: Vec<_> = (0..100).chain(200..512).collect();
        if before.len() == 512 && after == expected { Ok(()) } else { Err(format!("{before:?} {after:?}")) }
    });
    array.flush().unwrap();
    assert_eq!(dirty_rows(&path).unwrap_or_default(), [0; 0]);
}

#[test]
fn flushing_rows_of_fortran_order_cleans_them_in_every_column() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    // The crate flushes up to 64 columns one by one. The crate flushes 100 columns by one call that also covers the
    // bytes between them.
    for columns in [3, 100] {
        let options = ArrayOptions::new().shape((16 * 4096, columns).f()).on_drop(OnDrop::KeepCached);
        let mut array = options.create::<u8, Ix2>(&path).unwrap();
        let few = columns <= 64;
        one_of_three(|| {
            array.fill(2);
            array.flush_rows(8192..12_288).unwrap();
            let Some(dirty) = dirty_rows(&path) else { return Ok(()) };
            let flushed =
                |row: usize| if few { row % 16 == 2 } else { (2..16 * (columns - 1) + 3).contains(&row) };
            let expected: Vec<_> = (0..16 * columns).filter(|&row| !flushed(row)).collect();
            if dirty == expected { Ok(()) } else { Err(format!("{columns} columns: {dirty:?}")) }
        });
        let inside = dirty_rows(&path).unwrap_or_default();
        assert!(!inside.iter().any(|row| row % 16 == 2), "{columns} columns: {inside:?}");
    }
}

#[test]
fn flushing_a_view_writes_its_pages_and_no_others() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    let mut array = pages(&path);
    one_of_three(|| {
        array.fill(3);
        ndarray_mmap::flush_view(&array.slice(s![10..500;-49, ..10])).unwrap();
        let Some(dirty) = dirty_rows(&path) else { return Ok(()) };
        let expected: Vec<_> =
            (0..512).filter(|row| *row < 10 || row % 49 != 499 % 49 || *row > 499).collect();
        if dirty == expected { Ok(()) } else { Err(format!("{dirty:?}")) }
    });
}

#[test]
fn every_form_of_row_range_is_accepted() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    let array = pages(&path);
    let check = |range: (Bound<usize>, Bound<usize>), expected: std::ops::Range<usize>| {
        std::fs::read(&path).unwrap();
        assert_eq!(cached_rows(&path).len(), 512);
        let bytes = expected.len() * 4096;
        let all = Residency { resident_bytes: bytes, total_bytes: bytes };
        assert_eq!(array.residency_rows(range).unwrap(), all, "{range:?}");
        array.flush_rows(range).unwrap();
        array.evict_rows(range).unwrap();
        assert_eq!(array.residency_rows(range).unwrap(), Residency { resident_bytes: 0, ..all }, "{range:?}");
        let left: Vec<_> = (0..512).filter(|row| !expected.contains(row)).collect();
        assert_eq!(cached_rows(&path), left, "{range:?}");
        array.advise_rows(AccessPattern::Normal, range).unwrap();
        array.prefetch_rows(range).unwrap();
    };
    use Bound::{Excluded, Included, Unbounded};
    check((Unbounded, Unbounded), 0..512);
    check((Unbounded, Excluded(7)), 0..7);
    check((Unbounded, Included(7)), 0..8);
    check((Included(500), Unbounded), 500..512);
    check((Included(3), Excluded(5)), 3..5);
    check((Included(3), Included(5)), 3..6);
    check((Excluded(3), Included(5)), 4..6);
    check((Excluded(510), Unbounded), 511..512);
    check((Included(511), Excluded(512)), 511..512);
    // These ranges end or start beyond the last row.
    check((Included(400), Excluded(usize::MAX)), 400..512);
    check((Included(400), Included(usize::MAX)), 400..512);
    check((Included(512), Unbounded), 512..512);
    check((Included(9999), Excluded(99_999)), 512..512);
    check((Excluded(usize::MAX), Included(usize::MAX)), 512..512);
    // These ranges are empty, or their start is after their end.
    check((Included(3), Excluded(3)), 3..3);
    check((Included(300), Excluded(3)), 3..3);
    check((Included(usize::MAX), Included(0)), 0..0);
    check((Excluded(0), Excluded(0)), 0..0);
}

#[test]
fn eviction_drops_pages_that_other_arrays_of_this_process_map() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    pages(&path).close().unwrap();
    let whole = ArrayOptions::new().shape((512, 4096)).on_drop(OnDrop::KeepCached);
    let (first, second) = (whole.open::<u8, Ix2>(&path).unwrap(), whole.open::<u8, Ix2>(&path).unwrap());
    let part =
        ArrayOptions::new().offset_bytes(50 * 4096 + 100).shape((20, 4096)).open::<u8, Ix2>(&path).unwrap();
    assert!(first.iter().chain(&second).chain(&part).all(|&x| x == 1));
    first.evict_rows(40..300).unwrap();
    assert_eq!(cached_rows(&path), (0..40).chain(300..512).collect::<Vec<_>>());
    assert_eq!(part.residency().unwrap().resident_bytes, 0);
    assert!(part.iter().all(|&x| x == 1) && second.iter().all(|&x| x == 1));
    part.evict().unwrap();
    assert_eq!(cached_rows(&path), (0..50).chain(71..512).collect::<Vec<_>>());
}

#[test]
fn two_writers_on_one_page_evict_without_losing_a_byte() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    std::fs::write(&path, vec![0; 8192]).unwrap();
    let part =
        |offset, len| ArrayOptions::new().offset_bytes(offset).shape(len).open_rw::<u8, Ix1>(&path).unwrap();
    let (mut low, mut high) = (part(0, 5000), part(5000, 3192));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=200 {
                low.fill(round);
                low.evict().unwrap();
                assert!(low.iter().all(|&x| x == round));
            }
        });
        for round in 1..=200 {
            high.fill(round);
            assert!(high.iter().all(|&x| x == round));
            high.flush().unwrap();
        }
    });
    drop((low, high));
    assert!(std::fs::read(&path).unwrap().iter().all(|&x| x == 200));
}

#[test]
fn on_tmpfs_eviction_releases_memory_of_the_process_and_loses_nothing() {
    let Some(disk) = Tmpfs::mount("size=16m") else { return };
    let path = disk.path().join("array");
    let mut array = pages(&path);
    array.fill(7);
    assert!(resident_kib(&path) >= 2048, "{}", resident_kib(&path));
    array.evict_rows(100..).unwrap();
    assert!(resident_kib(&path) <= 400, "{}", resident_kib(&path));
    array.evict().unwrap();
    assert_eq!(resident_kib(&path), 0);
    assert_eq!(
        array.residency().unwrap().resident_bytes,
        512 * 4096,
        "on tmpfs, the page cache is the only copy of the file"
    );
    assert!(array.iter().all(|&x| x == 7));
    array.close().unwrap();
    assert!(std::fs::read(&path).unwrap().iter().all(|&x| x == 7));
}

/// Returns the resident memory of this process that belongs to mappings of a file, in KiB. The mappings are found by the
/// inode of the file: the kernel shows another name for a file that was created without a name.
fn resident_kib(path: &Path) -> usize {
    let inode = std::fs::metadata(path).unwrap().ino().to_string();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut of_file = false;
    let mut sum = 0;
    for line in smaps.lines() {
        if line.split_once(' ').is_some_and(|(first, _)| first.contains('-')) {
            of_file = line.split_whitespace().nth(4) == Some(inode.as_str());
        } else if let Some(kib) = line.strip_prefix("Rss:").filter(|_| of_file) {
            sum += kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap();
        }
    }
    sum
}

#[test]
fn prefetching_makes_rows_resident() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    let array = pages(&path);
    array.evict().unwrap();
    assert_eq!(cached_rows(&path), [0; 0]);
    array.prefetch_rows(100..140).unwrap();
    // `prefetch_rows` starts reading and does not wait for the reads to end.
    let deadline = Instant::now() + Duration::from_secs(10);
    while cached_rows(&path).len() < 40 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(array.residency_rows(100..140).unwrap().resident_bytes, 40 * 4096);
    assert_eq!(array.residency_rows(300..).unwrap().resident_bytes, 0);
    let cached = cached_rows(&path).len();
    assert_eq!(
        array.residency().unwrap(),
        Residency { resident_bytes: cached * 4096, total_bytes: 512 * 4096 }
    );
}

#[test]
fn residency_counts_the_bytes_of_rows_and_not_their_pages() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    let options = ArrayOptions::new().shape((1000, 1000)).on_drop(OnDrop::KeepCached);
    let mut array = options.create::<u8, Ix2>(&path).unwrap();
    array.fill(1);
    array.flush().unwrap();
    let resident = |rows: std::ops::Range<usize>| array.residency_rows(rows).unwrap();
    for rows in [0..1, 3..4, 4..5, 999..1000, 0..1000, 17..333] {
        let bytes = rows.len() * 1000;
        assert_eq!(resident(rows), Residency { resident_bytes: bytes, total_bytes: bytes });
    }
    array.evict_rows(500..501).unwrap(); // bytes 500,128 to 501,128 lie in page 122, which is bytes 499,712 to 503,808
    assert_eq!(resident(499..500).resident_bytes, 499_712 - 499_128);
    assert_eq!(resident(500..503).resident_bytes, 0);
    assert_eq!(resident(503..505).resident_bytes, 505_128 - 503_808);
    assert_eq!(array.residency().unwrap().resident_bytes, 1_000_000 - 4096);
}

#[test]
fn an_access_pattern_changes_the_read_ahead() {
    let folder = disk_folder();
    let path = folder.path().join("array");
    let array = pages(&path);
    array.evict().unwrap();
    array.advise(AccessPattern::Random).unwrap();
    assert_eq!(array[[200, 0]], 1);
    assert_eq!(cached_rows(&path), [200], "no read-ahead");
    array.advise_rows(AccessPattern::Sequential, ..100).unwrap();
    assert_eq!((0..40).map(|row| array[[row, 0]]).filter(|&x| x == 1).count(), 40);
    assert!(cached_rows(&path).contains(&45), "the kernel read ahead");
    // `advise_rows` on scattered rows must not split the mapping into thousands of mappings. Linux limits the mappings
    // of a process.
    let fortran =
        ArrayOptions::new().allocation(ndarray_mmap::Allocation::Sparse).shape((3 * 4096, 5000).f());
    let fortran = fortran.create::<u8, Ix2>(folder.path().join("f")).unwrap();
    fortran.advise_rows(AccessPattern::Random, 4096..8192).unwrap();
    let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    assert!(mappings < 2000, "{mappings} mappings");
}

#[test]
fn a_loop_that_evicts_finished_rows_keeps_little_resident() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    let mut array = MmapArray::<f32, Ix2>::create(&path, (12_288, 3000)).unwrap();
    let most = 44 << 20; // the array has 141 MiB, and the kernel may read ahead of the loop
    for first in (0..12_288).step_by(64) {
        array.slice_mut(s![first..first + 64, ..]).fill(first as f32);
        array.evict_rows(first..first + 64).unwrap();
        let resident = array.residency().unwrap().resident_bytes;
        assert!(resident < most, "written to row {first}: {resident} bytes");
    }
    for first in (0..12_288).step_by(64) {
        assert!(array.slice(s![first..first + 64, ..]).iter().all(|&x| x == first as f32));
        array.evict_rows(first..first + 64).unwrap();
        let resident = array.residency().unwrap().resident_bytes;
        assert!(resident < most, "read to row {first}: {resident} bytes");
    }
}
