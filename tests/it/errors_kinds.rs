//! Tests that provoke each kind of error, and compare the whole message: operation, path, expected, found and way out.

use crate::fault::{PAGE, sevens, truncate};
use crate::refuse::{Refusal, refusal, refuse};
use crate::support::{Tmpfs, disk_folder, is_alone, numpy_header, skipped};
use crate::syscalls::no_locks;
use ndarray::{Array1, Array2, ArrayView0, ArrayViewMut0, Axis, Ix1, Ix2, s};
use ndarray_mmap::stream::{Budget, Source, Stream, concat, copy};
use ndarray_mmap::{Allocation, ArrayOptions, Error, Format, MmapArray, Result, close_path, fault};
use std::error::Error as _;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A kind of error, a call that fails with this kind, and the message of the error. In the message, `PATH` stands for
/// the path.
struct Row {
    kind: &'static str,
    /// Provokes the error with a path in an empty folder. Returns `None` if the machine lacks what the call needs.
    provoke: fn(&Path) -> Option<Error>,
    says: &'static str,
    /// Whether the error has a source: an `io::Error` of the operating system, or an error of a function.
    has_source: bool,
}

const ROWS: &[Row] = &[
    Row {
        kind: "NotFound",
        provoke: |path| error_of(MmapArray::<f32, Ix1>::open(path)),
        says: "open PATH: expected a file that can be opened, found nothing of this name; `create` makes a new one",
        has_source: true,
    },
    Row {
        kind: "AlreadyExists",
        provoke: |path| {
            fs::write(path, "").unwrap();
            error_of(MmapArray::<f32, Ix1>::create_new(path, 3))
        },
        says: "create_new PATH: expected no file of this name, found a file of this name; `create` replaces a file, `open_rw` changes one",
        has_source: false,
    },
    Row {
        kind: "PermissionDenied",
        provoke: |path| {
            let closed = [refusal(libc::SYS_openat, libc::EACCES)];
            refused(&closed, || error_of(MmapArray::<f32, Ix1>::open_rw(path)))
        },
        says: "open_rw PATH: expected a file that can be opened, found access denied; the process needs read and write \
               permission on the file; `open` needs read permission only",
        has_source: true,
    },
    Row {
        kind: "InvalidInput",
        provoke: |path| error_of(ArrayOptions::new().format(Format::Raw).create::<f32, Ix1>(path)),
        says: "create PATH: expected a shape, found none; give one with `ArrayOptions::shape`: only an NPY file that \
               exists knows its own",
        has_source: false,
    },
    Row {
        kind: "NotAFile",
        provoke: |path| {
            fs::create_dir(path).unwrap();
            error_of(MmapArray::<f32, Ix1>::open(path))
        },
        says: "open PATH: expected a regular file, found a directory; give the path of a regular file",
        has_source: false,
    },
    Row {
        kind: "ShapeMismatch",
        provoke: |path| error_of(copy(&Array1::<u8>::zeros(9), &mut created(path, 10))),
        says: "copy PATH: expected a destination of shape [9], found one of shape [10]; slice the destination, or select other rows",
        has_source: false,
    },
    Row {
        kind: "DtypeMismatch",
        provoke: |path| {
            drop(created(path, 10));
            error_of(MmapArray::<f64, Ix1>::open(path))
        },
        says: "open PATH: expected elements of dtype '<f8' (f64), found '|u1'; open it as `MmapArray<u8, _>`, or any \
               dtype with `AnyArray::open`",
        has_source: false,
    },
    Row {
        kind: "InvalidHeader",
        provoke: |path| {
            fs::write(path, "PK\x03\x04 something else").unwrap();
            error_of(MmapArray::<f32, Ix1>::open(path))
        },
        says: "open PATH: expected the magic bytes \\x93NUMPY at the start, found `PK\\x03\\x04 s`; a file without a \
               header is opened with Format::Raw",
        has_source: false,
    },
    Row {
        kind: "LengthMismatch",
        provoke: |path| {
            fs::write(path, [numpy_header("|u1", "(25,)"), vec![0; 26]].concat()).unwrap();
            error_of(MmapArray::<u8, Ix1>::open_cow(path))
        },
        says: "open_cow PATH: expected 153 bytes for shape [25] of elements from byte 128, found 154 bytes, 1 too many; \
               `Format::Raw` with `offset_bytes(128)` and a `shape` that fits opens a part of the file",
        has_source: false,
    },
    Row {
        kind: "SizeOverflow",
        provoke: |path| error_of(MmapArray::<u16, Ix2>::create(path, (1 << 62, 3))),
        says: "create PATH: expected at most 9223372036854775807 bytes, found shape [4611686018427387904, 3] with \
               elements of 2 bytes; correct the shape",
        has_source: false,
    },
    Row {
        kind: "OutOfMemory",
        provoke: |path| {
            let sparse = ArrayOptions::new().format(Format::Raw).allocation(Allocation::Sparse);
            let array = sparse.shape((1, 8 << 30)).create::<u8, Ix2>(path).unwrap();
            with_address_space(10 << 30, || error_of(Stream::from(&array).fold((), |(), _| ())))
        },
        says: "fold PATH: expected 8589934592 bytes of memory for a buffer, found no free memory; give the stream a \
               smaller `Budget`, or free memory",
        has_source: true,
    },
    Row {
        kind: "Unaligned",
        provoke: |path| {
            fs::write(path, [0; 100]).unwrap();
            let options = ArrayOptions::new().format(Format::Raw).shape(5).offset_bytes(2);
            error_of(options.open::<f32, Ix1>(path))
        },
        says: "open PATH: expected data at a multiple of 4 bytes for f32, found data at byte 2; open the bytes as `u8` \
               and convert them",
        has_source: false,
    },
    Row {
        kind: "InUse",
        provoke: |path| {
            let _held = created(path, 10);
            error_of(MmapArray::<u8, Ix1>::open(path))
        },
        says: "open PATH: expected bytes 128..138 free for read-only access, found a read-write array of this process on \
               bytes 128..138; drop or close that array first, or call `into_read_only` on a finished writer",
        has_source: false,
    },
    Row {
        kind: "LockUnavailable",
        provoke: |path| {
            drop(created(path, 10));
            let options = ArrayOptions::new().require_lock(true);
            refused(&[no_locks(libc::ENOLCK)], || error_of(options.open_rw::<u8, Ix1>(path)))
        },
        says: "open_rw PATH: expected a filesystem with byte-range locks, found one without them; mount it with locks, or \
               leave `require_lock` off: then the rules hold inside this process",
        has_source: false,
    },
    Row {
        kind: "StorageFull",
        provoke: |_| {
            let disk = Tmpfs::mount("size=1m")?;
            error_of(ArrayOptions::new().shape(4 << 20).create::<u8, Ix1>(disk.path().join("a.raw")))
        },
        says: "create PATH: expected 4194304 bytes of disk space, found a full disk; 1048576 bytes are free: make room, \
               or take space only as it is written with `Allocation::Sparse`",
        has_source: true,
    },
    Row {
        kind: "Closed",
        provoke: |path| {
            let array = created(path, 10);
            close_path(path).unwrap();
            error_of(array.flush_rows(2..))
        },
        says: "flush_rows PATH: expected an open array, found one that was closed by its path; drop it and open the file \
               again",
        has_source: false,
    },
    Row {
        kind: "Fault",
        provoke: |path| {
            let array = sevens(path, 4).open::<u8, Ix2>(path).unwrap();
            truncate(path, PAGE);
            error_of(fault::guard(|| array.iter().fold(0, |all, &item| all ^ item)))
        },
        says: "guard PATH: expected every access to reach the file, found a fault in the page at byte 4096; what was \
               stored there is lost: see whether the disk is full or the file was cut short, open the file again",
        has_source: false,
    },
    Row {
        kind: "Poisoned",
        provoke: |path| {
            let array = created(path, 10);
            refused(&[refusal(libc::SYS_msync, libc::EIO)], || {
                array.flush().unwrap_err();
                error_of(array.evict())
            })
        },
        says: "evict PATH: expected bytes that can be made durable, found an earlier flush that failed; open the file \
               again and check what it holds",
        has_source: false,
    },
    Row {
        kind: "NameLost",
        provoke: |path| {
            let array = created(path, 10);
            fs::remove_file(path).unwrap();
            error_of(array.flush())
        },
        says: "flush PATH: expected a file that has a name, found a file whose name was deleted, or given to another file; \
               copy the elements to a new file before the array is closed: nobody can open this one",
        has_source: false,
    },
    Row {
        kind: "OutOfBounds",
        provoke: |path| error_of(Stream::from(&created(path, 10)).select_rows(&[3, 10]).min_max()),
        says: "min_max PATH: expected indices below 10, the length of axis 0, found index 10; indices start at 0, and \
               count what the selections before have left",
        has_source: false,
    },
    Row {
        kind: "Overlap",
        provoke: |path| {
            fs::write(path, [1; 100]).unwrap();
            let part = |start| {
                // SAFETY: only this row uses the file, and no reference into one array lives while the other array
                // changes.
                unsafe { ArrayOptions::new().unlocked() }.format(Format::Raw).offset_bytes(start).shape(50)
            };
            let source = part(0).open::<u8, Ix1>(path).unwrap();
            let mut destination = part(10).open_rw::<u8, Ix1>(path).unwrap();
            error_of(Stream::from(&source).copy_into(&mut destination))
        },
        says: "copy_into PATH: expected a source outside bytes 10..60 of this file, found one on bytes 0..50; \
               `write_to` a new file",
        has_source: false,
    },
    Row {
        kind: "Cancelled",
        provoke: |path| {
            let array = created(path, 10);
            error_of(Stream::from(&array).progress(|_, _| ControlFlow::Break(())).mean_axis0())
        },
        says: "mean_axis0 PATH: expected to go on to the end, found a request to stop after 0 of 10 rows; the progress \
               function decides: run the stream again to process all rows",
        has_source: false,
    },
    Row {
        kind: "Panicked",
        provoke: |path| {
            let rows = Array1::<u8>::zeros(10);
            error_of(
                Stream::from(&rows).map(|_, _: ndarray::ArrayViewMut1<'_, u8>| panic!("no")).write_to(path),
            )
        },
        says: "write_to PATH: expected the caller's function to return, found a panic: no; correct the function, and run \
               the stream again",
        has_source: false,
    },
    Row {
        kind: "FunctionFailed",
        provoke: |path| {
            let rows = Array1::<u8>::zeros(10);
            let fails = |_, _: ArrayView0<'_, u8>, _: ArrayViewMut0<'_, u8>| Err("no atoms");
            error_of(Stream::from(&rows).map_each(fails).write_to(path))
        },
        says: "write_to PATH: expected the caller's function to return `Ok`, found an error of the function; `source()` \
               is the error that the function returned",
        has_source: true,
    },
    Row {
        kind: "Unsupported",
        provoke: |path| {
            let array = created(path, 10);
            let calls = [451, libc::SYS_mincore, libc::SYS_preadv2].map(|call| refusal(call, libc::ENOSYS));
            refused(&calls, || error_of(array.residency()))
        },
        says: "residency PATH: expected to count cached pages, found a system that tells this process nothing of the \
               file's cached pages; ask as the owner of the file, or as a user who may write it",
        has_source: false,
    },
    Row {
        kind: "Io",
        provoke: |path| {
            let array = created(path, 10);
            refused(&[refusal(libc::SYS_msync, libc::EIO)], || error_of(array.flush()))
        },
        says: "flush PATH: expected bytes to reach the disk, found a failure of the device; open the file again and check \
               what it holds",
        has_source: true,
    },
];

fn error_of<T>(result: Result<T>) -> Option<Error> {
    Some(result.err().expect("an error"))
}

fn created(path: &Path, rows: usize) -> MmapArray<u8, Ix1> {
    MmapArray::create(path, rows).unwrap()
}

/// Calls a function in a new thread for which the kernel refuses some system calls.
fn refused(calls: &[Refusal], function: impl FnOnce() -> Option<Error> + Send) -> Option<Error> {
    std::thread::scope(|scope| scope.spawn(|| refuse(calls).then(function)).join().unwrap()).flatten()
}

/// Calls a function while the address space of the process is limited to `bytes` bytes.
fn with_address_space<R>(bytes: u64, function: impl FnOnce() -> R) -> R {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live structure of the type that the call fills in.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut before) }, 0);
    let limit = libc::rlimit { rlim_cur: bytes, ..before };
    // SAFETY: the pointer is to a live structure; no other test runs in this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    let result = function();
    // SAFETY: the pointer is to a live structure; no other test runs in this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const before) }, 0);
    result
}

