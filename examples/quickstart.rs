//! Ten lines: an array in a file, filled, out of memory, and back.
//!
//! ```text
//! cargo run --example quickstart
//! python3 -c "import numpy; print(numpy.load('target/quickstart.npy', mmap_mode='r').mean())"
//! ```

use ndarray::{Ix3, s};
use ndarray_mmap::MmapArray;

fn main() -> ndarray_mmap::Result<()> {
    let path = "target/quickstart.npy";

    // 1000 frames of 500 atoms, as zeros on disk. It is an ndarray: index it, slice it, pass it on.
    let mut positions_nm = MmapArray::<f32, Ix3>::create(path, (1000, 500, 3))?;
    positions_nm.slice_mut(s![500.., .., 2]).fill(1.5);
    println!("filled:  {:?}", positions_nm.residency()?);

    // Write it to disk and give its memory back; it reads the same as before.
    positions_nm.evict()?;
    println!("evicted: {:?}", positions_nm.residency()?);
    positions_nm.close()?;

    // Another program, another day.
    let positions_nm = MmapArray::<f32, Ix3>::open(path)?;
    println!("mean:    {:?} nm; numpy.load({path:?}, mmap_mode='r') opens it too", positions_nm.mean());
    Ok(())
}
