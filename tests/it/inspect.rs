//! Tests of `inspect` on complete, damaged, hostile and unrelated files.

use crate::support::{disk_folder, is_alone, mappings_under, numpy_header};
use ndarray::{Dimension, Ix0, Ix1, Ix2, IxDyn, Order, ShapeBuilder};
use ndarray_mmap::{ByteOrder, Dtype, ErrorKind, Format, MmapArray, inspect, open_arrays};
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;

#[test]
fn created_files_are_described_as_they_were_asked_for() {
    fn check<D: Dimension>(shape: D, described: &str) {
        let folder = disk_folder();
        let path = folder.path().join("a.npy");
        for fortran in [false, true] {
            let array = MmapArray::<f32, D>::create(&path, shape.clone().set_f(fortran)).unwrap();
            let len_bytes = (array.len() * 4) as u64;
            array.close().unwrap();
            let description = inspect(&path).unwrap();
            // An array can be in C order and in Fortran order at the same time. numpy and this crate write such an
            // array in C order.
            let is_fortran = fortran && shape.ndim() > 1 && shape.size() > 0;
            assert_eq!(description.order() == Order::ColumnMajor, is_fortran, "{described}");
            assert_eq!(description.shape(), shape.slice());
            assert_eq!(*description.dtype(), Dtype::F32);
            assert_eq!((description.offset_bytes(), description.len_bytes()), (128, len_bytes));
            assert_eq!(description.file_bytes(), 128 + len_bytes);
            assert_eq!((description.format(), description.npy_version()), (Format::Npy, (1, 0)));
            assert!(description.is_complete());
            let order = if is_fortran { "Fortran" } else { "C" };
            let line =
                format!("<f4 {described}, {order} order, data at byte 128, {len_bytes} bytes, NPY 1.0");
            assert_eq!(description.to_string(), line);
        }
    }
    check(Ix0(), "()");
    check(Ix1(0), "(0,)");
    check(Ix1(7), "(7,)");
    check(Ix2(1000, 50), "(1000, 50)");
    check(Ix2(5, 0), "(5, 0)");
    check(IxDyn(&[2, 1, 3, 1, 2]), "(2, 1, 3, 1, 2)");
}

/// The test runs in a process of its own, because other tests map files at the same time.
#[test]
fn nothing_is_mapped_or_locked() {
    if !is_alone("inspect::nothing_is_mapped_or_locked") {
        return;
    }
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let mut writer = MmapArray::<u64, Ix1>::create(&path, 1000).unwrap();
    let mappings = mappings_under(folder.path());
    let description = inspect(&path).unwrap();
    assert_eq!((mappings_under(folder.path()), open_arrays().len()), (mappings, 1));
    assert_eq!(description.shape(), [1000]);
    writer.fill(3);
    writer.close().unwrap();
    MmapArray::<u64, Ix1>::open_rw(&path).unwrap();
    assert_eq!(inspect(&path).unwrap(), description);
}

#[test]
fn files_of_another_length_are_described() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let header = numpy_header("<f8", "(10, 3)");
    for (data_bytes, ending) in [
        (0, ", file ends 240 bytes early"),
        (239, ", file ends 1 bytes early"),
        (240, ", NPY 1.0"),
        (241, ", 1 bytes too many"),
        (1000, ", 760 bytes too many"),
    ] {
        fs::write(&path, [header.clone(), vec![0; data_bytes]].concat()).unwrap();
        let description = inspect(&path).unwrap();
        assert_eq!((description.len_bytes(), description.shape()), (240, &[10, 3][..]));
        assert_eq!(description.file_bytes(), 128 + data_bytes as u64);
        assert!(description.to_string().ends_with(ending), "{description}");
        let opened = MmapArray::<f64, Ix2>::open(&path).map(drop).map_err(|error| error.kind());
        assert_eq!(opened, if description.is_complete() { Ok(()) } else { Err(ErrorKind::LengthMismatch) });
    }
}

#[test]
fn foreign_dtypes_are_described_with_their_size() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    for (descr, size_bytes, byte_order, native) in [
        (">f4", Some(4), Some(ByteOrder::Big), Some(Dtype::F32)),
        (">c16", Some(16), Some(ByteOrder::Big), Some(Dtype::C128)),
        ("<U7", Some(28), Some(ByteOrder::Little), None),
        ("|S5", Some(5), None, None),
        ("|V3", Some(3), None, None),
        (">M8[ns]", Some(8), Some(ByteOrder::Big), None),
        ("<f16", Some(16), Some(ByteOrder::Little), None),
        ("|O", None, None, None),
        ("[('x', '<f4'), ('y', '>i2', (2,))]", None, None, None),
    ] {
        fs::write(&path, [numpy_header(descr, "(3,)"), vec![0; 90]].concat()).unwrap();
        let description = inspect(&path).unwrap();
        let dtype = description.dtype();
        assert_eq!((dtype.to_string().as_str(), dtype.descr()), (descr, descr));
        assert_eq!((dtype.size_bytes(), dtype.byte_order()), (size_bytes, byte_order), "{descr}");
        assert_eq!(dtype.in_native_order(), native, "{descr}");
        assert!(matches!(dtype, Dtype::Foreign(foreign) if foreign.descr() == descr));
        assert_eq!(description.len_bytes(), size_bytes.map_or(90, |size| 3 * size as u64), "{descr}");
        assert!(description.to_string().starts_with(&format!("{descr} (3,), C order")), "{description}");
    }
}

