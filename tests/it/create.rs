//! New files: what they hold, what they replace, and where they go.

use crate::support::{disk_folder, is_alone, names_in};
use ndarray::{Axis, Dimension, Ix0, Ix1, Ix2, Ix3, IxDyn, ShapeBuilder};
use ndarray_mmap::{Allocation, ArrayOptions, ErrorKind, Format, MmapArray};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// Disk space that the file takes, in bytes.
fn allocated_bytes(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}

#[test]
fn new_arrays_read_as_zeros_in_every_form() {
    fn check<D: Dimension>(path: &Path, options: &ArrayOptions, len: usize) {
        let array = options.create::<f64, D>(path).unwrap();
        assert_eq!((array.len(), array.iter().all(|&x| x == 0.0)), (len, true), "{options:?}");
        assert!(array.locking() != ndarray_mmap::Locking::Process);
    }
    let folder = disk_folder();
    for name in ["a.npy", "a.raw"] {
        let path = folder.path().join(name);
        for allocation in [Allocation::Reserve, Allocation::Sparse] {
            let options = ArrayOptions::new().allocation(allocation);
            check::<Ix0>(&path, &options.clone().shape(()), 1);
            check::<Ix1>(&path, &options.clone().shape(0), 0);
            check::<Ix1>(&path, &options.clone().shape(1), 1);
            check::<Ix2>(&path, &options.clone().shape((513, 7)), 3591);
            check::<Ix2>(&path, &options.clone().shape((513, 7).f()), 3591);
            check::<Ix3>(&path, &options.clone().shape((5, 0, 9)), 0);
            check::<Ix3>(&path, &options.clone().shape((5, 0, 9).f()), 0);
            check::<IxDyn>(&path, &options.clone().shape(IxDyn(&[2, 1, 2, 3, 1, 2])), 24);
        }
    }
    check::<Ix1>(&folder.path().join("b"), &ArrayOptions::new().offset_bytes(123_456).shape(9), 9);
    assert_eq!(folder.path().join("b").metadata().unwrap().len(), 123_456 + 72);
}

#[test]
fn names_choose_the_format_unless_it_is_given() {
    let folder = disk_folder();
    let is_npy = |name: &str, options: ArrayOptions| {
        let path = folder.path().join(name);
        options.shape(2).create::<u8, Ix1>(&path).unwrap().close().unwrap();
        std::fs::read(&path).unwrap().starts_with(b"\x93NUMPY")
    };
    assert!(is_npy("a.npy", ArrayOptions::new()) && is_npy("a.b.NPY", ArrayOptions::new()));
    assert!(is_npy("a.dat", ArrayOptions::new().format(Format::Npy)));
    assert!(!is_npy("npy", ArrayOptions::new()) && !is_npy("a.npy.raw", ArrayOptions::new()));
    assert!(!is_npy("b.npy", ArrayOptions::new().format(Format::Raw)));
}

#[test]
fn arrays_without_elements_are_arrays_like_any_other() {
    let folder = disk_folder();
    for (name, header_bytes) in [("a.npy", 128), ("a.raw", 0)] {
        let path = folder.path().join(name);
        let mut array = MmapArray::<f32, Ix2>::create(&path, (4, 0)).unwrap();
        array.fill(1.0);
        array.flush_rows(1..).unwrap();
        array.evict_rows(..2).unwrap();
        array.evict().unwrap();
        array.prefetch_rows(..).unwrap();
        array.advise(ndarray_mmap::AccessPattern::Random).unwrap();
        let residency = array.residency().unwrap();
        assert_eq!((residency.resident_bytes, residency.total_bytes), (0, 0));
        assert_eq!((array.sum_axis(Axis(1)).len(), array.nrows(), array.path()), (4, 4, path.as_path()));
        assert!(ndarray_mmap::open_arrays().iter().any(|open| open.path == path));
        let finished = array.into_read_only().unwrap();
        assert_eq!(finished.outer_iter().count(), 4);
        finished.close().unwrap();
        assert_eq!(path.metadata().unwrap().len(), header_bytes);

        let options = ArrayOptions::new().shape((4, 0));
        assert_eq!(options.open::<f32, Ix2>(&path).unwrap().shape(), [4, 0]);
        options.open_cow::<f32, Ix2>(&path).unwrap().fill(1.0);
        let open = options.open_rw::<f32, Ix2>(&path).unwrap();
        assert_eq!((ndarray_mmap::close_path(&path).unwrap(), open.is_closed()), (1, true));
    }
    let mut zero = MmapArray::<i64, Ix0>::scratch(()).unwrap();
    zero[()] = -3;
    zero.evict().unwrap();
    assert_eq!((zero[()], zero.sum(), zero.residency_rows(1..).unwrap().total_bytes), (-3, -3, 0));
    zero.prefetch_rows(..1).unwrap();
    assert_eq!(zero.residency().unwrap().total_bytes, 8);
}

