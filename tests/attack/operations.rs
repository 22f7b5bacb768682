//! Every operation on a view, for tests that check what the operations answer.

use ndarray::{Array, ArrayView, ArrayViewMut, ArrayViewMut2, Axis, Dimension, Ix2, RemoveAxis};
use ndarray_mmap::stream::{Stream, concat, copy};
use ndarray_mmap::{Result, evict_view, flush_view};
use std::path::Path;

/// Runs every operation that reads a view or acts on its file. Returns the names and the results of the operations.
///
/// `out` is a path that no file has. If an operation has failed, asserts that it has stored nothing.
pub fn on_view<D: RemoveAxis>(view: &ArrayView<'_, f64, D>, out: &Path) -> Vec<(&'static str, Result<()>)> {
    let stream = || Stream::from(view.view());
    let double =
        |chunk: ArrayView<'_, f64, D>, mut out: ArrayViewMut<'_, f64, D>| out.assign(&(&chunk * 2.0));
    let mut memory = Array::<f64, D>::zeros(view.raw_dim());
    let mut memories = Array::<f64, D>::zeros(view.raw_dim());
    let last = Axis(view.ndim() - 1);
    let results = vec![
        ("flush_view", flush_view(view)),
        ("evict_view", evict_view(view)),
        ("fold", stream().fold((), |(), _| ())),
        ("fold of a boxed stream", stream().boxed().fold((), |(), _| ())),
        ("fold on one thread", stream().threads(1).fold((), |(), _| ())),
        ("fold of no rows", stream().rows(..0).fold((), |(), _| ())),
        ("fold of no listed rows", stream().select_rows(&[0; 0]).fold((), |(), _| ())),
        ("fold of no columns", stream().select(last, &[0; 0]).fold((), |(), _| ())),
        ("fold of listed rows", stream().select_rows(&[3, 1]).fold((), |(), _| ())),
        ("fold of listed columns", stream().select(last, &[3, 1, 0]).fold((), |(), _| ())),
        ("fold of a range of columns", stream().select(last, &[1, 2, 3]).fold((), |(), _| ())),
        ("fold of two parts", concat(Axis(0), [view.view(), view.view()]).fold((), |(), _| ())),
        (
            "fold of parts side by side",
            concat(last, [stream().boxed(), stream().boxed()]).fold((), |(), _| ()),
        ),
        ("fold of a map", stream().map(double).fold((), |(), _| ())),
        (
            "fold of a map of rows",
            stream().map_rows(3, |_, mut out: ArrayViewMut2<'_, f32>| out.fill(1.0)).fold((), |(), _| ()),
        ),
        ("sum", stream().sum().map(drop)),
        ("sum_exact", stream().cast::<i64>().sum_exact().map(drop)),
        ("mean", stream().mean().map(drop)),
        ("var", stream().var(0.0).map(drop)),
        ("std", stream().cast::<f32>().std(0.0).map(drop)),
        ("min_max", stream().min_max().map(drop)),
        ("skip_nan().min_max", stream().skip_nan().min_max().map(drop)),
        ("sum_axis0", stream().sum_axis0().map(drop)),
        ("mean_axis0", stream().boxed().mean_axis0().map(drop)),
        ("var_axis0", stream().var_axis0(0.0).map(drop)),
        ("std_axis0", stream().map(double).std_axis0(0.0).map(drop)),
        ("min_max_axis0", stream().min_max_axis0().map(drop)),
        ("skip_nan().min_max_axis0", stream().skip_nan().min_max_axis0().map(drop)),
        ("copy", copy(view, &mut memory)),
        ("copy_into", stream().copy_into(&mut memory)),
        ("copy_into of a boxed map", stream().map(double).boxed().copy_into(&mut memories)),
        ("write_to", stream().write_to(out).map(drop)),
        ("write_to of a boxed cast", stream().cast::<i32>().boxed().write_to(out).map(drop)),
    ];
    let failed = results.iter().all(|(_, result)| result.is_err());
    let stored = out.exists() || memory.iter().chain(&memories).any(|&value| value != 0.0);
    assert!(!failed || !stored, "operations that failed have stored something");
    results
}

/// Runs every operation that stores into a view. Returns the names and the results of the operations.
pub fn on_mutable_view(mut view: ArrayViewMut2<'_, f64>) -> Vec<(&'static str, Result<()>)> {
    let other = Array::<f64, Ix2>::from_elem(view.raw_dim(), 5.0);
    let halves = |values: ArrayView<'_, f32, Ix2>, mut out: ArrayViewMut<'_, f64, Ix2>| {
        out.zip_mut_with(&values, |out, &value| *out = f64::from(value));
    };
    vec![
        ("copy", copy(&other, &mut view)),
        ("copy_into", Stream::from(&other).copy_into(&mut view)),
        ("copy_into of a boxed stream", Stream::from(&other).boxed().copy_into(&mut view)),
        ("copy_into of a map", Stream::from(&other).cast::<f32>().map(halves).copy_into(&mut view)),
        ("copy_into the transposed view", copy(other.t(), &mut view.view_mut().reversed_axes())),
        ("flush_view", flush_view(&view)),
        ("evict_view", evict_view(&view)),
    ]
}

/// Returns whether a view without elements can be at the end of other memory: see the documentation of `flush_view`.
pub fn may_be_elsewhere<D: Dimension>(view: &ArrayView<'_, f64, D>) -> bool {
    view.is_empty() && view.as_ptr() as usize % 4096 == 0
}
