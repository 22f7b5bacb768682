//! Tests that streams copy the right elements, for each kind of source, selection, step and destination. The expected
//! results are computed by ndarray in memory.

use crate::support::disk_folder;
use ndarray::{
    Array, Array1, Array2, Array3, ArrayD, ArrayView, Axis, Dimension, Ix0, Ix2, IxDyn, ShapeBuilder, Slice,
    arr0, s,
};
use ndarray_mmap::stream::{Budget, Element, Stream, Transfer, concat, copy};
use ndarray_mmap::{ArrayOptions, Format, MmapArray, OnDrop, ReadOnly};
use proptest::prelude::*;
use std::path::Path;

pub const TRANSFERS: [Transfer; 3] = [Transfer::Auto, Transfer::Direct, Transfer::Buffered];

/// Returns an array whose neighbouring elements differ.
pub fn counting<D: Dimension>(shape: impl ShapeBuilder<Dim = D>) -> Array<f32, D> {
    let mut next = 0.0;
    let mut array = Array::zeros(shape);
    array.map_inplace(|value| {
        *value = next;
        next = if next > 1e6 { 0.0 } else { next + 1.0 };
    });
    array
}

/// Writes `values` to a file and opens the file. If `cold` is true, the data is not in the page cache.
pub fn stored<T: Element, D: Dimension>(
    path: &Path,
    values: &Array<T, D>,
    offset_bytes: u64,
    cold: bool,
) -> MmapArray<T, D, ReadOnly> {
    let fortran = !values.is_standard_layout();
    let options = ArrayOptions::new()
        .format(if offset_bytes == 0 { Format::Npy } else { Format::Raw })
        .offset_bytes(offset_bytes)
        .shape(values.raw_dim().set_f(fortran))
        .on_drop(if cold { OnDrop::Evict } else { OnDrop::KeepCached });
    let mut array = options.create::<T, D>(path).unwrap();
    array.assign(values);
    array.close().unwrap();
    options.open(path).unwrap()
}

/// Reads a file into an array in memory.
pub fn read<T: Element, D: Dimension>(path: &Path) -> Array<T, D> {
    MmapArray::<T, D>::open(path).unwrap().to_owned()
}

#[test]
fn copies_of_every_row_size_and_offset_are_equal() {
    let folder = disk_folder();
    for row_bytes in [12, 1000, 4096, 36_864] {
        let values = counting(((5 << 20) / row_bytes + 1, row_bytes / 4));
        for (offset_bytes, cold, transfer) in [
            (0, true, Transfer::Auto),
            (0, false, Transfer::Auto),
            (4, true, Transfer::Auto),
            (12_344, false, Transfer::Direct),
            (4096, true, Transfer::Buffered),
        ] {
            let source = stored(&folder.path().join("source"), &values, offset_bytes, cold);
            let case = format!("rows of {row_bytes} bytes at {offset_bytes}, cold {cold}, {transfer:?}");
            let path = folder.path().join("copy.npy");
            let written = Stream::from(&source).transfer(transfer).write_to(&path).unwrap();
            assert_eq!(written, values, "written: {case}");
            drop(written);
            assert_eq!(read::<f32, Ix2>(&path), values, "read again: {case}");
            let mut target = ArrayOptions::new()
                .shape(values.raw_dim())
                .offset_bytes(offset_bytes + 400)
                .create::<f32, Ix2>(folder.path().join("target"))
                .unwrap();
            target.fill(-1.0);
            Stream::from(&source).transfer(transfer).copy_into(&mut target).unwrap();
            assert_eq!(target, values, "copied into a mapped array: {case}");
        }
    }
}

#[test]
fn raw_files_are_written_without_a_header() {
    let folder = disk_folder();
    let values = counting((1001, 7));
    let written = Stream::from(&values).write_to(folder.path().join("copy.bin")).unwrap();
    assert_eq!(written, values);
    let bytes = std::fs::read(written.path()).unwrap();
    assert_eq!(bytes, bytemuck::cast_slice::<f32, u8>(values.as_slice().unwrap()));
}

