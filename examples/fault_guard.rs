//! Shows how the fault guard turns the signal SIGBUS into an error when another program truncates the file of an array.
//!
//! ```text
//! cargo run --example fault_guard
//! ```

use ndarray::Ix1;
use ndarray_mmap::{ErrorKind, MmapArray, fault};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("samples.npy");
    let mut samples = MmapArray::<f64, Ix1>::create(&path, 1 << 20)?;
    samples.fill(1.0);
    samples.close()?;

    let samples = MmapArray::<f64, Ix1>::open(&path)?;
    std::fs::File::options().write(true).open(&path)?.set_len(8192)?; // stands for a program that ignores the locks

    // Without the guard, the first access past byte 8192 would end the process.
    let error = match fault::guard(|| samples.sum()) {
        Ok(sum) => panic!("summed up {sum}, but most elements are lost"),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::Unsupported {
        println!("SKIPPED: {error}");
        return Ok(());
    }
    assert!(matches!(error.kind(), ErrorKind::Fault { .. }));
    assert_eq!(error.path(), Some(samples.path()));

    // The array stays unusable: `close` and every flush return the fault again.
    assert!(matches!(samples.close().map_err(|error| error.kind()), Err(ErrorKind::Fault { .. })));
    println!("{error}");
    Ok(())
}