#[test]
fn the_error_for_a_file_without_a_header_suggests_a_remedy() {
    let folder = disk_folder();
    let raw = "a raw file has no header to inspect: open it with `Format::Raw` and its shape";
    for (name, bytes, way_out) in [
        ("a.raw", &[0; 1000][..], raw),
        ("a.npy", b"some text", raw),
        ("a.npy", b"", raw),
        ("a.npy", b"\x93NUM", raw),
        ("a.npz", b"PK\x03\x04\x14\0\0\0", "unpack it first"),
        ("a.npy.gz", b"\x1f\x8b\x08\0\0\0", "unpack it first"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = inspect(&path).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::InvalidHeader, Some(path.as_path())), "{name}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("inspect {path:?}: expected the magic bytes")), "{text}");
        assert!(text.ends_with(&format!("; {way_out}")), "{text}");
    }
}

#[test]
fn paths_that_are_not_regular_files_are_refused_without_blocking() {
    let folder = disk_folder();
    let pipe = folder.path().join("pipe.npy");
    let name = CString::new(pipe.as_os_str().as_bytes()).unwrap();
    // SAFETY: `name` is a string that ends in a NUL byte and lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let kind = |path: &std::path::Path| inspect(path).unwrap_err().kind();
    assert_eq!(kind(&pipe), ErrorKind::NotAFile);
    assert_eq!(kind(folder.path()), ErrorKind::NotAFile);
    let file_with_slash = folder.path().join("a.npy");
    fs::write(&file_with_slash, b"").unwrap();
    assert_eq!(kind(&file_with_slash.join("")), ErrorKind::NotAFile);
    assert_eq!(kind(&folder.path().join("missing.npy")), ErrorKind::NotFound);
    assert_eq!(kind(std::path::Path::new("")), ErrorKind::InvalidInput);
}

#[test]
fn hostile_headers_return_a_description_or_an_error() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let kind = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        inspect(&path).map(|description| description.to_string()).map_err(|error| error.kind())
    };
    for (descr, shape) in [
        ("<f8", "(2305843009213693952,)"),
        (">c16", "(1152921504606846976, 1)"),
        ("<U2305843009213693951", "(2,)"),
        ("|S9223372036854775807", "(3,)"),
        ("|O", "(18446744073709551616,)"),
    ] {
        assert_eq!(kind(&numpy_header(descr, shape)), Err(ErrorKind::SizeOverflow), "{descr} {shape}");
    }
    let unknown_sizes = [
        ("|S99999999999999999999999999", "(1,)"),
        ("|S9223372036854775808", "()"),
        ("<U4611686018427387904", "(2,)"),
        ("|O", "(9223372036854775807,)"),
        ("float32", "(3,)"),
    ];
    for (descr, shape) in unknown_sizes {
        let line = kind(&numpy_header(descr, shape)).unwrap();
        assert_eq!(line, format!("{descr} {shape}, C order, data at byte 128, 0 bytes, NPY 1.0"));
    }
    // The header states the largest shape that can be addressed, and the file has no data.
    let line = kind(&numpy_header("|u1", "(9223372036854775807,)")).unwrap();
    assert!(line.ends_with("file ends 9223372036854775807 bytes early"), "{line}");
    assert_eq!(kind(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), Err(ErrorKind::InvalidHeader));
    assert_eq!(kind(&numpy_header("<f4", "(3,")), Err(ErrorKind::InvalidHeader));
    assert_eq!(kind(&numpy_header("<f4", "(3,)")[..100]), Err(ErrorKind::InvalidHeader));
}

#[test]
fn control_characters_of_a_header_are_escaped() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    fs::write(&path, numpy_header("[('\u{1b}[31m\n', '<f4')]", "(1,)")).unwrap();
    let line = inspect(&path).unwrap().to_string();
    assert!(
        line.starts_with("[('\\u{1b}[31m\\n', '<f4')] (1,), ") && !line.contains(['\u{1b}', '\n']),
        "{line}"
    );
}
