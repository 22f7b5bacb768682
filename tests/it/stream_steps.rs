//! Tests of functions that can fail, of two streams side by side (`zip`), and of selections that follow other steps.

use crate::stream::{counting, stored};
use crate::support::{disk_folder, names_in};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Ix2, s};
use ndarray_mmap::stream::{Budget, Source, Stage, Stream, concat};
use ndarray_mmap::{Error, ErrorKind, MmapArray, Result, close_path};
use std::fmt;
use std::path::Path;
use std::sync::Mutex;

/// An error of the caller.
#[derive(Debug, PartialEq)]
struct Unphysical {
    row: usize,
}

impl fmt::Display for Unphysical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} is unphysical", self.row)
    }
}

impl std::error::Error for Unphysical {}

/// Returns an error for the row that starts with 700.
fn check(chunk: &ArrayView2<'_, f32>) -> Result<(), Unphysical> {
    match chunk.outer_iter().find(|row| row[0] == 700.0) {
        Some(_) => Err(Unphysical { row: 100 }),
        None => Ok(()),
    }
}

/// A stream of rows of seven elements, and a function that ends the stream.
type Failing = fn(Stream<'_, Source<'_, f32, Ix2>>, &Path) -> Result<()>;

#[test]
fn the_error_of_a_function_comes_back_whole_and_nothing_is_published() {
    let folder = disk_folder();
    let source = stored(&folder.path().join("source.npy"), &counting((5000, 7)), 0, true);
    let out = folder.path().join("out.npy");
    std::fs::write(&out, "old").unwrap();
    let failing: [(&str, Failing); 7] = [
        ("write_to", |stream, out| {
            stream
                .try_map(|chunk, mut out| {
                    out.assign(&chunk);
                    check(&chunk)
                })
                .write_to(out)
                .map(drop)
        }),
        ("write_to", |stream, out| {
            let rows = stream.map_each(|number, row, mut out| {
                out.assign(&row);
                if number == 100 { Err(Unphysical { row: number }) } else { Ok(()) }
            });
            rows.cast::<f64>().write_to(out).map(drop)
        }),
        ("mean_axis0", |stream, _| {
            stream
                .map_rows(1, |chunk, _: ArrayViewMut2<'_, f32>| check(&chunk))
                .boxed()
                .mean_axis0()
                .map(drop)
        }),
        ("try_fold", |stream, _| stream.try_fold((), |(), _, chunk| check(&chunk))),
        ("for_each_row", |stream, _| {
            stream.for_each_row(
                |number, row| if row[0] == 700.0 { Err(Unphysical { row: number }) } else { Ok(()) },
            )
        }),
        ("write_to", |stream, out| {
            let zeros = Array1::<u8>::zeros(5000);
            let pairs = stream.zip(&zeros).try_map(|(chunk, _), _: ArrayViewMut2<'_, f32>| check(&chunk));
            pairs.write_to(out).map(drop)
        }),
        ("copy_into", |stream, _| {
            let rows = stream.try_map(|chunk, _: ArrayViewMut2<'_, f32>| check(&chunk));
            rows.copy_into(&mut Array2::zeros((5000, 7)))
        }),
    ];
    for (operation, failing) in failing {
        for budget in [Budget::default(), Budget::bytes(20_000), Budget::chunk_rows(13)] {
            for threads in [1, 3] {
                let error = failing(Stream::from(&source).budget(budget).threads(threads), &out).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::FunctionFailed);
                let source = std::error::Error::source(&error).expect("the error of the function");
                assert_eq!(source.downcast_ref(), Some(&Unphysical { row: 100 }), "{operation}");
                assert!(error.to_string().starts_with(operation), "{error}");
                assert!(
                    !error.to_string().contains("unphysical"),
                    "the text does not repeat its source: {error}"
                );
                assert_eq!(std::fs::read_to_string(&out).unwrap(), "old");
                assert_eq!(names_in(folder.path()), ["out.npy", "source.npy"]);
            }
        }
    }
}

#[test]
fn a_failing_function_is_not_called_again_in_order() {
    let values = counting((1000, 3));
    let mut calls = 0;
    let ended = Stream::from(&values).for_each_row(|number, _| {
        calls += 1;
        if number == 5 { Err("enough") } else { Ok(()) }
    });
    assert_eq!(std::error::Error::source(&ended.unwrap_err()).unwrap().to_string(), "enough");
    assert_eq!(calls, 6);
}

#[test]
fn only_selected_rows_are_computed_and_they_keep_their_numbers() {
    let values = counting((500, 4));
    let seen = Mutex::new(Vec::new());
    let numbered = || {
        Stream::from(&values).map_each(|number, row, mut out| {
            assert_eq!(row, values.row(number));
            seen.lock().unwrap().push(number);
            out.fill(number as f32);
        })
    };
    fn taken<S: Stage<Item = f32, Dim = Ix2>>(stream: Stream<'_, S>) -> Vec<usize> {
        let mut numbers = Vec::new();
        stream.for_each_row(|_, row| numbers.push(row[0] as usize)).unwrap();
        numbers
    }
    let check = |numbers: Vec<usize>, expected: &[usize]| {
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        let mut sorted = expected.to_vec();
        seen.sort_unstable();
        sorted.sort_unstable();
        assert_eq!((numbers, seen), (expected.to_vec(), sorted));
    };
    check(taken(numbered().rows(490..).rows(s![..;-3])), &[499, 496, 493, 490]);
    check(taken(numbered().cast::<f64>().cast::<f32>().boxed().select_rows(&[-1, 3, 3])), &[499, 3, 3]);
    let mask = Array1::from_iter((0..500).map(|row| row == 7 || row == 300));
    check(taken(numbered().select_rows(&mask)), &[7, 300]);
    check(taken(numbered().rows(100..).select_rows(&[9, 2]).rows(1..)), &[102]);
    check(taken(numbered().map(|rows, mut out| out.assign(&rows)).rows(-2..)), &[498, 499]);
    check(taken(concat(Axis(0), [numbered(), numbered()]).select_rows(&[700, 1, 999])), &[200, 1, 499]);
    check(taken(concat(Axis(0), [numbered(), numbered()]).rows(s![498..502])), &[498, 499, 0, 1]);
    let wide = concat(Axis(1), [numbered(), numbered()]).select(Axis(1), &[-1, 0, 3]).rows(5..6);
    assert_eq!(taken(wide), [5]);
    assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), [5, 5], "once for each part");
}

