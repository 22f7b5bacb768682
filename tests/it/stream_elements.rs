//! Tests of streams with unusual elements: large elements, zero-sized elements, and elements with an alignment above
//! the page size.

use crate::support::disk_folder;
use bytemuck::{Pod, Zeroable};
use ndarray::{Array, Array2, Array3, ArrayViewMut3, Axis, Ix2, Ix3, s};
use ndarray_mmap::stream::{Budget, Stream, concat};
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, MmapArray, Result};
use num_traits::AsPrimitive;

/// An element of `N` bytes.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
#[repr(transparent)]
struct Large<const N: usize>([u8; N]);

// SAFETY: every bit pattern is a valid array of bytes, so all zeros are valid.
unsafe impl<const N: usize> Zeroable for Large<N> {}
// SAFETY: an array of bytes has no padding and no pointers, and every bit pattern is valid.
unsafe impl<const N: usize> Pod for Large<N> {}

impl<const N: usize> AsPrimitive<f64> for Large<N> {
    fn as_(self) -> f64 {
        f64::from(self.0[N - 1])
    }
}

impl<const N: usize> AsPrimitive<Large<N>> for u8 {
    fn as_(self) -> Large<N> {
        Large([self; N])
    }
}

/// Returns an array whose elements are filled with different bytes. The function builds the elements on the heap,
/// because large elements would overflow the stack.
fn counting<const N: usize>(shape: (usize, usize, usize)) -> Array3<Large<N>> {
    let count = shape.0 * shape.1 * shape.2;
    let mut bytes = vec![0_u8; count * N];
    bytes.chunks_mut(N).enumerate().for_each(|(index, element)| element.fill(index as u8));
    let elements = bytemuck::cast_slice(&bytes).to_vec();
    Array::from_shape_vec(shape, elements).unwrap()
}

/// Returns the first and the last byte of each element.
fn ends<'a, const N: usize>(elements: impl IntoIterator<Item = &'a Large<N>>) -> Vec<(u8, u8)> {
    elements.into_iter().map(|element| (element.0[0], element.0[N - 1])).collect()
}

fn check<const N: usize>() {
    let folder = disk_folder();
    let out = folder.path().join("out.bin");
    let values = counting::<N>((6, 4, 5));
    let raw = ArrayOptions::new().format(Format::Raw).shape((6, 4, 5));
    let written = Stream::from(&values).write_to(folder.path().join("source.bin")).unwrap();
    assert_eq!(ends(&written), ends(&values));
    drop(written);
    let file = raw.open::<Large<N>, Ix3>(folder.path().join("source.bin")).unwrap();
    let (rows, columns, inner) = ([5, 0, 3, 3], [2, 0, 3], [4, 0, 1, 1]);
    for view in [file.view(), values.view()] {
        let stream = || Stream::from(view).budget(Budget::bytes(1 << 20));
        let cases = [
            (stream().select(Axis(1), &columns), view.select_ends(Axis(1), &columns)),
            (stream().select(Axis(2), &inner), view.select_ends(Axis(2), &inner)),
            (stream().select_rows(&rows), view.select_ends(Axis(0), &rows)),
        ];
        for (stream, expected) in cases {
            let selected = stream.write_to(&out).unwrap();
            assert_eq!(ends(&selected), expected, "{N} bytes");
        }
        let three = stream().select(Axis(1), &columns).select(Axis(2), &inner).select_rows(&rows);
        let three = three.map(|chunk, mut out: ArrayViewMut3<'_, Large<N>>| {
            out.iter_mut().zip(&chunk).for_each(|(out, element)| out.0.copy_from_slice(&element.0));
        });
        let selected = three.fold(Vec::new(), |mut all, chunk| {
            all.extend(ends(chunk));
            all
        });
        let index = |row: usize, column: usize, inner: usize| ((row * 4 + column) * 5 + inner) as u8;
        let expected: Vec<_> = rows
            .iter()
            .flat_map(|&row| columns.iter().map(move |&column| (row, column)))
            .flat_map(|(row, column)| inner.iter().map(move |&inner| index(row, column, inner)))
            .map(|byte| (byte, byte))
            .collect();
        assert_eq!(selected.unwrap(), expected, "{N} bytes");
        let permuted = view.permuted_axes([2, 0, 1]);
        let both = concat(Axis(1), [permuted, permuted.slice_move(s![.., ..;-1, ..])]);
        let seen = both.fold(0, |count, chunk| count + ends(chunk).len()).unwrap();
        assert_eq!(seen, 240);
        assert_eq!(ends(&Stream::from(permuted).write_to(&out).unwrap()), ends(permuted));
    }
}

