//! Tests that compare reductions with those of ndarray, or with known results where ndarray loses precision.

use crate::support::disk_folder;
use ndarray::{Array, Array1, Array2, Array3, Axis, Ix1, Ix2, Ix3, ShapeBuilder, array, s};
use ndarray_mmap::stream::{Budget, Stream, Transfer};
use ndarray_mmap::{ArrayOptions, ErrorKind, MmapArray};

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1.0)
}

fn all_close<D: ndarray::Dimension>(a: &Array<f64, D>, b: &Array<f64, D>) -> bool {
    a.shape() == b.shape() && a.iter().zip(b).all(|(&a, &b)| close(a, b))
}

#[test]
fn means_variances_and_extremes() {
    let folder = disk_folder();
    for shape in [(3000, 40, 3), (1, 5, 1), (70_000, 1, 3), (40, 100, 300)] {
        for fortran in [false, true] {
            let mut array = ArrayOptions::new()
                .shape(shape.set_f(fortran))
                .create::<f32, Ix3>(folder.path().join("a.npy"))
                .unwrap();
            for (index, value) in array.iter_mut().enumerate() {
                *value = (index * 7919 % 10_007) as f32 - 5000.0;
            }
            array.flush().unwrap();
            let expected = array.mapv(f64::from);
            for (transfer, budget) in [
                (Transfer::Auto, Budget::default()),
                (Transfer::Direct, Budget::chunk_rows(17)),
                (Transfer::Buffered, Budget::bytes(1 << 20)),
            ] {
                for threads in [1, 3] {
                    let stream = || Stream::from(&array).transfer(transfer).budget(budget).threads(threads);
                    assert!(all_close(
                        &stream().mean_axis0().unwrap(),
                        &expected.mean_axis(Axis(0)).unwrap()
                    ));
                    assert!(all_close(&stream().var_axis0(0.0).unwrap(), &expected.var_axis(Axis(0), 0.0)));
                    let smallest = expected.iter().copied().fold(f64::INFINITY, f64::min) as f32;
                    let largest = expected.iter().copied().fold(f64::NEG_INFINITY, f64::max) as f32;
                    assert_eq!(stream().min_max().unwrap(), Some((smallest, largest)));
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let array = Array2::from_shape_fn((20_000, 300), |(r, c)| ((r * 31 + c * 17) as f32).sin());
    let mean = |threads| Stream::from(&array).threads(threads).mean_axis0().unwrap();
    let var = |threads| Stream::from(&array).threads(threads).var_axis0(1.0).unwrap();
    assert_eq!(mean(1), mean(4));
    assert_eq!(var(1), var(4));
}

#[test]
fn a_hundred_million_rows_far_from_zero() {
    // The array has 10^8 values of the form 10^6 + {-1, 0, 1, 2}. A running sum of squares in f64 would give a variance
    // that is wrong in the third digit, and a running sum in f32 would give no correct digit.
    let block = Array1::from_shape_fn(1 << 20, |index| 1.0e6_f32 + (index % 4) as f32 - 1.0);
    let array = block.broadcast((96, 1 << 20)).unwrap();
    let flat = Stream::from(array).map_rows((), |chunk, mut out| out.assign(&chunk.column(0)));
    drop(flat);
    let folder = disk_folder();
    let mut rows = MmapArray::<f32, Ix1>::create(folder.path().join("rows.bin"), 100 << 20).unwrap();
    for (_, mut chunk) in rows.row_chunks_mut(Budget::chunk_rows(1 << 20)) {
        chunk.assign(&block);
    }
    let mean = Stream::from(&rows).mean_axis0().unwrap();
    let variance = Stream::from(&rows).var_axis0(0.0).unwrap();
    assert_eq!(mean[()], 1.0e6 + 0.5);
    assert!(close(variance[()], 1.25), "{variance}");
}

#[test]
fn no_rows_and_not_a_number() {
    let none = Array2::<f32>::zeros((0, 3));
    assert!(Stream::from(&none).mean_axis0().unwrap().iter().all(|mean| mean.is_nan()));
    assert_eq!(Stream::from(&none).var_axis0(0.0).unwrap().len(), 3);
    assert_eq!(Stream::from(&none).min_max().unwrap(), None);
    assert_eq!(Stream::from(&none).skip_nan().min_max().unwrap(), None);
    assert_eq!(Stream::from(&none).min_max_axis0().unwrap(), None);
    assert_eq!(Stream::from(&none).sum_axis0().unwrap(), array![0.0, 0.0, 0.0]);
    assert_eq!(Stream::from(&none).sum().unwrap(), 0.0);
    assert!(Stream::from(&none).mean().unwrap().is_nan() && Stream::from(&none).var(0.0).unwrap().is_nan());
    let some = array![[f32::NAN, 1.0, 2.0], [3.0, f32::NAN, 1.0]];
    let is_nan = |extremes: (f32, f32)| extremes.0.is_nan() && extremes.1.is_nan();
    assert!(is_nan(Stream::from(&some).min_max().unwrap().unwrap()));
    assert_eq!(Stream::from(&some).skip_nan().min_max().unwrap(), Some((1.0, 3.0)));
    let (smallest, largest) = Stream::from(&some).min_max_axis0().unwrap().unwrap();
    assert!(is_nan((smallest[0], largest[0])) && is_nan((smallest[1], largest[1])));
    assert_eq!((smallest[2], largest[2]), (1.0, 2.0));
    let expected = (array![3.0, 1.0, 1.0], array![3.0, 1.0, 2.0]);
    assert_eq!(Stream::from(&some).skip_nan().min_max_axis0().unwrap(), Some(expected));
    assert!(is_nan(Stream::from(&array![[f32::NAN]]).skip_nan().min_max().unwrap().unwrap()));
    for (value, sum) in [(f64::INFINITY, f64::INFINITY), (f64::NEG_INFINITY, f64::NEG_INFINITY)] {
        let infinite = array![1.0, value, 2.0];
        assert_eq!(Stream::from(&infinite).sum().unwrap(), sum);
        assert_eq!(Stream::from(&infinite).mean().unwrap(), sum);
        assert!(Stream::from(&infinite).var(0.0).unwrap().is_nan());
    }
    assert!(Stream::from(&array![f64::INFINITY, f64::NEG_INFINITY]).sum().unwrap().is_nan());
    assert!(Stream::from(&array![f64::INFINITY, f64::NAN]).mean().unwrap().is_nan());
    let integers = array![[1_u8, 255], [3, 5]];
    assert_eq!(Stream::from(&integers).mean_axis0().unwrap(), array![2.0, 130.0]);
    assert_eq!(Stream::from(&integers).min_max().unwrap(), Some((1, 255)));
    assert_eq!(Stream::from(&integers).var_axis0(1.0).unwrap(), array![2.0, 31_250.0]);
}

#[test]
fn reductions_of_selections_and_steps() {
    let values = Array3::from_shape_fn((500, 20, 3), |(a, b, c)| (a * 60 + b * 3 + c) as i32);
    let columns = [3, 1, 19, 19];
    let mean =
        Stream::from(&values).rows(s![..;7]).select(Axis(1), &columns).cast::<f32>().mean_axis0().unwrap();
    let expected =
        values.slice(s![..;7, .., ..]).select(Axis(1), &columns).mapv(f64::from).mean_axis(Axis(0)).unwrap();
    assert!(all_close(&mean, &expected));
    let sum = Stream::from(&values).map_rows((), |chunk, mut out: ndarray::ArrayViewMut1<'_, i64>| {
        for (out, row) in out.iter_mut().zip(chunk.outer_iter()) {
            *out = row.iter().map(|&value| i64::from(value)).sum();
        }
    });
    let total = sum.fold(0, |total, chunk| total + chunk.sum()).unwrap();
    assert_eq!(total, (0..30_000).sum::<i64>());
    let two = Array2::from_elem((4, 2), 1.0_f32);
    assert_eq!(
        Stream::from(&two.view().into_dimensionality::<Ix2>().unwrap()).mean_axis0().unwrap(),
        array![1.0, 1.0]
    );
}

/// Two outliers that cancel each other must not change the mean, at any position in the array.
#[test]
fn means_with_an_outlier() {
    for (at, sign) in [(0, 1.0), (0, -1.0), (500_000, 1.0), (999_998, 1.0)] {
        for size in [1e10, 1e15] {
            let mut array = Array2::<f64>::ones((1_000_000, 1));
            array[[at, 0]] = sign * size;
            array[[at + 1, 0]] = -sign * size;
            for threads in [1, 3] {
                let mean = Stream::from(&array).threads(threads).mean_axis0().unwrap()[0];
                assert!((mean - 0.999_998).abs() < 1e-12, "{size} at {at}: {mean}");
            }
        }
    }
    let far_apart = array![[-9e299], [f64::MAX]];
    assert_eq!(Stream::from(&far_apart).mean_axis0().unwrap()[0], (f64::MAX - 9e299) / 2.0);
    let scalar = ndarray::arr0(3.0).into_dyn();
    assert_eq!(Stream::from(&scalar).mean_axis0().unwrap_err().kind(), ErrorKind::OutOfBounds);
    assert_eq!(Stream::from(&scalar).var_axis0(0.0).unwrap_err().kind(), ErrorKind::OutOfBounds);
}

/// The values differ little and are far from zero. At 1e15, the distance between neighbouring f64 values is one eighth.
#[test]
fn means_and_variances_very_far_from_zero() {
    for columns in [1, 3, 300] {
        let array = Array2::from_shape_fn((600_000 / columns, columns), |(row, column)| {
            1e15 + ((row * 7 + column) % 4) as f64
        });
        for threads in [1, 3] {
            let stream = || Stream::from(&array).threads(threads).budget(Budget::bytes(4 << 20));
            let (mean, variance) = (stream().mean_axis0().unwrap(), stream().var_axis0(0.0).unwrap());
            assert!(mean.iter().all(|mean| (mean - 1e15 - 1.5).abs() <= 0.125), "{mean}");
            assert!(variance.iter().all(|variance| (variance - 1.25).abs() < 1e-2), "{variance}");
        }
    }
    let constant = Array2::from_elem((300_000, 2), 1e6 + 0.1);
    assert!(Stream::from(&constant).var_axis0(1.0).unwrap().iter().all(|&variance| variance < 1e-24));
    assert_eq!(Stream::from(&constant).mean_axis0().unwrap(), array![1e6 + 0.1, 1e6 + 0.1]);
    let infinite = array![[f64::INFINITY, 1e308, 1e308], [1.0, -1e308, f64::NAN], [1.0, 0.0, 1.0]];
    let mean = Stream::from(&infinite).mean_axis0().unwrap();
    assert_eq!((mean[0], mean[1]), (f64::INFINITY, 0.0));
    assert!(mean[2].is_nan());
}

/// `min_max` compares elements of any size: elements of 64 KiB and zero-sized elements.
#[test]
fn extremes_of_large_and_of_empty_elements() {
    type Large = [[f64; 1024]; 8];
    let mut values = Array1::<Large>::from_elem(20, bytemuck::Zeroable::zeroed());
    for (index, value) in values.iter_mut().enumerate() {
        value.as_flattened_mut().fill((index * 7 % 20) as f64);
    }
    let all_are = |large: &Large, value| large.as_flattened().iter().all(|&item| item == value);
    for threads in [1, 3] {
        let stream = || Stream::from(&values).threads(threads);
        let extremes = Box::new(stream().min_max().unwrap());
        let (smallest, largest) = extremes.as_ref().as_ref().unwrap();
        assert!(all_are(smallest, 0.0) && all_are(largest, 19.0));
        let (smallest, largest) = stream().min_max_axis0().unwrap().unwrap();
        assert!(all_are(&smallest[()], 0.0) && all_are(&largest[()], 19.0));
    }
    let empty = Array2::from_elem((5, 3), [0.0; 0]);
    assert_eq!(Stream::from(&empty).min_max().unwrap(), Some(([0.0; 0], [0.0; 0])));
    assert_eq!(Stream::from(&empty).min_max_axis0().unwrap().unwrap().0.len(), 3);
    let units = Array1::from_elem(7, ());
    assert_eq!(Stream::from(&units).min_max().unwrap(), Some(((), ())));
}

#[test]
fn exact_sums_of_integers() {
    let values = Array2::from_elem((1000, 3), i64::MIN);
    assert_eq!(Stream::from(&values).sum_exact().unwrap(), 3000 * i128::from(i64::MIN));
    assert_eq!(Stream::from(&array![1_u8, 2]).rows(..0).sum_exact().unwrap(), 0);
    assert_eq!(Stream::from(&array![i128::MAX, i128::MIN, 5]).sum_exact().unwrap(), 4);
    let error = Stream::from(&array![i128::MAX, 1]).sum_exact().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SizeOverflow);
    assert_eq!(Stream::from(&array![1e300, 1.0]).var(3.0).unwrap_err().kind(), ErrorKind::InvalidInput);
}
