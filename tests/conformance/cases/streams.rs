//! Tests that streams copy the right values with every `Transfer`: to new files, into parts of files, and between
//! arrays.

use super::{LAYOUTS, Layout, Outcome, ROW_BYTES, TRANSFERS, counting, scattered};
use crate::place::Place;
use ndarray::{Array2, Axis, Ix2, ShapeBuilder, concatenate, s};
use ndarray_mmap::stream::{Budget, Stream, Transfer, concat, copy};
use ndarray_mmap::{ArrayOptions, MmapArray, ReadOnly};

type Source = MmapArray<f32, Ix2, ReadOnly>;

/// Calls `check` with sources of each row size and each layout. The transfers alternate, and only some of the sources
/// are in the page cache.
fn for_each_source(place: &Place, check: impl Fn(&Source, &Array2<f32>, Transfer, &str)) {
    let kinds = ROW_BYTES.into_iter().cycle().zip(LAYOUTS.into_iter().cycle()).take(10);
    for (index, (row_bytes, layout)) in kinds.enumerate() {
        let (cold, transfer) = (index % 4 < 2, TRANSFERS[index % 3]);
        let values = counting(if index < 4 { 300_000 } else { 75_000 }, row_bytes);
        let path = place.path("source");
        let source = layout.store(&path, &values, cold).open::<f32, Ix2>(&path).unwrap();
        let case = format!("rows of {row_bytes} bytes, {layout:?}, cold {cold}, {transfer:?}");
        check(&source, &values, transfer, &case);
    }
}

pub fn copies_to_new_files(place: &Place) -> Outcome {
    for_each_source(place, |source, values, transfer, case| {
        let path = place.path("out.npy");
        let written = Stream::from(source).transfer(transfer).write_to(&path).unwrap();
        assert_eq!(written, *values, "{case}");
        drop(written);
        assert_eq!(MmapArray::<f32, Ix2>::open(&path).unwrap(), *values, "opened again: {case}");
    });
    Outcome::Done
}

/// Rows before and after the written rows do not change.
pub fn copies_into_parts_of_files(place: &Place) -> Outcome {
    for_each_source(place, |source, values, transfer, case| {
        let (rows, columns) = values.dim();
        for offset_bytes in [400, 4096] {
            let layout = Layout { offset_bytes: Some(offset_bytes), fortran: false };
            let path = place.path("target");
            let mut target = layout.options((rows + 5, columns)).create::<f32, Ix2>(&path).unwrap();
            target.fill(-1.0);
            Stream::from(source)
                .transfer(transfer)
                .copy_into(&mut target.slice_mut(s![3..rows + 3, ..]))
                .unwrap();
            assert_eq!(target.slice(s![3..rows + 3, ..]), values, "{case}");
            let around = [target.slice(s![..3, ..]), target.slice(s![rows + 3.., ..])];
            assert!(around.iter().flatten().all(|&value| value == -1.0), "{case}");
            drop(target);
            let again = layout.options((rows + 5, columns)).open::<f32, Ix2>(&path).unwrap();
            assert_eq!(again.slice(s![3..rows + 3, ..]), values, "opened again: {case}");
        }
    });
    Outcome::Done
}

pub fn selections_and_steps(place: &Place) -> Outcome {
    for_each_source(place, |source, values, transfer, case| {
        let stream = || Stream::from(source).transfer(transfer).budget(Budget::bytes(1 << 16));
        let (list, columns) = (scattered(values.nrows()), [values.ncols() - 1, 0, 2]);
        let mut gathered = Array2::zeros((list.len(), values.ncols()));
        stream().select_rows(&list).copy_into(&mut gathered).unwrap();
        assert_eq!(gathered, values.select(Axis(0), &list), "{case}");
        let path = place.path("out.bin");
        let picked = stream().rows(1..).select(Axis(1), &columns).cast::<f64>().write_to(&path).unwrap();
        let expected = values.slice(s![1.., ..]).select(Axis(1), &columns).mapv(f64::from);
        assert_eq!(picked, expected, "{case}");
        let mut sums = Array2::zeros((values.nrows(), 1));
        let sum_rows = |chunk: ndarray::ArrayView2<'_, f32>, mut out: ndarray::ArrayViewMut2<'_, f64>| {
            for (row, mut out) in chunk.rows().into_iter().zip(out.rows_mut()) {
                out.fill(row.iter().map(|&value| f64::from(value)).sum());
            }
        };
        stream().map_rows(1, sum_rows).copy_into(&mut sums).unwrap();
        assert_eq!(sums.column(0), values.mapv(f64::from).sum_axis(Axis(1)), "{case}");
        let mut reversed = values.clone();
        stream()
            .rows(s![..;-1])
            .map(|chunk, mut out| out.assign(&(&chunk * 2.0)))
            .copy_into(&mut reversed)
            .unwrap();
        assert_eq!(reversed, values.slice(s![..;-1, ..]).mapv(|value| value * 2.0), "{case}");
    });
    Outcome::Done
}

pub fn reductions(place: &Place) -> Outcome {
    for_each_source(place, |source, values, transfer, case| {
        let stream = || Stream::from(source).transfer(transfer);
        let sum = stream().fold(0.0, |sum, chunk| sum + chunk.mapv(f64::from).sum()).unwrap();
        assert_eq!(sum, values.mapv(f64::from).sum(), "{case}");
        let mean = stream().mean_axis0().unwrap();
        let expected = values.mapv(f64::from).mean_axis(Axis(0)).unwrap();
        assert!(mean.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs()), "{case}");
        let largest = values.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(stream().min_max().unwrap(), Some((0.0, largest)), "{case}");
    });
    Outcome::Done
}

/// Copies between mapped arrays in C order and in Fortran order, into contiguous and strided views, and from two arrays
/// into one.
pub fn copies_between_arrays(place: &Place) -> Outcome {
    for layout in LAYOUTS {
        let values = counting(300_000, 1000);
        let path = place.path("source");
        let source = layout.store(&path, &values, true).open::<f32, Ix2>(&path).unwrap();
        let fortran = ArrayOptions::new().shape(values.dim().f());
        let mut turned = fortran.create::<f32, Ix2>(place.path("fortran.npy")).unwrap();
        copy(&source, &mut turned).unwrap();
        assert_eq!(turned, values, "{layout:?}");
        let mut wide = MmapArray::<f32, Ix2>::create(place.path("wide.npy"), (300, 500)).unwrap();
        copy(&turned, &mut wide.slice_mut(s![.., 1..;2])).unwrap();
        assert_eq!(wide.slice(s![.., 1..;2]), values, "{layout:?}");
        assert!(wide.slice(s![.., ..;2]).iter().all(|&value| value == 0.0), "{layout:?}");
        let mut private = fortran
            .open_cow::<f32, Ix2>({
                drop(turned);
                place.path("fortran.npy")
            })
            .unwrap();
        private.row_mut(5).fill(-1.0);
        let stacked =
            concat(Axis(0), [source.view(), private.view()]).write_to(place.path("all.bin")).unwrap();
        assert_eq!(stacked, concatenate![Axis(0), source, private], "{layout:?}");
        let wider = concat(Axis(1), [private.view(), source.view()]).write_to(place.path("all.npy")).unwrap();
        assert_eq!(wider, concatenate![Axis(1), private, source], "{layout:?}");
    }
    Outcome::Done
}
