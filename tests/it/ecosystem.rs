//! Tests that pass mapped arrays to functions of crates that build on ndarray.

use crate::support::disk_folder;
use ndarray::{Array2, Axis, Ix2};
use ndarray_mmap::MmapArray;
use ndarray_npy::WriteNpyExt;
use ndarray_stats::interpolate::Linear;
use ndarray_stats::{CorrelationExt, DeviationExt, QuantileExt, SummaryStatisticsExt};
use noisy_float::types::n64;

fn table() -> Array2<f64> {
    Array2::from_shape_fn((50, 3), |(row, column)| ((row * 7 + column * 13) % 31) as f64)
}

fn mapped() -> MmapArray<f64, Ix2> {
    let mut mapped = MmapArray::<f64, Ix2>::scratch((50, 3)).unwrap();
    mapped.assign(&table());
    mapped
}

#[test]
fn ndarray_stats_accepts_mapped_arrays() {
    let (mut m, mut t) = (mapped(), table());
    assert_eq!((m.min(), m.argmax()), (t.min(), t.argmax()));
    assert_eq!(SummaryStatisticsExt::mean(&*m), SummaryStatisticsExt::mean(&*t));
    assert_eq!(m.kurtosis(), t.kurtosis());
    assert_eq!(m.central_moments(4), t.central_moments(4));
    assert_eq!(m.t().cov(1.0), t.t().cov(1.0));
    assert_eq!(m.pearson_correlation(), t.pearson_correlation());
    assert_eq!(m.sq_l2_dist(&t), Ok(0.0));
    assert_eq!(t.count_eq(&m), Ok(150));
    let quarter = n64(0.25);
    let expected = t.map(|&x| n64(x)).quantile_axis_mut(Axis(0), quarter, &Linear).unwrap();
    let mut ordered = m.map(|&x| n64(x));
    assert_eq!(ordered.quantile_axis_mut(Axis(0), quarter, &Linear).unwrap(), expected);
    // `quantile_axis_skipnan_mut` reorders the elements in place, so the bytes of the file change.
    let skipping = m.quantile_axis_skipnan_mut(Axis(0), quarter, &Linear).unwrap();
    assert_eq!(skipping, t.quantile_axis_skipnan_mut(Axis(0), quarter, &Linear).unwrap());
}

#[test]
fn ndarray_npy_writes_mapped_arrays_and_reads_their_files() {
    let folder = disk_folder();
    let (ours, theirs) = (folder.path().join("ours.npy"), folder.path().join("theirs.npy"));
    let m = mapped();
    ndarray_npy::write_npy(&theirs, &*m).unwrap();
    assert_eq!(MmapArray::<f64, Ix2>::open(&theirs).unwrap(), m);
    let mut buffer = Vec::new();
    m.write_npy(&mut buffer).unwrap();
    assert_eq!(buffer, std::fs::read(&theirs).unwrap());

    let mut written = MmapArray::<f64, Ix2>::create(&ours, (50, 3)).unwrap();
    written.assign(&m);
    written.close().unwrap();
    assert_eq!(ndarray_npy::read_npy::<_, Array2<f64>>(&ours).unwrap(), table());
}

#[cfg(feature = "rayon")]
mod rayon {
    use super::{mapped, table};
    use ndarray::parallel::prelude::*;
    use ndarray::{Axis, Zip};

    #[test]
    fn parallel_iterators_read_and_write_mapped_arrays() {
        let (mut m, t) = (mapped(), table());
        assert_eq!((&m).into_par_iter().map(|x| *x as u64).sum::<u64>(), t.sum() as u64);
        assert_eq!(
            m.par_iter().copied().reduce(|| 0.0, f64::max),
            *ndarray_stats::QuantileExt::max(&*t).unwrap()
        );
        let rows: Vec<f64> = m.axis_iter(Axis(0)).into_par_iter().map(|row| row.sum()).collect();
        assert_eq!(rows, t.sum_axis(Axis(1)).to_vec());
        let chunks: usize = m.axis_chunks_iter(Axis(0), 7).into_par_iter().map(|chunk| chunk.len()).sum();
        assert_eq!(chunks, 150);

        (&mut m).into_par_iter().for_each(|x| *x += 1.0);
        m.par_iter_mut().for_each(|x| *x += 1.0);
        m.par_mapv_inplace(|x| x * 2.0);
        Zip::from(&mut m).and(&t).par_for_each(|x, y| *x -= y);
        let rest = Zip::from(&m).and(&t).par_map_collect(|x, y| x - y);
        assert_eq!(rest, ndarray::Array2::from_elem((50, 3), 4.0));
    }
}
