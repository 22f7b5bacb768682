//! Fills an array of 64 MiB in a loop. The loop evicts the rows it has finished, so the array takes only a few MiB of
//! page cache.
//!
//! ```text
//! cargo run --example evict_loop
//! ```

use ndarray::{Ix2, s};
use ndarray_mmap::{MmapArray, Result};

const ROWS: usize = 16_384;
const ROWS_PER_STEP: usize = 1024; // 4 MiB

fn main() -> Result<()> {
    let mut table = MmapArray::<f32, Ix2>::scratch((ROWS, 1024))?; // a file without a name, removed with the array
    let mut peak_bytes = 0;
    for first in (0..ROWS).step_by(ROWS_PER_STEP) {
        let rows = first..ROWS.min(first + ROWS_PER_STEP);
        for (row, mut values) in rows.clone().zip(table.slice_mut(s![rows.clone(), ..]).outer_iter_mut()) {
            values.fill(row as f32);
        }
        peak_bytes = peak_bytes.max(table.residency()?.resident_bytes);
        table.evict_rows(rows)?; // writes these rows back to the file, and drops their pages from memory
    }
    assert!(peak_bytes <= 32 << 20, "{peak_bytes} bytes in the page cache");

    // The evicted rows read back as they were written.
    assert_eq!(table[[0, 0]], 0.0);
    assert_eq!(table[[ROWS - 1, 1023]], (ROWS - 1) as f32);
    println!("wrote 64 MiB with at most {} MiB in the page cache", peak_bytes >> 20);
    Ok(())
}
