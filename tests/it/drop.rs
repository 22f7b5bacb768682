//! Tests of dropping and closing arrays: flushes, released resources, and reported errors.

use crate::support::{
    Tmpfs, cached_pages, dirty_pages, disk_folder, is_alone, mappings_under, memory_folder, names_in,
};
use ndarray::{Ix1, Ix2};
use ndarray_mmap::{ArrayOptions, ErrorKind, MmapArray, OnDrop, open_arrays};
use std::path::Path;

/// How many mappings, file descriptors and arrays this process has at one moment.
#[derive(Debug, PartialEq)]
struct Holdings {
    mappings: usize,
    descriptors: usize,
    arrays: usize,
}

impl Holdings {
    fn now() -> Self {
        let count = |path: &str| std::fs::read_dir(path).unwrap().count();
        let mappings = std::fs::read_to_string("/proc/self/maps").unwrap();
        // Threads create and remove heap arenas at any time, so the test counts only mappings of files.
        let of_files = mappings.lines().filter(|line| line.contains(" /") || line.contains("(deleted)"));
        Self { mappings: of_files.count(), descriptors: count("/proc/self/fd"), arrays: open_arrays().len() }
    }
}

fn drop_in_a_panic<T>(arrays: T) {
    let panics = std::panic::AssertUnwindSafe(move || {
        let _held = arrays;
        std::panic::resume_unwind(Box::new("as planned"));
    });
    assert!(std::panic::catch_unwind(panics).is_err());
}

#[test]
fn ten_thousand_arrays_leave_nothing_behind() {
    if !is_alone("drop::ten_thousand_arrays_leave_nothing_behind") {
        return;
    }
    let disk = disk_folder();
    let memory = memory_folder();
    let path = disk.path().join("opened.npy");
    MmapArray::<u16, Ix2>::create(&path, (100, 30)).unwrap().fill(1);
    let before = Holdings::now();
    assert_eq!(before.arrays, 0);

    let in_memory = ArrayOptions::new().scratch_directory(memory.path()).shape((100, 30));
    for round in 0..1000 {
        let mut scratch = in_memory.scratch::<u16, Ix2>().unwrap();
        scratch.fill(round);
        let named = memory.path().join((round % 7).to_string());
        let mut created = in_memory.create::<u16, Ix2>(&named).unwrap();
        created[[99, 29]] = round;
        let readers = [(); 5].map(|()| MmapArray::<u16, Ix2>::open(&path).unwrap());
        let mut private = MmapArray::<u16, Ix2>::open_cow(&path).unwrap();
        private.fill(round);
        let empty = in_memory.clone().shape((0, 30)).scratch::<u16, Ix2>().unwrap();
        assert_eq!(Holdings::now().arrays, 9);
        if round % 3 == 0 {
            assert_eq!(ndarray_mmap::close_path(&path).unwrap(), 6);
        }
        match round % 2 {
            0 => drop((readers, private)),
            _ => drop_in_a_panic((readers, private)),
        }
        let writer = ArrayOptions::new().close_existing(true).open_rw::<u16, Ix2>(&path).unwrap();
        match round % 4 {
            0 => drop((scratch, created, empty)),
            1 => created.close().unwrap(),
            2 => drop(created.into_read_only().unwrap()),
            _ => drop_in_a_panic((scratch, created)),
        }
        drop(writer);
    }
    // The test creates fewer arrays on the disk, because each `create` on a disk waits for a sync.
    for round in 0..100 {
        let mut created = MmapArray::<u16, Ix2>::create(disk.path().join("created.npy"), (100, 30)).unwrap();
        created[[99, 29]] = round;
    }
    assert_eq!(Holdings::now(), before);
    assert_eq!(MmapArray::<u16, Ix2>::open(disk.path().join("created.npy")).unwrap()[[99, 29]], 99);
    assert_eq!(mappings_under(disk.path()) + mappings_under(memory.path()), 0);
    assert_eq!(names_in(disk.path()), ["created.npy", "opened.npy"]);
}

#[test]
fn a_thousand_arrays_at_once_leave_nothing_behind() {
    if !is_alone("drop::a_thousand_arrays_at_once_leave_nothing_behind") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("file");
    std::fs::write(&path, vec![1; 1_000_000]).unwrap();
    let limit = libc::rlimit { rlim_cur: 2000, rlim_max: 2000 };
    // SAFETY: the pointer is to a live structure; no other test runs in this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let before = Holdings::now();
    let part =
        |index: u64| ArrayOptions::new().offset_bytes(index * 1000).shape(1000).open_rw::<u8, Ix1>(&path);
    let mut arrays: Vec<_> = (0..1000).map(|index| part(index).unwrap()).collect();
    for (index, array) in arrays.iter_mut().enumerate() {
        array.fill((index % 256) as u8);
    }
    assert_eq!(Holdings::now().arrays, 1000);
    let half = arrays.split_off(500);
    std::thread::scope(|scope| {
        scope.spawn(|| drop(half));
        drop(arrays);
    });
    assert_eq!(Holdings::now(), before);
    let bytes = std::fs::read(&path).unwrap();
    assert!(
        bytes.chunks(1000).enumerate().all(|(index, part)| part.iter().all(|&x| x == (index % 256) as u8))
    );
}

