//! Tests that random chains of steps give the same result as the same chain on an array in memory.
//!
//! The test runs 100 chains. `NDARRAY_MMAP_CHAINS=10000` runs more.

use crate::support::memory_folder;
use ndarray::{Array, ArrayD, ArrayViewD, ArrayViewMutD, Axis, IxDyn, ShapeBuilder, Slice, concatenate};
use ndarray_mmap::stream::{Boxed, Budget, Rows, Stream, concat};
use ndarray_mmap::{ArrayOptions, Format, MmapArray, ReadOnly};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::path::Path;

type Steps<'a> = Stream<'a, Boxed<'a, f64, IxDyn>>;

/// The test leaves out a step (a selection, or a join with another stream) whose result would have more elements than
/// this.
const MOST_ELEMENTS: usize = 20_000;

/// The shapes of the sources. Each shape is stored in C order and in Fortran order, in a file and in memory.
const SHAPES: [&[usize]; 6] = [&[40], &[9, 4], &[500, 7], &[0, 3], &[12, 5, 3], &[3, 2, 2, 2]];

/// A source of a stream, and its elements.
struct Held {
    in_file: Option<MmapArray<f64, IxDyn, ReadOnly>>,
    values: ArrayD<f64>,
}

impl Held {
    fn stream(&self) -> Steps<'_> {
        match &self.in_file {
            Some(array) => Stream::from(array).boxed(),
            None => Stream::from(&self.values).boxed(),
        }
    }
}

fn sources(folder: &Path) -> Vec<Held> {
    let mut all = Vec::new();
    for (number, shape) in SHAPES.iter().enumerate() {
        for fortran in [false, true] {
            let shape = IxDyn(shape).set_f(fortran);
            let mut next = 0.0;
            let mut values = Array::zeros(shape.clone());
            values.map_inplace(|value| {
                next = (next + 7.0) % 1009.0;
                *value = next;
            });
            let path = folder.join(format!("{number}-{fortran}.npy"));
            let options = ArrayOptions::new().shape(shape);
            let mut array = options.create::<f64, IxDyn>(&path).unwrap();
            array.assign(&values);
            array.close().unwrap();
            let in_file = MmapArray::open(&path).unwrap();
            all.push(Held { in_file: Some(in_file), values: values.clone() });
            all.push(Held { in_file: None, values });
        }
    }
    all
}

/// Random numbers that a seed determines.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    /// Returns existing indices of an axis, in any order and with repetitions.
    fn list(&mut self, len: usize) -> Vec<usize> {
        let count = if len == 0 { 0 } else { self.below(2 * len.min(60)) };
        match self.below(3) {
            0 => (0..count).map(|_| self.below(len)).collect(),
            1 => (0..count)
                .map(|_| self.below(len))
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect(),
            _ => (0..count.min(len)).collect(),
        }
    }
}

/// A function whose result for a row depends only on this row. The function asserts that its arguments are in standard
/// layout.
fn change(from: &ArrayViewD<'_, f64>, to: &mut ArrayViewMutD<'_, f64>) {
    assert!(from.is_standard_layout() && to.is_standard_layout());
    to.zip_mut_with(from, |to, from| *to = (from * 3.0 + 1.0) % 1009.0);
}

/// Adds the sum of each row of `other` and the number of the row.
fn join(
    number: usize,
    from: &ArrayViewD<'_, f64>,
    other: &ArrayViewD<'_, f64>,
    to: &mut ArrayViewMutD<'_, f64>,
) {
    assert!(from.is_standard_layout() && other.is_standard_layout() && to.is_standard_layout());
    let added = other.sum() + number as f64;
    to.zip_mut_with(from, |to, from| *to = (from + added) % 1009.0);
}

/// Applies `row` to every row of `values`.
fn by_row(
    values: &ArrayD<f64>,
    out_shape: &[usize],
    row: impl Fn(usize, &ArrayViewD<'_, f64>, &mut ArrayViewMutD<'_, f64>),
) -> ArrayD<f64> {
    let mut out = ArrayD::zeros([&[values.len_of(Axis(0))], out_shape].concat());
    let values = values.as_standard_layout();
    for (number, (from, mut to)) in values.outer_iter().zip(out.outer_iter_mut()).enumerate() {
        row(number, &from, &mut to);
    }
    out
}

fn summary(from: &ArrayViewD<'_, f64>, to: &mut ArrayViewMutD<'_, f64>) {
    assert!(from.is_standard_layout() && to.is_standard_layout());
    to[0] = from.sum() % 1009.0;
    to[1] = from.len() as f64;
}