#[test]
fn reserved_files_have_their_space_and_sparse_ones_take_it_as_they_are_written() {
    let folder = disk_folder();
    let (path, len) = (folder.path().join("a"), 8 << 20);
    drop(MmapArray::<u8, Ix1>::create(&path, len).unwrap());
    assert!(allocated_bytes(&path) >= len as u64);
    let sparse = ArrayOptions::new().allocation(Allocation::Sparse).shape(len);
    let mut array = sparse.create::<u8, Ix1>(&path).unwrap();
    assert!(allocated_bytes(&path) < 1 << 20);
    array[5 << 20] = 1;
    array.flush().unwrap();
    assert!((4096..1 << 20).contains(&allocated_bytes(&path)));
}

#[test]
fn sparse_arrays_of_more_than_four_gibibytes_are_addressed_to_the_last_element() {
    let folder = disk_folder();
    for (name, offset_bytes) in [("a.npy", 0), ("a.raw", 12)] {
        let path = folder.path().join(name);
        let (rows, columns) = (3 << 20, 513); // 6 GiB of f32, and a bit
        let options = ArrayOptions::new().shape((rows, columns)).allocation(Allocation::Sparse);
        let options = options.offset_bytes(offset_bytes);
        let mut array = options.create::<f32, Ix2>(&path).unwrap();
        for row in [0, rows / 2, rows - 1] {
            array.row_mut(row).fill(row as f32);
        }
        array.evict_rows(rows / 2..).unwrap();
        array.flush_rows(rows - 1..).unwrap();
        assert_eq!(array.residency_rows(rows / 2..).unwrap().resident_bytes, 0);
        assert_eq!(array.residency().unwrap().total_bytes, rows * columns * 4);
        array.close().unwrap();
        let array = options.open::<f32, Ix2>(&path).unwrap();
        for row in [0, rows / 2, rows - 1] {
            assert!(array.row(row).iter().all(|&x| x == row as f32), "{name}, row {row}");
        }
        assert_eq!((array[[1, 0]], array[[rows - 2, columns - 1]]), (0.0, 0.0));
    }
}