#[test]
fn streams_of_no_elements_one_element_and_no_dimensions() {
    let folder = disk_folder();
    let path = folder.path().join("small.npy");
    for shape in [&[0][..], &[1], &[0, 5], &[5, 0], &[3, 0, 2], &[1, 1, 1], &[]] {
        let values = counting(IxDyn(shape));
        let source = stored(&folder.path().join("source.npy"), &values, 0, true);
        assert_eq!(Stream::from(&source).write_to(&path).unwrap(), values, "{shape:?}");
        assert_eq!(Stream::from(&source).cast::<f64>().write_to(&path).unwrap().shape(), shape);
        let mut target = ArrayD::from_elem(IxDyn(shape), 1.0);
        copy(&source, &mut target).unwrap();
        assert_eq!(target, values, "{shape:?}");
        let count = Stream::from(&source).fold(0, |count, chunk| count + chunk.len()).unwrap();
        assert_eq!(count, values.len());
    }
    let scalar = MmapArray::<f64, Ix0>::create(folder.path().join("scalar.npy"), ()).unwrap();
    assert_eq!(
        Stream::from(&scalar).map(|chunk, mut out| out.assign(&(&chunk + 1.0))).write_to(&path).unwrap(),
        arr0(1.0)
    );
    let none = Stream::from(&counting((4, 3))).rows(4..).write_to(&path).unwrap();
    assert_eq!(none.shape(), [0, 3]);
}

#[test]
fn streams_of_zero_sized_elements() {
    let folder = disk_folder();
    let source = Array1::from_elem(5, ());
    let written = Stream::from(&source).write_to(folder.path().join("units")).unwrap();
    assert_eq!(written.len(), 5);
    let ones =
        Stream::from(&source).map(|_, mut out| out.fill(1_u8)).write_to(folder.path().join("ones")).unwrap();
    assert_eq!(ones.to_vec(), [1; 5]);
}

#[test]
fn steps_can_be_combined() {
    let folder = disk_folder();
    let values = counting((3000, 40, 3));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let rows = [7, 2999, 7, 0, 1500];
    let atoms = [39, 0, 0, 5];
    let written = Stream::from(&source)
        .select_rows(&rows)
        .select(Axis(1), &atoms)
        .cast::<f64>()
        .map_rows(4, |chunk, mut out| out.assign(&chunk.sum_axis(Axis(2))))
        .cast::<i64>()
        .write_to(folder.path().join("out.npy"))
        .unwrap();
    let expected = values.select(Axis(0), &rows).select(Axis(1), &atoms).mapv(f64::from).sum_axis(Axis(2));
    assert_eq!(written, expected.mapv(|value| value as i64));
    let widened = Stream::from(&source)
        .map_rows([2, 2], |chunk, mut out: ndarray::ArrayViewMut3<'_, u16>| {
            out.fill(chunk.len().min(1) as u16)
        })
        .write_to(folder.path().join("wide.npy"))
        .unwrap();
    assert_eq!(widened, Array3::<u16>::ones((3000, 2, 2)));
}

#[test]
fn a_selection_can_be_selected_from_again() {
    let folder = disk_folder();
    let values = counting((50, 20));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let check = |stream: Stream<'_, ndarray_mmap::stream::Source<'_, f32, Ix2>>, expected: Array2<f32>| {
        assert_eq!(stream.write_to(folder.path().join("out.npy")).unwrap(), expected);
    };
    let list = [9, 3, 3, 49, 20];
    check(Stream::from(&source).rows(10..).rows(..5), values.slice(s![10..15, ..]).to_owned());
    check(Stream::from(&source).rows(s![..;-7]), values.slice(s![..;-7, ..]).to_owned());
    check(Stream::from(&source).rows(Slice::from(3..).step_by(6)), values.slice(s![3..;6, ..]).to_owned());
    check(Stream::from(&source).select_rows(&list).rows(1..4), values.select(Axis(0), &[3, 3, 49]));
    check(Stream::from(&source).select_rows(&list).select_rows(&[4, 0]), values.select(Axis(0), &[20, 9]));
    check(
        Stream::from(&source).rows(10..).select(Axis(0), &[0, 2, 1]),
        values.select(Axis(0), &[10, 12, 11]),
    );
    let columns = [5, 5, 19, 0];
    check(
        Stream::from(&source).select(Axis(1), &columns).select(Axis(1), &[3, 2]),
        values.select(Axis(1), &[0, 19]),
    );
    check(
        Stream::from(&source).select(Axis(1), &[2, 4, 6]).rows(s![..;20]),
        values.slice(s![..;20, 2..7;2]).to_owned(),
    );
    check(Stream::from(&source).select(Axis(1), &[0; 0]).rows(1..3), Array2::zeros((2, 0)));
    check(Stream::from(&source).select_rows(&[0; 0]), Array2::zeros((0, 20)));
}

