//! Creates an array in a file, fills it, drops it from memory, and opens it again.
//!
//! ```text
//! cargo run --example quickstart
//! python3 -c "import numpy; print(numpy.load('target/quickstart.npy', mmap_mode='r').shape)"
//! ```

use ndarray::{Ix3, s};
use ndarray_mmap::{MmapArray, stream::Stream};

fn main() -> ndarray_mmap::Result<()> {
    let path = "target/quickstart.npy";

    // Create 1000 frames of 500 atoms, filled with zeros. The array is an ndarray, so you can index it and slice it.
    let mut positions_nm = MmapArray::<f32, Ix3>::create(path, (1000, 500, 3))?;
    positions_nm.slice_mut(s![500.., .., 2]).fill(1.5);
    println!("filled:  {:?}", positions_nm.residency()?);

    // Write the array back to the file and drop its pages from memory. The elements do not change.
    positions_nm.evict()?;
    println!("evicted: {:?}", positions_nm.residency()?);
    positions_nm.close()?;

    // Another program opens the file. The means are exact before they are rounded to f64, and need little memory.
    let positions_nm = MmapArray::<f32, Ix3>::open(path)?;
    assert_eq!(Stream::from(&positions_nm).mean()?, 0.25); // the mean of all elements
    let mean = Stream::from(&positions_nm).mean_axis0()?; // the mean over the frames, for each atom and axis
    assert_eq!(mean[[499, 2]], 0.75);
    println!("mean position of the last atom: {} nm", mean.row(499));
    Ok(())
}