trait SelectEnds {
    fn select_ends(&self, axis: Axis, indices: &[usize]) -> Vec<(u8, u8)>;
}

impl<const N: usize> SelectEnds for ndarray::ArrayView3<'_, Large<N>> {
    fn select_ends(&self, axis: Axis, indices: &[usize]) -> Vec<(u8, u8)> {
        // `select` of ndarray copies elements by value, and large elements would overflow the stack. The function
        // therefore selects only the first and last bytes.
        let ends = Array::from_shape_vec(self.raw_dim(), ends(self)).unwrap();
        ends.select(axis, indices).into_iter().collect()
    }
}

#[test]
fn large_elements_need_no_stack() {
    check::<1>();
    check::<300>();
    check::<{ 32 << 10 }>();
    check::<100_000>();
    check::<{ 128 << 10 }>();
    check::<{ 1 << 20 }>();
}

/// Returns the ends of the smallest and the largest element. Keeps the elements in its own part of the stack.
#[inline(never)]
fn extremes<const N: usize>(reduce: impl FnOnce() -> Result<Option<(Large<N>, Large<N>)>>) -> [(u8, u8); 2] {
    let result = reduce();
    let Ok(Some((low, high))) = &result else { panic!("no elements") };
    [(low.0[0], low.0[N - 1]), (high.0[0], high.0[N - 1])]
}

/// Checks the steps and the reductions that convert or compare elements.
fn check_numbers<const N: usize>() {
    let folder = disk_folder();
    let values = counting::<N>((6, 4, 5));
    let written = Stream::from(&values).write_to(folder.path().join("source.bin")).unwrap();
    let numbers = values.map(|element| f64::from(element.0[0]));
    for view in [written.view(), values.view(), values.view().permuted_axes([2, 0, 1])] {
        let stream = || Stream::from(view).budget(Budget::bytes(1 << 20));
        let extremes = [
            extremes(|| stream().min_max()),
            extremes(|| stream().skip_nan().min_max()),
            extremes(|| stream().boxed().threads(3).min_max()),
            extremes(|| concat(Axis(0), [view, view]).min_max()),
        ];
        assert_eq!(extremes, [[(0, 0), (119, 119)]; 4], "{N} bytes");
        assert_eq!((stream().sum().unwrap(), stream().mean().unwrap()), (7140.0, 59.5));
        assert!((stream().var(0.0).unwrap() - numbers.var(0.0)).abs() < 1e-9);
        assert!((stream().std(1.0).unwrap() - numbers.std(1.0)).abs() < 1e-9);
        assert_eq!(stream().cast::<f64>().sum().unwrap(), 7140.0);
    }
    let stream = || Stream::from(&written).budget(Budget::bytes(1 << 20));
    for extremes in [stream().min_max_axis0(), stream().skip_nan().min_max_axis0()] {
        let (low, high) = extremes.unwrap().unwrap();
        let row = |first: u8| (first..first + 20).map(|byte| (byte, byte)).collect::<Vec<_>>();
        assert_eq!((ends(&low), ends(&high)), (row(0), row(100)), "{N} bytes");
    }
    assert_eq!(stream().sum_axis0().unwrap(), numbers.sum_axis(Axis(0)));
    assert_eq!(stream().mean_axis0().unwrap(), numbers.mean_axis(Axis(0)).unwrap());
    assert_eq!(stream().var_axis0(0.0).unwrap(), numbers.var_axis(Axis(0), 0.0));
    let bytes = Array3::from_shape_fn((6, 4, 5), |(i, j, k)| (i * 20 + j * 5 + k) as u8);
    let grown = Stream::from(&bytes).cast::<Large<N>>().write_to(folder.path().join("grown.bin")).unwrap();
    assert_eq!(ends(&grown), ends(&values), "{N} bytes");
    let mut target = MmapArray::<Large<N>, Ix3>::scratch((6, 5, 4)).unwrap();
    stream().copy_into(&mut target.view_mut().permuted_axes([0, 2, 1])).unwrap();
    assert_eq!(ends(target.view().permuted_axes([0, 2, 1])), ends(&values), "{N} bytes");
}

