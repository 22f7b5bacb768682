//! Builds a random stream up to its last step. Applies the same selections and functions to the stream and to an array
//! in memory.

use crate::ends::{Numeric, finish, finish_numeric};
use crate::pool::{Files, Held, Sample};
use crate::spec::{Cut, End, Steps, StreamSpec};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice, concatenate};
use ndarray_mmap::stream::{Source, Stage, Stream, concat};

type Verdict = Result<(), String>;

/// The test leaves out each view and each selection that would have more elements than this.
const MOST_ELEMENTS: usize = 1 << 19;

fn slice_of(cut: Cut, len: usize) -> Slice {
    let start = cut.start % (len + 1);
    Slice {
        start: start as isize,
        end: Some(start.saturating_add(cut.len).min(len) as isize),
        step: cut.step,
    }
}

/// Returns the view that `spec` describes. An axis that `spec` inserts by broadcasting has length 1 in this view.
fn shaped<'v, T>(spec: &StreamSpec, mut view: ArrayViewD<'v, T>) -> ArrayViewD<'v, T> {
    for cut in spec.cuts.iter().filter(|cut| cut.axis < spec.source.shape.len()) {
        let slice = slice_of(*cut, view.len_of(Axis(cut.axis)));
        view.slice_axis_inplace(Axis(cut.axis), slice);
    }
    let mut axes: Vec<_> = (0..view.ndim()).collect();
    axes.rotate_left(spec.rotated % view.ndim().max(1));
    let view = view.permuted_axes(axes);
    match spec.broadcast {
        Some((axis, _)) => {
            let axis = axis.min(view.ndim());
            view.insert_axis(Axis(axis))
        }
        None => view,
    }
}

/// Returns the shape with the full length of the broadcast axis. Returns `shape` unchanged if the view would have too
/// many elements.
fn repeated_shape(spec: &StreamSpec, shape: &[usize]) -> Vec<usize> {
    let mut repeated = shape.to_vec();
    if let Some((axis, len)) = spec.broadcast {
        repeated[axis.min(shape.len() - 1)] = len;
    }
    let is_small = repeated.iter().product::<usize>() <= MOST_ELEMENTS;
    if is_small { repeated } else { shape.to_vec() }
}

/// Reduces each index modulo `len`. Returns `None` if the selection would have too many elements.
fn fit(list: &[usize], len: usize, elements: usize) -> Option<Vec<usize>> {
    let fitting: Vec<_> = list.iter().filter(|_| len > 0).map(|index| index % len).collect();
    (elements / len.max(1) * fitting.len() <= MOST_ELEMENTS).then_some(fitting)
}

/// The selections of a stream. Each selection applies to the result of the selection before it.
struct Selections {
    rows: Option<Slice>,
    list: Option<Vec<usize>>,
    along: Option<(Axis, Vec<usize>)>,
}

impl Selections {
    /// Applies the selections of `spec` to an array in memory, and returns these selections.
    fn of<T: Clone>(spec: &StreamSpec, values: &mut ArrayD<T>) -> Self {
        let mut all = Self { rows: None, list: None, along: None };
        if values.ndim() == 0 {
            return all;
        }
        if let Some(cut) = spec.rows {
            let slice = slice_of(cut, values.len_of(Axis(0)));
            values.slice_axis_inplace(Axis(0), slice);
            all.rows = Some(slice);
        }
        if let Some(list) = &spec.select_rows {
            all.list = fit(list, values.len_of(Axis(0)), values.len());
            all.list.iter().for_each(|list| *values = values.select(Axis(0), list));
        }
        if let Some((axis, list)) = &spec.select {
            let axis = Axis(axis % values.ndim());
            all.along = fit(list, values.len_of(axis), values.len()).map(|list| (axis, list));
            all.along.iter().for_each(|(axis, list)| *values = values.select(*axis, list));
        }
        all
    }

    fn on<'a, T: Sample>(&'a self, mut stream: Plain<'a, T>) -> Plain<'a, T> {
        if let Some(slice) = self.rows {
            stream = stream.rows(slice);
        }
        if let Some(list) = &self.list {
            stream = stream.select_rows(list);
        }
        match &self.along {
            Some((axis, list)) => stream.select(*axis, list),
            None => stream,
        }
    }
}

type Plain<'a, T> = Stream<'static, Source<'a, T, IxDyn>>;

