//! Tests of `AnyArray`, which reads the element type from the file, and of file names that need an explicit format.

use crate::support::{disk_folder, names_in, numpy_header};
use bytemuck::Pod;
use ndarray::{Ix1, Ix2, IxDyn};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{
    AnyArray, AnyElement, ArrayOptions, Dtype, ErrorKind, Format, MmapArray, ReadOnly, Result, match_dtype,
    open_arrays,
};
use std::fs;
use std::path::Path;

/// Writes three elements and reads them back through `AnyArray`.
fn check<T: AnyElement>(path: &Path) {
    fn bytes_of<U: Pod>(array: &MmapArray<U, IxDyn, ReadOnly>) -> Vec<u8> {
        array.iter().flat_map(|element| bytemuck::bytes_of(element).to_vec()).collect()
    }
    let values = [1, 0, 77].map(|value| T::from(value).unwrap());
    let mut array = MmapArray::<T, Ix1>::create(path, 3).unwrap();
    array.assign(&ndarray::arr1(&values));
    array.close().unwrap();
    let array = AnyArray::open(path).unwrap();
    assert_eq!(Some(array.dtype()), Dtype::of::<T>());
    assert_eq!((array.shape(), array.ndim(), array.path()), (&[3][..], 1, path));
    let bytes = match_dtype!(&array, |typed| bytes_of(typed));
    assert_eq!(bytes, bytemuck::cast_slice::<T, u8>(&values), "{}", array.dtype());
    array.close().unwrap();
}

#[test]
fn every_dtype_opens_as_its_own_variant() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    check::<u8>(&path);
    check::<i8>(&path);
    check::<u16>(&path);
    check::<i16>(&path);
    check::<u32>(&path);
    check::<i32>(&path);
    check::<u64>(&path);
    check::<i64>(&path);
    check::<f32>(&path);
    check::<f64>(&path);
    #[cfg(feature = "half")]
    check::<half::f16>(&path);
    #[cfg(feature = "complex")]
    check::<num_complex::Complex<f32>>(&path);
    #[cfg(feature = "complex")]
    check::<num_complex::Complex<f64>>(&path);
}

#[test]
fn the_macro_takes_references_values_and_control_flow() {
    fn first_axis(path: &Path) -> Result<usize> {
        let array = AnyArray::open(path)?;
        let rows = match_dtype!(&array, |typed| {
            typed.prefetch_rows(..)?;
            if typed.is_empty() {
                return Ok(0);
            }
            typed.shape()[0]
        });
        match_dtype!(array, |typed| typed.close()?);
        Ok(rows)
    }
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    MmapArray::<i16, Ix2>::create(&path, (5, 3)).unwrap().close().unwrap();
    assert_eq!(first_axis(&path).unwrap(), 5);
    MmapArray::<f64, Ix2>::create(&path, (5, 0)).unwrap().close().unwrap();
    assert_eq!(first_axis(&path).unwrap(), 0);
}

#[test]
fn booleans_open_as_bytes() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    fs::write(&path, [numpy_header("|b1", "(4,)"), vec![1, 0, 1, 1]].concat()).unwrap();
    let AnyArray::U8(array) = AnyArray::open(&path).unwrap() else { panic!("`U8`") };
    assert_eq!(array.as_slice().unwrap(), [1, 0, 1, 1]);
    assert_eq!(*ndarray_mmap::inspect(&path).unwrap().dtype(), Dtype::Bool);
}

#[test]
fn the_error_for_a_foreign_dtype_names_it_and_a_conversion() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    for (descr, way_out) in [
        (">f4", "astype('<f4')"),
        (">c16", "astype('<c16')"),
        ("<M8[ns]", "a.view('i8')"),
        ("|O", "allow_pickle=True"),
        ("<U7", "a.view('u1')"),
        ("|S5", "a.view('u1')"),
        ("<f16", "`astype`"),
        ("[('x', '<f4')]", "`inspect`"),
    ] {
        fs::write(&path, [numpy_header(descr, "(0,)"), vec![]].concat()).unwrap();
        let error = AnyArray::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DtypeMismatch, "{descr}");
        let text = error.to_string();
        let start = format!("open {path:?}: expected a dtype that `AnyArray` has a variant for, found ");
        assert!(text.starts_with(&start) && text.contains(descr) && text.contains(way_out), "{text}");
    }
}

