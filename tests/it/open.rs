//! Tests of opening existing files: the files that each constructor opens, and the files that it refuses.

use crate::support::{Tmpfs, disk_folder, names_in};
use ndarray::{Array, Dimension, Ix1, Ix2, Ix3, IxDyn, ShapeBuilder};
use ndarray_mmap::{AccessPattern, ArrayOptions, ErrorKind, Format, MmapArray, OnDrop, prepare_path};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn numbers(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 % 253) as u8).collect()
}

#[test]
fn raw_files_open_at_any_offset_in_any_order() {
    let folder = disk_folder();
    let path = folder.path().join("raw");
    let bytes = numbers(100_000);
    fs::write(&path, &bytes).unwrap();
    for offset in [0, 1, 7, 4095, 4096, 4097, 12_345, 65_536, 99_000, 100_000 - 60] {
        for fortran in [false, true] {
            let shape = (3, 4, 5).set_f(fortran);
            let expected = Array::from_shape_vec(shape, bytes[offset..offset + 60].to_vec()).unwrap();
            let options = ArrayOptions::new().shape(shape).offset_bytes(offset as u64);
            assert_eq!(options.open::<u8, Ix3>(&path).unwrap(), expected, "offset {offset}");
            assert_eq!(options.open_cow::<u8, Ix3>(&path).unwrap(), expected, "offset {offset}");
            assert_eq!(options.open_rw::<u8, Ix3>(&path).unwrap(), expected, "offset {offset}");
        }
    }
    assert_eq!(fs::read(&path).unwrap(), bytes, "opening does not change the file");
}

#[test]
fn writes_change_only_the_bytes_of_the_array() {
    let folder = disk_folder();
    let path = folder.path().join("raw");
    for offset in [0, 4, 4092, 4096, 8188, 20_000] {
        let mut bytes = numbers(60_000);
        fs::write(&path, &bytes).unwrap();
        let options = ArrayOptions::new().shape((100, 25)).offset_bytes(offset as u64);
        let mut array = options.open_rw::<u32, Ix2>(&path).unwrap();
        array.fill(u32::from_ne_bytes([1, 2, 3, 4]));
        array.evict_rows(20..30).unwrap();
        array.close().unwrap();
        bytes[offset..offset + 10_000].chunks_mut(4).for_each(|x| x.copy_from_slice(&[1, 2, 3, 4]));
        assert!(fs::read(&path).unwrap() == bytes, "offset {offset}");
    }
}

#[test]
fn private_writes_stay_in_this_process() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    MmapArray::<u16, Ix1>::create(&path, 5000).unwrap().fill(3);
    let mut private = MmapArray::<u16, Ix1>::open_cow(&path).unwrap();
    let reader = MmapArray::<u16, Ix1>::open(&path).unwrap();
    private.fill(9);
    reader.evict().unwrap();
    ndarray_mmap::evict_view(&private).unwrap();
    ndarray_mmap::flush_view(&private).unwrap();
    private.prefetch_rows(..).unwrap();
    private.advise(AccessPattern::Sequential).unwrap();
    assert!(private.iter().all(|&x| x == 9) && reader.iter().all(|&x| x == 3));
    private.close().unwrap();
    drop(reader);
    assert!(MmapArray::<u16, Ix1>::open(&path).unwrap().iter().all(|&x| x == 3));
}

#[test]
fn raw_files_may_be_longer_than_their_array_and_npy_files_may_not() {
    let folder = disk_folder();
    let (raw, npy) = (folder.path().join("a.raw"), folder.path().join("a.npy"));
    MmapArray::<f32, Ix2>::create(&npy, (10, 10)).unwrap().close().unwrap();
    let whole = fs::read(&npy).unwrap();
    let options = ArrayOptions::new().shape((10, 10));
    for (len, fits_raw, fits_npy) in
        [(528, true, true), (529, true, false), (5000, true, false), (527, false, false)]
    {
        let mut bytes = whole.clone();
        bytes.resize(len, 0);
        fs::write(&npy, &bytes).unwrap();
        fs::write(&raw, &bytes).unwrap();
        let at = options.clone().offset_bytes(128);
        let results = [
            at.open::<f32, Ix2>(&raw).err(),
            at.open_rw::<f32, Ix2>(&raw).err(),
            at.open_cow::<f32, Ix2>(&raw).err(),
        ];
        for error in results {
            assert_eq!(
                error.map(|error| error.kind()),
                (!fits_raw).then_some(ErrorKind::LengthMismatch),
                "{len}"
            );
        }
        let error = MmapArray::<f32, Ix2>::open_rw(&npy).err();
        assert_eq!(
            error.map(|error| error.kind()),
            (!fits_npy).then_some(ErrorKind::LengthMismatch),
            "{len}"
        );
        assert_eq!((fs::read(&raw).unwrap(), fs::read(&npy).unwrap()), (bytes.clone(), bytes), "unchanged");
    }
}

