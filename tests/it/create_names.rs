//! Tests of the names of new files: valid and invalid names, files that are replaced, and scratch files without a name.

use crate::support::{disk_folder, names_in, public_folder, run_as_somebody_else};
use ndarray::{Ix1, Ix2};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, MmapArray, prepare_path, sweep_staged};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs `work` in a thread and fails if `work` has not returned after 10 seconds.
fn at_once<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(10)).expect("the call returns without blocking")
}

fn make_fifo(path: &Path) {
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name ends in NUL and lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

#[test]
fn create_new_refuses_what_exists_and_leaves_it_alone() {
    let folder = disk_folder();
    let path = folder.path().join("deep/er/a.npy");
    let mut array = MmapArray::<u8, Ix1>::create_new(&path, 3).unwrap();
    array.fill(3);
    let error = MmapArray::<u8, Ix1>::create_new(&path, 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(!array.is_closed(), "create_new closes no array by default");
    drop(array);
    assert_eq!(MmapArray::<u8, Ix1>::open(&path).unwrap().sum(), 9);
    assert_eq!(names_in(path.parent().unwrap()), ["a.npy"]);
}

#[test]
fn only_create_makes_missing_parent_directories() {
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
fn symbolic_links_are_followed_and_kept() {
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
    // `create` through a symbolic link replaces the target of the link.
    let mut array = MmapArray::<u8, Ix1>::create(real.join("dangling.npy"), 5).unwrap();
    array.fill(1);
    drop(array);
    assert_eq!(MmapArray::<u8, Ix1>::open(real.join("later.npy")).unwrap().sum(), 5);
    let error = MmapArray::<u8, Ix1>::create(folder.path().join("loop"), 4).unwrap_err();
    assert_eq!(error.path(), Some(folder.path().join("loop").as_path()), "{error}");
    assert_eq!(names_in(&real), ["a.npy", "dangling.npy", "later.npy"]);
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
fn only_regular_files_are_opened_and_opening_never_blocks() {
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

/// Another user may create files in a directory that this user may not list.
#[test]
fn create_works_in_a_directory_that_cannot_be_listed() {
    let public = public_folder();
    let drop_box = public.path().join("drop box");
    std::fs::create_dir(&drop_box).unwrap();
    std::fs::set_permissions(&drop_box, PermissionsExt::from_mode(0o1733)).unwrap();
    let test = "create_names::in_a_directory_that_cannot_be_listed";
    if run_as_somebody_else(test, "NDARRAY_MMAP_TEST_FOLDER", &drop_box) {
        assert_eq!(names_in(&drop_box), ["x.npy"]);
    }
}

#[test]
#[ignore = "runs in the child of `create_works_in_a_directory_that_cannot_be_listed`"]
fn in_a_directory_that_cannot_be_listed() {
    let drop_box = PathBuf::from(std::env::var_os("NDARRAY_MMAP_TEST_FOLDER").unwrap());
    assert!(std::fs::read_dir(&drop_box).is_err());
    MmapArray::<u8, Ix1>::create(drop_box.join("x.npy"), 10).unwrap().close().unwrap();
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

/// Each call that creates a file returns an error for an invalid name, before it writes any row.
#[test]
fn invalid_names_are_refused_before_any_work() {
    let folder = disk_folder();
    std::fs::write(folder.path().join("file"), "a file").unwrap();
    std::fs::create_dir(folder.path().join("directory")).unwrap();
    let nul = std::ffi::OsStr::from_bytes(b"a\0b.npy");
    let long = "x".repeat(256);
    let (invalid, not_a_file) = (ErrorKind::InvalidInput, ErrorKind::NotAFile);
    let cases = [
        (PathBuf::from(nul), invalid),
        (PathBuf::from(nul).join("a.npy"), invalid),
        (PathBuf::from(&long), invalid),
        (PathBuf::from("new").join(&long).join("a.npy"), invalid),
        (PathBuf::from("directory"), not_a_file),
        (PathBuf::from("directory/"), not_a_file),
        (PathBuf::from("directory/.."), not_a_file),
        (PathBuf::from("new/.."), not_a_file),
        (PathBuf::from("new/"), not_a_file),
        (PathBuf::from("new/."), not_a_file),
        (PathBuf::from("file/a.npy"), not_a_file),
        (PathBuf::from("file/new/a.npy"), not_a_file),
    ];
    let values = ndarray::Array1::<u8>::ones(1000);
    for (name, kind) in cases {
        let path = folder.path().join(&name);
        // The array is larger than any disk, so `create` must check the name before it reserves disk space.
        let options = ArrayOptions::new().shape(1 << 60);
        let mut worked = false;
        let stream = Stream::from(&values).map(|chunk, mut out: ndarray::ArrayViewMut1<'_, u8>| {
            out.assign(&chunk);
        });
        let results = [
            ("create", options.create::<u8, Ix1>(&path).map(drop)),
            ("create_new", options.create_new::<u8, Ix1>(&path).map(drop)),
            ("write_to", stream.progress(|_, _| worked = true).write_to(&path).map(drop)),
        ];
        for (operation, result) in results {
            let error = result.expect_err(operation);
            assert_eq!(error.kind(), kind, "{name:?}: {error}");
            assert!(error.to_string().starts_with(&format!("{operation} {path:?}: ")), "{error}");
        }
        assert!(!worked, "{name:?}: the stream has run");
        assert_eq!(names_in(folder.path()), ["directory", "file"], "{name:?}");
    }
}

#[test]
fn a_file_in_the_place_of_a_directory_is_an_error() {
    let folder = disk_folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "a file").unwrap();
    let below = file.join("a.npy");
    let raw = ArrayOptions::new().shape(1);
    let scratch_in = |path: &Path| raw.clone().scratch_directory(path).scratch::<u8, Ix1>().map(drop);
    let results = [
        raw.create::<u8, Ix1>(&below).map(drop),
        raw.create_new::<u8, Ix1>(&below).map(drop),
        raw.open::<u8, Ix1>(&below).map(drop),
        raw.open_rw::<u8, Ix1>(&below).map(drop),
        raw.open_cow::<u8, Ix1>(&below).map(drop),
        raw.open::<u8, Ix1>(format!("{}/", file.display())).map(drop),
        Stream::from(&ndarray::Array1::<u8>::ones(3)).write_to(&below).map(drop),
        scratch_in(&file),
        scratch_in(&below),
        sweep_staged(&file).map(drop),
        sweep_staged(&below).map(drop),
        prepare_path(&below, false).map(drop),
        prepare_path(&below, true).map(drop),
    ];
    for (index, result) in results.into_iter().enumerate() {
        assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::NotAFile), "call {index}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"a file");
}

/// `close_path` and `close_under` do not close a scratch array, whether their argument is its directory or a path
/// inside it.
#[test]
fn no_path_closes_a_scratch_array() {
    let folder = disk_folder();
    let options = ArrayOptions::new().scratch_directory(folder.path()).shape(3);
    let mut scratch = options.scratch::<u8, Ix1>().unwrap();
    let directory = std::fs::canonicalize(folder.path()).unwrap();
    assert_eq!(scratch.path(), directory);
    for name in ["(scratch)", "scratch", ""] {
        let path = directory.join(name);
        assert_eq!(ndarray_mmap::close_path(&path).unwrap(), 0, "{name:?}");
        assert_eq!(ndarray_mmap::close_under(&path).unwrap(), 0, "{name:?}");
        if !name.is_empty() {
            drop(options.create::<u8, Ix1>(&path).unwrap());
        }
    }
    scratch.fill(5);
    assert_eq!((scratch.is_closed(), scratch.sum()), (false, 15));
    let named = options.create::<u8, Ix1>(directory.join("a")).unwrap();
    assert_eq!(ndarray_mmap::close_under(&directory).unwrap(), 1);
    assert!(named.is_closed() && !scratch.is_closed());
}
