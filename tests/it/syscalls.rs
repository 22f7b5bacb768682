//! Tests of system calls that the kernel lacks, and of disks that fail. Each test runs in a process of its own, where a
//! seccomp filter makes system calls fail.

use crate::refuse::{Refusal, refusal, refuse};
use crate::seccomp::When;
use crate::support::{cached_pages, disk_folder, is_alone, names_in};
use ndarray::{Ix1, Ix2, ShapeBuilder};
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, Locking, MmapArray, OnDrop};
use std::error::Error as _;

pub fn no_locks(errno: libc::c_int) -> Refusal {
    Refusal { call: libc::SYS_fcntl, when: When::Equal(1, libc::F_OFD_SETLK), errno }
}

#[test]
fn without_kernel_locks_the_process_still_enforces_its_own() {
    if !is_alone("syscalls::without_kernel_locks_the_process_still_enforces_its_own") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    if !refuse(&[no_locks(libc::ENOLCK)]) {
        return;
    }
    let mut writer = MmapArray::<u8, Ix1>::create(&path, 100).unwrap();
    writer.fill(1);
    assert_eq!(writer.locking(), Locking::Process);
    let error = MmapArray::<u8, Ix1>::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.to_string().contains("a read-write array of this process on bytes 128..228"), "{error}");
    let reader = writer.into_read_only().unwrap();
    let another = MmapArray::<u8, Ix1>::open(&path).unwrap();
    assert_eq!((reader.locking(), another.locking()), (Locking::Process, Locking::Process));
    assert_eq!(MmapArray::<u8, Ix1>::open_rw(&path).unwrap_err().kind(), ErrorKind::InUse);
    drop((reader, another));

    let required = ArrayOptions::new().require_lock(true);
    let error = required.open::<u8, Ix1>(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable);
    for words in
        ["open \"", "a.npy", "a filesystem with byte-range locks", "one without them", "require_lock"]
    {
        assert!(error.to_string().contains(words), "{words:?} is not in {error}");
    }
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::Unsupported);
    let error = required.shape(100).create::<u8, Ix1>(folder.path().join("b.npy")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable);
    assert_eq!(names_in(folder.path()), ["a.npy"]);
    assert_eq!(MmapArray::<u8, Ix1>::open_rw(&path).unwrap().sum(), 100, "the failed calls hold no lock");
}

#[test]
fn another_error_of_the_lock_call_is_returned() {
    if !is_alone("syscalls::another_error_of_the_lock_call_is_returned") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a");
    std::fs::write(&path, [1; 100]).unwrap();
    if !refuse(&[no_locks(libc::EDEADLK)]) {
        return;
    }
    let error = ArrayOptions::new().shape(100).open::<u8, Ix1>(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error.to_string().contains("to lock the bytes of the array") && error.source().is_some(),
        "{error}"
    );
}

