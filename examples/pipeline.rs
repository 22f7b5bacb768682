//! A pipeline from file to file: selects atoms, converts units and type, and writes the result in bounded memory.
//!
//! ```text
//! cargo run --example pipeline
//! ```

use ndarray::{Axis, Ix3};
use ndarray_mmap::{MmapArray, Result, stream::Stream};

fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("traj.npy");
    let mut trajectory = MmapArray::<f32, Ix3>::create(&path, (1000, 500, 3))?; // frames x atoms x 3, in angstrom
    for (frame, mut positions) in trajectory.outer_iter_mut().enumerate() {
        positions.fill(frame as f32);
    }
    let trajectory = trajectory.into_read_only()?;

    let backbone = [0, 4, 5, 9];
    let mut seen = 0;
    let backbone_nm = Stream::from(&trajectory)
        .rows(100..)
        .select(Axis(1), &backbone)
        .cast::<f64>()
        .map(|angstrom, mut nm| nm.assign(&(&angstrom / 10.0)))
        .progress(|done, total| seen = 100 * done / total)
        .write_to(folder.path().join("backbone.npy"))?; // the file appears when it is complete and synced
    assert_eq!(seen, 100);
    assert_eq!(backbone_nm.shape(), [900, 4, 3]);
    assert_eq!(backbone_nm[[0, 0, 0]], 10.0);
    assert_eq!(backbone_nm[[899, 3, 2]], 99.9);

    // Reductions run in bounded memory too. Sums and means are exact before they are rounded to f64.
    assert_eq!(Stream::from(&trajectory).mean()?, 499.5);
    assert_eq!(Stream::from(&trajectory).rows(..10).sum()?, 45.0 * 1500.0);
    assert_eq!(Stream::from(&trajectory).min_max()?, Some((0.0, 999.0)));
    let mean_position = Stream::from(&trajectory).mean_axis0()?;
    assert_eq!(mean_position[[499, 2]], 499.5);
    println!("{:?}: mean position of the first atom {}", backbone_nm.path(), mean_position.row(0));
    Ok(())
}
