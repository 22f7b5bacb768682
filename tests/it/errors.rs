//! Tests of the errors of the public interface: their kinds, their messages, and their conversion to `io::Error`.

use crate::support::{Tmpfs, disk_folder, is_alone, numpy_header, public_folder, run_as_somebody_else};
use ndarray::{Array1, Ix1, Ix2, Ix3};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{
    Allocation, ArrayOptions, Error, ErrorKind, Format, MmapArray, close_path, close_under, evict_view,
    flush_view, prepare_path,
};
use std::error::Error as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

/// The expected kind and message of an error. In the message, `PATH` stands for the path.
struct Said {
    kind: ErrorKind,
    io_kind: io::ErrorKind,
    words: String,
    /// Whether the source of the error is an `io::Error` of the operating system.
    from_system: bool,
}

#[track_caller]
fn assert_says<T>(result: Result<T, Error>, path: &Path, said: Said) {
    let error = result.err().expect("an error");
    let words = error.to_string().replace(&format!("{path:?}"), "PATH");
    assert_eq!((error.kind(), words.as_str()), (said.kind, said.words.as_str()));
    assert_eq!(error.path(), words.contains("PATH").then_some(path));
    assert_eq!(error.source().is_some_and(|source| source.is::<io::Error>()), said.from_system);
    assert!(format!("{error:?}").contains(&error.to_string()) && words.lines().count() == 1);
    let io_error = io::Error::from(error);
    assert_eq!(io_error.kind(), said.io_kind);
    let inner = io_error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("nothing is lost");
    assert_eq!(inner.kind(), said.kind);
}

fn ours(kind: ErrorKind, io_kind: io::ErrorKind, words: &str) -> Said {
    Said { kind, io_kind, words: words.to_owned(), from_system: false }
}

#[test]
fn of_paths() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let missing = "open PATH: expected a file that can be opened, found nothing of this name; \
                   `create` makes a new one";
    for (operation, result) in [
        ("open PATH", MmapArray::<u8, Ix1>::open(&path).map(drop)),
        ("open_rw PATH", MmapArray::<u8, Ix1>::open_rw(&path).map(drop)),
        ("open_cow PATH", MmapArray::<u8, Ix1>::open_cow(&path).map(drop)),
    ] {
        let said =
            ours(ErrorKind::NotFound, io::ErrorKind::NotFound, &missing.replace("open PATH", operation));
        assert_says(result, &path, Said { from_system: true, ..said });
    }

    let invalid = |words: &str| ours(ErrorKind::InvalidInput, io::ErrorKind::InvalidInput, words);
    let empty = "expected the path of a file, found an empty path; give the path of a file or a directory";
    let nowhere = Path::new("");
    assert_says(MmapArray::<u8, Ix1>::open("").map(drop), nowhere, invalid(&format!("open PATH: {empty}")));
    assert_says(
        MmapArray::<u8, Ix1>::create("", 1).map(drop),
        nowhere,
        invalid(&format!("create PATH: {empty}")),
    );
    assert_says(
        MmapArray::<u8, Ix1>::create_new("", 1).map(drop),
        nowhere,
        invalid(&format!("create_new PATH: {empty}")),
    );
    assert_says(prepare_path("", true), nowhere, invalid(&format!("prepare_path PATH: {empty}")));
    assert_says(close_path(""), nowhere, invalid(&format!("close_path PATH: {empty}")));
    assert_says(close_under(""), nowhere, invalid(&format!("close_under PATH: {empty}")));

    let not_a_file = |words: &str| ours(ErrorKind::NotAFile, io::ErrorKind::InvalidInput, words);
    let directory = folder.path();
    let options = ArrayOptions::new().shape(1);
    let words = "open PATH: expected a regular file, found a directory; give the path of a regular file";
    assert_says(options.open::<u8, Ix1>(directory), directory, not_a_file(words));
    let words = "create PATH: expected the path of a file, found a directory; choose another name";
    assert_says(options.create::<u8, Ix1>(directory), directory, not_a_file(words));

    MmapArray::<u8, Ix1>::create(&path, 1).unwrap().close().unwrap();
    let words = "create_new PATH: expected no file of this name, found a file of this name; \
                 `create` replaces a file, `open_rw` changes one";
    let said = ours(ErrorKind::AlreadyExists, io::ErrorKind::AlreadyExists, words);
    assert_says(MmapArray::<u8, Ix1>::create_new(&path, 1), &path, said);
}

