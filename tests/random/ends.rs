//! Runs the terminal operation of a random stream, and compares its result with the expected elements.

use crate::pool::{Files, Sample};
use crate::spec::{End, StreamSpec};
use ndarray::{ArrayBase, ArrayD, ArrayRef, Axis, Data, IxDyn, ShapeBuilder, Slice};
use ndarray_mmap::stream::{Stage, Stream};
use ndarray_mmap::{ArrayOptions, Error, Format, MmapArray, OnDrop, ReadWrite};
use num_traits::AsPrimitive;
use std::fmt::Debug;

type Verdict = Result<(), String>;

/// A number type, and a change of its values that needs no rounding.
pub trait Numeric: Sample + PartialOrd + AsPrimitive<f64> + AsPrimitive<u16> {
    fn changed(&self) -> Self;
}

macro_rules! numerics {
    ($($type:ty: |$value:ident| $changed:expr;)*) => {
        $(impl Numeric for $type {
            fn changed(&self) -> Self {
                let $value = *self;
                $changed
            }
        })*
    };
}

numerics! {
    u8: |value| value.wrapping_mul(3);
    u16: |value| value.wrapping_add(7);
    f32: |value| value + 1.0;
    f64: |value| value * 2.0;
    i64: |value| value ^ 5;
}

fn error(error: Error) -> String {
    format!("an error: {error}")
}

/// Compares two arrays. The error contains the first difference and the number of differing elements.
fn compare<T: Sample, R: Data<Elem = T>>(found: &ArrayBase<R, IxDyn>, expected: &ArrayD<T>) -> Verdict {
    if found.shape() != expected.shape() {
        return Err(format!("shape {:?} instead of {:?}", found.shape(), expected.shape()));
    }
    if found == expected {
        return Ok(());
    }
    let differs = |(found, (_, expected)): &(&T, (_, &T))| found != expected;
    let differing = || found.iter().zip(expected.indexed_iter()).filter(differs);
    let (first, (index, instead)) = differing().next().ok_or("equal elements in arrays that differ")?;
    let count = differing().count();
    Err(format!(
        "{count} of {} elements differ, first {index:?}: {first:?} instead of {instead:?}",
        expected.len()
    ))
}

/// Runs the terminal operation that `spec` names, on a stream of numbers.
pub fn finish_numeric<S>(
    stream: Stream<'_, S>,
    expected: &ArrayD<S::Item>,
    spec: &StreamSpec,
    files: &Files<'_>,
) -> Verdict
where
    S: Stage<Dim = IxDyn>,
    S::Item: Numeric,
{
    match spec.end {
        End::Mean if expected.ndim() > 0 => {
            let means = stream.mean_axis0().map_err(error)?;
            let values: ArrayD<f64> = expected.mapv(|value| value.as_());
            let rows = values.len_of(Axis(0)) as f64;
            let sums = values.sum_axis(Axis(0));
            let magnitudes = values.mapv(f64::abs).sum_axis(Axis(0));
            let is_near = |((&mean, &sum), &magnitude): ((&f64, &f64), &f64)| {
                rows == 0.0 && mean.is_nan() || (mean - sum / rows).abs() <= 1e-9 * (magnitude / rows)
            };
            let all = means.shape() == sums.shape() && means.iter().zip(&sums).zip(&magnitudes).all(is_near);
            if all { Ok(()) } else { Err(format!("means {means:?} instead of {sums:?} / {rows}")) }
        }
        End::MinMax | End::Mean => {
            let found = stream.min_max().map_err(error)?;
            let smallest = expected.iter().copied().reduce(|a, b| if b < a { b } else { a });
            let largest = expected.iter().copied().reduce(|a, b| if b > a { b } else { a });
            let expected = smallest.zip(largest);
            if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
        }
        end => finish(stream, expected, end, spec, files),
    }
}

