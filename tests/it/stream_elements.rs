//! Tests of streams with unusual elements: large elements, zero-sized elements, and elements with an alignment above
//! the page size.

use crate::support::disk_folder;
use bytemuck::{Pod, Zeroable};
use ndarray::{Array, Array2, Array3, ArrayViewMut3, Axis, Ix2, Ix3, s};
use ndarray_mmap::stream::{Budget, Stream, concat};
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, MmapArray};

/// An element of `N` bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Large<const N: usize>([u8; N]);

// SAFETY: every bit pattern is a valid array of bytes, so all zeros are valid.
unsafe impl<const N: usize> Zeroable for Large<N> {}
// SAFETY: an array of bytes has no padding and no pointers, and every bit pattern is valid.
unsafe impl<const N: usize> Pod for Large<N> {}

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