#[test]
fn of_arguments() {
    let folder = disk_folder();
    let (raw, npy) = (folder.path().join("a.raw"), folder.path().join("a.npy"));
    fs::write(&raw, [0; 100]).unwrap();
    MmapArray::<f32, Ix2>::create(&npy, (3, 4)).unwrap().close().unwrap();
    let invalid = |words: &str| ours(ErrorKind::InvalidInput, io::ErrorKind::InvalidInput, words);
    let mismatch = |words: &str| ours(ErrorKind::ShapeMismatch, io::ErrorKind::InvalidData, words);

    let words = "open PATH: expected a shape, found none; give one with `ArrayOptions::shape`: only an NPY file that \
                 exists knows its own";
    assert_says(MmapArray::<u8, Ix1>::open(&raw), &raw, invalid(words));
    let words = words.replace("open PATH", "create PATH");
    assert_says(ArrayOptions::new().create::<u8, Ix1>(&raw), &raw, invalid(&words));
    let words = "scratch: expected a shape, found none; give one with `ArrayOptions::shape`: only an NPY file that \
                 exists knows its own";
    assert_says(ArrayOptions::new().scratch::<u8, Ix1>(), &raw, invalid(words));
    let words = "open PATH: expected no offset for an NPY file, found `offset_bytes(128)`; its header says where the \
                 data starts; `Format::Raw` takes any offset";
    assert_says(ArrayOptions::new().offset_bytes(128).open::<f32, Ix2>(&npy), &npy, invalid(words));

    let words = "open PATH: expected a shape of 3 dimensions, found [3, 4], of 2 dimensions; `IxDyn` takes any number of \
                 dimensions";
    assert_says(MmapArray::<f32, Ix3>::open(&npy), &npy, mismatch(words));
    let words = "create PATH: expected a shape of 1 dimensions, found [3, 4], of 2 dimensions; `IxDyn` takes any number \
                 of dimensions";
    assert_says(ArrayOptions::new().shape((3, 4)).create::<f32, Ix1>(&npy), &npy, mismatch(words));
    let words = "open_rw PATH: expected shape [4, 3], found shape [3, 4]; leave `shape` out: an NPY file knows its own";
    assert_says(ArrayOptions::new().shape((4, 3)).open_rw::<f32, Ix2>(&npy), &npy, mismatch(words));

    let unaligned = |words: &str| ours(ErrorKind::Unaligned, io::ErrorKind::InvalidData, words);
    let words = "open PATH: expected data at a multiple of 4 bytes for f32, found data at byte 2; open the bytes as `u8` and \
                 convert them";
    let options = ArrayOptions::new().shape(5).offset_bytes(2);
    assert_says(options.open::<f32, Ix1>(&raw), &raw, unaligned(words));
    let words = words.replace("open PATH", "create PATH");
    assert_says(options.create::<f32, Ix1>(&raw), &raw, unaligned(&words));
}