#[test]
fn every_kind_says_operation_path_expected_found_and_way_out() {
    if !is_alone("errors_kinds::every_kind_says_operation_path_expected_found_and_way_out") {
        return;
    }
    for Row { kind, provoke, says, has_source } in ROWS {
        let folder = disk_folder();
        let path = fs::canonicalize(folder.path()).unwrap().join("a.npy");
        let Some(error) = provoke(&path) else {
            skipped(&format!("{kind} cannot be provoked on this machine"));
            continue;
        };
        assert_eq!(format!("{:?}", error.kind()).split(' ').next(), Some(*kind), "{error}");
        let named: PathBuf = error.path().unwrap_or_else(|| panic!("a path in {error}")).into();
        assert!(named == path || *kind == "StorageFull", "{error}");
        let text = error.to_string();
        assert_eq!(text.replace(&format!("{named:?}"), "PATH"), *says, "{kind}");
        assert_eq!(error.source().is_some(), *has_source, "{kind}");
        let repeated = error.source().is_some_and(|source| text.contains(&source.to_string()));
        assert!(!repeated, "the text of the source stands in {text}");
    }
}

#[test]
fn every_kind_of_the_guide_has_a_row() {
    let guide = include_str!("../../src/guide/errors.md").lines();
    let kinds = guide.filter_map(|line| line.strip_prefix("| `")?.split(['`', ' ']).next());
    assert!(kinds.eq(ROWS.iter().map(|row| row.kind)), "the guide's table and the rows have one order");
}