#[test]
fn the_budget_does_not_change_the_result() {
    let folder = disk_folder();
    let values = counting((2000, 250));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    for budget in [0, 1, 5000, 100_000, 1 << 20, 1 << 30]
        .map(Budget::bytes)
        .into_iter()
        .chain([1, 7, 1999, 5000].map(Budget::chunk_rows))
    {
        let doubled = Stream::from(&source)
            .budget(budget)
            .map(|chunk, mut out| out.assign(&(&chunk * 2.0)))
            .write_to(folder.path().join("out.npy"))
            .unwrap();
        assert_eq!(doubled, &values * 2.0, "{budget:?}");
    }
}

#[test]
fn functions_get_chunks_of_the_requested_number_of_rows() {
    let values = counting((100, 3));
    let seen = std::sync::Mutex::new(Vec::new());
    let map = |chunk: ArrayView<'_, f32, Ix2>, mut out: ndarray::ArrayViewMut2<'_, f32>| {
        seen.lock().unwrap().push(chunk.nrows());
        out.assign(&chunk);
    };
    let lengths = Stream::from(&values)
        .budget(Budget::chunk_rows(30))
        .map(map)
        .fold(Vec::new(), |mut lengths, chunk| {
            lengths.push(chunk.nrows());
            lengths
        })
        .unwrap();
    assert_eq!(lengths, [30, 30, 30, 10]);
    assert_eq!(seen.into_inner().unwrap(), lengths);
}

#[test]
fn a_row_larger_than_the_budget() {
    let folder = disk_folder();
    let values = counting((5, 1_500_000));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let written = Stream::from(&source)
        .budget(Budget::bytes(1 << 20))
        .cast::<f64>()
        .write_to(folder.path().join("out.npy"));
    assert_eq!(written.unwrap(), values.mapv(f64::from));
}

#[test]
fn rows_of_every_size_are_gathered() {
    let folder = disk_folder();
    for row in [1, 3, 1000, 3072, 200_000] {
        let count = (4 << 20) / row;
        let values = counting((count, row));
        let wanted = 500.min((16 << 20) / row); // more large rows would only make the test slower
        let list: Vec<_> = (0..wanted).map(|index| index * 7919 % count).collect();
        let expected = values.select(Axis(0), &list);
        for cold in [true, false] {
            let source = stored(&folder.path().join("source.npy"), &values, 0, cold);
            for transfer in TRANSFERS {
                let stream = || Stream::from(&source).transfer(transfer).select_rows(&list);
                let case = format!("rows of {row}, cold {cold}, {transfer:?}");
                assert_eq!(stream().write_to(folder.path().join("out.npy")).unwrap(), expected, "{case}");
                let mut gathered = Array2::zeros((list.len(), row));
                stream().cast::<f64>().copy_into(&mut gathered).unwrap();
                assert_eq!(gathered, expected.mapv(f64::from), "{case}");
            }
        }
    }
}

#[test]
fn parts_are_concatenated_along_either_axis() {
    let folder = disk_folder();
    let (a, b, c) = (counting((1000, 7)), counting((1, 7)), counting((4000, 7)));
    let arrays: Vec<_> = [&a, &b, &c]
        .into_iter()
        .enumerate()
        .map(|(index, values)| stored(&folder.path().join(format!("{index}.npy")), values, 0, true))
        .collect();
    let path = folder.path().join("all.npy");
    let stacked = ndarray::concatenate![Axis(0), a, b, c];
    assert_eq!(concat(Axis(0), &arrays).write_to(&path).unwrap(), stacked);
    assert_eq!(
        concat(Axis(0), &[a.view(), b.view(), c.view()])
            .budget(Budget::chunk_rows(17))
            .write_to(&path)
            .unwrap(),
        stacked
    );
    let mut target = MmapArray::<f64, Ix2>::create(folder.path().join("target.npy"), (5001, 7)).unwrap();
    concat(Axis(0), [&arrays[0], &arrays[1], &arrays[2]]).cast::<f64>().copy_into(&mut target).unwrap();
    assert_eq!(target, stacked.mapv(f64::from));
    let halves = [
        Stream::from(&arrays[2]).rows(..1000).cast::<f64>().boxed(),
        Stream::from(&target).rows(..1000).select(Axis(1), &[6, 0]).boxed(),
    ];
    let beside = ndarray::concatenate![
        Axis(1),
        c.slice(s![..1000, ..]).mapv(f64::from),
        a.select(Axis(1), &[6, 0]).mapv(f64::from)
    ];
    assert_eq!(concat(Axis(1), halves).write_to(&path).unwrap(), beside);
    let sum = concat(Axis(1), &[&a, &a]).fold(0.0, |sum, chunk| sum + chunk.sum()).unwrap();
    assert_eq!(sum, 2.0 * a.sum());
}