#[test]
fn of_sizes() {
    let folder = disk_folder();
    let (raw, npy) = (folder.path().join("a.raw"), folder.path().join("a.npy"));
    fs::write(&raw, [0; 100]).unwrap();
    let overflow = |words: &str| ours(ErrorKind::SizeOverflow, io::ErrorKind::FileTooLarge, words);
    let words = "create PATH: expected at most 9223372036854775807 bytes, found shape [4611686018427387904, 3] with \
                 elements of 2 bytes; correct the shape";
    assert_says(MmapArray::<u16, Ix2>::create(&raw, (1 << 62, 3)), &raw, overflow(words));
    let words = words.replace("create PATH", "open PATH");
    assert_says(ArrayOptions::new().shape((1 << 62, 3)).open::<u16, Ix2>(&raw), &raw, overflow(&words));
    let words = "open PATH: expected at most 9223372036854775807 bytes, found 100 bytes from byte \
                 9223372036854775800 on; correct the shape or the offset";
    let options = ArrayOptions::new().shape(100).offset_bytes((1 << 63) - 8);
    assert_says(options.open::<u8, Ix1>(&raw), &raw, overflow(words));

    let wrong_length = |words: &str| ours(ErrorKind::LengthMismatch, io::ErrorKind::InvalidData, words);
    let words = "open PATH: expected at least 108 bytes for shape [25] of elements from byte 8, found 100 bytes, 8 too few; \
         `Format::Raw` with `offset_bytes(8)` and a `shape` that fits opens a part of the file";
    let options = ArrayOptions::new().shape(25).offset_bytes(8);
    assert_says(options.open::<f32, Ix1>(&raw), &raw, wrong_length(words));
    fs::write(&npy, [numpy_header("<f4", "(25,)"), vec![0; 101]].concat()).unwrap();
    let words = "open_cow PATH: expected 228 bytes for shape [25] of elements from byte 128, found 229 bytes, 1 too many; \
                 `Format::Raw` with `offset_bytes(128)` and a `shape` that fits opens a part of the file";
    assert_says(MmapArray::<f32, Ix1>::open_cow(&npy), &npy, wrong_length(words));

    let words = "create PATH: expected 4611686018427383808 bytes of disk space, found a limit below this length; raise the limit \
         `ulimit -f`, or choose a filesystem for larger files";
    let said = Said { from_system: true, ..overflow(words) };
    let sparse = ArrayOptions::new().allocation(Allocation::Sparse).shape((1 << 62) - 4096);
    assert_says(sparse.create::<u8, Ix1>(&raw), &raw, said);
}

#[test]
fn of_headers_and_types() {
    let folder = disk_folder();
    let npy = folder.path().join("a.npy");
    let header = |words: &str| ours(ErrorKind::InvalidHeader, io::ErrorKind::InvalidData, words);
    let dtype = |words: &str| ours(ErrorKind::DtypeMismatch, io::ErrorKind::InvalidData, words);
    fs::write(&npy, "PK\x03\x04 something else").unwrap();
    let words = "open PATH: expected the magic bytes \\x93NUMPY at the start, found `PK\\x03\\x04 s`; a file without a \
                 header is opened with Format::Raw";
    assert_says(MmapArray::<f32, Ix1>::open(&npy), &npy, header(words));
    fs::write(&npy, &numpy_header("<f4", "(25,)")[..60]).unwrap();
    let words = "open PATH: expected as much text as the header says it has, found the end of the file after 50 of 118 bytes; \
                 write the file again with `numpy.save`, or open its bytes with `Format::Raw`";
    assert_says(MmapArray::<f32, Ix1>::open(&npy), &npy, header(words));
    fs::write(&npy, numpy_header("<f4", "[25]")).unwrap();
    let words = "open PATH: expected `(`, found `[25], }                 ..` at byte 50 of its text; write the file \
                 again with `numpy.save`, or open its bytes with `Format::Raw`";
    assert_says(MmapArray::<f32, Ix1>::open(&npy), &npy, header(words));

    for (found, shown) in [
        (">f4", "'>f4'; an array has this machine's byte order: convert with numpy's `astype('<f4')`"),
        ("<f8", "'<f8'; open it as `MmapArray<f64, _>`, or any dtype with `AnyArray::open`"),
        ("<M8[ns]", "'<M8[ns]'; save its integers with numpy: `a.view('i8')`"),
        ("|O", "'|O'; numpy pickles objects: load it with `allow_pickle=True` and save numbers"),
        (
            "[('x', '<f4')]",
            "the structured dtype [('x', '<f4')]; open it as `Format::Raw` with a `#[repr(C)]` element type, a shape \
             and the `offset_bytes` that `inspect` returns",
        ),
    ] {
        fs::write(&npy, [numpy_header(found, "(25,)"), vec![0; 100]].concat()).unwrap();
        let words = format!("open PATH: expected elements of dtype '<f4' (f32), found {shown}");
        assert_says(MmapArray::<f32, Ix1>::open(&npy), &npy, dtype(&words));
    }
    let words = "create PATH: expected an element type that numpy has a dtype for, found u128; `Format::Raw` takes any \
                 `Pod` type";
    assert_says(MmapArray::<u128, Ix1>::create(&npy, 1), &npy, dtype(words));
    let words = "open PATH: expected a raw file, as numpy has no dtype for i128, found '<f4'; open it as \
                 `MmapArray<f32, _>`, or any dtype with `AnyArray::open`";
    fs::write(&npy, [numpy_header("<f4", "(25,)"), vec![0; 100]].concat()).unwrap();
    assert_says(MmapArray::<i128, Ix1>::open(&npy), &npy, dtype(words));
}

