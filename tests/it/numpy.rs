//! Tests that the crate reads the files of numpy, and that numpy reads the files of the crate. The tests compare each
//! element of each supported dtype, and each byte of the headers.

use crate::support::{disk_folder, memory_folder, numpy};
use bytemuck::Pod;
use ndarray::{Dimension, IxDyn, ShapeBuilder};
use ndarray_mmap::{ErrorKind, MmapArray, Result};
use std::fmt::Write;
use std::path::Path;
use std::{fs, str};

/// Returns `count_bytes` bytes of a fixed pattern, in logical order of the elements. `interop.py` makes the same
/// pattern.
fn pattern(count_bytes: usize) -> impl Iterator<Item = u8> {
    (0..count_bytes).map(|i| ((i * 167 + (i >> 8) * 13 + 7) % 256) as u8)
}

/// A function that returns the expected byte, given its index and the byte of the pattern.
type ByteOf<'a> = &'a dyn Fn(usize, u8) -> u8;

/// An element type and its descriptor in numpy.
struct Dtype {
    descr: &'static str,
    write: fn(&Path, &IxDyn, bool),
    check: fn(&Path, &IxDyn, ByteOf<'_>) -> Result<bool>,
    open: fn(&Path) -> Result<()>,
}

impl Dtype {
    fn of<T: Pod>(descr: &'static str) -> Self {
        Self {
            descr,
            write: write::<T>,
            check: check::<T>,
            open: |path| MmapArray::<T, IxDyn>::open(path).map(drop),
        }
    }

    fn all() -> Vec<Self> {
        vec![
            Self::of::<i8>("|i1"),
            Self::of::<i16>("<i2"),
            Self::of::<i32>("<i4"),
            Self::of::<i64>("<i8"),
            Self::of::<isize>("<i8"),
            Self::of::<u8>("|u1"),
            Self::of::<u16>("<u2"),
            Self::of::<u32>("<u4"),
            Self::of::<u64>("<u8"),
            Self::of::<usize>("<u8"),
            Self::of::<f32>("<f4"),
            Self::of::<f64>("<f8"),
            #[cfg(feature = "half")]
            Self::of::<half::f16>("<f2"),
            #[cfg(feature = "complex")]
            Self::of::<num_complex::Complex<f32>>("<c8"),
            #[cfg(feature = "complex")]
            Self::of::<num_complex::Complex<f64>>("<c16"),
        ]
    }
}

fn write<T: Pod>(path: &Path, shape: &IxDyn, fortran: bool) {
    let mut array = MmapArray::<T, IxDyn>::create(path, shape.clone().set_f(fortran)).unwrap();
    let bytes: Vec<u8> = pattern(shape.size() * size_of::<T>()).collect();
    for (element, bytes) in array.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
        *element = bytemuck::pod_read_unaligned(bytes);
    }
    array.close().unwrap();
}

/// Returns whether the file has the given shape and holds the pattern. `change` is applied to each byte of the pattern
/// first. The file is opened by `open`, `open_cow` and `open_rw` in turn.
fn check<T: Pod>(path: &Path, shape: &IxDyn, change: &dyn Fn(usize, u8) -> u8) -> Result<bool> {
    let expected: Vec<u8> =
        pattern(shape.size() * size_of::<T>()).enumerate().map(|(i, x)| change(i, x)).collect();
    let holds = |array: &ndarray::ArrayRef<T, IxDyn>| {
        let found: Vec<u8> = array.iter().flat_map(|x| bytemuck::bytes_of(x).to_vec()).collect();
        array.raw_dim() == *shape && found == expected
    };
    Ok(holds(&MmapArray::<T, IxDyn>::open(path)?)
        && holds(&MmapArray::<T, IxDyn>::open_cow(path)?)
        && holds(&MmapArray::<T, IxDyn>::open_rw(path)?))
}

fn shapes() -> Vec<IxDyn> {
    let shapes: [&[usize]; 13] = [
        &[],
        &[0],
        &[1],
        &[7],
        &[1000],
        &[3, 4],
        &[1, 5],
        &[5, 1],
        &[4, 0, 5],
        &[2, 3, 4],
        &[1, 1, 1],
        &[2, 3, 4, 5],
        &[2, 3, 1, 3, 2],
    ];
    shapes.map(IxDyn).to_vec()
}

fn line(parts: &[&str], shape: &IxDyn) -> String {
    let lengths = shape.slice().iter().fold(String::new(), |mut text, len| {
        write!(text, " {len}").unwrap();
        text
    });
    format!("{}{lengths}\n", parts.join(" "))
}

