//! What creating and opening refuse, and what a failure leaves behind.

use crate::support::{Tmpfs, disk_folder, names_in, public_folder, run_as_somebody_else};
use ndarray::{Ix1, IxDyn, ShapeBuilder};
use ndarray_mmap::{Allocation, ArrayOptions, ErrorKind, Format, MmapArray};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn make_fifo(path: &Path) {
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name ends in NUL and lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

/// Runs `work` and fails if it does not come back: blocking is what must not happen.
fn at_once<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(10)).expect("an answer, not a wait")
}

#[test]
fn sizes_that_cannot_be_are_refused_before_anything_is_made() {
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
        // No file system holds this much, though the numbers fit.
        let error = options.clone().shape((1 << 62) - 4096).create::<u8, Ix1>(&path).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::SizeOverflow | ErrorKind::StorageFull), "{error}");
        let reserved = options.allocation(Allocation::Reserve).shape((1 << 62) - 4096);
        let error = reserved.create::<u8, Ix1>(&path).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::SizeOverflow | ErrorKind::StorageFull), "{error}");
    }
    assert_eq!(names_in(path.parent().unwrap()), [""; 0], "nothing is left behind");
}

#[test]
fn only_regular_files_are_replaced() {
    let folder = disk_folder();
    let (directory, fifo) = (folder.path().join("directory"), folder.path().join("fifo"));
    std::fs::create_dir(&directory).unwrap();
    make_fifo(&fifo);
    symlink(&fifo, folder.path().join("link")).unwrap();
    for name in ["directory", "fifo", "link", ".", ".."] {
        let path = folder.path().join(name);
        let error = at_once(move || MmapArray::<u8, Ix1>::create(path, 3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAFile, "{error}");
    }
    assert!(fifo.symlink_metadata().unwrap().file_type().is_fifo(), "it is still there");
    assert_eq!(names_in(folder.path()), ["directory", "fifo", "link"]);
    assert_eq!(MmapArray::<u8, Ix1>::create("/", 3).unwrap_err().kind(), ErrorKind::NotAFile);
}

#[test]
fn only_regular_files_are_opened_and_none_is_waited_for() {
    let folder = disk_folder();
    let fifo = folder.path().join("fifo");
    make_fifo(&fifo);
    for path in [fifo, folder.path().to_path_buf(), "/dev/null".into(), "/dev/zero".into()] {
        for format in [Format::Raw, Format::Npy] {
            let path = path.clone();
            let options = ArrayOptions::new().format(format).shape(1);
            let results = at_once(move || {
                [
                    options.open::<u8, Ix1>(&path).map(drop),
                    options.open_rw::<u8, Ix1>(&path).map(drop),
                    options.open_cow::<u8, Ix1>(&path).map(drop),
                ]
            });
            for result in results {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::NotAFile, "{format:?}");
            }
        }
    }
}

#[test]
fn a_failed_create_leaves_nothing_and_the_old_file_and_its_arrays_alone() {
    let folder = disk_folder();
    let path = folder.path().join("a");
    let mut old = MmapArray::<u64, Ix1>::create(&path, 4).unwrap();
    old.fill(6);
    let failed = |why: &str, options: ArrayOptions| {
        assert!(options.create::<u64, Ix1>(&path).is_err(), "{why}");
        assert_eq!(names_in(folder.path()), ["a"], "{why}");
        assert!(!old.is_closed(), "{why}: what the arguments alone forbid closes nothing");
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
    assert!(MmapArray::<u8, Ix1>::open(&path).unwrap().iter().all(|&x| x == 1), "the old file is whole");
    // Sparse, it is made: 64 MiB of holes fit.
    let sparse = ArrayOptions::new().allocation(Allocation::Sparse).shape(64 << 20);
    assert_eq!(sparse.create::<u8, Ix1>(disk.path().join("sparse")).unwrap()[60 << 20], 0);
}

/// The kernel answers a file above the limit with the signal SIGXFSZ, whose default is to end the process.
#[test]
fn a_file_above_the_size_limit_is_an_error() {
    let status = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 2048; exec \"$0\" --exact create_failures::under_a_size_limit --ignored"])
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

/// A directory into which files may be put, though nobody may look at what is there.
#[test]
fn a_directory_that_cannot_be_read() {
    let public = public_folder();
    let drop_box = public.path().join("drop box");
    std::fs::create_dir(&drop_box).unwrap();
    std::fs::set_permissions(&drop_box, PermissionsExt::from_mode(0o1733)).unwrap();
    let test = "create_failures::a_directory_that_cannot_be_read_by_somebody_else";
    if run_as_somebody_else(test, "NDARRAY_MMAP_TEST_FOLDER", &drop_box) {
        assert_eq!(names_in(&drop_box), ["x.npy"]);
    }
}

#[test]
#[ignore = "the other half of the test above"]
fn a_directory_that_cannot_be_read_by_somebody_else() {
    let drop_box = PathBuf::from(std::env::var_os("NDARRAY_MMAP_TEST_FOLDER").unwrap());
    assert!(std::fs::read_dir(&drop_box).is_err());
    MmapArray::<u8, Ix1>::create(drop_box.join("x.npy"), 10).unwrap().close().unwrap();
}

/// Where there is no room for the new file, the old one's array stays open.
#[test]
fn a_creation_that_fails_closes_nothing() {
    let Some(disk) = Tmpfs::mount("size=4m") else { return };
    let path = disk.path().join("a.npy");
    let old = MmapArray::<u8, Ix1>::create(&path, 10).unwrap();
    assert_eq!(MmapArray::<u8, Ix1>::create(&path, 64 << 20).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(!old.is_closed());
}