/// Asserts the kind of an error and its message. The message must start with the operation and the path, and it must
/// contain each of `words`.
#[track_caller]
fn assert_contains<T>(
    result: Result<T, Error>,
    kind: ErrorKind,
    operation: &str,
    path: &Path,
    words: &[&str],
) {
    let error = result.err().expect("an error");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.starts_with(&format!("{operation} {path:?}: expected ")), "{text}");
    for word in words.iter().chain(&[", found ", "; "]) {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn of_full_disks() {
    let Some(disk) = Tmpfs::mount("size=4m") else { return };
    let path = disk.path().join("a.raw");
    let kind = ErrorKind::StorageFull;
    let options = ArrayOptions::new().shape(64 << 20);
    let words = ["67108864 bytes of disk space", "4194304 bytes are free: make room", "Allocation::Sparse"];
    assert_contains(options.create::<u8, Ix1>(&path), kind, "create", &path, &words);
    assert_contains(options.create_new::<u8, Ix1>(&path), kind, "create_new", &path, &words);
    let scratch = options.scratch_directory(disk.path()).scratch::<u8, Ix1>();
    assert_contains(scratch, kind, "scratch", disk.path(), &words);
    let rows = Array1::<u8>::ones(8 << 20);
    let words =
        ["8388608 bytes of disk space", "4194304 bytes are free: make room, or write to another filesystem"];
    assert_contains(Stream::from(&rows).write_to(&path), kind, "write_to", &path, &words);

    let path = disk.path().join("b.raw");
    drop(MmapArray::<u8, Ix1>::create(&path, 1).unwrap());
    let remounted = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status();
    assert!(remounted.unwrap().success());
    let (kind, words) = (
        ErrorKind::PermissionDenied,
        ["found a read-only filesystem", "; mount it writable, or choose another"],
    );
    let options = ArrayOptions::new().shape(1);
    assert_contains(options.create::<u8, Ix1>(&path), kind, "create", &path, &words);
    assert_contains(options.open_rw::<u8, Ix1>(&path), kind, "open_rw", &path, &words);
    assert_contains(Stream::from(&rows).write_to(&path), kind, "write_to", &path, &words);
}

#[test]
fn of_permissions() {
    let public = public_folder();
    for (name, mode) in [("secret.raw", 0o600), ("shown.raw", 0o644)] {
        fs::write(public.path().join(name), "a").unwrap();
        fs::set_permissions(public.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    run_as_somebody_else(
        "errors::of_permissions_for_somebody_else",
        "NDARRAY_MMAP_TEST_FOLDER",
        public.path(),
    );
}

#[test]
#[ignore = "runs in the child of `of_permissions`"]
fn of_permissions_for_somebody_else() {
    let folder = std::path::PathBuf::from(std::env::var_os("NDARRAY_MMAP_TEST_FOLDER").unwrap());
    let folder = fs::canonicalize(folder).unwrap();
    let (secret, shown) = (folder.join("secret.raw"), folder.join("shown.raw"));
    let (kind, options) = (ErrorKind::PermissionDenied, ArrayOptions::new().shape(1));
    let denied = "found access denied";
    let read = ["the process needs read permission on the file", denied];
    assert_contains(options.open::<u8, Ix1>(&secret), kind, "open", &secret, &read);
    assert_contains(options.open_cow::<u8, Ix1>(&secret), kind, "open_cow", &secret, &read);
    let write = ["needs read and write permission on the file; `open` needs read permission only", denied];
    assert_contains(options.open_rw::<u8, Ix1>(&shown), kind, "open_rw", &shown, &write);
    let directory = format!("needs write and search permission on the directory {folder:?}");
    let words = [directory.as_str(), denied];
    for path in [&shown, &folder.join("new.npy")] {
        assert_contains(options.create::<u8, Ix1>(path), kind, "create", path, &words);
        let rows = Array1::<u8>::ones(3);
        assert_contains(Stream::from(&rows).write_to(path), kind, "write_to", path, &words);
    }
    let scratch = options.clone().scratch_directory(&folder).scratch::<u8, Ix1>();
    assert_contains(scratch, kind, "scratch", &folder, &words);
    let below = folder.join("new/a.npy");
    let words = ["needs write and search permission on the directories above", denied];
    assert_contains(options.create_new::<u8, Ix1>(&below), kind, "create_new", &below, &words);
}

/// The size of the array is valid, but the address space is too small for the mapping. Opening must fail with
/// `OutOfMemory`.
#[test]
fn of_memory() {
    if !is_alone("errors::of_memory") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.raw");
    let sparse = ArrayOptions::new().allocation(Allocation::Sparse).shape(16 << 30);
    drop(sparse.create::<u8, Ix1>(&path).unwrap());
    let limit = libc::rlimit { rlim_cur: 8 << 30, rlim_max: 8 << 30 };
    // SAFETY: the pointer is to a live structure; no other test runs in this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    let (kind, words) =
        (ErrorKind::OutOfMemory, ["to map 17179869184 bytes", "found no free memory", "ulimit -v"]);
    assert_contains(sparse.open::<u8, Ix1>(&path), kind, "open", &path, &words);
    assert_contains(sparse.open_rw::<u8, Ix1>(&path), kind, "open_rw", &path, &words);
    assert_contains(sparse.open_cow::<u8, Ix1>(&path), kind, "open_cow", &path, &words);
    let new = folder.path().join("new.raw");
    assert_contains(sparse.create::<u8, Ix1>(&new), kind, "create", &new, &words);
    assert!(!new.exists());
    let error = io::Error::from(sparse.open::<u8, Ix1>(&path).unwrap_err());
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
}

#[test]
fn of_closed_arrays() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let mut array = MmapArray::<f32, Ix1>::create(&path, 10).unwrap();
    assert_eq!(close_path(&path).unwrap(), 1);
    let said = |operation: &str| {
        format!(
            "{operation} PATH: expected an open array, found one that was closed by its path; drop it and open the file again"
        )
    };
    let closed = |words: &str| ours(ErrorKind::Closed, io::ErrorKind::Other, words);
    assert_says(array.try_view().map(drop), &path, closed(&said("try_view")));
    assert_says(array.try_view_mut().map(drop), &path, closed(&said("try_view_mut")));
    assert_says(array.flush(), &path, closed(&said("flush")));
    assert_says(array.flush_rows(2..3), &path, closed(&said("flush_rows")));
    assert_says(array.evict(), &path, closed(&said("evict")));
    assert_says(array.evict_rows(0..0), &path, closed(&said("evict_rows")));
    assert_says(array.prefetch_rows(..), &path, closed(&said("prefetch_rows")));
    assert_says(
        array.advise_rows(ndarray_mmap::AccessPattern::Random, ..1),
        &path,
        closed(&said("advise_rows")),
    );
    assert_says(array.residency_rows(..1), &path, closed(&said("residency_rows")));
    assert_says(Stream::from(&array).min_max(), &path, closed(&said("min_max")));
    assert_says(array.advise(ndarray_mmap::AccessPattern::Random), &path, closed(&said("advise")));
    assert_says(array.residency(), &path, closed(&said("residency")));
    assert_says(array.into_read_only(), &path, closed(&said("into_read_only")));
}

#[test]
fn of_use_elsewhere() {
    let folder = disk_folder();
    let path = folder.path().join("a.raw");
    let options = ArrayOptions::new().format(Format::Raw).shape(10);
    let _held = options.create::<u16, Ix1>(&path).unwrap();
    let words = "open PATH: expected bytes 4..24 free for read-only access, found a read-write array of this process on \
                 bytes 0..20; drop or close that array first, or call `into_read_only` on a finished writer";
    fs::OpenOptions::new().append(true).open(&path).unwrap().set_len(100).unwrap();
    let said = ours(ErrorKind::InUse, io::ErrorKind::ResourceBusy, words);
    assert_says(options.offset_bytes(4).open::<u16, Ix1>(&path), &path, said);
}

#[test]
fn arrays_in_memory_are_no_error() {
    let array = ndarray::Array2::<f64>::zeros((10, 10));
    assert!(flush_view(&array).is_ok() && evict_view(&array.slice(ndarray::s![.., ..;-2])).is_ok());
}