/// Selects rows of any stream in a random way, and the same rows of the expected elements.
fn select_rows<'p, S: Rows>(
    stream: Stream<'p, S>,
    expected: &mut [&mut ArrayD<f64>],
    dice: &mut Dice,
) -> Stream<'p, S> {
    let len = expected[0].len_of(Axis(0));
    let (stream, kept) = match dice.below(4) {
        0 => {
            let (start, end) = (dice.below(len + 1) as isize, dice.below(len + 1) as isize);
            let step = [1, 1, 2, 3, -1, -2][dice.below(6)];
            // Counts both ends of the range from the last row.
            let mut from_end = |index: isize| match dice.below(2) {
                0 if index < len as isize => index - len as isize,
                _ => index,
            };
            let slice = Slice::new(start.min(end), Some(start.max(end)), step);
            let kept: Vec<_> = ndarray::Array1::from_iter(0..len).slice_axis(Axis(0), slice).to_vec();
            let start = from_end(slice.start);
            (stream.rows(Slice::new(start, slice.end.map(from_end), step)), kept)
        }
        1 => {
            let mask: Vec<_> = (0..len).map(|_| dice.below(2) == 0).collect();
            let kept = (0..len).filter(|&row| mask[row]).collect();
            (stream.select_rows(&mask), kept)
        }
        2 => {
            let kept = dice.list(len);
            let signed: Vec<_> = kept
                .iter()
                .map(|&row| if row % 2 == 0 { row as i64 } else { row as i64 - len as i64 })
                .collect();
            (stream.select_rows(&signed), kept)
        }
        _ => {
            let kept = dice.list(len);
            (stream.select_rows(&kept), kept)
        }
    };
    expected.iter_mut().for_each(|values| **values = values.select(Axis(0), &kept));
    stream
}

/// Returns a stream with `shape[0]` rows, made from a random source, and the elements of the stream. If `any` is false,
/// the stream has the whole shape `shape`.
fn partner<'a>(
    sources: &'a [Held],
    shape: &[usize],
    any: bool,
    dice: &mut Dice,
) -> Option<(Steps<'a>, ArrayD<f64>)> {
    let fitting: Vec<_> = sources
        .iter()
        .filter(|held| !held.values.is_empty() && (any || held.values.ndim() == shape.len()))
        .collect();
    let held = fitting.get(dice.below(fitting.len()))?;
    let (mut stream, mut values) = (held.stream(), held.values.clone());
    for axis in (0..if any { 1 } else { shape.len() }).map(Axis) {
        let len = values.len_of(axis);
        let first = dice.below(len);
        let indices: Vec<_> = (first..first + shape[axis.index()]).map(|index| index % len).collect();
        stream = stream.select(axis, &indices);
        values = values.select(axis, &indices);
    }
    Some((stream, values))
}

/// Adds a random step.
fn add<'a>(
    stream: Steps<'a>,
    values: &mut ArrayD<f64>,
    kind: u8,
    sources: &'a [Held],
    dice: &mut Dice,
) -> Steps<'a> {
    let row_shape = values.shape()[1..].to_vec();
    match kind {
        0 | 1 => select_rows(stream, &mut [values], dice),
        2 => {
            let axis = Axis(dice.below(values.ndim()));
            let list = dice.list(values.len_of(axis));
            *values = values.select(axis, &list);
            stream.select(axis, &list)
        }
        3 => stream.cast::<i32>().cast::<f64>().boxed(),
        4 => {
            let before = std::mem::take(values);
            *values = by_row(&before, &row_shape, |_, from, to| change(from, to));
            stream.map(|from, mut to| change(&from, &mut to)).boxed()
        }
        5 => {
            *values = by_row(&values.clone(), &row_shape, |row, from, to| join(row, from, from, to));
            stream.map_each(|row, from, mut to| join(row, &from, &from, &mut to)).boxed()
        }
        6 => {
            *values = by_row(&values.clone(), &[2], |_, from, to| summary(from, to));
            let summaries = |from: ArrayViewD<'_, f64>, mut to: ArrayViewMutD<'_, f64>| {
                from.outer_iter().zip(to.outer_iter_mut()).for_each(|(from, mut to)| summary(&from, &mut to));
            };
            stream.map_rows(IxDyn(&[2]), summaries).boxed()
        }
        7 => {
            let axis = Axis(dice.below(values.ndim()));
            let mut shape = values.shape().to_vec();
            shape[axis.index()] = dice.below(9);
            let Some((other, others)) = partner(sources, &shape, false, dice) else { return stream };
            *values = concatenate(axis, &[values.view(), others.view()]).unwrap();
            concat(axis, [stream, other]).boxed()
        }
        _ => {
            let Some((other, mut others)) = partner(sources, &values.shape()[..1], true, dice) else {
                return stream;
            };
            let mut pairs = stream.zip(other);
            if dice.below(2) == 0 {
                pairs = select_rows(pairs, &mut [values, &mut others], dice);
            }
            let others = others.as_standard_layout().into_owned();
            *values = by_row(&values.clone(), &row_shape, |row, from, to| {
                join(row, from, &others.index_axis(Axis(0), row), to);
            });
            pairs.map_each(|row, (from, other), mut to| join(row, &from, &other, &mut to)).boxed()
        }
    }
}

