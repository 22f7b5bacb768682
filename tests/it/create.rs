//! Tests of new files: their initial content, the files that they replace, and the state after a failure.

use crate::support::{Tmpfs, disk_folder, is_alone, names_in};
use ndarray::{Axis, Dimension, Ix0, Ix1, Ix2, Ix3, IxDyn, ShapeBuilder};
use ndarray_mmap::{Allocation, ArrayOptions, ErrorKind, Format, MmapArray};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Returns the disk space that the file takes, in bytes.
fn allocated_bytes(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}

fn page_bytes() -> usize {
    // SAFETY: `sysconf` has no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
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
    assert!(!is_npy("npy", ArrayOptions::new()) && !is_npy("a.npyx", ArrayOptions::new()));
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
        let (rows, columns) = (3 << 20, 513); // just over 6 GiB of f32
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
fn impossible_sizes_are_refused_before_a_file_is_created() {
    let folder = disk_folder();
    let path = folder.path().join("missing/a");
    let huge = [usize::MAX, usize::MAX - 1, 1 << 63, (1 << 63) - 1, 1 << 62, 1 << 61];
    for format in [Format::Raw, Format::Npy] {
        let options = ArrayOptions::new().format(format).allocation(Allocation::Sparse);
        for n in huge {
            for shape in [vec![n, 8], vec![8, n], vec![n, n], vec![n, n, n, 0], vec![0, n, 8], vec![n / 4, 5]]
            {
                for shape in [IxDyn(&shape).set_f(false), IxDyn(&shape).set_f(true)] {
                    let error = options.clone().shape(shape).create::<f64, IxDyn>(&path).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::SizeOverflow, "{error}");
                }
            }
        }
        if format == Format::Raw {
            for offset in [u64::MAX, u64::MAX - 7, 1 << 63, (1 << 63) - 8] {
                let error =
                    options.clone().offset_bytes(offset).shape(8).create::<f64, Ix1>(&path).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::SizeOverflow, "{error}");
            }
        }
        // The size of the array fits in 64 bits, but no file system can hold a file of this size.
        let error = options.clone().shape((1 << 62) - 4096).create::<u8, Ix1>(&path).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::SizeOverflow | ErrorKind::StorageFull), "{error}");
        let reserved = options.allocation(Allocation::Reserve).shape((1 << 62) - 4096);
        let error = reserved.create::<u8, Ix1>(&path).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::SizeOverflow | ErrorKind::StorageFull), "{error}");
    }
    assert_eq!(names_in(path.parent().unwrap()), [""; 0], "nothing is left behind");
}

