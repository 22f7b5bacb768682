//! Tests that mapped arrays work with the functions, operators and conversions of ndarray.

use crate::support::disk_folder;
use ndarray::{
    Array, Array1, Array2, ArrayRef, ArrayView, ArrayView2, ArrayViewMut, AsArray, Axis, Dimension, Ix1, Ix2,
    Ix3, IxDyn, Zip, aview1, azip, concatenate, s, stack,
};
use ndarray_mmap::{Access, Allocation, ArrayOptions, CopyOnWrite, MmapArray, ReadOnly, ReadWrite, Writable};
use std::path::Path;

fn table() -> Array2<f64> {
    Array2::from_shape_fn((6, 4), |(row, column)| (10 * row + column) as f64)
}

/// Writes a file that holds `table()`.
fn table_file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = folder.path().join("table.npy");
    let mut array = MmapArray::<f64, Ix2>::create(&path, (6, 4)).unwrap();
    array.assign(&table());
    array.close().unwrap();
    path
}

fn sum_of_slice<'a>(array: impl AsArray<'a, f64, Ix2>) -> f64 {
    let view: ArrayView2<f64> = array.into();
    view.slice(s![1.., ..]).sum()
}

fn sum_of_ref<D: Dimension>(array: &ArrayRef<f64, D>) -> f64 {
    array.sum()
}

fn sum_of_mapped<D: Dimension, A: Access>(array: &MmapArray<f64, D, A>) -> f64 {
    array.iter().sum()
}

fn negate<D: Dimension>(array: &mut ArrayRef<f64, D>) {
    array.mapv_inplace(|x| -x);
}

fn double_mapped<D: Dimension, A: Writable>(array: &mut MmapArray<f64, D, A>) {
    for x in array {
        *x *= 2.0;
    }
}

fn sum_through_as_ref(array: impl AsRef<ArrayRef<f64, Ix2>>) -> f64 {
    array.as_ref().sum()
}

#[test]
fn every_access_reads_as_an_ndarray() {
    let folder = disk_folder();
    let path = table_file(&folder);
    reads_as_an_ndarray(&MmapArray::<f64, Ix2>::open(&path).unwrap());
    reads_as_an_ndarray(&MmapArray::<f64, Ix2>::open_rw(&path).unwrap());
    reads_as_an_ndarray(&MmapArray::<f64, Ix2>::open_cow(&path).unwrap());
    let mut scratch = MmapArray::<f64, Ix2>::scratch((6, 4)).unwrap();
    scratch.assign(&table());
    reads_as_an_ndarray(&scratch);
    reads_as_an_ndarray(&scratch.into_read_only().unwrap());
}

fn reads_as_an_ndarray<A: Access>(m: &MmapArray<f64, Ix2, A>) {
    let t = table();
    // Indexing, slices and views.
    assert_eq!((m[[5, 3]], m[(0, 1)], m.get([6, 0])), (53.0, 1.0, None));
    assert_eq!(m.slice(s![..;-2, 1..3]), t.slice(s![..;-2, 1..3]));
    assert_eq!(m.row(2), t.row(2));
    assert_eq!(m.column(1), t.column(1));
    assert_eq!(m.t(), t.t());
    assert_eq!(m.diag(), t.diag());
    assert_eq!(m.index_axis(Axis(0), 4), t.index_axis(Axis(0), 4));
    assert_eq!(m.view().into_dyn(), t.view().into_dyn());
    assert_eq!(m.broadcast((2, 6, 4)).unwrap().sum(), 2.0 * t.sum());
    assert_eq!((m.shape(), m.dim(), m.strides(), m.len()), (&[6, 4][..], (6, 4), &[4, 1][..], 24));
    assert!(m.is_standard_layout() && m.as_slice().unwrap() == t.as_slice().unwrap());
    // Reductions and copies.
    assert_eq!(m.sum(), t.sum());
    assert_eq!(m.mean_axis(Axis(0)), t.mean_axis(Axis(0)));
    assert_eq!(m.var_axis(Axis(1), 0.0), t.var_axis(Axis(1), 0.0));
    assert_eq!(m.fold(0.0, |sum, x| sum + x * x), t.fold(0.0, |sum, x| sum + x * x));
    assert_eq!(m.map(|x| *x as i32), t.map(|x| *x as i32));
    assert_eq!((**m).to_owned(), t);
    assert_eq!(m.select(Axis(0), &[5, 0, 5]), t.select(Axis(0), &[5, 0, 5]));
    assert_eq!(m.to_shape((4, 6)).unwrap(), t.to_shape((4, 6)).unwrap());
    // Conversions and arguments.
    assert_eq!(ArrayView::from(m), t);
    assert_eq!(sum_of_slice(m), t.slice(s![1.., ..]).sum());
    assert_eq!(sum_of_ref(m), t.sum());
    assert_eq!(sum_of_mapped(m), t.sum());
    assert_eq!(sum_through_as_ref(m), t.sum());
    // Joining.
    assert_eq!(concatenate![Axis(0), m.view(), t], concatenate![Axis(0), t, t]);
    assert_eq!(stack![Axis(2), ArrayView::from(m), t], stack![Axis(2), t, t]);
    let mut grown = t.clone();
    grown.append(Axis(0), m.into()).unwrap();
    assert_eq!(grown.slice(s![6.., ..]), *m);
    iterates_as_an_ndarray(m);
    computes_as_an_ndarray(m);
}

