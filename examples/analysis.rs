//! A gallery of analyses of a trajectory. `analysis.py` contains the same functions in numpy, runs both programs, and
//! compares their results and their lengths.
//!
//! ```text
//! python examples/analysis.py
//! ```
//!
//! `analysis --import DIR` decodes the trajectory that the source package of `molly` contains to `DIR/trajectory.npy`.
//! `analysis DIR` reads `trajectory.npy` (frames x atoms x 3), `masses.npy`, `energies.npy`, `states.npy` (a few numbers
//! for each frame), `atoms.npy` and `frames.npy` (indices), and writes one file for each analysis to `DIR/results`.

mod xtc;

use ndarray::{Array, Array1, Array2, Array3, Array4, ArrayView3, Axis, Dimension, Ix1, Ix2};
use ndarray_mmap::stream::{Stream, concat};
use ndarray_mmap::{MmapArray, ReadOnly, Result};
use std::env;
use std::path::{Path, PathBuf};
use xtc::Trajectory;

fn mean_structure(trajectory: &Trajectory) -> Result<Array2<f64>> {
    Stream::from(trajectory).mean_axis0()
}

fn rmsf(trajectory: &Trajectory) -> Result<Array1<f64>> {
    Ok(Stream::from(trajectory).var_axis0(0.0)?.sum_axis(Axis(1)).sqrt())
}

fn radius_of_gyration(trajectory: &Trajectory, masses: &Array1<f64>) -> Result<Array1<f64>> {
    let (weights, mut radii) = (masses / masses.sum(), Vec::new());
    Stream::from(trajectory).cast::<f64>().for_each_row(|_, frame| {
        let centred = &frame - &weights.dot(&frame);
        radii.push(weights.dot(&centred.pow2().sum_axis(Axis(1))).sqrt());
    })?;
    Ok(radii.into())
}

fn centre_of_mass_removed(trajectory: &Trajectory, masses: &Array1<f64>) -> Result<Array3<f64>> {
    let weights = masses / masses.sum();
    let positions = Stream::from(trajectory).cast::<f64>();
    positions.map_each(|_, frame, mut out| out.assign(&(&frame - &weights.dot(&frame)))).to_array()
}

fn mean_square_displacement(trajectory: &Trajectory, lag: usize) -> Result<f64> {
    let positions = || Stream::from(trajectory).cast::<f64>();
    let pairs = positions().rows(lag..).zip(positions().rows(..trajectory.shape()[0] - lag));
    let squares = pairs.map(|(later, earlier), mut out| out.assign(&(&later - &earlier).pow2()));
    Ok(squares.mean()? * 3.0) // of the three coordinates
}

fn distances(trajectory: &Trajectory, atoms: &[i64]) -> Result<Array3<f64>> {
    let chosen = Stream::from(trajectory).cast::<f64>().select(Axis(1), atoms);
    let between = |x: ArrayView3<'_, f64>| &x.insert_axis(Axis(2)) - &x.insert_axis(Axis(1));
    let lengths = |x: Array4<f64>| x.pow2().sum_axis(Axis(3)).sqrt();
    chosen.map_rows((atoms.len(), atoms.len()), |x, mut out| out.assign(&lengths(between(x)))).to_array()
}

fn median_structure(trajectory: &Trajectory) -> Result<Array2<f64>> {
    Stream::from(trajectory).quantile_axis0(0.5)
}

fn distance_to_nearest_medoid(trajectory: &Trajectory, frames: &[i64]) -> Result<Array1<f64>> {
    let medoids = Stream::from(trajectory).cast::<f64>().select_rows(frames).to_array()?;
    let mut nearest = Vec::new();
    Stream::from(trajectory).cast::<f64>().for_each_row(|_, frame| {
        let squares = medoids.outer_iter().map(|medoid| (&medoid - &frame).pow2().sum());
        nearest.push(squares.fold(f64::INFINITY, f64::min).sqrt());
    })?;
    Ok(nearest.into())
}

/// A table of one row for each frame.
type Table<T> = MmapArray<T, Ix2, ReadOnly>;

fn features(energies: &Table<f32>, states: &Table<i16>) -> Result<Array2<f64>> {
    concat(Axis(1), [Stream::from(energies).cast::<f64>().boxed(), Stream::from(states).cast().boxed()])
        .to_array()
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = match &env::args().skip(1).collect::<Vec<_>>()[..] {
        [option, folder] if option == "--import" => {
            let mut xtc = xtc::Xtc::open(&xtc::shipped_xtc()?)?;
            return Ok(xtc.import(&Path::new(folder).join("trajectory.npy"))?.close()?);
        }
        [folder] => PathBuf::from(folder),
        _ => return Err("usage: analysis [--import] DIR; `analysis.py` calls this program".into()),
    };
    let input = |name: &str| folder.join(format!("{name}.npy"));
    let trajectory = MmapArray::open(input("trajectory"))?;
    let (energies, states) = (MmapArray::open(input("energies"))?, MmapArray::open(input("states"))?);
    let masses = MmapArray::<f64, Ix1>::open(input("masses"))?.to_owned();
    let atoms = MmapArray::<i64, Ix1>::open(input("atoms"))?.to_vec();
    let frames = MmapArray::<i64, Ix1>::open(input("frames"))?.to_vec();

    let results = folder.join("results");
    save(&results, "mean_structure", mean_structure(&trajectory)?)?;
    save(&results, "rmsf", rmsf(&trajectory)?)?;
    save(&results, "radius_of_gyration", radius_of_gyration(&trajectory, &masses)?)?;
    save(&results, "centre_of_mass_removed", centre_of_mass_removed(&trajectory, &masses)?)?;
    let displacements = [1, 2, 5].map(|lag| mean_square_displacement(&trajectory, lag));
    let displacements = displacements.into_iter().collect::<Result<Array1<_>>>()?;
    save(&results, "mean_square_displacement", displacements)?;
    save(&results, "distances", distances(&trajectory, &atoms)?)?;
    save(&results, "median_structure", median_structure(&trajectory)?)?;
    save(&results, "distance_to_nearest_medoid", distance_to_nearest_medoid(&trajectory, &frames)?)?;
    save(&results, "features", features(&energies, &states)?)?;
    Ok(())
}

fn save<D: Dimension>(folder: &Path, name: &str, result: Array<f64, D>) -> Result<()> {
    Stream::from(&result).write_to(folder.join(format!("{name}.npy")))?.close()
}