/// The kind of an error, and a function that makes a stream which fails with this kind.
type Failing = (&'static str, for<'a> fn(&'a MmapArray<u8, Ix2>) -> Stream<'a, Source<'a, u8, Ix2>>);

/// The name of a terminal operation of a stream, and a function that calls it.
type End = (&'static str, fn(Stream<'_, Source<'_, u8, Ix2>>, &Path) -> Result<()>);

#[test]
fn an_error_of_any_step_names_the_call_that_ended_the_stream() {
    let failing: [Failing; 4] = [
        ("OutOfBounds", |array| Stream::from(array).select(Axis(1), &[7])),
        ("InvalidInput", |array| Stream::from(array).rows(s![3])),
        ("Cancelled", |array| Stream::from(array).progress(|_, _| ControlFlow::Break(()))),
        ("Closed", |array| {
            close_path(array.path()).unwrap();
            Stream::from(array)
        }),
    ];
    let ends: [End; 6] = [
        ("write_to", |stream, out| stream.write_to(out).map(drop)),
        ("copy_into", |stream, _| stream.copy_into(&mut Array2::zeros((10, 7)))),
        ("fold", |stream, _| stream.fold((), |(), _| ())),
        ("mean_axis0", |stream, _| stream.mean_axis0().map(drop)),
        ("var_axis0", |stream, _| stream.cast::<f64>().var_axis0(0.0).map(drop)),
        ("min_max", |stream, _| concat(Axis(0), [stream.boxed()]).min_max().map(drop)),
    ];
    let folder = disk_folder();
    let (path, out) = (folder.path().join("a.npy"), folder.path().join("out.npy"));
    for (kind, stream) in failing {
        for (operation, end) in ends {
            let array = MmapArray::<u8, Ix2>::create(&path, (10, 7)).unwrap();
            // `concat` ignores the progress function of a part.
            let Err(error) = end(stream(&array), &out) else {
                assert_eq!((kind, operation), ("Cancelled", "min_max"));
                continue;
            };
            assert_eq!(format!("{:?}", error.kind()), kind, "{error}");
            assert!(
                error.to_string().starts_with(&format!("{operation} {:?}: expected ", error.path().unwrap()))
            );
            assert!(
                error.path() == Some(array.path()) || (kind, operation) == ("Cancelled", "write_to"),
                "{error}"
            );
        }
    }
    let array = MmapArray::<u8, Ix2>::create(&path, (10, 7)).unwrap();
    let mut chunks = array.row_chunks(Budget::default());
    close_path(&path).unwrap();
    let error = chunks.try_next().unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("try_next {path:?}: expected an open array, ")),
        "{error}"
    );
}
