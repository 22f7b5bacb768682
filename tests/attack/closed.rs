//! Tests that every operation on a closed array returns the error `Closed` or panics. The same holds for views, chunks
//! and streams that were made before the array was closed.

use crate::harness::{folder, is_alone, silence_expected_panics};
use crate::operations::{may_be_elsewhere, on_mutable_view, on_view};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, Dimension, Ix1, Ix2, ShapeBuilder, s};
use ndarray_mmap::stream::{Budget, Stream, copy};
use ndarray_mmap::{
    AccessPattern, AnyArray, ArrayOptions, ErrorKind, FileBacked, Format, MmapArray, Result, close_path,
    close_under, evict_view, flush_view, is_mmap_backed, match_dtype,
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

/// Checks that operations on parts of a view of a closed array return `Closed`, whether the parts have elements or not.
fn views(name: &str, view: ArrayView2<'_, f64>, out: &Path) {
    let rows = view.nrows();
    let parts = [
        ("whole", view),
        ("part", view.slice_move(s![1..6, 2..9])),
        ("inverted", view.slice_move(s![..;-1, ..;2])),
        ("transposed", view.reversed_axes()),
        ("no first rows", view.slice_move(s![..0, ..])),
        ("no last rows", view.split_at(Axis(0), rows).1),
        ("no rows of some columns", view.slice_move(s![3..3, 4..])),
        ("no inverted rows", view.slice_move(s![5..5;-1, ..;-1])),
        ("no columns", view.slice_move(s![2.., 7..7])),
        ("no rows, transposed", view.slice_move(s![..0, 1..]).reversed_axes()),
    ];
    for (part, view) in parts.into_iter().filter(|(_, view)| !may_be_elsewhere(view)) {
        for (operation, result) in on_view(&view, out) {
            assert_closed(&format!("{operation} of the {part} view of a {name}"), result);
        }
    }
}

/// Checks that copies into parts of a mutable view of a closed array return `Closed` and store nothing.
fn mutable_views(name: &str, mut view: ArrayViewMut2<'_, f64>) {
    let before = view.sum();
    let all = s![.., ..;1];
    for part in [all, s![.., 3..9;1], s![.., ..;-1], s![.., 4..4;1]] {
        let part = view.slice_mut(part);
        if !may_be_elsewhere(&part.view()) {
            for (operation, result) in on_mutable_view(part) {
                assert_closed(&format!("{operation} to a {name}"), result);
            }
        }
    }
    assert_eq!(view.sum(), before, "no element has changed");
}

fn cache<D: Dimension, A: FileBacked>(name: &str, array: &MmapArray<f64, D, A>) {
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
    let out = folder.path().join("out.npy");
    let raw = |offset| ArrayOptions::new().format(Format::Raw).shape(SHAPE).offset_bytes(offset);
    let files = [
        ("c.npy", ArrayOptions::new().shape(SHAPE)),
        ("fortran.npy", ArrayOptions::new().shape(SHAPE.f())),
        ("at_a_page.raw", raw(0)),
        ("in_a_page.raw", raw(64)),
    ];
    for (index, (name, options)) in files.into_iter().enumerate() {
        let path = folder.path().join(name);
        options.create::<f64, Ix2>(&path).unwrap().fill(1.0);
        let by_folder = index % 2 == 1;
        let close = || match by_folder {
            true => close_under(folder.path()).unwrap(),
            false => close_path(&path).unwrap(),
        };

        let array = options.open::<f64, Ix2>(&path).unwrap();
        let (view, mut chunks) = (array.view(), array.row_chunks(Budget::chunk_rows(7)));
        let (_, chunk) = chunks.next().unwrap();
        let streams = || {
            [
                Stream::from(&array),
                Stream::from(&array).rows(..0),
                Stream::from(&array).select(Axis(1), &[0; 0]),
            ]
        };
        let before = streams();
        assert_eq!(close(), 1);
        views("reader", view, &out);
        views("chunk of a reader", chunk, &out);
        for stream in before.into_iter().chain(streams()) {
            assert_closed("a stream of the array", stream.fold((), |(), _| ()));
        }
        assert_closed("try_next", chunks.try_next());
        assert_panics("next", || chunks.next().is_some());
        drop(chunks);
        cache("reader", &array);
        every_array!("reader", array, &out);
        array.close().unwrap();

        let mut array = options.open_rw::<f64, Ix2>(&path).unwrap();
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

        let mut array = options.open_rw::<f64, Ix2>(&path).unwrap();
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

        let mut array = options.open_cow::<f64, Ix2>(&path).unwrap();
        let mut view = array.view_mut();
        view.row_mut(3).fill(4.0);
        assert_eq!(close(), 1);
        views("copy-on-write array", view.view(), &out);
        mutable_views("copy-on-write array", view.view_mut());
        every_array!("copy-on-write array", array, &out);
        assert_closed("try_view_mut", array.try_view_mut());
        assert_panics("fill", || array.fill(2.0));
        array.close().unwrap();
        assert_eq!(options.open::<f64, Ix2>(&path).unwrap().sum(), 6000.0, "{name}: the file is as it was");
    }
}

#[test]
fn nothing_on_a_closed_array_of_a_type_found_at_run_time_is_ok() {
    if !is_alone("closed::nothing_on_a_closed_array_of_a_type_found_at_run_time_is_ok") {
        return;
    }
    silence_expected_panics();
    let folder = folder(true);
    let (path, out) = (folder.path().join("a.npy"), folder.path().join("out.npy"));
    for shape in [SHAPE.into_shape_with_order(), SHAPE.f()] {
        ArrayOptions::new().shape(shape).create::<f64, Ix2>(&path).unwrap().fill(1.0);
        let any = AnyArray::open(&path).unwrap();
        let AnyArray::F64(array) = &any else { panic!("{any:?}") };
        let view = array.view();
        let empty = view.slice(s![2..2, ..]).into_dyn();
        let (stream, no_rows) = (Stream::from(array), Stream::from(array).rows(..0).boxed());
        assert_eq!(close_path(&path).unwrap(), 1);
        for (operation, result) in on_view(&view, &out).into_iter().chain(on_view(&empty, &out)) {
            assert_closed(operation, result);
        }
        assert_closed("a stream", stream.fold((), |(), _| ()));
        assert_closed("a boxed stream of no rows", no_rows.fold((), |(), _| ()));
        cache("array of any type", array);
        assert_closed("try_view", match_dtype!(&any, |typed| typed.try_view().map(drop)));
        assert_closed("sum", match_dtype!(&any, |typed| Stream::from(typed).fold((), |(), _| ())));
        assert_panics("row_chunks", || array.row_chunks(Budget::default()).count());
        assert_eq!((any.shape(), any.path()), (&[SHAPE.0, SHAPE.1][..], path.as_path()));
        any.close().unwrap();
    }
}

/// Tests that an array that never had elements is closed like any other array.
#[test]
fn nothing_on_a_closed_array_without_elements_is_ok() {
    if !is_alone("closed::nothing_on_a_closed_array_without_elements_is_ok") {
        return;
    }
    silence_expected_panics();
    let folder = folder(true);
    let (path, out) = (folder.path().join("a.npy"), folder.path().join("out.npy"));
    for shape in [(0, 30), (200, 0)] {
        let mut array = MmapArray::<f64, Ix2>::create(&path, shape).unwrap();
        let before = Stream::from(&array);
        assert_eq!(close_path(&path).unwrap(), 1);
        assert_closed("a stream made before", before.fold((), |(), _| ()));
        cache("array without elements", &array);
        every_array!("array without elements", array, &out);
        assert_closed("try_view_mut", array.try_view_mut());
        array.close().unwrap();
    }
}

/// Tests that a view without elements never fails because of a closed array to which it does not belong.
#[test]
fn views_without_elements_of_other_memory_are_ok() {
    if !is_alone("closed::views_without_elements_of_other_memory_are_ok") {
        return;
    }
    let folder = folder(true);
    let out = folder.path().join("out.npy");
    let path = |index: usize| folder.path().join(format!("{index}.raw"));
    let options = ArrayOptions::new().format(Format::Raw).shape(512); // one page
    let arrays: Vec<_> = (0..20).map(|index| options.create::<f64, Ix1>(path(index)).unwrap()).collect();
    let views: Vec<_> = arrays.iter().map(|array| array.view()).collect();
    let start = |index: usize| views[index].as_ptr() as usize;
    let mut adjacent = 0;
    for lower in 0..20 {
        let Some(upper) = (0..20).find(|&upper| start(lower) + 4096 == start(upper)) else { continue };
        let end = ArrayView1::from(&views[lower].to_slice().unwrap()[512..]);
        if arrays[lower].is_closed() {
            continue;
        }
        adjacent += 1;
        close_path(path(upper)).unwrap();
        assert!(arrays[upper].is_closed() && end.as_ptr() as usize == start(upper));
        assert!(!is_mmap_backed(&end));
        for (operation, result) in on_view(&end, &out) {
            if !operation.contains("listed") && !operation.contains("range") {
                result.unwrap_or_else(|error| panic!("{operation}: {error}"));
            }
            let _ = std::fs::remove_file(&out);
        }
    }
    assert!(adjacent > 0, "no mapping lies directly below another one");
    assert_eq!(close_under(folder.path()).unwrap() + adjacent, 20);
    for empty in [ArrayView2::<f64>::from_shape((0, 3), &[]).unwrap(), Array2::zeros((3, 0)).view()] {
        assert!(flush_view(&empty).is_ok() && evict_view(&empty).is_ok());
        Stream::from(&empty).fold((), |(), _| ()).unwrap();
    }
}
