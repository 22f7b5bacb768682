//! Tests that compare reductions with those of numpy: `reductions.py` writes random arrays and their reductions.

use crate::support::{disk_folder, numpy};
use ndarray::{ArrayD, Axis, Dimension, Ix1, IxDyn};
use ndarray_mmap::stream::{Budget, Element, Source, Stream};
use ndarray_mmap::{MmapArray, Result};
use num_traits::AsPrimitive;
use std::path::Path;

const QUANTILES: [f64; 3] = [0.1, 0.5, 1.0];

/// A list of the names of reductions and their results.
type Results = Vec<(&'static str, ArrayD<f64>)>;

/// Returns the result of a reduction of the whole array as an array of zero dimensions.
fn one(value: f64) -> ArrayD<f64> {
    ArrayD::from_elem(vec![], value)
}

/// Returns the reductions in the order of `reductions.py`. A reduction that has a result in numpy but not in this crate
/// is skipped.
fn reduce<'a, T>(
    stream: &dyn Fn() -> Stream<'static, Source<'a, T, IxDyn>>,
    along_axis0: bool,
) -> Result<Results>
where
    T: Element + AsPrimitive<f64> + PartialOrd,
{
    let shape = stream().shape();
    let nan = |shape: &[usize]| ArrayD::from_elem(shape, f64::NAN);
    let mut results = Results::new();
    if along_axis0 {
        let row = &shape.slice()[1..];
        let stats = stream().stats_axis0(0.0)?;
        let extremes = |extremes: Option<(ArrayD<T>, ArrayD<T>)>| match extremes {
            Some((smallest, largest)) => (smallest.mapv(T::as_), largest.mapv(T::as_)),
            None => (nan(row), nan(row)),
        };
        let (smallest, largest) = extremes(stream().min_max_axis0()?);
        let of_stats = extremes(stats.min_max.clone());
        results.extend([
            ("count", stats.count.mapv(|count| count as f64)),
            ("sum", stream().sum_axis0()?),
            ("mean", stream().mean_axis0()?),
            ("var", stream().var_axis0(0.0)?),
            ("sample var", if shape[0] > 0 { stream().var_axis0(1.0)? } else { nan(row) }),
            ("std", stream().std_axis0(0.0)?),
            ("min", smallest),
            ("max", largest),
        ]);
        for q in QUANTILES {
            results.push(("quantile", stream().quantile_axis0(q)?));
        }
        check_equal(&results[1..4], &[&stats.sum, &stats.mean, &stats.var]);
        check_equal(&results[5..8], &[&stats.std, &of_stats.0, &of_stats.1]);
    } else {
        let stats = stream().stats(0.0)?;
        let extremes = |extremes: Option<(T, T)>| match extremes {
            Some((smallest, largest)) => (one(smallest.as_()), one(largest.as_())),
            None => (one(f64::NAN), one(f64::NAN)),
        };
        let (smallest, largest) = extremes(stream().min_max()?);
        let of_stats = extremes(stats.min_max);
        let sample_var = if shape.size() > 0 { stream().var(1.0)? } else { f64::NAN };
        results.extend([
            ("count", one(stats.count as f64)),
            ("sum", one(stream().sum()?)),
            ("mean", one(stream().mean()?)),
            ("var", one(stream().var(0.0)?)),
            ("sample var", one(sample_var)),
            ("std", one(stream().std(0.0)?)),
            ("min", smallest),
            ("max", largest),
        ]);
        check_equal(&results[1..4], &[&one(stats.sum), &one(stats.mean), &one(stats.var)]);
        check_equal(&results[5..8], &[&one(stats.std), &of_stats.0, &of_stats.1]);
    }
    Ok(results)
}

