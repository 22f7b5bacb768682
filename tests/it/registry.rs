//! Tests of functions that find open arrays by the path of their file, to list or to close them.

use crate::support::disk_folder;
use ndarray::{Ix1, Ix2, s};
use ndarray_mmap::{
    AccessMode, AccessPattern, ArrayOptions, ErrorKind, MmapArray, ReadOnly, close_path, close_under,
    closed_arrays, is_mmap_backed, open_arrays,
    stream::{self, Stream},
};
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

fn file(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![1; 10_000]).unwrap();
}

fn reader(path: &Path) -> MmapArray<u8, Ix1, ReadOnly> {
    ArrayOptions::new().shape(10_000).open(path).unwrap()
}

/// Returns the entries of `open_arrays` for files in a folder. An entry holds the name, the access and the byte range.
fn listed(folder: &Path) -> Vec<(String, AccessMode, std::ops::Range<u64>)> {
    let folder = fs::canonicalize(folder).unwrap();
    let inside = open_arrays().into_iter().filter(|open| open.path.starts_with(&folder));
    let name = |path: &Path| path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
    inside.map(|open| (name(&open.path), open.access, open.byte_range)).collect()
}

#[test]
fn open_arrays_lists_each_array_until_it_is_closed() {
    let folder = disk_folder();
    let (raw, npy) = (folder.path().join("b"), folder.path().join("a.npy"));
    file(&raw);
    assert_eq!(listed(folder.path()), []);
    let created = MmapArray::<f32, Ix2>::create(&npy, (10, 10)).unwrap();
    let part = ArrayOptions::new().shape(50).offset_bytes(5000);
    let writer = part.open_rw::<u8, Ix1>(&raw).unwrap();
    let private = ArrayOptions::new().shape(70).offset_bytes(100).open_cow::<u8, Ix1>(&raw).unwrap();
    let empty = ArrayOptions::new().shape(0).offset_bytes(9).open::<u8, Ix1>(&raw).unwrap();
    let row = |name: &str, access, bytes| (name.to_owned(), access, bytes);
    let expected = [
        row("a.npy", AccessMode::ReadWrite, 128..528),
        row("b", AccessMode::ReadOnly, 9..9),
        row("b", AccessMode::CopyOnWrite, 100..170),
        row("b", AccessMode::ReadWrite, 5000..5050),
    ];
    assert_eq!(listed(folder.path()), expected);
    let read = created.into_read_only().unwrap();
    assert_eq!(listed(folder.path())[0], row("a.npy", AccessMode::ReadOnly, 128..528));
    drop((read, writer));
    private.close().unwrap();
    assert_eq!(listed(folder.path()), expected[1..2]);
    drop(empty);
    assert_eq!(listed(folder.path()), []);
}

#[test]
fn close_path_accepts_every_spelling_and_returns_the_count() {
    let folder = disk_folder();
    let path = folder.path().join("d/file");
    file(&path);
    fs::hard_link(&path, folder.path().join("hard")).unwrap();
    symlink("d/file", folder.path().join("soft")).unwrap();
    symlink("d", folder.path().join("door")).unwrap();
    for spelling in ["d/file", "d/../d/./file", "hard", "soft", "door/file", "missing/../hard", "d//file"] {
        let arrays =
            [reader(&path), reader(&folder.path().join("hard")), reader(&folder.path().join("soft"))];
        let empty = ArrayOptions::new().shape(0).open_rw::<u8, Ix1>(&path).unwrap();
        assert_eq!(close_path(folder.path().join(spelling)).unwrap(), 4, "{spelling}");
        assert_eq!(close_path(folder.path().join(spelling)).unwrap(), 0, "{spelling}: once more");
        assert!(arrays.iter().all(MmapArray::is_closed) && empty.is_closed());
        assert_eq!(listed(folder.path()), []);
        // The owner of a closed array may close or drop it.
        let [first, second, third] = arrays;
        first.close().unwrap();
        drop((second, third, empty));
        let again = ArrayOptions::new().shape(10_000).open_rw::<u8, Ix1>(&path).unwrap();
        assert_eq!(again.len(), 10_000);
    }
    assert_eq!(close_path(folder.path().join("never/was")).unwrap(), 0);
}