#[test]
fn running_out_of_descriptors_is_an_error_and_later_calls_succeed() {
    if !is_alone("drop::running_out_of_descriptors_is_an_error_and_later_calls_succeed") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    MmapArray::<u8, Ix1>::create(&path, 10).unwrap().close().unwrap();
    let before = Holdings::now();
    let limit = libc::rlimit { rlim_cur: 50, rlim_max: 4096 };
    // SAFETY: the pointer is to a live structure; no other test runs in this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let mut arrays = Vec::new();
    let error = loop {
        match MmapArray::<u8, Ix1>::open(&path) {
            Ok(array) => arrays.push(array),
            Err(error) => break error,
        }
    };
    assert!(
        arrays.len() > 30 && error.to_string().contains("found the limit on open files of this process"),
        "{error}"
    );
    assert!(MmapArray::<u8, Ix1>::create(folder.path().join("b.npy"), 10).is_err());
    assert!(MmapArray::<u8, Ix1>::scratch(10).is_err());
    assert!(arrays.iter().all(|array| array.evict().is_ok() && array.sum() == 0));
    drop(arrays);
    assert_eq!(Holdings::now(), before);
    assert_eq!(names_in(folder.path()), ["a.npy"]);
    MmapArray::<u8, Ix1>::create(folder.path().join("b.npy"), 10).unwrap();
}

#[test]
fn running_out_of_addresses_is_an_error_and_leaves_no_file() {
    if !is_alone("drop::running_out_of_addresses_is_an_error_and_leaves_no_file") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let options = ArrayOptions::new().allocation(ndarray_mmap::Allocation::Sparse).shape(1 << 36);
    options.create::<u8, Ix1>(&path).unwrap().close().unwrap();
    let before = Holdings::now();
    let limit = libc::rlimit { rlim_cur: 1 << 34, rlim_max: 1 << 34 };
    // SAFETY: the pointer is to a live structure; no other test runs in this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    let error = options.create::<u8, Ix1>(folder.path().join("b.npy")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    let error = MmapArray::<u8, Ix1>::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert_eq!(Holdings::now(), before);
    assert_eq!(names_in(folder.path()), ["a.npy"]);
    ArrayOptions::new().shape(10).format(ndarray_mmap::Format::Raw).open_rw::<u8, Ix1>(&path).unwrap();
}

fn make_dirty(path: &Path, array: &mut MmapArray<u8, Ix1>) {
    array.fill(3);
    if let Some(dirty) = dirty_pages(path, 0..1 << 20) {
        assert!(dirty > 0, "the file has dirty pages");
    }
}

#[test]
fn dropping_and_closing_flush_and_follow_on_drop() {
    let folder = disk_folder();
    let path = folder.path().join("a");
    for on_drop in [OnDrop::Evict, OnDrop::KeepCached] {
        let options = ArrayOptions::new().shape(1 << 20).on_drop(on_drop);
        let ends: [fn(MmapArray<u8, Ix1>); 4] = [
            drop,
            |array| array.close().unwrap(),
            |array| array.into_read_only().unwrap().close().unwrap(),
            |array| assert_eq!(ndarray_mmap::close_path(array.path()).unwrap(), 1),
        ];
        for end in ends {
            let mut array = options.create::<u8, Ix1>(&path).unwrap();
            make_dirty(&path, &mut array);
            end(array);
            assert_eq!(dirty_pages(&path, 0..1 << 20).unwrap_or(0), 0, "{on_drop:?}");
            let kept = on_drop == OnDrop::KeepCached;
            assert!(cached_pages(&path).into_iter().all(|cached| cached == kept), "{on_drop:?}");
            assert!(std::fs::read(&path).unwrap().iter().all(|&x| x == 3), "{on_drop:?}");
        }
    }
}

#[test]
fn an_array_dropped_in_a_panic_is_flushed() {
    let folder = disk_folder();
    let path = folder.path().join("a");
    let result = std::panic::catch_unwind(|| {
        let mut array = MmapArray::<u8, Ix1>::create(&path, 10_000).unwrap();
        array.fill(3);
        array[10_000] = 1; // out of bounds: panics
    });
    assert!(result.is_err());
    assert_eq!(dirty_pages(&path, 0..12_288).unwrap_or(0), 0);
    assert!(ArrayOptions::new().shape(10_000).open_rw::<u8, Ix1>(&path).unwrap().iter().all(|&x| x == 3));
}

#[test]
fn a_file_may_be_removed_while_its_array_is_open() {
    let folder = disk_folder();
    let path = folder.path().join("deep/a");
    let mut array = MmapArray::<u8, Ix1>::create(&path, 10_000).unwrap();
    std::fs::remove_dir_all(folder.path().join("deep")).unwrap();
    array.fill(3);
    array.evict_rows(5000..).unwrap();
    assert_eq!(array.iter().filter(|&&x| x == 3).count(), 10_000);
    assert_eq!(array.close().unwrap_err().kind(), ErrorKind::NameLost);
    let Some(disk) = Tmpfs::mount("size=1m") else { return };
    let array = MmapArray::<u8, Ix1>::create(disk.path().join("a"), 100).unwrap();
    drop(disk); // a lazy unmount: the array keeps the filesystem alive
    assert_eq!(array.sum(), 0);
    array.close().unwrap();
}