fn iterates_as_an_ndarray<A: Access>(m: &MmapArray<f64, Ix2, A>) {
    let t = table();
    let mut seen = Vec::new();
    for x in m {
        seen.push(*x);
    }
    assert_eq!(seen, t.iter().copied().collect::<Vec<_>>());
    assert!(m.indexed_iter().eq(t.indexed_iter()));
    assert!(m.outer_iter().eq(t.outer_iter()));
    assert!(m.lanes(Axis(0)).into_iter().eq(t.lanes(Axis(0))));
    assert!(m.windows((2, 2)).into_iter().eq(t.windows((2, 2))));
    assert!(m.exact_chunks((2, 2)).into_iter().eq(t.exact_chunks((2, 2))));
    let chunks: Vec<_> = m.axis_chunks_iter(Axis(0), 4).map(|chunk| chunk.nrows()).collect();
    assert_eq!(chunks, [4, 2]);

    let sums = Zip::from(m).and(&t).map_collect(|a, b| a + b);
    assert_eq!(sums, &t + &t);
    let mut last = 0.0;
    Zip::indexed(m).for_each(|(row, column), x| last = *x - (10 * row + column) as f64);
    assert_eq!(last, 0.0);
    let mut out = Array2::zeros((6, 4));
    azip!((out in &mut out, &x in m, &y in &t) *out = x - y);
    assert_eq!(out.sum(), 0.0);
    let rows = Zip::from(m.rows()).map_collect(|row| row.sum());
    assert_eq!(rows, t.sum_axis(Axis(1)));
}

fn computes_as_an_ndarray<A: Access>(m: &MmapArray<f64, Ix2, A>) {
    let t = table();
    let weights = Array1::from_iter((0..4).map(f64::from));
    assert_eq!(m.dot(&weights), t.dot(&weights));
    assert_eq!(m.dot(&t.t()), t.dot(&t.t()));
    assert_eq!(t.t().dot(&**m), t.t().dot(&t));
    let mut product = Array2::zeros((6, 6));
    ndarray::linalg::general_mat_mul(1.0, m, &t.t(), 0.0, &mut product);
    assert_eq!(product, t.dot(&t.t()));

    assert_eq!(m + 1.0, &t + 1.0);
    assert_eq!(m - &*t, Array2::zeros((6, 4)));
    assert_eq!(m * t.clone(), &t * &t);
    assert_eq!(m / 2.0, &t / 2.0);
    assert_eq!(m % 7.0, &t % 7.0);
    assert_eq!(-m, -&t);
    assert_eq!(m + &*weights, &t + &weights);
    assert_eq!(m + &**m, &t + &t);
    assert_eq!(t.dot(&MmapArray::<f64, Ix2>::scratch((4, 2)).unwrap()), Array2::zeros((6, 2)));
    // Broadcast from either side, with arrays in any layout.
    assert_eq!((&weights - m, m - weights.clone()), (&weights - &t, &t - &weights));
    assert_eq!(m - t.clone().reversed_axes().t(), Array2::zeros((6, 4)));
    let mut sum = t.clone();
    *sum += &**m;
    sum.scaled_add(2.0, m);
    sum.zip_mut_with(m, |a, b| *a -= b);
    assert_eq!(sum, &t * 3.0);
}