#[test]
fn arrays_of_deleted_replaced_or_renamed_files_are_closed_by_path() {
    let folder = disk_folder();
    let path = folder.path().join("file");
    file(&path);
    let deleted = reader(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!((close_path(&path).unwrap(), deleted.is_closed()), (1, true));

    file(&path);
    let (old, other) = (reader(&path), folder.path().join("other"));
    fs::rename(&path, &other).unwrap();
    file(&path);
    let new = reader(&path);
    assert_eq!(close_path(&other).unwrap(), 1, "by its new name");
    assert!(old.is_closed() && !new.is_closed());
    let moved = reader(&other);
    assert_eq!(close_path(&path).unwrap(), 1);
    assert!(!moved.is_closed());
}

#[test]
fn close_under_compares_component_by_component() {
    let folder = disk_folder();
    let names = ["cache_a/1", "cache_a/deep/er/2", "cache_ab/3", "cache_a.bin", "cache/4", "CACHE_A/5"];
    let arrays = names.map(|name| {
        file(&folder.path().join(name));
        reader(&folder.path().join(name))
    });
    symlink("cache_a", folder.path().join("door")).unwrap();
    let closed =
        || names.into_iter().zip(&arrays).filter(|(_, array)| array.is_closed()).map(|(name, _)| name);
    assert_eq!(close_under(folder.path().join("cache_")).unwrap(), 0);
    assert_eq!(close_under(folder.path().join("cache_a/deep/../../door/")).unwrap(), 2);
    assert_eq!(closed().collect::<Vec<_>>(), ["cache_a/1", "cache_a/deep/er/2"]);
    assert_eq!(close_under(folder.path().join("cache_a")).unwrap(), 0);
    assert_eq!(close_under(folder.path().join("cache_ab/3")).unwrap(), 1, "a file is under itself");
    assert_eq!(close_under(folder.path()).unwrap(), 3);
    assert_eq!(closed().count(), 6);
    fs::remove_dir_all(folder.path().join("cache")).unwrap();
    assert_eq!(close_under(folder.path().join("cache")).unwrap(), 0);
}

#[test]
fn close_under_accepts_a_removed_directory() {
    let folder = disk_folder();
    file(&folder.path().join("gone/file"));
    let array = reader(&folder.path().join("gone/file"));
    fs::remove_dir_all(folder.path().join("gone")).unwrap();
    assert_eq!((close_under(folder.path().join("gone")).unwrap(), array.is_closed()), (1, true));
}

/// While a borrow of a closed array is alive, the bytes of the array stay locked, so no other array can be opened on
/// them. Closing the owner writes the stores through the borrow to the file.
#[test]
fn a_borrow_of_a_closed_array_keeps_its_bytes() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    for offset in [0, 3000] {
        let options =
            ArrayOptions::new().format(ndarray_mmap::Format::Raw).offset_bytes(offset).shape((100, 100));
        let mut array = options.create::<u32, Ix2>(&path).unwrap();
        let mut view = array.view_mut();
        view.fill(1);
        assert_eq!(close_path(&path).unwrap(), 1);
        assert!(view.iter().all(|&x| x == 1), "a live borrow can be read");
        for error in [
            options.open_rw::<u32, Ix2>(&path).unwrap_err(),
            options.open::<u32, Ix2>(&path).unwrap_err(),
            options.clone().close_existing(true).open_rw::<u32, Ix2>(&path).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
            assert!(error.to_string().contains("closed by its path"), "{error}");
        }
        view.slice_mut(s![10..20, ..]).fill(2);
        for closed in [
            ndarray_mmap::flush_view(&view),
            ndarray_mmap::evict_view(&view),
            stream::copy(&ndarray::Array2::from_elem((100, 100), 5), &mut view.view_mut()),
            Stream::from(&view).fold((), |(), _| ()),
            Stream::from(&view).write_to(folder.path().join("out.npy")).map(drop),
        ] {
            assert_eq!(closed.unwrap_err().kind(), ErrorKind::Closed);
        }
        assert_eq!(view.sum(), 10_000 + 1000, "the refused calls have not changed a byte");
        assert!(is_mmap_backed(&view));
        assert!(closed_arrays().iter().any(|closed| closed.path == path));
        array.close().unwrap();
        assert!(!closed_arrays().iter().any(|closed| closed.path == path));
        let again = options.open_rw::<u32, Ix2>(&path).unwrap();
        assert_eq!(again.sum(), 11_000, "closing the owner flushes the stores of the borrow");
    }
}

/// `create` makes a new file, so closed arrays on the old file do not block it.
#[test]
fn closed_arrays_do_not_block_a_new_file() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let mut owners = Vec::new();
    for value in 1..=5 {
        let mut array = MmapArray::<u8, Ix1>::create(&path, 1000).unwrap();
        array.fill(value);
        owners.push(array);
    }
    assert!(owners[..4].iter().all(MmapArray::is_closed) && !owners[4].is_closed());
    drop(owners);
    assert_eq!(MmapArray::<u8, Ix1>::open(&path).unwrap()[999], 5);
}