#[test]
fn an_open_array_keeps_its_bytes_when_its_file_is_replaced() {
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

    // By default, `create` closes the arrays on the old file. A live borrow of a closed array can still be read.
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
fn a_failed_create_leaves_the_old_file_and_its_arrays_unchanged() {
    let folder = disk_folder();
    let path = folder.path().join("a");
    let mut old = MmapArray::<u64, Ix1>::create(&path, 4).unwrap();
    old.fill(6);
    let failed = |why: &str, options: ArrayOptions| {
        assert!(options.create::<u64, Ix1>(&path).is_err(), "{why}");
        assert_eq!(names_in(folder.path()), ["a"], "{why}");
        assert!(!old.is_closed(), "{why}: a call with invalid arguments must not close an array");
    };
    let shape = |shape| ArrayOptions::new().shape(shape);
    failed("no shape", ArrayOptions::new());
    failed("dimensions", ArrayOptions::new().shape((2, 2)));
    failed("size", shape(usize::MAX));
    failed("NPY offset", shape(2).format(Format::Npy).offset_bytes(64));
    failed("alignment", shape(2).offset_bytes(4));
    assert!(shape(2).format(Format::Npy).create::<[u64; 2], Ix1>(&path).is_err() && !old.is_closed());
    assert_eq!(old.sum(), 24);
}

#[test]
fn a_full_disk_is_an_error_of_create() {
    let Some(disk) = Tmpfs::mount("size=16m") else { return };
    let path = disk.path().join("a.npy");
    let mut old = MmapArray::<u8, Ix1>::create(&path, 1 << 20).unwrap();
    old.fill(1);
    for name in ["a.npy", "b.npy", "deep/c.npy", "d.raw"] {
        let error = MmapArray::<u8, Ix1>::create(disk.path().join(name), 64 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        let words = error.to_string();
        for word in ["create \"", name, "bytes of disk space", "Allocation::Sparse"] {
            assert!(words.contains(word), "{word:?} is not in {words}");
        }
    }
    let error = ArrayOptions::new().scratch_directory(disk.path()).shape(64 << 20).scratch::<u8, Ix1>();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::StorageFull);
    drop(old);
    assert_eq!(names_in(disk.path()), ["a.npy", "deep"]);
    assert!(MmapArray::<u8, Ix1>::open(&path).unwrap().iter().all(|&x| x == 1), "the old file is unchanged");
    // A sparse file of 64 MiB takes no disk space, so `create` succeeds.
    let sparse = ArrayOptions::new().allocation(Allocation::Sparse).shape(64 << 20);
    assert_eq!(sparse.create::<u8, Ix1>(disk.path().join("sparse")).unwrap()[60 << 20], 0);
}

#[test]
fn the_umask_decides_who_may_read_a_new_file() {
    if !is_alone("create::the_umask_decides_who_may_read_a_new_file") {
        return;
    }
    let folder = disk_folder();
    let mode_of = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for (umask, mode) in [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)] {
        // SAFETY: `umask` has no preconditions. It changes the umask of this process, and no other test runs in this
        // process.
        unsafe { libc::umask(umask) };
        let path = folder.path().join("a.npy");
        let _ = std::fs::remove_file(&path);
        drop(MmapArray::<u8, Ix1>::create(&path, 1).unwrap());
        assert_eq!(mode_of(&path), mode);
    }
}

/// The kernel sends SIGXFSZ when a file grows above the limit. The default action of SIGXFSZ ends the process, but the
/// crate must return an error.
#[test]
fn a_file_above_the_size_limit_is_an_error() {
    let status = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 2048; exec \"$0\" --exact create::under_a_size_limit --ignored"])
        .arg(std::env::current_exe().unwrap())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "runs in the child of `a_file_above_the_size_limit_is_an_error`"]
fn under_a_size_limit() {
    let folder = disk_folder();
    let path = folder.path().join("array.bin");
    for allocation in [Allocation::Reserve, Allocation::Sparse] {
        let options = ArrayOptions::new().allocation(allocation);
        options.clone().shape(1 << 10).create::<u8, Ix1>(&path).unwrap();
        let error = options.shape(1 << 30).create::<u8, Ix1>(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SizeOverflow, "{error}");
    }
}

/// If the disk lacks space for the new file, the array on the old file stays open.
#[test]
fn a_failed_create_closes_no_array() {
    let Some(disk) = Tmpfs::mount("size=4m") else { return };
    let path = disk.path().join("a.npy");
    let old = MmapArray::<u8, Ix1>::create(&path, 10).unwrap();
    assert_eq!(MmapArray::<u8, Ix1>::create(&path, 64 << 20).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(!old.is_closed());
}

/// The kernel aligns a mapping to the page size only, so the crate cannot provide a larger alignment.
#[test]
fn elements_aligned_to_more_than_a_page_are_refused() {
    #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C, align(8192))]
    struct Wide([[u8; 4096]; 2]);
    #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C, align(4096))]
    struct Page([u8; 4096]);

    let folder = disk_folder();
    let path = folder.path().join("wide.bin");
    std::fs::write(&path, vec![7; 8192 * 4]).unwrap();
    let options = ArrayOptions::new().shape(3);
    for _ in 0..4 {
        // The test repeats the calls, because the address of a mapping can be a multiple of 8192 by chance.
        for result in [
            options.create::<Wide, Ix1>(folder.path().join("new.bin")).map(drop),
            options.scratch::<Wide, Ix1>().map(drop),
            options.open::<Wide, Ix1>(&path).map(drop),
            options.open_rw::<Wide, Ix1>(&path).map(drop),
            options.open_cow::<Wide, Ix1>(&path).map(drop),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unaligned);
            assert!(error.to_string().contains("Wide, aligned to 8192 bytes"), "{error}");
        }
    }
    assert_eq!(names_in(folder.path()), ["wide.bin"]);
    assert_eq!(ArrayOptions::new().shape(0).open::<Wide, Ix1>(&path).unwrap().len(), 0);
    if page_bytes() == 4096 {
        assert_eq!(options.open::<Page, Ix1>(&path).unwrap()[2].0, [7; 4096]);
        let error = options.offset_bytes(512).open::<Page, Ix1>(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unaligned, "{error}");
    }
}