/// A thread of a test has a stack of 2 MiB, and a pair of the largest of these elements needs 256 KiB of it.
#[test]
fn numbers_of_large_elements_need_little_stack() {
    check_numbers::<100>();
    check_numbers::<{ 64 << 10 }>();
    check_numbers::<{ 128 << 10 }>();
}

#[test]
fn zero_sized_elements_are_streamed_like_others() {
    let folder = disk_folder();
    let values = Array2::from_elem((500, 6), [0_f32; 0]);
    let indices = [5, 0, 1, 1];
    for threads in [1, 3] {
        let stream = || Stream::from(&values).threads(threads);
        let shape =
            |rows: usize, chunk: ndarray::ArrayView2<'_, [f32; 0]>| rows + chunk.nrows() * chunk.ncols();
        assert_eq!(stream().fold(0, shape).unwrap(), 3000);
        assert_eq!(stream().select(Axis(1), &indices).fold(0, shape).unwrap(), 2000);
        assert_eq!(stream().select_rows(&indices).fold(0, shape).unwrap(), 24);
        assert_eq!(stream().select_rows(&indices).select(Axis(1), &indices).fold(0, shape).unwrap(), 16);
        let reversed =
            Stream::from(values.t()).map(|chunk: ndarray::ArrayView2<'_, _>, mut out| out.assign(&chunk));
        assert_eq!(reversed.fold(0, shape).unwrap(), 3000);
        let counted = stream().map_rows(2, |chunk, mut out: ndarray::ArrayViewMut2<'_, u16>| {
            assert_eq!(chunk.ncols(), 6);
            out.fill(3);
        });
        assert_eq!(counted.write_to(folder.path().join("out.npy")).unwrap(), Array2::from_elem((500, 2), 3));
        let twice = concat(Axis(1), [&values, &values]).boxed();
        assert_eq!(twice.fold(0, shape).unwrap(), 6000);
        let mut target = Array2::from_elem((500, 6), [0_f32; 0]);
        stream().copy_into(&mut target).unwrap();
    }
    let numbers = Array2::<f32>::ones((500, 6));
    let nothing =
        Stream::from(&numbers).map(|_, out: ndarray::ArrayViewMut2<'_, [u8; 0]>| assert_eq!(out.ncols(), 6));
    assert_eq!(nothing.fold(0, |rows, chunk| rows + chunk.nrows()).unwrap(), 500);
}

/// An element of two pages that must start at a multiple of two pages.
#[derive(Clone, Copy)]
#[repr(C, align(8192))]
struct Aligned([u8; 8192]);

// SAFETY: every bit pattern is a valid array of bytes, so all zeros are valid.
unsafe impl Zeroable for Aligned {}
// SAFETY: an array of bytes has no padding and no pointers, and every bit pattern is valid. The size of the struct
// equals its alignment, so the struct has no padding.
unsafe impl Pod for Aligned {}

#[test]
fn elements_aligned_to_more_than_a_page_are_refused() {
    let folder = disk_folder();
    let values = Array2::<Aligned>::zeroed_elements((20, 3));
    let (out, indices) = (folder.path().join("out.bin"), [2, 0]);
    let mut target = Array2::<Aligned>::zeroed_elements((20, 3));
    let results = [
        Stream::from(&values).write_to(&out).map(drop),
        Stream::from(&values).select(Axis(1), &indices).fold((), |(), _| ()),
        Stream::from(&values).select_rows(&indices).fold((), |(), _| ()),
        Stream::from(&values).map(|_, _: ndarray::ArrayViewMut2<'_, Aligned>| ()).write_to(&out).map(drop),
        Stream::from(&values).copy_into(&mut target),
        concat(Axis(0), [&values, &values]).boxed().fold((), |(), _| ()),
    ];
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unaligned, "{error}");
        assert!(error.to_string().contains("aligned to 8192 bytes"), "{error}");
    }
    let numbers = MmapArray::<u8, Ix2>::scratch((4, 4)).unwrap();
    let mapped = Stream::from(&numbers).map(|_, _: ndarray::ArrayViewMut2<'_, Aligned>| ());
    assert_eq!(mapped.fold((), |(), _| ()).unwrap_err().kind(), ErrorKind::Unaligned);
}

trait ZeroedElements {
    fn zeroed_elements(shape: (usize, usize)) -> Self;
}

impl ZeroedElements for Array2<Aligned> {
    fn zeroed_elements(shape: (usize, usize)) -> Self {
        Array2::from_shape_simple_fn(shape, Aligned::zeroed)
    }
}