#[test]
fn integers_and_complex_numbers_have_the_operators_of_ndarray() {
    let mut m = MmapArray::<u8, Ix1>::scratch(4).unwrap();
    let t = Array1::from(vec![1, 2, 4, 255_u8]);
    m |= &t;
    assert_eq!((&m & 6, 6 & &m, !&m), (&t & 6, 6 & &t, !&t));
    assert_eq!((&m ^ &t, &m >> 1, 200 % &m), (Array1::zeros(4), &t >> 1, 200 % &t));
    m <<= 1;
    assert_eq!(m, &t << 1);
    #[cfg(feature = "complex")]
    {
        use num_complex::Complex64;
        let mut m = MmapArray::<Complex64, Ix1>::scratch(2).unwrap();
        m += Complex64::new(1.0, 2.0);
        assert_eq!(&m * 2.0, Array1::from_elem(2, Complex64::new(2.0, 4.0)));
        assert_eq!(Complex64::I * &m, Array1::from_elem(2, Complex64::new(-2.0, 1.0)));
    }
}

#[test]
fn every_writable_access_writes_as_an_ndarray() {
    let folder = disk_folder();
    let path = table_file(&folder);
    writes_as_an_ndarray(MmapArray::<f64, Ix2>::open_cow(&path).unwrap());
    assert_eq!(MmapArray::<f64, Ix2>::open(&path).unwrap(), table(), "a private change is not in the file");
    writes_as_an_ndarray(MmapArray::<f64, Ix2>::open_rw(&path).unwrap());
    assert_ne!(MmapArray::<f64, Ix2>::open(&path).unwrap(), table(), "a change by the writer is in the file");
}

fn writes_as_an_ndarray<A: Writable>(mut m: MmapArray<f64, Ix2, A>) {
    let mut t = table();
    m[[0, 0]] = 7.5;
    t[[0, 0]] = 7.5;
    m.slice_mut(s![1..3, ..;-1]).assign(&aview1(&[1.0, 2.0, 3.0, 4.0]));
    t.slice_mut(s![1..3, ..;-1]).assign(&aview1(&[1.0, 2.0, 3.0, 4.0]));
    m.row_mut(5).fill(-1.0);
    t.row_mut(5).fill(-1.0);
    assert_eq!(m, t);

    for x in &mut m {
        *x += 0.5;
    }
    t += 0.5;
    Zip::from(&mut m).and(&table()).for_each(|x, y| *x += y);
    t += &table();
    azip!((x in &mut m, &y in &table()) *x -= 2.0 * y);
    t.scaled_add(-2.0, &table());
    for mut chunk in m.axis_chunks_iter_mut(Axis(0), 4) {
        chunk *= 3.0;
    }
    t *= 3.0;
    assert_eq!(m, t);

    ArrayViewMut::from(&mut m).swap([0, 0], [5, 3]);
    t.swap([0, 0], [5, 3]);
    negate(&mut m);
    negate(&mut t);
    double_mapped(&mut m);
    t *= 2.0;
    m.as_mut().map_inplace(|x| *x += 1.0);
    t += 1.0;
    m += &*table();
    t += &table();
    m -= 3.0;
    t -= 3.0;
    m *= 0.5;
    t *= 0.5;
    m /= &*(&table() + 1.0);
    t /= &(&table() + 1.0);
    assert_eq!(m, t);

    let (mut top, mut bottom) = m.multi_slice_mut((s![..3, ..], s![3.., ..]));
    std::mem::swap(&mut top[[0, 0]], &mut bottom[[0, 0]]);
    t.swap([0, 0], [3, 0]);
    m.as_slice_mut().unwrap()[1] = 9.0;
    t[[0, 1]] = 9.0;
    assert_eq!(m, t);
    m.assign(&table());
    m.fill(4.0);
    assert_eq!(m, Array::from_elem((6, 4), 4.0));
}

#[test]
#[allow(clippy::nonminimal_bool, reason = "the test compares each pair of types in both directions")]
fn equality_works_in_both_directions() {
    let folder = disk_folder();
    let path = table_file(&folder);
    let (m, n) =
        (MmapArray::<f64, Ix2>::open(&path).unwrap(), MmapArray::<f64, Ix2>::open_cow(&path).unwrap());
    let mut t = table();
    assert!(m == n && n == m && m == t && t == m && m == t.view() && t.view() == m && m == *n && m == *t);
    t[[2, 2]] += 1.0;
    assert!(m != t && t != m && m != t.view() && t.view() != m && *m != *t);
    assert!(m.abs_diff_eq_to(&table()) && m != Array2::zeros((4, 6)));
}

/// A user-defined trait for `ArrayRef`. A mapped array has the methods of this trait through `Deref`.
trait AbsDiffEq {
    fn abs_diff_eq_to(&self, other: &ArrayRef<f64, Ix2>) -> bool;
}

