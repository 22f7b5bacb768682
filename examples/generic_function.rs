//! Functions that accept any array, any mapped array, or mapped arrays with a certain access mode.
//!
//! ```text
//! cargo run --example generic_function
//! ```

use bytemuck::Pod;
use ndarray::{Array2, ArrayRef, Dimension, Ix2, Ix3};
use ndarray_mmap::{Access, FileBacked, MmapArray, Result, Writable};

/// Accepts every array of ndarray, in memory or in a file, with any number of dimensions.
fn largest<D: Dimension>(values: &ArrayRef<f32, D>) -> f32 {
    values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Accepts mapped arrays with any access mode.
fn describe<T: Pod, D: Dimension, A: Access>(array: &MmapArray<T, D, A>) -> String {
    format!("{:?} ({})", array.shape(), A::MODE)
}

/// Accepts mapped arrays that can be changed: read-write arrays and copy-on-write arrays.
fn double<D: Dimension, A: Writable>(array: &mut MmapArray<f32, D, A>) {
    array.map_inplace(|value| *value *= 2.0);
}

/// Accepts mapped arrays whose pages can be dropped: read-only arrays and read-write arrays.
fn evict<T: 'static, D: Dimension, A: FileBacked>(array: &MmapArray<T, D, A>) -> Result<usize> {
    array.evict()?;
    Ok(array.residency()?.total_bytes)
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cube.npy");
    let mut cube = MmapArray::<f32, Ix3>::create(&path, (10, 20, 30))?;
    cube[[9, 19, 29]] = 21.0;
    double(&mut cube);
    assert_eq!(largest(&cube), 42.0);
    assert_eq!(largest(&Array2::<f32>::ones((3, 4))), 1.0);
    assert_eq!(describe(&cube), "[10, 20, 30] (read-write)");
    assert_eq!(evict(&cube)?, 10 * 20 * 30 * size_of::<f32>());
    cube.close()?;

    let mut draft = MmapArray::<f32, Ix3>::open_cow(&path)?; // changes stay in this process
    double(&mut draft);
    assert_eq!(largest(&draft), 84.0);
    assert_eq!(describe(&MmapArray::<f64, Ix2>::scratch((2, 3))?), "[2, 3] (read-write)");
    println!("{}: largest element {}", describe(&draft), largest(&draft));
    Ok(())
}