#[test]
fn functions_see_standard_layout_after_every_selection_and_in_every_output() {
    let folder = disk_folder();
    let values = counting((300, 12));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    for columns in [[1, 5, 9], [1, 5, 8], [9, 5, 1], [2, 2, 2], [-1, 0, 3]] {
        let double = |chunk: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>| {
            let out = out.as_slice_mut().expect("the output is in standard layout");
            let chunk = chunk.as_slice().expect("the chunk is in standard layout");
            out.iter_mut().zip(chunk).for_each(|(to, from)| *to = from * 2.0);
        };
        let picked: Vec<_> = columns.map(|column: isize| column.rem_euclid(12) as usize).to_vec();
        let expected = values.select(Axis(1), &picked) * 2.0;
        let stream = || Stream::from(&source).select(Axis(1), &columns);
        let out = folder.path().join("out.npy");
        assert_eq!(stream().map(double).write_to(&out).unwrap(), expected);
        let sum =
            stream().fold(0.0, |sum, chunk| sum + chunk.as_slice().unwrap().iter().sum::<f32>()).unwrap();
        assert_eq!(sum * 2.0, expected.sum());
        // The output lies between the columns of another array.
        let wide = concat(Axis(1), [stream().map(double), stream().map(double)]).write_to(&out).unwrap();
        assert_eq!(wide.slice(s![.., 3..]), expected);
        let mut columns_of_another = Array2::zeros((300, 6));
        stream().map(double).copy_into(&mut columns_of_another.slice_mut(s![.., ..;2])).unwrap();
        assert_eq!(columns_of_another.slice(s![.., ..;2]), expected);
        // The function computes whole rows before columns are selected.
        let later = Stream::from(&source).map(double).select(Axis(1), &columns).write_to(&out).unwrap();
        assert_eq!(later, expected);
    }
}