/// Runs a terminal operation that does not compute with the elements.
pub fn finish<S>(
    stream: Stream<'_, S>,
    expected: &ArrayD<S::Item>,
    end: End,
    spec: &StreamSpec,
    files: &Files<'_>,
) -> Verdict
where
    S: Stage<Dim = IxDyn>,
    S::Item: Sample,
{
    let target = Target { expected, spec, files };
    match end {
        End::WriteNpy if target.has_dtype() => {
            compare(&stream.write_to(files.out("npy")).map_err(error)?.view(), expected)
        }
        End::WriteNpy | End::WriteRaw => {
            compare(&stream.write_to(files.out("bin")).map_err(error)?.view(), expected)
        }
        End::CopyToMemory | End::CopyToFortranMemory => {
            let shape = expected.raw_dim().set_f(end == End::CopyToFortranMemory);
            let mut memory = ArrayD::from_elem(shape, S::Item::of_index(77));
            stream.copy_into(&mut memory).map_err(error)?;
            compare(&memory, expected)
        }
        End::CopyToStridedMemory => {
            let mut memory = ArrayD::from_elem(target.doubled(), S::Item::of_index(77));
            target.copy_strided(stream, &mut memory)
        }
        End::CopyToPart => target.copy_to_part(stream),
        End::CopyToFortran => {
            let mut mapped = target.map(expected.shape(), true)?;
            stream.copy_into(&mut mapped).map_err(error)?;
            compare(&mapped.view(), expected)
        }
        End::CopyToStrided => {
            let mut mapped = target.map(&target.doubled(), false)?;
            mapped.fill(S::Item::of_index(77));
            target.copy_strided(stream, &mut mapped)
        }
        End::Fold | End::Mean | End::MinMax => {
            let items = stream.fold(Vec::new(), |mut items, chunk| {
                items.extend(chunk.iter().copied());
                items
            });
            let items = items.map_err(error)?;
            let is_equal = items.len() == expected.len() && items.iter().eq(expected);
            if is_equal {
                Ok(())
            } else {
                Err(format!("{} folded elements differ from {}", items.len(), expected.len()))
            }
        }
    }
}

/// The expected elements of a stream, and the folder for its destination files.
struct Target<'t, T> {
    expected: &'t ArrayD<T>,
    spec: &'t StreamSpec,
    files: &'t Files<'t>,
}

impl<T: Sample + Debug> Target<'_, T> {
    fn has_dtype(&self) -> bool {
        !std::any::type_name::<T>().ends_with("Triple")
    }

    /// Returns the expected shape, with the last axis twice as long.
    fn doubled(&self) -> Vec<usize> {
        let mut shape = self.expected.shape().to_vec();
        shape.last_mut().into_iter().for_each(|len| *len *= 2);
        shape
    }

    /// Maps an array of this shape in a file. The data starts at `spec.target_offset_bytes`.
    fn map(&self, shape: &[usize], fortran: bool) -> Result<MmapArray<T, IxDyn, ReadWrite>, String> {
        let bytes = shape.iter().product::<usize>() * size_of::<T>();
        let path = self.files.target(self.spec.target_offset_bytes + bytes as u64 + 100);
        ArrayOptions::new()
            .format(Format::Raw)
            .offset_bytes(self.spec.target_offset_bytes)
            .shape(IxDyn(shape).set_f(fortran))
            .on_drop(OnDrop::KeepCached)
            .open_rw(path)
            .map_err(error)
    }

    /// Copies the stream to every second index along the last axis of `array`. Checks that the other elements do not
    /// change.
    fn copy_strided<S>(&self, stream: Stream<'_, S>, array: &mut ArrayRef<T, IxDyn>) -> Verdict
    where
        S: Stage<Item = T, Dim = IxDyn>,
    {
        let Some(last) = self.expected.ndim().checked_sub(1).map(Axis) else {
            stream.copy_into(array).map_err(error)?;
            return compare(&array.view(), self.expected);
        };
        let mut every_second = array.slice_axis_mut(last, Slice::new(0, None, 2));
        stream.copy_into(&mut every_second).map_err(error)?;
        compare(&array.slice_axis(last, Slice::new(0, None, 2)), self.expected)?;
        let others = array.slice_axis(last, Slice::new(self.expected.len_of(last).min(1) as isize, None, 2));
        let untouched = others.iter().all(|value| *value == T::of_index(77));
        if untouched {
            Ok(())
        } else {
            Err("elements between those that were copied have changed".to_owned())
        }
    }

    /// Copies the stream to the inner rows of a mapped array. Checks that the outer rows do not change.
    fn copy_to_part<S>(&self, stream: Stream<'_, S>) -> Verdict
    where
        S: Stage<Item = T, Dim = IxDyn>,
    {
        let mut shape = self.expected.shape().to_vec();
        shape.first_mut().into_iter().for_each(|rows| *rows += 3);
        let mut mapped = self.map(&shape, false)?;
        mapped.fill(T::of_index(77));
        if shape.is_empty() {
            stream.copy_into(&mut mapped).map_err(error)?;
            return compare(&mapped.view(), self.expected);
        }
        let inner = Slice::new(1, Some(shape[0] as isize - 2), 1);
        stream.copy_into(&mut mapped.slice_axis_mut(Axis(0), inner)).map_err(error)?;
        compare(&mapped.slice_axis(Axis(0), inner), self.expected)?;
        let first = mapped.slice_axis(Axis(0), Slice::from(..1));
        let last = mapped.slice_axis(Axis(0), Slice::from(-2..));
        let untouched = first.iter().chain(&last).all(|value| *value == T::of_index(77));
        if untouched { Ok(()) } else { Err("rows around those that were copied have changed".to_owned()) }
    }
}