/// Asserts that `results` and `others` have the same bits.
fn check_equal(results: &[(&'static str, ArrayD<f64>)], others: &[&ArrayD<f64>]) {
    for ((name, result), other) in results.iter().zip(others) {
        assert_eq!(bits(result), bits(other), "{name}");
    }
}

fn bits(values: &ArrayD<f64>) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Returns whether two results are equal. A sum, mean or variance may have a relative error of 10^-12.
fn is_close(name: &str, ours: f64, numpy: f64) -> bool {
    match name {
        _ if ours.is_nan() && numpy.is_nan() || ours == numpy => true,
        // numpy interpolates between infinite elements with differences that are NaN.
        "quantile" => numpy.is_nan() && (ours.is_infinite() || ours.abs() < 200.0),
        "count" | "min" | "max" => false,
        _ => (ours - numpy).abs() <= 1e-12 * numpy.abs(),
    }
}

fn check<T>(folder: &Path, name: &str)
where
    T: Element + AsPrimitive<f64> + PartialOrd,
{
    let open = |part: &str| MmapArray::<f64, IxDyn>::open(folder.join(format!("{name}_{part}.npy"))).unwrap();
    let array = MmapArray::<T, IxDyn>::open(folder.join(format!("{name}.npy"))).unwrap();
    for along_axis0 in [false, true] {
        if along_axis0 && array.ndim() == 0 {
            continue;
        }
        let expected = open(if along_axis0 { "columns" } else { "all" });
        for (skip, expected) in [false, true].into_iter().zip(expected.outer_iter()) {
            let settings = [(Budget::default(), 1), (Budget::bytes(100_000), 2)];
            let results = settings.map(|(budget, threads)| {
                let stream = || {
                    let stream = Stream::from(&array).budget(budget).threads(threads);
                    if skip { stream.skip_nan() } else { stream }
                };
                reduce(&stream, along_axis0).unwrap_or_else(|error| panic!("{name}: {error}"))
            });
            for others in &results[1..] {
                check_equal(&results[0], &others.iter().map(|(_, other)| other).collect::<Vec<_>>());
            }
            for ((what, ours), numpy) in results[0].iter().zip(expected.outer_iter()) {
                assert_eq!(ours.shape(), numpy.shape(), "{name}: {what}");
                for (&ours, &numpy) in ours.iter().zip(numpy) {
                    let text = format!("{name}: {what}, axis 0: {along_axis0}, skip: {skip}");
                    assert!(is_close(what, ours, numpy), "{text}: {ours:e} instead of {numpy:e}");
                }
            }
        }
    }
}

#[test]
fn reductions_equal_those_of_numpy() {
    let Some(mut numpy) = numpy() else { return };
    let folder = disk_folder();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/reductions.py");
    let output = numpy.arg(script).arg(folder.path()).arg("1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    for line in names.lines() {
        let (name, dtype) = line.split_once(' ').unwrap();
        match dtype {
            "float32" => check::<f32>(folder.path(), name),
            "float64" => check::<f64>(folder.path(), name),
            "int8" => check::<i8>(folder.path(), name),
            "int64" => check::<i64>(folder.path(), name),
            "uint64" => check::<u64>(folder.path(), name),
            other => panic!("{other}"),
        }
    }
    assert!(names.lines().count() > 100);
}

/// Returns the sum of a file by Python's `math.fsum`, which is correctly rounded.
fn fsum(path: &Path) -> Option<f64> {
    let script = "
import itertools, math, numpy, sys
values = numpy.load(sys.argv[1], mmap_mode='r')
chunks = (values[i : i + 1000000].tolist() for i in range(0, len(values), 1000000))
print(repr(math.fsum(itertools.chain.from_iterable(chunks))))
";
    let output = numpy()?.arg("-c").arg(script).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

/// Sums, means and variances of many `f32`, among them values near 10^8, agree with exact integer arithmetic and with
/// Python's `math.fsum`, and have the same bits for every number of threads and every budget. `NDARRAY_MMAP_SUMMED_VALUES` sets the number of values
/// (2,000,000 if it is not set).
#[test]
fn sums_of_many_values_are_exact() {
    let count = std::env::var("NDARRAY_MMAP_SUMMED_VALUES").map_or(2_000_000, |count| count.parse().unwrap());
    let folder = disk_folder();
    // Each value is an integer of at most 24 bits times a power of two.
    for (least, range, scale) in [(12_500_000, 2000, 8.0), (0, 1 << 24, 2.0_f64.powi(-17))] {
        let mut values = MmapArray::<f32, Ix1>::create(folder.path().join("values.npy"), count).unwrap();
        let (mut random, mut sum, mut squares) = (1_u64, 0_i128, 0_i128);
        for (_, mut chunk) in values.row_chunks_mut(Budget::default()) {
            for value in &mut chunk {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let integer = least + ((random >> 33) % range) as i128;
                *value = (integer as f64 * scale) as f32;
                sum += integer;
                squares += integer * integer;
            }
        }
        let n = count as i128;
        let var = (n * squares - sum * sum) as f64 / n as f64 / (n - 1) as f64 * scale * scale;
        if let Some(fsum) = fsum(&folder.path().join("values.npy")) {
            assert_eq!(fsum, sum as f64 * scale);
        }
        let expected = [sum as f64 * scale, sum as f64 / n as f64 * scale, var];
        let mut first = None;
        for threads in [1, 2, 7] {
            for budget in [Budget::default(), Budget::bytes(1 << 20), Budget::chunk_rows(12_345)] {
                let stream = || Stream::from(&values).threads(threads).budget(budget);
                let found = [stream().sum().unwrap(), stream().mean().unwrap(), stream().var(1.0).unwrap()];
                assert_eq!(found[1], stream().mean_axis0().unwrap()[()]);
                let bits = found.map(f64::to_bits);
                assert_eq!(*first.get_or_insert(bits), bits, "{threads} threads, {budget:?}");
                for (found, expected) in found.into_iter().zip(expected) {
                    assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{found} {expected}");
                }
            }
        }
        values.close().unwrap();
    }
}

/// Quantiles need several passes over the rows here: the budget has space for few elements, and a sample of the rows
/// does not represent the other rows.
#[test]
fn quantiles_in_little_memory() {
    let rows = 150_000;
    let array = ndarray::Array2::from_shape_fn((rows, 5), |(row, column)| match column {
        0 => row as f64,
        1 => (rows - row) as f64 * 1e-300,
        2 => (row % 7) as f64,
        3 => [1e300, -1e300, f64::INFINITY, 5e-324][row / 3 % 4],
        _ => ((row * 7919) % rows) as f64 - 70_000.0,
    });
    let sorted: Vec<Vec<f64>> = array
        .columns()
        .into_iter()
        .map(|column| {
            let mut column = column.to_vec();
            column.sort_by(f64::total_cmp);
            column
        })
        .collect();
    for (q, place) in [(0.0, 0), (1.0, rows - 1), (0.5, 75_000), (0.001, 150), (0.7, 105_000)] {
        for (budget, threads) in [(Budget::bytes(1), 1), (Budget::bytes(1), 3), (Budget::default(), 2)] {
            let stream = || Stream::from(&array).budget(budget).threads(threads);
            let quantiles = stream().quantile_axis0(q).unwrap();
            let mapped = stream().map(|chunk, mut out| out.assign(&chunk)).quantile_axis0(q).unwrap();
            let reversed = Stream::from(array.slice(ndarray::s![..;-1, ..])).quantile_axis0(q).unwrap();
            assert_eq!(quantiles, mapped);
            assert_eq!(quantiles, reversed);
            for (&quantile, sorted) in quantiles.iter().zip(&sorted) {
                let position = (rows - 1) as f64 * q;
                let below = sorted[position as usize];
                let above = sorted[(position as usize + 1).min(rows - 1)];
                assert!(below <= quantile && quantile <= above, "{q}: {quantile} in {below} to {above}");
                if position.fract() == 0.0 {
                    assert_eq!(quantile, sorted[place]);
                }
            }
        }
    }
}

#[test]
fn quantiles_are_checked_and_report_progress() {
    let array = ndarray::Array2::<f32>::zeros((10_000, 2));
    for q in [-0.1, 1.1, f64::NAN] {
        let error = Stream::from(&array).quantile_axis0(q).unwrap_err();
        assert_eq!(error.kind(), ndarray_mmap::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("quantile_axis0: expected a quantile from 0 to 1"), "{error}");
    }
    let mut reports = Vec::new();
    let stream = Stream::from(&array).progress(|done, total| reports.push((done, total)));
    assert_eq!(stream.quantile_axis0(0.5).unwrap(), ndarray::array![0.0, 0.0]);
    assert_eq!((reports.first(), reports.last()), (Some(&(0, 10_000)), Some(&(10_000, 10_000))));
    let scalar = ndarray::arr0(3.0).into_dyn();
    let error = Stream::from(&scalar).quantile_axis0(0.5).unwrap_err();
    assert_eq!(error.kind(), ndarray_mmap::ErrorKind::OutOfBounds);
}

#[test]
fn arrays_in_memory_equal_their_streams() {
    let folder = disk_folder();
    let mut array =
        MmapArray::<f32, ndarray::Ix3>::create(folder.path().join("a.npy"), (700, 40, 30)).unwrap();
    array.iter_mut().enumerate().for_each(|(index, value)| *value = index as f32);
    let expected = array.slice(ndarray::s![5..;3, .., ..]).select(Axis(1), &[3, 1, 7]).mapv(f64::from);
    for (budget, threads) in [(Budget::default(), 3), (Budget::bytes(1), 1), (Budget::chunk_rows(17), 2)] {
        let stream = Stream::from(&array).rows(ndarray::s![5..;3]).select(Axis(1), &[3, 1, 7]).cast::<f64>();
        let stream = stream.budget(budget).threads(threads);
        assert_eq!(stream.shape(), [232, 3, 30]);
        let found = stream.to_array().unwrap();
        assert!(found.is_standard_layout());
        assert_eq!(found, expected);
    }
    let fortran = array.view().reversed_axes();
    assert_eq!(Stream::from(fortran).to_array().unwrap(), fortran);
    let joined = ndarray_mmap::stream::concat(Axis(0), &[&array, &array]);
    assert_eq!(joined.shape(), [1400, 40, 30]);
    let scalar = ndarray::arr0(3.5_f32);
    assert_eq!(Stream::from(&scalar).to_array().unwrap(), scalar);
    assert_eq!(Stream::from(&array).rows(..0).to_array().unwrap().shape(), [0, 40, 30]);
    let huge = scalar.broadcast((1 << 20, 1 << 20, 1 << 18)).unwrap();
    let error = Stream::from(huge).to_array().unwrap_err();
    assert_eq!(error.kind(), ndarray_mmap::ErrorKind::OutOfMemory);
}