#[test]
fn sizes_near_the_integer_limits_are_refused_by_open() {
    let folder = disk_folder();
    let path = folder.path().join("raw");
    fs::write(&path, [0; 64]).unwrap();
    for n in [usize::MAX, usize::MAX / 2, usize::MAX / 8 + 1, (1 << 61) - 8, 1 << 40] {
        for offset in [0, 8, 1 << 62, i64::MAX as u64 - 7, u64::MAX - 7] {
            let options = ArrayOptions::new().shape((n, 1)).offset_bytes(offset);
            let error = options.open::<f64, Ix2>(&path).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::SizeOverflow | ErrorKind::LengthMismatch), "{error}");
        }
    }
    let empty = ArrayOptions::new().shape((0, 1 << 40)).offset_bytes(64);
    assert_eq!(empty.open::<f64, Ix2>(&path).unwrap().len(), 0);
    assert_eq!(empty.offset_bytes(65).open::<f64, Ix2>(&path).unwrap_err().kind(), ErrorKind::LengthMismatch);
}

#[test]
fn a_given_shape_must_agree_with_the_npy_header() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    MmapArray::<i16, Ix2>::create(&path, (4, 6).f()).unwrap().close().unwrap();
    let kind =
        |options: ArrayOptions| options.open::<i16, Ix2>(&path).map_err(|error| error.kind()).map(drop);
    assert_eq!(kind(ArrayOptions::new()), Ok(()));
    assert_eq!(kind(ArrayOptions::new().shape((4, 6))), Ok(()));
    assert_eq!(kind(ArrayOptions::new().shape((6, 4))), Err(ErrorKind::ShapeMismatch));
    assert_eq!(kind(ArrayOptions::new().shape((4, 6, 1))), Err(ErrorKind::ShapeMismatch));
    assert_eq!(kind(ArrayOptions::new().offset_bytes(128)), Err(ErrorKind::InvalidInput));
    assert_eq!(MmapArray::<i16, Ix3>::open(&path).unwrap_err().kind(), ErrorKind::ShapeMismatch);
    assert_eq!(MmapArray::<u16, Ix2>::open(&path).unwrap_err().kind(), ErrorKind::DtypeMismatch);
    let dynamic = MmapArray::<i16, IxDyn>::open(&path).unwrap();
    assert_eq!((dynamic.shape(), dynamic.strides()), (&[4, 6][..], &[1, 4][..]));
    let raw = ArrayOptions::new().format(Format::Raw).offset_bytes(128).shape((6, 4));
    assert_eq!(raw.open::<i16, Ix2>(&path).unwrap().strides(), [4, 1]);
}

#[test]
fn every_constructor_accepts_access_pattern_and_on_drop() {
    fn check<D: Dimension>(path: &Path, options: &ArrayOptions) {
        options.create::<u8, D>(path).unwrap().close().unwrap();
        options.open::<u8, D>(path).unwrap().close().unwrap();
        options.open_rw::<u8, D>(path).unwrap().close().unwrap();
        options.open_cow::<u8, D>(path).unwrap().close().unwrap();
        options.scratch::<u8, D>().unwrap().close().unwrap();
    }
    let folder = disk_folder();
    for pattern in [AccessPattern::Normal, AccessPattern::Sequential, AccessPattern::Random] {
        for on_drop in [OnDrop::Evict, OnDrop::KeepCached] {
            let options = ArrayOptions::new().access_pattern(pattern).on_drop(on_drop);
            check::<Ix2>(&folder.path().join("a.npy"), &options.clone().shape((300, 30)));
            check::<Ix2>(&folder.path().join("a.npy"), &options.clone().shape((0, 30)));
            check::<Ix1>(&folder.path().join("a.raw"), &options.shape(1).offset_bytes(77_777));
        }
    }
}

