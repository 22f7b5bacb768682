//! Tests of the arguments that a stream passes to its functions: output chunks of zeros, input chunks in standard
//! layout, and progress.

use crate::stream::{counting, stored};
use crate::support::{disk_folder, names_in};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis, Ix2, Ix3, ShapeBuilder, s};
use ndarray_mmap::stream::{Budget, Stream, concat};
use ndarray_mmap::{ErrorKind, MmapArray};
use std::ops::ControlFlow;
use std::sync::Mutex;

/// Writes only some elements: every second column of each row whose first value is a multiple of five.
fn write_some(chunk: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>) {
    assert!(out.iter().all(|&value| value == 0.0), "the output chunk is zeros");
    for (from, mut to) in chunk.rows().into_iter().zip(out.rows_mut()) {
        if from[0] % 5.0 == 0.0 {
            to.slice_mut(s![..;2]).assign(&from.slice(s![..;2]));
        }
    }
}

#[test]
fn elements_that_a_function_does_not_write_are_zero() {
    let folder = disk_folder();
    let values = counting((3000, 70)) + 1.0;
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let mut expected = Array2::zeros(values.raw_dim());
    write_some(values.view(), expected.view_mut());
    for budget in [Budget::bytes(60_000), Budget::chunk_rows(7), Budget::chunk_rows(5000), Budget::default()]
    {
        for threads in [1, 3] {
            for from_file in [true, false] {
                let case = format!("{budget:?}, {threads} threads, from a file: {from_file}");
                let view = if from_file { source.view() } else { values.view() };
                let mapped = || Stream::from(view).budget(budget).threads(threads).map(write_some);
                let out = folder.path().join("out.npy");
                assert_eq!(mapped().write_to(&out).unwrap(), expected, "write_to: {case}");
                let cast = mapped().cast::<f64>().write_to(&out).unwrap();
                assert_eq!(cast, expected.mapv(f64::from), "cast: {case}");
                let twice = mapped().map(|chunk, mut out| out.assign(&chunk)).boxed().write_to(&out).unwrap();
                assert_eq!(twice, expected, "map and boxed: {case}");
                let sum = mapped().fold(0.0, |sum, chunk| sum + chunk.mapv(f64::from).sum()).unwrap();
                assert_eq!(sum, expected.mapv(f64::from).sum(), "fold: {case}");
                for axis in [Axis(0), Axis(1)] {
                    let parts = [mapped(), mapped()];
                    let both = concat(axis, parts).budget(budget).threads(threads).write_to(&out).unwrap();
                    let twice = ndarray::concatenate(axis, &[expected.view(), expected.view()]).unwrap();
                    assert_eq!(both, twice, "concat along {axis:?}: {case}");
                }
                let mut target =
                    MmapArray::<f32, Ix2>::create(folder.path().join("t.npy"), (3000, 70)).unwrap();
                target.fill(9.0);
                mapped().copy_into(&mut target).unwrap();
                assert_eq!(target, expected, "copy_into a mapped array: {case}");
                let mut target = Array2::from_elem(values.raw_dim(), 9.0);
                mapped().copy_into(&mut target).unwrap();
                assert_eq!(target, expected, "copy_into memory: {case}");
                let mut target = Array2::from_elem((70, 3000), 9.0).reversed_axes();
                mapped().copy_into(&mut target).unwrap();
                assert_eq!(target, expected, "copy_into Fortran order: {case}");
            }
        }
    }
}

/// Streams a source through each kind of function. Each function asserts that its chunk is in standard layout.
fn see_standard_layout(view: ArrayView3<'_, f32>, expected: &Array3<f32>, case: &str) {
    let path = disk_folder();
    for budget in [Budget::bytes(20_000), Budget::chunk_rows(3), Budget::default()] {
        let check = |chunk: &ArrayView3<'_, f32>| {
            assert!(chunk.is_standard_layout(), "{case}, {budget:?}: strides {:?}", chunk.strides());
        };
        let seen = Mutex::new(0);
        let stream = || Stream::from(view).budget(budget);
        let mapped = stream().map(|chunk, mut out| {
            check(&chunk);
            *seen.lock().unwrap() += chunk.len();
            out.assign(&chunk);
        });
        assert_eq!(mapped.write_to(path.path().join("out.npy")).unwrap(), *expected, "{case}, {budget:?}");
        assert_eq!(seen.into_inner().unwrap(), expected.len());
        let mapped = stream().boxed().map_rows((), |chunk, mut out: ndarray::ArrayViewMut1<'_, f32>| {
            check(&chunk);
            out.fill(1.0);
        });
        assert_eq!(mapped.min_max().unwrap(), Some((1.0, 1.0)));
        let folded = stream().fold(Vec::new(), |mut all, chunk| {
            check(&chunk);
            all.extend_from_slice(chunk.as_slice().unwrap());
            all
        });
        assert_eq!(folded.unwrap(), expected.iter().copied().collect::<Vec<_>>(), "{case}, {budget:?}");
        let cast = stream().cast::<f64>().fold(0, |rows, chunk| {
            assert!(chunk.is_standard_layout());
            rows + chunk.len_of(Axis(0))
        });
        assert_eq!(cast.unwrap(), expected.len_of(Axis(0)));
    }
}