#[test]
fn arrays_work_on_an_older_kernel() {
    if !is_alone("syscalls::arrays_work_on_an_older_kernel") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let advice =
        |advice| Refusal { call: libc::SYS_madvise, when: When::Equal(2, advice), errno: libc::EINVAL };
    let lacking = [
        refusal(451, libc::ENOSYS), // cachestat, which Linux 6.5 added
        advice(libc::MADV_POPULATE_READ),
        advice(libc::MADV_PAGEOUT),
        refusal(libc::SYS_renameat2, libc::EINVAL),
        refusal(libc::SYS_fallocate, libc::EOPNOTSUPP),
        no_locks(libc::EINVAL),
    ];
    if !refuse(&lacking) {
        return;
    }
    for shape in [(3000, 1000).into_shape_with_order(), (3000, 1000).f()] {
        let _ = std::fs::remove_file(&path);
        let options = ArrayOptions::new().shape(shape).on_drop(OnDrop::KeepCached);
        let mut array = options.create_new::<u16, Ix2>(&path).unwrap();
        assert_eq!(options.create_new::<u16, Ix2>(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        array.iter_mut().enumerate().for_each(|(index, x)| *x = index as u16);
        assert_eq!(array.residency().unwrap().resident_bytes, 6_000_000);
        array.evict_rows(1000..2000).unwrap();
        array.evict().unwrap();
        assert_eq!(array.residency().unwrap().resident_bytes, 0);
        assert!(!cached_pages(&path).contains(&true));
        assert!(array.iter().enumerate().all(|(index, &x)| x == index as u16));
        array.prefetch_rows(..10).unwrap();
        array.close().unwrap();
        let private = MmapArray::<u16, Ix2>::open_cow(&path).unwrap();
        let reader = MmapArray::<u16, Ix2>::open(&path).unwrap();
        assert_eq!(private, reader);
        reader.evict().unwrap();
        assert_eq!(private, reader);
    }
    let blocks = std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap());
    assert!(blocks * 512 >= 6_000_000, "without fallocate, writing zeros reserves the space");
    assert_eq!(names_in(folder.path()), ["a.npy"]);
}

#[test]
fn after_a_failed_flush_every_later_flush_fails() {
    if !is_alone("syscalls::after_a_failed_flush_every_later_flush_fails") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a");
    let open = |offset| {
        ArrayOptions::new()
            .format(Format::Raw)
            .offset_bytes(offset)
            .shape(100)
            .open_rw::<u8, Ix1>(&path)
            .unwrap()
    };
    std::fs::write(&path, [1; 1000]).unwrap();
    let mut arrays: Vec<_> = (0..6).map(|index| open(index * 100)).collect();
    if !refuse(&[refusal(libc::SYS_msync, libc::EIO)]) {
        return;
    }
    arrays[0].fill(2);
    let error = arrays[0].flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error.to_string().contains("flush \"") && error.to_string().contains("bytes to reach the disk"),
        "{error}"
    );
    assert_eq!(error.source().unwrap().to_string(), "Input/output error (os error 5)");
    for result in [arrays[0].flush_rows(3..4), arrays[0].evict(), ndarray_mmap::flush_view(&arrays[0])] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        assert!(error.to_string().contains("an earlier flush that failed; open the file again"), "{error}");
    }
    assert_eq!((arrays[0][0], arrays[0].is_closed()), (2, false), "the array can still be read");
    let mut ends = arrays.drain(..);
    // `close` can return the error of a failed flush, and `drop` cannot.
    assert_eq!(ends.next().unwrap().close().unwrap_err().kind(), ErrorKind::Poisoned);
    let error = ends.next().unwrap().close().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with("close \""), "{error}");
    drop(ends.next());
    assert_eq!(ends.next().unwrap().into_read_only().unwrap_err().kind(), ErrorKind::Io);
    let error = ndarray_mmap::close_path(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with("close_path \""), "{error}");
    assert!(ends.all(|array| array.is_closed()), "all arrays are closed despite the error");
    assert_eq!(ndarray_mmap::open_arrays(), []);
    open(0); // the locks of the closed arrays are released
}

#[test]
fn a_failed_sync_leaves_no_new_file() {
    if !is_alone("syscalls::a_failed_sync_leaves_no_new_file") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    MmapArray::<u8, Ix1>::create(&path, 3).unwrap().fill(1);
    if !refuse(&[refusal(libc::SYS_fsync, libc::EIO)]) {
        return;
    }
    let error = MmapArray::<u8, Ix1>::create(&path, 5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("to write the new file to disk"), "{error}");
    assert_eq!(names_in(folder.path()), ["a.npy"]);
    assert_eq!(MmapArray::<u8, Ix1>::open(&path).unwrap().to_vec(), [1, 1, 1]);
}

#[test]
fn a_failed_rename_leaves_no_new_file() {
    if !is_alone("syscalls::a_failed_rename_leaves_no_new_file") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    MmapArray::<u8, Ix1>::create(&path, 3).unwrap().fill(1);
    #[cfg(target_arch = "x86_64")]
    let rename = libc::SYS_rename;
    #[cfg(not(target_arch = "x86_64"))]
    let rename = libc::SYS_renameat;
    let renames = [rename, libc::SYS_renameat, libc::SYS_renameat2];
    // Without `linkat`, the new file has a temporary name from the start.
    for calls in [&renames[..], &[libc::SYS_linkat]] {
        let refusals: Vec<_> = calls.iter().map(|&call| refusal(call, libc::EACCES)).collect();
        if !refuse(&refusals) {
            return;
        }
        let error = MmapArray::<u8, Ix1>::create(&path, 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("to give the new file its name"), "{error}");
        assert_eq!(names_in(folder.path()), ["a.npy"]);
    }
    assert!(MmapArray::<u8, Ix1>::create_new(folder.path().join("b.npy"), 5).is_err());
    assert_eq!(names_in(folder.path()), ["a.npy"]);
    assert_eq!(ndarray_mmap::open_arrays(), []);
    assert_eq!(MmapArray::<u8, Ix1>::open(&path).unwrap().to_vec(), [1, 1, 1]);
}
