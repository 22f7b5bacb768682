//! Tests that every operation on a closed array returns the error `Closed` or panics. The same holds for views, chunks
//! and streams that were made before the array was closed.

use crate::harness::{folder, is_alone, silence_expected_panics};
use ndarray::{Array2, ArrayViewMut2, Ix2, s};
use ndarray_mmap::stream::{Budget, Stream, copy};
use ndarray_mmap::{
    AccessPattern, ErrorKind, FileBacked, MmapArray, Result, close_path, close_under, evict_view, flush_view,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const SHAPE: (usize, usize) = (200, 30);

fn assert_closed<R>(what: &str, result: Result<R>) {
    match result {
        Ok(_) => panic!("{what} of a closed array is Ok"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{what}: {error}"),
    }
}

fn assert_panics<R>(what: &str, access: impl FnOnce() -> R) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(access()))) else {
        panic!("{what} of a closed array returns")
    };
    let text = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(text.contains("closed by its path"), "{what}: {text}");
}

/// Checks that operations on a view of a closed array return `Closed`.
fn views(name: &str, view: ndarray::ArrayView2<'_, f64>, out: &Path) {
    let inverted = view.slice(s![..;-1, ..;2]);
    for (kind, view) in [("whole", view), ("inverted", inverted), ("transposed", view.reversed_axes())] {
        let what = |operation: &str| format!("{operation} of the {kind} view of a {name}");
        let mut memory = Array2::<f64>::zeros(view.raw_dim());
        assert_closed(&what("flush_view"), flush_view(&view));
        assert_closed(&what("evict_view"), evict_view(&view));
        assert_closed(&what("fold"), Stream::from(&view).fold((), |(), _| ()));
        assert_closed(&what("var_axis0"), Stream::from(&view).var_axis0(1.0));
        assert_closed(&what("mean_axis0"), Stream::from(&view).mean_axis0());
        assert_closed(&what("min_max"), Stream::from(&view).min_max());
        assert_closed(&what("rows"), Stream::from(&view).select_rows(&[3, 1]).fold((), |(), _| ()));
        assert_closed(
            &what("map"),
            Stream::from(&view).map(|chunk, mut out| out.assign(&chunk)).mean_axis0(),
        );
        assert_closed(&what("cast"), Stream::from(&view).cast::<f32>().mean_axis0());
        assert_closed(&what("copy_into"), Stream::from(&view).copy_into(&mut memory));
        assert_closed(&what("copy"), copy(&view, &mut memory));
        assert_closed(&what("write_to"), Stream::from(&view).write_to(out).map(drop));
        assert!(!out.exists(), "{}: nothing is published", what("write_to"));
        assert_eq!(memory, Array2::<f64>::zeros(view.raw_dim()));
    }
}

/// Checks that copies into a mutable view of a closed array return `Closed` and store nothing.
fn mutable_views(name: &str, mut view: ArrayViewMut2<'_, f64>) {
    let before = view.sum();
    let other = Array2::<f64>::from_elem(SHAPE, 5.0);
    let part = s![.., 3..9];
    assert_closed(&format!("copy to a {name}"), copy(&other, &mut view));
    assert_closed(&format!("copy_into a {name}"), Stream::from(&other).copy_into(&mut view));
    let columns = Stream::from(other.slice(part));
    assert_closed(&format!("copy_into columns of a {name}"), columns.copy_into(&mut view.slice_mut(part)));
    let inverted = Stream::from(&other).copy_into(&mut view.slice_mut(s![..;-1, ..]));
    assert_closed(&format!("copy_into the inverted {name}"), inverted);
    let turned = Stream::from(other.t()).copy_into(&mut view.view_mut().reversed_axes());
    assert_closed(&format!("copy_into the transposed {name}"), turned);
    assert_eq!(view.sum(), before, "no element has changed");
}

fn cache<A: FileBacked>(name: &str, array: &MmapArray<f64, Ix2, A>) {
    for rows in [0..5, 0..0, 0..usize::MAX] {
        let what = |operation: &str| format!("{operation}({rows:?}) of a {name}");
        assert_closed(&what("flush_rows"), array.flush_rows(rows.clone()));
        assert_closed(&what("evict_rows"), array.evict_rows(rows.clone()));
        assert_closed(&what("residency_rows"), array.residency_rows(rows.clone()));
    }
    assert_closed("flush", array.flush());
    assert_closed("evict", array.evict());
    assert_closed("residency", array.residency());
}