/// Writes the files that numpy must read, and the list of the files that numpy must write.
fn prepare(folder: &Path) -> usize {
    let (mut ours, mut wanted) = (String::new(), String::new());
    let mut count = 0;
    for dtype in Dtype::all() {
        for shape in shapes() {
            for (fortran, order) in [(false, "C"), (true, "F")] {
                let name = format!("ours-{count}.npy");
                (dtype.write)(&folder.join(&name), &shape, fortran);
                ours += &line(&[&name, dtype.descr, order], &shape);
                wanted += &line(&[dtype.descr, order], &shape);
                count += 1;
            }
        }
    }
    for shape in shapes() {
        wanted += &line(&["|b1", "F"], &shape);
    }
    fs::write(folder.join("ours.txt"), ours).unwrap();
    fs::write(folder.join("wanted.txt"), wanted).unwrap();
    MmapArray::<i32, IxDyn>::create(folder.join("shared.npy"), IxDyn(&[10, 10])).unwrap().close().unwrap();
    count
}

/// Opens each file that numpy has written. Opening must succeed with the element type of the file, and fail with every
/// other element type.
fn read_theirs(folder: &Path) -> usize {
    let listing = fs::read_to_string(folder.join("theirs.txt")).unwrap();
    for line in listing.lines() {
        let mut words = line.split(' ');
        let (name, descr, _order) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let shape = IxDyn(&words.map(|len| len.parse().unwrap()).collect::<Vec<_>>());
        let path = folder.join(name);
        if descr == "|b1" {
            assert!(check::<u8>(&path, &shape, &|_, x| x % 2).unwrap(), "{line}");
            continue;
        }
        for dtype in Dtype::all() {
            if dtype.descr == descr {
                assert!((dtype.check)(&path, &shape, &|_, x| x).unwrap(), "{line}");
            } else {
                let error = (dtype.open)(&path).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::DtypeMismatch, "{line} as {}", dtype.descr);
            }
        }
    }
    listing.lines().count()
}

/// Asserts that no element type can open a file of an unsupported dtype, and that the error names the dtype and the
/// element type.
fn refuse(folder: &Path) -> usize {
    let listing = fs::read_to_string(folder.join("refused.txt")).unwrap();
    for line in listing.lines() {
        let (name, descr) = line.split_once('\t').unwrap();
        for dtype in Dtype::all() {
            let error = (dtype.open)(&folder.join(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DtypeMismatch, "{line}: {error}");
            assert!(error.to_string().contains(descr), "{descr} is not in {error}");
            assert!(error.to_string().contains(dtype.descr), "{} is not in {error}", dtype.descr);
        }
    }
    listing.lines().count()
}

#[test]
fn numpy_and_the_crate_read_each_others_files() {
    let Some(mut python) = numpy() else { return };
    let folder = memory_folder();
    let ours = prepare(folder.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/interop.py");
    let output = python.arg(script).arg(folder.path()).output().unwrap();
    let printed = str::from_utf8(&output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let theirs = read_theirs(folder.path());
    let refused = refuse(folder.path());
    assert_eq!(printed.trim(), format!("read {ours} wrote {theirs} refused {refused}"));
    assert!(ours >= 312 && theirs >= 1625 && refused >= 22, "{printed}");
    let shared = MmapArray::<i32, IxDyn>::open(folder.path().join("shared.npy")).unwrap();
    assert!(shared.iter().all(|&x| x == 5), "the file holds the elements that numpy changed in place");
}

#[test]
fn data_at_any_offset_is_read_if_it_is_aligned_for_its_type() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    // Old versions of numpy aligned the data to 16 bytes, and other programs do not align the data.
    for padding in 0..40 {
        let text =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }}{}\n", " ".repeat(padding));
        let header =
            [&b"\x93NUMPY\x01\x00"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
        let data: Vec<u8> = [1.0_f32, 2.0, 3.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        fs::write(&path, [header.as_slice(), &data].concat()).unwrap();
        match MmapArray::<f32, IxDyn>::open(&path) {
            Ok(array) => {
                assert_eq!(header.len() % 4, 0);
                assert_eq!(array.sum(), 6.5);
                array.evict().unwrap();
                assert_eq!(array.sum(), 6.5);
            }
            Err(error) => {
                assert_ne!(header.len() % 4, 0, "{error}");
                assert_eq!(error.kind(), ErrorKind::Unaligned);
            }
        }
    }
}
