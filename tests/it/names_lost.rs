//! Tests that `flush` and `close` of a writer report a file that has lost all of its names. Files that still have a
//! name are not reported.

use crate::support::disk_folder;
use ndarray::{Array1, Ix1};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{
    ArrayOptions, CopyOnWrite, ErrorKind, MmapArray, ReadOnly, Result, close_path, close_under, flush_view,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

type Writer = MmapArray<u32, Ix1>;

fn writer(path: &Path) -> Writer {
    let mut array = Writer::create(path, 5000).unwrap();
    array.fill(7);
    array
}

fn kind<T>(result: Result<T>) -> Result<(), ErrorKind> {
    result.map(drop).map_err(|error| error.kind())
}

type Loss = fn(&Path);
type Use = fn(Writer) -> Result<()>;

/// The operations that remove the last name of a file.
const LOSSES: [(&str, Loss); 4] = [
    ("deleted", |path| fs::remove_file(path).unwrap()),
    ("replaced by a rename", |path| {
        let other = path.with_file_name("other");
        fs::write(&other, "other").unwrap();
        fs::rename(other, path).unwrap();
    }),
    ("its folder deleted", |path| fs::remove_dir_all(path.parent().unwrap()).unwrap()),
    ("replaced by `write_to`", |path| {
        Stream::from(&Array1::<u32>::zeros(10)).write_to(path).unwrap();
    }),
];

#[test]
fn every_call_of_a_writer_that_makes_bytes_durable_reports_a_lost_name() {
    let folder = disk_folder();
    let path = folder.path().join("sub/a.npy");
    let uses: [(&str, Use); 6] = [
        ("close", Writer::close),
        ("flush", |array| array.flush()),
        ("flush_rows", |array| array.flush_rows(..10)),
        ("flush_view", |array| flush_view(&array.slice(ndarray::s![..3]))),
        ("into_read_only", |array| array.into_read_only().map(drop)),
        ("copy_into", |mut array| Stream::from(&Array1::zeros(5000)).copy_into(&mut array)),
    ];
    for (loss, lose) in LOSSES {
        for (name, call) in uses {
            let array = writer(&path);
            assert_eq!(array.flush().map_err(|error| error.kind()), Ok(()));
            lose(&path);
            if loss == "replaced by `write_to`" && name != "close" {
                continue; // `write_to` has closed the array
            }
            let error = call(array).expect_err(&format!("{loss}, {name}"));
            assert_eq!(error.kind(), ErrorKind::NameLost, "{loss}, {name}");
            assert_eq!(error.path(), Some(path.as_path()));
            let operation = if name.starts_with("flush") { "flush" } else { name };
            assert!(error.to_string().starts_with(operation), "{error}");
        }
    }
}

/// `flush` writes the bytes to the file before it returns `NameLost`: no page of the file is dirty, and the array still
/// has its elements.
#[test]
fn the_bytes_are_flushed_before_the_error_is_returned() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let mut array = writer(&path);
    let file = descriptor_of(&path);
    fs::remove_file(&path).unwrap();
    array.fill(9);
    assert_eq!(kind(array.flush()), Err(ErrorKind::NameLost));
    assert_eq!(crate::support::dirty_pages(&file, 0..20_000).unwrap_or(0), 0);
    assert!(array.iter().all(|&value| value == 9), "the array can be used");
    let copy = folder.path().join("copy.npy");
    Stream::from(&array).write_to(&copy).unwrap().close().unwrap();
    assert_eq!(kind(array.close()), Err(ErrorKind::NameLost));
    assert_eq!(MmapArray::<u32, Ix1>::open(&copy).unwrap().sum(), 45_000);
}

/// Returns the path below `/proc` of a descriptor of this process for the file. The path can be opened even after the
/// file was deleted.
fn descriptor_of(path: &Path) -> std::path::PathBuf {
    let inode = fs::metadata(path).unwrap().ino();
    let mut descriptors = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    descriptors.find(|file| fs::metadata(file).is_ok_and(|metadata| metadata.ino() == inode)).unwrap()
}

#[test]
fn files_that_still_have_a_name_are_no_error() {
    let folder = disk_folder();
    let path = folder.path().join("sub/a.npy");
    let renamed: fn(&Path) = |path| fs::rename(path, path.with_file_name("b.npy")).unwrap();
    let linked: fn(&Path) = |path| {
        let _ = fs::remove_file(path.with_file_name("c.npy"));
        fs::hard_link(path, path.with_file_name("c.npy")).unwrap();
        fs::remove_file(path).unwrap();
    };
    let moved: fn(&Path) = |path| {
        let sub = path.parent().unwrap();
        let _ = fs::remove_dir_all(sub.with_file_name("moved"));
        fs::rename(sub, sub.with_file_name("moved")).unwrap();
    };
    for (number, change) in [renamed, linked, moved].into_iter().enumerate() {
        let mut array = writer(&path);
        change(&path);
        array.fill(8);
        array.flush().unwrap();
        array.close().unwrap();
        let now = ["sub/b.npy", "sub/c.npy", "moved/a.npy"][number];
        assert_eq!(MmapArray::<u32, Ix1>::open(folder.path().join(now)).unwrap().sum(), 40_000, "{now}");
    }
}

/// A lost name is no error for read-only arrays and copy-on-write arrays, because they store nothing in the file.
/// Scratch files never have a name.
#[test]
fn arrays_that_store_nothing_under_a_name_are_no_error() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    writer(&path).close().unwrap();
    let reader: MmapArray<u32, Ix1, ReadOnly> = MmapArray::<u32, Ix1>::open(&path).unwrap();
    let mut private: MmapArray<u32, Ix1, CopyOnWrite> = MmapArray::<u32, Ix1>::open_cow(&path).unwrap();
    private.fill(1);
    fs::remove_file(&path).unwrap();
    reader.flush().unwrap();
    reader.close().unwrap();
    private.close().unwrap();
    let finished = writer(&path).into_read_only().unwrap();
    fs::remove_file(&path).unwrap();
    finished.close().unwrap();
    let mut scratch =
        ArrayOptions::new().scratch_directory(folder.path()).shape(10).scratch::<u32, Ix1>().unwrap();
    scratch.fill(1);
    scratch.flush().unwrap();
    Stream::from(&Array1::zeros(10)).copy_into(&mut scratch).unwrap();
    scratch.close().unwrap();
    let pending = ArrayOptions::new().shape(10).publish_on_close(true).create::<u32, Ix1>(&path).unwrap();
    pending.flush().unwrap();
    pending.close().unwrap();
}

/// Programs delete a file or a folder, and then call `close_path` or `close_under` for its path. This call returns no
/// error. The later `close` of the array reports the lost name.
#[test]
fn closing_by_path_counts_arrays_on_lost_names_without_an_error() {
    let folder = disk_folder();
    let path = folder.path().join("sub/a.npy");
    for by_folder in [false, true] {
        let array = writer(&path);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let closed = if by_folder { close_under(path.parent().unwrap()) } else { close_path(&path) };
        assert_eq!(closed.unwrap(), 1);
        assert_eq!(close_path(&path).unwrap(), 0);
        assert_eq!(kind(array.close()), Err(ErrorKind::NameLost));
    }
    // `create` closes the array on the old file, and then gives the name to the new file.
    let old = writer(&path);
    let new = writer(&path);
    assert!(old.is_closed());
    assert_eq!(kind(old.close()), Err(ErrorKind::NameLost));
    new.close().unwrap();
}