#[test]
fn only_close_existing_closes_open_arrays() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    MmapArray::<u8, Ix1>::create(&path, 10).unwrap().close().unwrap();
    let old = MmapArray::<u8, Ix1>::open_rw(&path).unwrap();
    assert_eq!(MmapArray::<u8, Ix1>::open(&path).unwrap_err().kind(), ErrorKind::InUse);
    // A closed array keeps its lock until its owner is dropped.
    let closing = ArrayOptions::new().close_existing(true);
    let error = closing.open_rw::<u8, Ix1>(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(old.is_closed() && error.to_string().contains("closed by its path"), "{error}");
    drop(old);
    let new = closing.open::<u8, Ix1>(&path).unwrap();
    let newest = closing.open::<u8, Ix1>(&path).unwrap();
    assert!(new.is_closed() && !newest.is_closed(), "two readers do not conflict");
    let kept = MmapArray::<u8, Ix1>::open(&path).unwrap();
    assert!(!newest.is_closed() && !kept.is_closed());
}

#[test]
fn every_spelling_of_a_path_opens_the_same_file() {
    let folder = disk_folder();
    let root = fs::canonicalize(folder.path()).unwrap();
    fs::create_dir_all(root.join("real/deep")).unwrap();
    symlink("real", root.join("link")).unwrap();
    symlink("real/deep/a.npy", root.join("file.npy")).unwrap();
    MmapArray::<u8, Ix1>::create(root.join("real/deep/a.npy"), 3).unwrap().close().unwrap();
    for spelling in [
        "real/deep/a.npy",
        "link/deep/a.npy",
        "./real//deep/./a.npy",
        "link/../real/deep/../deep/a.npy",
        "file.npy",
    ] {
        let array = MmapArray::<u8, Ix1>::open(root.join(spelling)).unwrap();
        assert_eq!(array.path(), root.join("real/deep/a.npy"), "{spelling}");
        assert_eq!(prepare_path(root.join(spelling), false).unwrap(), array.path());
    }
    let relative = prepare_path("some/../file.npy", false).unwrap();
    assert_eq!(relative, std::env::current_dir().unwrap().join("file.npy"));
}

#[test]
fn prepare_path_creates_only_parents_and_only_on_request() {
    let folder = disk_folder();
    let path = folder.path().join("a/b/c.npy");
    prepare_path(&path, false).unwrap();
    assert_eq!(names_in(folder.path()), [""; 0]);
    prepare_path(&path, true).unwrap();
    prepare_path(&path, true).unwrap();
    assert_eq!(names_in(&folder.path().join("a/b")), [""; 0]);
    fs::write(folder.path().join("file"), "").unwrap();
    for create_parents in [false, true] {
        assert_eq!(prepare_path("", create_parents).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let error = prepare_path(folder.path().join("file/below/c.npy"), true).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotAFile | ErrorKind::AlreadyExists), "{error}");
}

#[test]
fn files_on_a_read_only_file_system_can_be_read() {
    let Some(disk) = Tmpfs::mount("size=1m") else { return };
    let path = disk.path().join("a.npy");
    MmapArray::<u8, Ix1>::create(&path, 300).unwrap().fill(1);
    let remounted = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status();
    assert!(remounted.unwrap().success());
    let mut private = MmapArray::<u8, Ix1>::open_cow(&path).unwrap();
    private[0] = 9;
    let reader = MmapArray::<u8, Ix1>::open(&path).unwrap();
    reader.evict().unwrap();
    assert_eq!((reader[0], private[0]), (1, 9));
    drop((reader, private));
    assert_eq!(MmapArray::<u8, Ix1>::open_rw(&path).unwrap_err().kind(), ErrorKind::PermissionDenied);
    let error = MmapArray::<u8, Ix1>::create(&path, 300).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}