#[test]
fn streams_of_files_and_of_memory_are_zipped() {
    let folder = disk_folder();
    let values = counting((4000, 5));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let weights = Array1::from_iter((0..4000).map(f64::from));
    for (budget, threads) in [(Budget::bytes(30_000), 3), (Budget::chunk_rows(7), 1), (Budget::default(), 2)]
    {
        let (lag, rows) = (3, values.nrows());
        let lagged = Stream::from(&source)
            .rows(lag..)
            .budget(budget)
            .threads(threads)
            .zip(Stream::from(&source).rows(..rows - lag))
            .map(|(later, earlier), mut out| out.assign(&(&later - &earlier)));
        let written = lagged.write_to(folder.path().join("out.npy")).unwrap();
        assert_eq!(written, &values.slice(s![lag.., ..]) - &values.slice(s![..rows - lag, ..]));

        let weighted = Stream::from(&source)
            .cast::<f64>()
            .budget(budget)
            .threads(threads)
            .zip(&weights)
            .zip(&source)
            .select_rows(&[3999, 5, 5, 0])
            .map_rows(2, |((rows, weights), same), mut out: ArrayViewMut2<'_, f64>| {
                out.column_mut(0).assign(&(&rows.column(4) * &weights));
                out.column_mut(1).assign(&same.column(0).mapv(f64::from));
            })
            .write_to(folder.path().join("out.npy"))
            .unwrap();
        let expected = [3999_usize, 5, 5, 0]
            .map(|row| [f64::from(values[[row, 4]]) * row as f64, f64::from(values[[row, 0]])]);
        assert_eq!(weighted, Array2::from(expected.to_vec()));
    }
}

fn error_of(ended: Result<impl fmt::Debug>) -> Error {
    ended.expect_err("an error")
}

#[test]
fn errors_of_both_streams_and_of_selections_name_what_is_wrong() {
    let folder = disk_folder();
    let values = counting((50, 4));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let other = stored(&folder.path().join("other.npy"), &values, 0, true);
    let error = error_of(Stream::from(&source).zip(&values.slice(s![1.., ..])).fold((), |(), _| ()));
    assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
    assert!(
        error.to_string().contains("expected a stream of 50 rows to `zip` with, found one of 49 rows"),
        "{error}"
    );
    assert_eq!(error.path(), Some(source.path()));
    // The result is the first error, and its path is the file of the stream that has failed.
    let bad = Stream::from(&other).select(Axis(1), &[4]).rows(..3);
    let error = error_of(Stream::from(&source).zip(bad).fold((), |(), _| ()));
    assert_eq!((error.kind(), error.path()), (ErrorKind::OutOfBounds, Some(other.path())));
    let error = error_of(
        Stream::from(&source).map(|_, _: ArrayViewMut2<'_, f32>| ()).select_rows(&[3, -51]).min_max(),
    );
    assert!(
        error
            .to_string()
            .contains("expected indices from -50 on, because 50 is the length of axis 0, found index -51"),
        "{error}"
    );
    assert_eq!((error.kind(), error.path()), (ErrorKind::OutOfBounds, Some(source.path())));
    let error = error_of(concat(Axis(0), &[&source, &other]).select_rows(&[true; 99]).min_max());
    assert_eq!(error.kind(), ErrorKind::ShapeMismatch);
    let error = error_of(concat(Axis(1), &[&source, &other]).select(Axis(1), &[8]).rows(7..).min_max());
    assert_eq!(error.kind(), ErrorKind::OutOfBounds);
    let point = MmapArray::<f32, ndarray::Ix0>::scratch(()).unwrap();
    let error = error_of(Stream::from(&point).cast::<f64>().rows(..1).min_max());
    assert_eq!(error.kind(), ErrorKind::OutOfBounds);
    close_path(other.path()).unwrap();
    let error = error_of(Stream::from(&source).zip(&other).fold((), |(), _| ()));
    assert_eq!((error.kind(), error.path()), (ErrorKind::Closed, Some(other.path())));
}