impl AbsDiffEq for ArrayRef<f64, Ix2> {
    fn abs_diff_eq_to(&self, other: &ArrayRef<f64, Ix2>) -> bool {
        Zip::from(self).and(other).all(|a, b| (a - b).abs() < 1e-12)
    }
}

#[test]
fn debug_of_a_terabyte_is_short_and_display_is_ndarrays() {
    let folder = disk_folder();
    let path = folder.path().join("huge.npy");
    let options = ArrayOptions::new().shape((1 << 20, 1 << 18, 1)).allocation(Allocation::Sparse);
    let huge = options.create::<f32, Ix3>(&path).unwrap();
    let text = format!("{huge:?}");
    assert!(text.len() < 200 + path.as_os_str().len(), "{text}");
    for words in ["shape: [1048576, 262144, 1]", "dtype: f32", "access: ReadWrite", path.to_str().unwrap()] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let resident: usize = huge.residency().unwrap().resident_bytes;
    assert!(resident < 1 << 20, "Debug has read {resident} bytes");
    drop(huge);

    let small = MmapArray::<f64, Ix2>::open(table_file(&folder)).unwrap();
    assert_eq!(format!("{small}"), format!("{}", table()));
    assert_eq!(format!("{small:6.2}"), format!("{:6.2}", table()));
}

#[test]
fn arrays_cross_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<MmapArray<f64, Ix2, ReadOnly>>();
    is_send_and_sync::<MmapArray<u8, IxDyn, ReadWrite>>();
    is_send_and_sync::<MmapArray<i16, Ix1, CopyOnWrite>>();
    is_send_and_sync::<ArrayOptions>();
    is_send_and_sync::<ndarray_mmap::Error>();

    let mut m = MmapArray::<u64, Ix2>::scratch((64, 512)).unwrap();
    std::thread::scope(|scope| {
        for (index, mut chunk) in m.axis_chunks_iter_mut(Axis(0), 16).enumerate() {
            scope.spawn(move || chunk.fill(index as u64));
        }
    });
    let shared = std::sync::Arc::new(m);
    let threads = (0..4).map(|row| {
        let shared = std::sync::Arc::clone(&shared);
        std::thread::spawn(move || shared.row(16 * row).sum())
    });
    assert_eq!(threads.map(|thread| thread.join().unwrap()).collect::<Vec<_>>(), [0, 512, 1024, 1536]);
}

#[test]
fn user_defined_pod_structs_are_elements_of_raw_files() {
    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C)]
    struct Atom {
        position: [f32; 3],
        element: u32,
    }
    let folder = disk_folder();
    let path = folder.path().join("atoms.bin");
    let atom = Atom { position: [1.0, -2.0, 3.5], element: 8 };
    let mut atoms = MmapArray::<Atom, Ix1>::create(&path, 1000).unwrap();
    atoms[999] = atom;
    atoms.close().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 16_000);
    let atoms = ArrayOptions::new().shape(1000).open::<Atom, Ix1>(&path).unwrap();
    assert_eq!((atoms[999], atoms[0].element), (atom, 0));
    assert_eq!(atoms.iter().filter(|atom| atom.element == 8).count(), 1);
    let error = MmapArray::<Atom, Ix1>::create(path.with_extension("npy"), 10).unwrap_err();
    assert_eq!(error.kind(), ndarray_mmap::ErrorKind::DtypeMismatch);
    assert!(error.to_string().contains("found Atom") && !path.with_extension("npy").exists(), "{error}");
}

#[test]
fn arrays_of_every_number_of_dimensions() {
    fn check<D: Dimension>(shape: impl ndarray::ShapeBuilder<Dim = D>, path: &Path) {
        let mut array = MmapArray::<i32, D>::create(path, shape).unwrap();
        for (value, x) in array.iter_mut().enumerate() {
            *x = value as i32 - 5;
        }
        let copy = array.to_owned();
        array.close().unwrap();
        assert_eq!(MmapArray::<i32, D>::open(path).unwrap(), copy);
        assert_eq!(MmapArray::<i32, IxDyn>::open(path).unwrap(), copy.into_dyn());
    }
    let folder = disk_folder();
    let path = folder.path().join("any.npy");
    check((), &path);
    check(7, &path);
    check([3, 4], &path);
    check((3, 4, 5), &path);
    check((3, 4, 5, 2), &path);
    check((3, 4, 5, 2, 2), &path);
    check((3, 4, 1, 2, 2, 3), &path);
    check(IxDyn(&[2, 2, 2, 1, 2, 2, 2, 3]), &path);
}