#[test]
fn boxed_streams_give_the_same_result() {
    let folder = disk_folder();
    let values = counting((5000, 100));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let written = Stream::from(&source).boxed().write_to(folder.path().join("out.npy")).unwrap();
    assert_eq!(written, values);
    let sums = Stream::from(&source).boxed().fold(0.0, |sum, chunk| sum + f64::from(chunk[[0, 0]])).unwrap();
    assert!(sums >= 0.0);
}

#[test]
fn a_stream_can_replace_its_own_source() {
    let folder = disk_folder();
    let values = counting((1000, 100));
    let path = folder.path().join("same.npy");
    let source = stored(&path, &values, 0, true);
    let reversed = Stream::from(&source).rows(s![..;-1]).write_to(&path).unwrap();
    assert_eq!(reversed, values.slice(s![..;-1, ..]));
    let closed = source.try_view().unwrap_err().kind();
    assert_eq!(
        closed,
        ndarray_mmap::ErrorKind::Closed,
        "`write_to` closes the arrays on its path, like `create`"
    );
}

/// A progress function.
type Report<'a> = &'a mut dyn FnMut(usize, usize);

#[test]
fn progress_goes_up_to_the_number_of_rows() {
    let folder = disk_folder();
    let values = counting((5000, 1000));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let path = folder.path().join("out.npy");
    let check = |run: &dyn Fn(Report<'_>)| {
        let mut calls = Vec::new();
        run(&mut |done, total| calls.push((done, total)));
        assert!(
            calls.is_sorted() && calls.len() > 1 && calls.iter().all(|&(_, total)| total == 5000),
            "{calls:?}"
        );
        assert_eq!(calls.last(), Some(&(5000, 5000)));
    };
    check(&|report| _ = Stream::from(&source).progress(report).write_to(&path).unwrap());
    check(&|report| _ = Stream::from(&source).cast::<f64>().progress(report).write_to(&path).unwrap());
    check(&|report| Stream::from(&source).progress(report).fold((), |(), _| ()).unwrap());
    check(&|report| _ = Stream::from(&source).progress(report).mean_axis0().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Streams random slices and selections of arrays into files and mapped arrays, with random offsets and settings.
    #[test]
    fn streams_move_what_ndarray_would(
        shape in prop::collection::vec(0_usize..40, 1..4),
        scale in 1_usize..300,
        fortran: bool,
        offset in 0_u64..3000,
        from in 0_usize..10,
        step in prop_oneof![Just(1_isize), 1_isize..4, -3_isize..0],
        rows in prop::option::of(prop::collection::vec(0_usize..1000, 0..50)),
        columns in prop::option::of(prop::collection::vec(0_usize..1000, 0..20)),
        budget in prop_oneof![(1_usize..3000).prop_map(Budget::chunk_rows), (1_usize..1 << 22).prop_map(Budget::bytes)],
        transfer in prop::sample::select(&TRANSFERS[..]),
        threads in 1_usize..5,
        cold: bool,
        target_offset in 0_u64..3000,
    ) {
        let folder = disk_folder();
        let mut shape = shape;
        shape[0] *= scale;
        let values = counting(IxDyn(&shape).set_f(fortran));
        let source = stored(&folder.path().join("source"), &values, 4 + offset * 4, cold);
        let mut stream = Stream::from(&source)
            .rows(Slice::from(from..).step_by(step))
            .budget(budget)
            .transfer(transfer)
            .threads(threads);
        let mut expected = values.slice_axis(Axis(0), Slice::from(from.min(shape[0])..).step_by(step)).to_owned();
        let fit = |list: &Option<Vec<usize>>, len: usize| -> Vec<usize> {
            list.iter().flatten().filter(|_| len > 0).map(|index| index % len).collect()
        };
        let row_list = fit(&rows, expected.len_of(Axis(0)));
        if rows.is_some() {
            stream = stream.select_rows(&row_list);
            expected = expected.select(Axis(0), &row_list);
        }
        let axis = Axis(shape.len() - 1);
        let column_list = fit(&columns, expected.len_of(axis));
        if columns.is_some() {
            stream = stream.select(axis, &column_list);
            expected = expected.select(axis, &column_list);
        }
        let mut target = ArrayOptions::new()
            .shape(expected.raw_dim().set_f(fortran))
            .offset_bytes(8 * target_offset)
            .create::<f64, IxDyn>(folder.path().join("target"))
            .unwrap();
        stream.cast::<f64>().copy_into(&mut target).unwrap();
        prop_assert_eq!(&target, &expected.mapv(f64::from));
        let written = Stream::from(&target).budget(budget).transfer(transfer).threads(threads).write_to(folder.path().join("out.npy")).unwrap();
        prop_assert_eq!(&written, &target);
    }
}