#[test]
fn arrays_of_zero_sized_elements_have_empty_files() {
    fn check<T: bytemuck::Pod + PartialEq + std::fmt::Debug>(path: &Path, zero: T) {
        for shape in [(5, 3), (1 << 40, 1), (0, 3), (1, 1)] {
            let options = ArrayOptions::new().shape(shape);
            let mut array = options.create::<T, Ix2>(path).unwrap();
            assert_eq!((array.dim(), array.get((0, 0)).copied()), (shape, (shape.0 > 0).then_some(zero)));
            if shape.0 < 100 {
                array.fill(zero);
            }
            array.flush_rows(1..).unwrap();
            array.evict_rows(..2).unwrap();
            array.prefetch_rows(..).unwrap();
            assert_eq!(array.residency().unwrap().total_bytes, 0);
            array.into_read_only().unwrap().close().unwrap();
            assert_eq!(path.metadata().unwrap().len(), 0);
            assert_eq!(options.open::<T, Ix2>(path).unwrap().dim(), shape);
            assert_eq!(options.open_rw::<T, Ix2>(path).unwrap().dim(), shape);
            assert_eq!(options.open_cow::<T, Ix2>(path).unwrap().dim(), shape);
            assert_eq!(options.scratch::<T, Ix2>().unwrap().dim(), shape);
        }
        let error = ArrayOptions::new().format(Format::Npy).shape(3).create::<T, Ix1>(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DtypeMismatch, "{error}");
    }
    let folder = disk_folder();
    check(&folder.path().join("nothing.bin"), ());
    check::<[u64; 0]>(&folder.path().join("none.bin"), []);
}

#[test]
fn write_to_and_create_close_the_same_arrays() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let values = ndarray::Array1::<u32>::from_elem(1000, 3);
    let write = || ndarray_mmap::stream::Stream::from(&values).write_to(&path).map(drop);
    let create = || MmapArray::<u32, Ix1>::create(&path, 7).map(drop);
    for replace in [&write as &(dyn Fn() -> ndarray_mmap::Result<()> + Sync), &create] {
        MmapArray::<u32, Ix1>::create(&path, 5).unwrap().fill(1);
        let link = folder.path().join("link.npy");
        std::fs::hard_link(&path, &link).unwrap();
        let reader = MmapArray::<u32, Ix1>::open(&path).unwrap();
        let linked = MmapArray::<u32, Ix1>::open(&link).unwrap();
        let other = MmapArray::<u32, Ix1>::create(folder.path().join("other.npy"), 5).unwrap();
        std::thread::scope(|scope| {
            let view = reader.view();
            scope.spawn(replace).join().unwrap().unwrap();
            assert_eq!(view.sum(), 5, "a borrow keeps the old bytes");
        });
        assert_eq!(reader.try_view().unwrap_err().kind(), ErrorKind::Closed);
        assert!(linked.is_closed() && !other.is_closed());
        std::fs::remove_file(link).unwrap();
    }
}