#[test]
fn functions_see_standard_layout_whatever_the_source() {
    let folder = disk_folder();
    for (fortran, private) in [(false, false), (true, false), (false, true)] {
        let values = counting((40, 12, 9).set_f(fortran));
        let path = folder.path().join("source.npy");
        let stored = stored(&path, &values, 0, true);
        let copy = private.then(|| MmapArray::<f32, Ix3>::open_cow(&path).unwrap());
        let file = copy.as_ref().map_or(stored.view(), |copy| copy.view());
        for view in [file, values.view()] {
            let check = |view: ArrayView3<'_, f32>, name: &str| {
                let case = format!("{name}, Fortran {fortran}, private {private}");
                see_standard_layout(view, &view.as_standard_layout().to_owned(), &case);
            };
            check(view, "all");
            check(view.slice(s![.., ..;2, ..]), "every second");
            check(view.slice(s![..;-3, 2.., ..;-1]), "inverted");
            check(view.permuted_axes([2, 0, 1]), "permuted");
            check(view.reversed_axes(), "reversed");
            check(view.slice(s![3..4, .., ..]).broadcast((30, 12, 9)).unwrap(), "rows repeated");
            check(view.slice(s![.., 3..4, ..]).broadcast((40, 30, 9)).unwrap(), "columns repeated");
        }
        // Some index lists are equivalent to a slice, and others are not. The test selects along axis 0 and axis 1.
        let file = || Stream::from(file);
        for list in [&[1, 5, 9][..], &[1, 5, 8], &[9, 5, 1], &[2], &[3, 3, 3]] {
            for axis in [Axis(0), Axis(1)] {
                let folded = file().select(axis, list).fold(Vec::new(), |mut all, chunk| {
                    assert!(chunk.is_standard_layout(), "{list:?} of {axis:?}");
                    all.extend_from_slice(chunk.as_slice().unwrap());
                    all
                });
                let expected = values.select(axis, list).iter().copied().collect::<Vec<_>>();
                assert_eq!(folded.unwrap(), expected, "{list:?} of {axis:?}");
            }
        }
    }
}

#[test]
fn a_request_to_stop_takes_effect_before_the_first_block() {
    let folder = disk_folder();
    let values = counting((4000, 100));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let out = folder.path().join("out.npy");
    for threads in [1, 3] {
        let called = Mutex::new(Vec::new());
        let stream = || {
            let stop = |done, total| {
                called.lock().unwrap().push((done, total));
                ControlFlow::Break(())
            };
            Stream::from(&source).threads(threads).progress(stop)
        };
        let never = |_: ArrayView2<'_, f32>, _: ArrayViewMut2<'_, f32>| panic!("no chunk is to be made");
        let mut target = Array2::zeros((4000, 100));
        let results = [
            stream().write_to(&out).map(drop),
            stream().map(never).write_to(&out).map(drop),
            stream().map(never).copy_into(&mut target),
            stream().fold((), |(), _| panic!("no chunk is to be folded")),
            stream().mean_axis0().map(drop),
            stream().min_max().map(drop),
        ];
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        }
        assert_eq!(called.into_inner().unwrap(), vec![(0, 4000); 6]);
        assert_eq!(names_in(folder.path()), ["source.npy"]);
    }
}

#[test]
fn progress_is_reported_for_every_block() {
    let values = counting((4000, 100));
    let stream = |told: &mut Vec<usize>| {
        let mut last = 0;
        let stream = Stream::from(&values)
            .threads(1)
            .budget(Budget::bytes(400_000))
            .progress(|done, _| told.push(done));
        let counted = stream.map(|chunk, mut out: ArrayViewMut2<'_, f32>| out.assign(&chunk));
        counted.fold((), |(), chunk| last += chunk.nrows()).unwrap();
        assert_eq!(last, 4000);
    };
    let mut told = Vec::new();
    stream(&mut told);
    assert_eq!((told[0], *told.last().unwrap()), (0, 4000));
    let steps: Vec<_> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.len() >= 4 && steps.iter().all(|&step| 0 < step && step <= 1000), "{steps:?}");
}