#[test]
fn access_to_a_closed_array_reports_that_it_is_closed() {
    let folder = disk_folder();
    let path = folder.path().join("file");
    file(&path);
    let mut array = ArrayOptions::new().shape(10_000).open_rw::<u8, Ix1>(&path).unwrap();
    assert!(array.try_view().is_ok() && array.try_view_mut().is_ok());
    close_path(&path).unwrap();
    assert_eq!(array.try_view().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(array.try_view_mut().unwrap_err().kind(), ErrorKind::Closed);
    let words_of = |access: &mut dyn FnMut()| {
        let panic = catch_unwind(AssertUnwindSafe(access)).expect_err("access to a closed array panics");
        panic.downcast_ref::<String>().expect("a panic message").clone()
    };
    let mut reads: [&dyn Fn(); 7] = [
        &|| _ = array.view(),
        &|| assert_eq!(array[0], 1),
        &|| assert_eq!(array.sum(), 1),
        &|| assert_eq!((&array).into_iter().count(), 1),
        &|| drop(&array + 1),
        &|| assert!(array == ndarray::Array1::<u8>::zeros(3)),
        &|| _ = ndarray::ArrayView::from(&array),
    ];
    for read in &mut reads {
        let words = words_of(&mut || read());
        assert!(words.contains("was closed by its path") && words.contains("`try_view`"), "{words}");
        assert!(words.contains(array.path().to_str().unwrap()), "{words}");
    }
    assert!(words_of(&mut || array.fill(3)).contains("was closed by its path"));
    assert!(words_of(&mut || array[0] = 3).contains("was closed by its path"));
    assert!(format!("{array:?}").contains("closed: true"));
    assert_eq!(array.path(), fs::canonicalize(&path).unwrap());
    array.close().unwrap();
}

#[test]
fn arrays_can_be_closed_while_threads_read_them() {
    let folder = disk_folder();
    let path = folder.path().join("file");
    file(&path);
    let arrays: Vec<_> = (0..50).map(|_| reader(&path)).collect();
    std::thread::scope(|scope| {
        for part in arrays.chunks(25) {
            scope.spawn(move || {
                for array in part {
                    match array.try_view() {
                        Ok(view) => (0..50).for_each(|_| assert!(view.iter().all(|&x| x == 1))),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
                    }
                }
            });
        }
        let closers = [(); 2].map(|()| scope.spawn(|| close_path(&path).unwrap()));
        let closed: usize = closers.into_iter().map(|closer| closer.join().unwrap()).sum();
        assert_eq!(closed, 50, "each array is counted by exactly one call");
    });
}

#[test]
fn closing_by_path_follows_on_drop() {
    let folder = disk_folder();
    let path = folder.path().join("file");
    for (on_drop, kept) in [(ndarray_mmap::OnDrop::Evict, false), (ndarray_mmap::OnDrop::KeepCached, true)] {
        let mut array = ArrayOptions::new().shape(1 << 20).on_drop(on_drop).create::<u8, Ix1>(&path).unwrap();
        array.fill(5);
        close_path(&path).unwrap();
        let cached = crate::support::cached_pages(&path);
        assert!(cached.iter().all(|&cached| cached == kept), "{on_drop:?}");
        assert_eq!(crate::support::dirty_pages(&path, 0..1 << 20).unwrap_or(0), 0, "{on_drop:?}");
        assert!(fs::read(&path).unwrap().iter().all(|&x| x == 5));
    }
}

#[test]
fn an_array_larger_than_memory_is_closed_like_any_other() {
    let folder = disk_folder();
    let path = folder.path().join("huge");
    let len = 1 << 40;
    let options = ArrayOptions::new().shape(len).allocation(ndarray_mmap::Allocation::Sparse);
    let mut array = options.create::<u8, Ix1>(&path).unwrap();
    let mut view = array.view_mut();
    view[len / 2] = 3;
    assert_eq!(close_path(&path).unwrap(), 1);
    assert_eq!((view[len / 2], view[len - 1]), (3, 0));
    view[len - 1] = 9;
    drop(array);
    let again = options.open_rw::<u8, Ix1>(&path).unwrap();
    assert_eq!((again[len / 2], again[len - 1]), (3, 9));
}

/// If two threads close the same array, the second caller waits until the first has closed it. When `close` of the
/// owner returns, the lock of the array is released.
#[test]
fn a_second_close_waits_for_the_first() {
    let folder = disk_folder();
    let path = folder.path().join("array.npy");
    for owner_first in [false, true, false, true] {
        let mut array = MmapArray::<u8, Ix2>::create(&path, (20_000, 4096)).unwrap();
        array.fill(1);
        let gate = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let by_path = || {
                gate.wait();
                if owner_first {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                close_path(&path).unwrap();
            };
            scope.spawn(by_path);
            gate.wait();
            if !owner_first {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            array.close().unwrap();
            MmapArray::<u8, Ix2>::open_rw(&path).unwrap().close().unwrap();
        });
        assert_eq!(MmapArray::<u8, Ix2>::open(&path).unwrap()[[19_999, 4095]], 1);
    }
}

/// `close_path` can close an array while `open` still gives the kernel a hint about the array's pages.
#[test]
fn opening_succeeds_while_another_thread_closes_by_path() {
    let folder = disk_folder();
    let path = folder.path().join("array.raw");
    file(&path);
    std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            for _ in 0..2000 {
                let options = ArrayOptions::new().shape(10_000).access_pattern(AccessPattern::Random);
                options.open::<u8, Ix1>(&path).unwrap();
            }
        });
        while !opener.is_finished() {
            close_path(&path).unwrap();
        }
    });
}
