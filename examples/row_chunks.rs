//! Loops over chunks of rows. The library prefetches the next chunk and evicts the finished chunks.
//!
//! ```text
//! cargo run --example row_chunks
//! ```

use ndarray::Ix2;
use ndarray_mmap::{MmapArray, Result, stream::Budget};

fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("table.npy");

    // Write the rows in chunks. The budget limits the memory of the loop, and therefore the number of rows in a chunk.
    let mut table = MmapArray::<f32, Ix2>::create(&path, (20_000, 256))?;
    let mut chunks = table.row_chunks_mut(Budget::bytes(8 << 20));
    while let Some((rows, mut chunk)) = chunks.try_next()? {
        for (row, mut values) in rows.zip(chunk.outer_iter_mut()) {
            values.fill(row as f32);
        }
    }
    drop(chunks);
    table.close()?; // the rows are durable now

    // Read the rows in chunks. A sum in f32 would lose digits, so the sum is an f64. `Stream::sum` is shorter and
    // exact.
    let table = MmapArray::<f32, Ix2>::open(&path)?;
    let mut sum = 0.0;
    let mut chunks = table.row_chunks(Budget::bytes(8 << 20));
    while let Some((_rows, chunk)) = chunks.try_next()? {
        sum += chunk.iter().map(|&value| f64::from(value)).sum::<f64>();
    }
    assert_eq!(sum, 256.0 * 19_999.0 * 20_000.0 / 2.0);
    println!("the sum over {} elements is {sum}", table.len());
    Ok(())
}