#[test]
#[cfg(not(all(feature = "half", feature = "complex")))]
fn dtypes_of_a_missing_feature_name_the_feature() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    for (descr, feature, enabled) in [
        ("<f2", "half", cfg!(feature = "half")),
        ("<c8", "complex", cfg!(feature = "complex")),
        ("<c16", "complex", cfg!(feature = "complex")),
    ] {
        fs::write(&path, numpy_header(descr, "(0,)")).unwrap();
        match AnyArray::open(&path) {
            Ok(_) => assert!(enabled, "{descr}"),
            Err(error) => {
                assert!(!enabled && error.to_string().contains(&format!("`{feature}`")), "{error}");
            }
        }
    }
}

#[test]
fn options_and_errors_of_opening_reach_the_caller() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let writer = MmapArray::<u16, Ix1>::create(&path, 4).unwrap();
    assert_eq!(AnyArray::open(&path).unwrap_err().kind(), ErrorKind::InUse);
    drop(writer);
    let options = ArrayOptions::new().format(Format::Raw);
    assert_eq!(AnyArray::open_with(&options.clone().shape(4), &path).unwrap().shape(), [4]);
    let error = AnyArray::open_with(&options.shape(5), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
    let other_name = folder.path().join("a.npy.tmp");
    fs::rename(&path, &other_name).unwrap();
    assert_eq!(AnyArray::open(&other_name).unwrap().dtype(), Dtype::U16);
    assert_eq!(AnyArray::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
    fs::OpenOptions::new().append(true).open(&other_name).unwrap().set_len(130).unwrap();
    assert_eq!(AnyArray::open(&other_name).unwrap_err().kind(), ErrorKind::LengthMismatch);
    fs::write(&path, [0; 1000]).unwrap();
    let error = AnyArray::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidHeader);
    assert!(error.to_string().contains("a raw file has no header"), "{error}");
    assert!(open_arrays().iter().all(|open| !open.path.starts_with(folder.path())));
}

#[test]
fn names_of_packed_files_need_a_format() {
    let folder = disk_folder();
    let options = ArrayOptions::new().shape(4);
    let source = MmapArray::<u8, Ix1>::scratch(4).unwrap();
    for name in
        ["a.npz", "a.npy.gz", "a.NPY.xz", "a.npy.zst", "a.npy.bz2", "a.npy.tmp", "a.npz.part", "a.npy~"]
    {
        let path = folder.path().join("deep").join(name);
        for (operation, error) in [
            ("create", options.create::<u8, Ix1>(&path).unwrap_err()),
            ("create_new", options.create_new::<u8, Ix1>(&path).unwrap_err()),
            ("open", options.open::<u8, Ix1>(&path).unwrap_err()),
            ("open_rw", options.open_rw::<u8, Ix1>(&path).unwrap_err()),
            ("open_cow", options.open_cow::<u8, Ix1>(&path).unwrap_err()),
            ("write_to", Stream::from(&source).write_to(&path).unwrap_err()),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{operation}");
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("{operation} {path:?}: expected the name of an NPY")),
                "{text}"
            );
            assert!(text.ends_with("choose the format with `ArrayOptions::format`"), "{text}");
        }
    }
    assert!(names_in(folder.path()).is_empty(), "nothing is created, not even the parent directory");
    for format in [Format::Raw, Format::Npy] {
        let path = folder.path().join("a.npy.tmp");
        let options = options.clone().format(format);
        options.create::<u8, Ix1>(&path).unwrap().close().unwrap();
        assert_eq!(options.open::<u8, Ix1>(&path).unwrap().len(), 4);
    }
}