/// Adds the steps and the terminal operation to a stream. This is a trait because its method is generic over the
/// stream.
trait Continue<T> {
    fn go_on<S: Stage<Item = T, Dim = IxDyn>>(&self, stream: Stream<'_, S>, expected: ArrayD<T>) -> Verdict;
}

/// Builds the stream up to its selections, computes its expected elements, and passes both to `next`.
fn build<T: Sample>(held: &Held<T>, spec: &StreamSpec, next: &impl Continue<T>) -> Verdict {
    let is_whole = spec.cuts.is_empty() && spec.rotated == 0 && spec.broadcast.is_none();
    let (of_file, in_memory) = (shaped(spec, held.view()), shaped(spec, held.values.view()));
    let shape = repeated_shape(spec, in_memory.shape());
    let of_file = of_file.broadcast(&*shape).ok_or("no such view")?;
    let mut expected = in_memory.broadcast(&*shape).ok_or("no such view")?.to_owned();
    let selections = Selections::of(spec, &mut expected);
    let make = || selections.on(if is_whole { held.stream() } else { Stream::from(of_file.view()) });
    let Some(axis) =
        spec.concat.filter(|&axis| axis < expected.ndim() && expected.len() <= MOST_ELEMENTS).map(Axis)
    else {
        return next.go_on(make(), expected);
    };
    let second = expected.slice_axis(Axis(0), Slice::new(0, None, if axis.0 == 0 { 2 } else { 1 }));
    let joined = concatenate(axis, &[expected.view(), second]).unwrap();
    let other = if axis.0 == 0 { make().rows(Slice::new(0, None, 2)) } else { make() };
    match spec.boxed_parts {
        true => next.go_on(concat(axis, [make().boxed(), other.boxed()]).boxed(), joined),
        false => next.go_on(concat(axis, [make(), other]).boxed(), joined),
    }
}

/// Runs a stream whose elements are not numbers.
pub fn plain<T: Sample>(held: &Held<T>, spec: &StreamSpec, files: &Files<'_>) -> Verdict {
    build(held, spec, &Moved { spec, files })
}

struct Moved<'s> {
    spec: &'s StreamSpec,
    files: &'s Files<'s>,
}

impl<T: Sample> Continue<T> for Moved<'_> {
    fn go_on<S: Stage<Item = T, Dim = IxDyn>>(&self, stream: Stream<'_, S>, expected: ArrayD<T>) -> Verdict {
        let stream = stream.budget(self.spec.budget).threads(self.spec.threads).transfer(self.spec.transfer);
        // These elements are not numbers, so they have no mean and no minimum.
        let end = if matches!(self.spec.end, End::Mean | End::MinMax) { End::Fold } else { self.spec.end };
        match self.spec.steps {
            Steps::None => finish(stream, &expected, end, self.spec, self.files),
            _ => finish(stream.boxed(), &expected, end, self.spec, self.files),
        }
    }
}

/// Runs a stream whose elements are numbers.
pub fn numeric<T: Numeric>(held: &Held<T>, spec: &StreamSpec, files: &Files<'_>) -> Verdict {
    build(held, spec, &Changed { spec, files })
}

struct Changed<'s> {
    spec: &'s StreamSpec,
    files: &'s Files<'s>,
}

fn change<T: Numeric>(from: ArrayViewD<'_, T>, mut to: ArrayViewMutD<'_, T>) {
    to.zip_mut_with(&from, |to, from| *to = from.changed());
}

/// Stores three values for each row: the sum of its elements, the number of its elements, and its first element.
fn describe<T: Numeric>(from: ArrayViewD<'_, T>, mut to: ArrayViewMutD<'_, f64>) {
    for (row, mut to) in from.outer_iter().zip(to.outer_iter_mut()) {
        to[0] = row.iter().map(|value| -> f64 { value.as_() }).sum();
        to[1] = row.len() as f64;
        to[2] = row.first().map_or(0.0, |value| value.as_());
    }
}

impl<T: Numeric> Continue<T> for Changed<'_> {
    fn go_on<S: Stage<Item = T, Dim = IxDyn>>(&self, stream: Stream<'_, S>, expected: ArrayD<T>) -> Verdict {
        let stream = stream.budget(self.spec.budget).threads(self.spec.threads).transfer(self.spec.transfer);
        let (spec, files) = (self.spec, self.files);
        let to_f64 = |values: &ArrayD<T>| values.mapv(|value| value.as_());
        match spec.steps {
            Steps::None => finish_numeric(stream, &expected, spec, files),
            Steps::Boxed => finish_numeric(stream.boxed(), &expected, spec, files),
            Steps::CastToF64 => finish_numeric(stream.cast::<f64>(), &to_f64(&expected), spec, files),
            Steps::CastToU16 => {
                let expected = expected.mapv(|value| -> u16 { value.as_() });
                finish_numeric(stream.boxed().cast::<u16>(), &expected, spec, files)
            }
            Steps::Map => {
                finish_numeric(stream.map(change::<T>), &expected.mapv(|x| x.changed()), spec, files)
            }
            Steps::MapRows if expected.ndim() > 0 => {
                let mut described = ArrayD::zeros(IxDyn(&[expected.len_of(Axis(0)), 3]));
                describe(expected.view(), described.view_mut());
                finish_numeric(stream.boxed().map_rows(IxDyn(&[3]), describe::<T>), &described, spec, files)
            }
            Steps::MapRows | Steps::CastMapBoxed => {
                let expected = to_f64(&expected).mapv(|value| value.changed());
                finish_numeric(stream.cast::<f64>().map(change::<f64>).boxed(), &expected, spec, files)
            }
            Steps::MapCastMap => {
                let expected = to_f64(&expected.mapv(|x| x.changed())).mapv(|value| value.changed());
                let stream = stream.boxed().map(change::<T>).cast::<f64>().map(change::<f64>);
                finish_numeric(stream.boxed(), &expected, spec, files)
            }
        }
    }
}
