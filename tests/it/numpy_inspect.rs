//! Tests that `inspect` and `AnyArray` agree with numpy, for each dtype that numpy can save, in each version of the
//! format.

use crate::support::{memory_folder, numpy};
use ndarray::{IxDyn, Order};
use ndarray_mmap::{AnyArray, AnyElement, Dtype, ErrorKind, MmapArray, ReadOnly, inspect, match_dtype};
use std::path::Path;
use std::{fs, str};

/// Returns the sum of the elements, as the bytes of one element in hexadecimal.
fn sum_in_hex<T: AnyElement>(array: &MmapArray<T, IxDyn, ReadOnly>) -> String {
    let sum = array.iter().fold(T::zero(), |sum, &element| sum + element);
    bytemuck::bytes_of(&sum).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns whether this build supports the dtype.
fn is_enabled(dtype: &Dtype) -> bool {
    let without_a_feature = matches!(
        (dtype, cfg!(feature = "half"), cfg!(feature = "complex")),
        (Dtype::Foreign(_), _, _) | (Dtype::F16, false, _) | (Dtype::C64 | Dtype::C128, _, false)
    );
    !without_a_feature
}

/// Checks one line of the listing that `headers.py` writes. Returns whether the file of this line could be opened.
fn check(folder: &Path, line: &str) -> bool {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, descr, shape, order, offset, len, version, sum] = fields[..] else { panic!("{line}") };
    let path = folder.join(name);
    let description = inspect(&path).unwrap();
    let fortran = description.order() == Order::ColumnMajor;
    let (major, minor) = description.npy_version();
    assert_eq!(description.dtype().to_string(), descr, "{line}");
    assert_eq!(fortran, order == "F", "{line}");
    assert_eq!(description.offset_bytes().to_string(), offset, "{line}");
    assert_eq!(description.len_bytes().to_string(), len, "{line}");
    assert_eq!(format!("{major}.{minor}"), version, "{line}");
    assert!(description.is_complete(), "{line}");
    let order = if fortran { "Fortran" } else { "C" };
    assert_eq!(
        description.to_string(),
        format!("{descr} {shape}, {order} order, data at byte {offset}, {len} bytes, NPY {version}")
    );
    if sum == "-" {
        assert!(matches!(description.dtype(), Dtype::Foreign(_)), "{line}");
    }
    match AnyArray::open(&path) {
        Ok(array) => {
            assert_eq!(array.shape(), description.shape(), "{line}");
            assert_eq!(match_dtype!(&array, |typed| sum_in_hex(typed)), sum, "{line}");
            true
        }
        Err(error) => {
            assert!(!is_enabled(description.dtype()), "{line}: {error}");
            assert_eq!(error.kind(), ErrorKind::DtypeMismatch, "{line}: {error}");
            assert!(error.to_string().contains(descr), "{line}: {error}");
            false
        }
    }
}

#[test]
fn headers_and_sums_are_those_that_numpy_reads() {
    let Some(mut python) = numpy() else { return };
    let folder = memory_folder();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/headers.py");
    let output = python.arg(script).arg(folder.path()).output().unwrap();
    let printed = str::from_utf8(&output.stdout).unwrap().trim();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let listing = fs::read_to_string(folder.path().join("listing.txt")).unwrap();
    let opened = listing.lines().filter(|line| check(folder.path(), line)).count();
    assert_eq!(listing.lines().count().to_string(), printed);
    // There are 31 numeric dtypes and 15 other dtypes, each in 6 shapes, 2 orders and 4 versions.
    assert_eq!(listing.lines().count(), 46 * 48);
    let foreign = listing.lines().filter(|line| line.ends_with("\t-")).count();
    if cfg!(all(feature = "half", feature = "complex")) {
        assert_eq!(opened, listing.lines().count() - foreign);
    }
    assert!(opened >= 13 * 48, "{opened} of {printed} were opened");
}