macro_rules! every_array {
    ($name:literal, $array:ident, $out:expr) => {{
        assert!($array.is_closed());
        assert_closed(concat!("try_view of a ", $name), $array.try_view());
        for rows in [0..5, 0..0] {
            assert_closed(concat!("prefetch of a ", $name), $array.prefetch_rows(rows.clone()));
            let random = AccessPattern::Random;
            assert_closed(concat!("advice for a ", $name), $array.advise_rows(random, rows));
        }
        assert_closed(concat!("stream of a ", $name), Stream::from(&$array).fold((), |(), _| ()));
        assert_closed(concat!("write_to of a ", $name), Stream::from(&$array).write_to($out));
        assert_closed(concat!("rows of a ", $name), Stream::from(&$array).rows(..0).fold((), |(), _| ()));
        assert_panics(concat!("row_chunks of a ", $name), || $array.row_chunks(Budget::default()).count());
        assert_panics(concat!("view of a ", $name), || $array.view().len());
        assert_panics(concat!("element of a ", $name), || $array[[0, 0]]);
        assert_panics(concat!("sum of a ", $name), || $array.sum());
        assert_panics(concat!("iterator over a ", $name), || (&$array).into_iter().count());
        assert_panics(concat!("comparison of a ", $name), || $array == $array);
        assert_panics(concat!("negation of a ", $name), || -&$array);
        assert!(format!("{:?}", $array).contains("closed: true"));
    }};
}

#[test]
fn nothing_on_a_closed_array_is_ok() {
    if !is_alone("closed::nothing_on_a_closed_array_is_ok") {
        return;
    }
    silence_expected_panics();
    let folder = folder(false);
    let (path, out) = (folder.path().join("a.npy"), folder.path().join("out.npy"));
    MmapArray::<f64, Ix2>::create(&path, SHAPE).unwrap().fill(1.0);
    for by_folder in [false, true] {
        let close = || match by_folder {
            true => close_under(folder.path()).unwrap(),
            false => close_path(&path).unwrap(),
        };

        let array = MmapArray::<f64, Ix2>::open(&path).unwrap();
        let (view, mut chunks) = (array.view(), array.row_chunks(Budget::chunk_rows(7)));
        let (_, chunk) = chunks.next().unwrap();
        let stream = Stream::from(&array);
        assert_eq!(close(), 1);
        views("reader", view, &out);
        views("chunk of a reader", chunk, &out);
        assert_closed("a stream made before", stream.fold((), |(), _| ()));
        assert_closed("try_next", chunks.try_next());
        assert_panics("next", || chunks.next().is_some());
        drop(chunks);
        cache("reader", &array);
        every_array!("reader", array, &out);
        array.close().unwrap();

        let mut array = MmapArray::<f64, Ix2>::open_rw(&path).unwrap();
        let mut chunks = array.row_chunks_mut(Budget::chunk_rows(7));
        let (_, mut chunk) = chunks.next().unwrap();
        assert_eq!(close(), 1);
        assert_closed("flush_view of a chunk", flush_view(&chunk));
        assert_closed("evict_view of a chunk", evict_view(&chunk));
        assert_closed("copy to a chunk", copy(&Array2::ones(chunk.raw_dim()), &mut chunk));
        assert_closed("try_next", chunks.try_next());
        assert_panics("next", || chunks.next().is_some());
        drop(chunks);
        array.close().unwrap();

        let mut array = MmapArray::<f64, Ix2>::open_rw(&path).unwrap();
        let mut view = array.view_mut();
        assert_eq!(close(), 1);
        views("writer", view.view(), &out);
        mutable_views("writer", view.view_mut());
        cache("writer", &array);
        every_array!("writer", array, &out);
        assert_closed("try_view_mut", array.try_view_mut());
        assert_panics("fill", || array.fill(2.0));
        assert_panics("row_chunks_mut", || array.row_chunks_mut(Budget::default()).count());
        assert_panics("assignment", || array += 1.0);
        assert_closed("into_read_only", array.into_read_only());

        let mut array = MmapArray::<f64, Ix2>::open_cow(&path).unwrap();
        let mut view = array.view_mut();
        view.row_mut(3).fill(4.0);
        assert_eq!(close(), 1);
        views("copy-on-write array", view.view(), &out);
        mutable_views("copy-on-write array", view.view_mut());
        every_array!("copy-on-write array", array, &out);
        assert_closed("try_view_mut", array.try_view_mut());
        assert_panics("fill", || array.fill(2.0));
        array.close().unwrap();
    }
    assert_eq!(MmapArray::<f64, Ix2>::open(&path).unwrap().sum(), 6000.0, "the file is as it was");
}