#[test]
fn create_new_refuses_what_exists_and_leaves_it_alone() {
    let folder = disk_folder();
    let path = folder.path().join("deep/er/a.npy");
    let mut array = MmapArray::<u8, Ix1>::create_new(&path, 3).unwrap();
    array.fill(3);
    let error = MmapArray::<u8, Ix1>::create_new(&path, 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(!array.is_closed(), "create_new closes nothing by default");
    drop(array);
    assert_eq!(MmapArray::<u8, Ix1>::open(&path).unwrap().sum(), 9);
    assert_eq!(names_in(path.parent().unwrap()), ["a.npy"]);
}

#[test]
fn creating_over_a_live_array_leaves_it_its_bytes() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let mut old = MmapArray::<u32, Ix1>::create(&path, 5000).unwrap();
    old.fill(1);
    let keep = ArrayOptions::new().close_existing(false).shape(9);
    let mut new = keep.create::<u32, Ix1>(&path).unwrap();
    new.fill(2);
    new.flush().unwrap();
    old[0] = 7;
    old.evict().unwrap();
    assert_eq!((old.len(), old.sum(), new.sum()), (5000, 5006, 18));

    // By default the arrays on the old file are closed, and their owners are told; a borrow reads on.
    std::thread::scope(|scope| {
        let view = new.view();
        scope.spawn(|| MmapArray::<u32, Ix1>::create(&path, 1).unwrap().fill(3)).join().unwrap();
        assert_eq!(view.sum(), 18);
    });
    assert_eq!(new.try_view().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(old.try_view().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(MmapArray::<u32, Ix1>::open(&path).unwrap().sum(), 3);
}

#[test]
fn missing_parents_are_made_by_create_and_by_nothing_else() {
    let folder = disk_folder();
    let path = folder.path().join("a/b/../b/c/./x.npy");
    for result in [
        MmapArray::<u8, Ix1>::open(&path).map(drop),
        MmapArray::<u8, Ix1>::open_rw(&path).map(drop),
        MmapArray::<u8, Ix1>::open_cow(&path).map(drop),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(names_in(folder.path()), [""; 0]);
    let array = MmapArray::<u8, Ix1>::create(&path, 1).unwrap();
    assert_eq!(array.path(), std::fs::canonicalize(folder.path()).unwrap().join("a/b/c/x.npy"));
    assert_eq!(names_in(folder.path()), ["a"]);
}

#[test]
fn links_are_followed_and_stay() {
    let folder = disk_folder();
    std::fs::create_dir(folder.path().join("real")).unwrap();
    let real = std::fs::canonicalize(folder.path().join("real")).unwrap();
    symlink("real", folder.path().join("link")).unwrap();
    symlink("../real/later.npy", real.join("dangling.npy")).unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    let array = MmapArray::<u8, Ix1>::create(folder.path().join("link/a.npy"), 4).unwrap();
    assert_eq!(array.path(), real.join("a.npy"));
    let array = MmapArray::<u8, Ix1>::create(real.join("dangling.npy"), 4).unwrap();
    assert_eq!(array.path(), real.join("later.npy"));
    assert!(real.join("dangling.npy").is_symlink());
    drop(array);
    // Replacing through a link replaces what it leads to.
    let mut array = MmapArray::<u8, Ix1>::create(real.join("dangling.npy"), 5).unwrap();
    array.fill(1);
    drop(array);
    assert_eq!(MmapArray::<u8, Ix1>::open(real.join("later.npy")).unwrap().sum(), 5);
    let error = MmapArray::<u8, Ix1>::create(folder.path().join("loop"), 4).unwrap_err();
    assert_eq!(error.path(), Some(folder.path().join("loop").as_path()), "{error}");
    assert_eq!(names_in(&real), ["a.npy", "dangling.npy", "later.npy"]);
}

#[test]
fn the_umask_decides_who_may_read_a_new_file() {
    if !is_alone("create::the_umask_decides_who_may_read_a_new_file") {
        return;
    }
    let folder = disk_folder();
    let mode_of = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for (umask, mode) in [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)] {
        // SAFETY: the call changes one number of this process, in which no other test runs.
        unsafe { libc::umask(umask) };
        let path = folder.path().join("a.npy");
        let _ = std::fs::remove_file(&path);
        drop(MmapArray::<u8, Ix1>::create(&path, 1).unwrap());
        assert_eq!(mode_of(&path), mode);
    }
}

#[test]
fn scratch_arrays_have_no_name() {
    let folder = disk_folder();
    let options = ArrayOptions::new().scratch_directory(folder.path());
    let mut scratch = options.clone().shape((1000, 1000)).scratch::<f32, Ix2>().unwrap();
    assert_eq!(names_in(folder.path()), [""; 0]);
    scratch.fill(1.0);
    scratch.flush().unwrap();
    scratch.evict_rows(..).unwrap();
    assert_eq!((scratch.residency().unwrap().resident_bytes, scratch.sum()), (0, 1e6));
    let mut other = options.clone().shape(3).scratch::<u8, Ix1>().unwrap();
    other.fill(1);
    assert!(scratch.path().starts_with(std::fs::canonicalize(folder.path()).unwrap()));
    drop(scratch);
    assert_eq!(other.sum(), 3);
    let error = options.scratch_directory(folder.path().join("missing")).shape(3).scratch::<u8, Ix1>();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(names_in(folder.path()), [""; 0]);
}