/// Ends the stream in one of several ways, and returns its elements.
fn collect(stream: Steps<'_>, shape: &[usize], kind: u8, folder: &Path) -> ArrayD<f64> {
    match kind {
        0 => stream.write_to(folder.join("out.npy")).unwrap().to_owned(),
        1 | 2 => {
            let mut out = ArrayD::zeros(IxDyn(shape).set_f(kind == 2));
            stream.copy_into(&mut out).unwrap();
            out
        }
        3 => {
            let mut all = ArrayD::zeros(shape);
            let rows = stream.try_fold(0, |done, rows, chunk| {
                assert!(rows.start == done && chunk.is_standard_layout());
                let slice = Slice::from(rows.clone());
                all.slice_axis_mut(Axis(0), slice).assign(&chunk);
                Ok::<_, std::io::Error>(rows.end)
            });
            assert_eq!(rows.unwrap(), shape[0]);
            all
        }
        4 => stream.to_array().unwrap(),
        5 | 6 => {
            // A raw file in C order, and a file in Fortran order.
            let options = match kind {
                5 => ArrayOptions::new().format(Format::Raw).offset_bytes(4104),
                _ => ArrayOptions::new().shape(IxDyn(shape).f()),
            };
            let written = stream.write_with(&options, folder.join("out")).unwrap();
            let written_axes = if kind == 5 { written.view() } else { written.t() };
            assert!(written_axes.is_standard_layout());
            written.to_owned()
        }
        _ => {
            let mut all = ArrayD::zeros(shape);
            stream.for_each_row(|row, values| all.index_axis_mut(Axis(0), row).assign(&values)).unwrap();
            all
        }
    }
}

/// Compares reductions of the stream with those of its elements, which are integers of a few digits, so that their sums
/// are exact.
fn check_reductions(stream: Steps<'_>, values: &ArrayD<f64>, along_axis0: bool) {
    let is_equal = |found: f64, expected: f64| {
        found == expected || found.is_nan() && expected.is_nan() || (found / expected - 1.0).abs() < 1e-12
    };
    let extremes = |values: &[f64]| {
        let extremes = values.iter().map(|&value| (value, value));
        extremes.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    };
    let check = |stats: (usize, f64, f64, f64, Option<(f64, f64)>), values: &[f64]| {
        let (count, sum, mean, var, min_max) = stats;
        let n = values.len() as f64;
        let squares: f64 = values.iter().map(|value| (n * value - values.iter().sum::<f64>()).powi(2)).sum();
        assert_eq!((count, sum, min_max), (values.len(), values.iter().sum(), extremes(values)));
        assert!(is_equal(mean, sum / n) && is_equal(var, squares / n / n / n), "{mean} {var}");
    };
    if !along_axis0 {
        let found = stream.stats(0.0).unwrap();
        let all: Vec<_> = values.iter().copied().collect();
        return check((found.count, found.sum, found.mean, found.var, found.min_max), &all);
    }
    let found = stream.stats_axis0(0.0).unwrap();
    for (place, _) in found.sum.indexed_iter() {
        let column: Vec<_> = values.outer_iter().map(|row| row[&place]).collect();
        let min_max = found.min_max.as_ref().map(|(low, high)| (low[&place], high[&place]));
        let one = (found.count[&place], found.sum[&place], found.mean[&place], found.var[&place], min_max);
        check(one, &column);
    }
}

#[derive(Clone, Debug)]
struct Chain {
    source: usize,
    steps: Vec<(u8, u64)>,
    end: u8,
    budget: Budget,
    threads: usize,
}

fn chains() -> impl Strategy<Value = Chain> {
    let steps = prop::collection::vec((0_u8..10, any::<u64>()), 0..8);
    let budget =
        prop_oneof![(1_usize..50).prop_map(Budget::chunk_rows), (1_usize..1 << 17).prop_map(Budget::bytes)];
    let parts = (0_usize..1000, steps, 0_u8..10, budget, 1_usize..4);
    parts.prop_map(|(source, steps, end, budget, threads)| Chain { source, steps, end, budget, threads })
}

#[test]
fn random_chains_of_steps_equal_the_same_steps_in_memory() {
    let folder = memory_folder();
    let sources = sources(folder.path());
    let cases = std::env::var("NDARRAY_MMAP_CHAINS").map_or(100, |text| text.parse().unwrap());
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&chains(), |chain| {
            let held = &sources[chain.source % sources.len()];
            let (mut stream, mut values) = (held.stream(), held.values.clone());
            for (kind, seed) in &chain.steps {
                if values.len() < MOST_ELEMENTS {
                    stream = add(stream, &mut values, *kind, &sources, &mut Dice(*seed));
                }
            }
            let stream = stream.budget(chain.budget).threads(chain.threads);
            if chain.end > 7 {
                check_reductions(stream, &values, chain.end == 8);
                return Ok(());
            }
            let found = collect(stream, values.shape(), chain.end, folder.path());
            prop_assert_eq!(found, values);
            Ok(())
        })
        .unwrap();
}
