//! Opens arbitrary bytes as an NPY file. The result is an array of exactly the bytes of the file, or an error whose
//! kind names what is wrong with the file. A crash, a hang or a large allocation is a failure.
//!
//! ```sh
//! RUSTC_BOOTSTRAP=1 cargo fuzz run npy_header -- -max_total_time=600 -timeout=60 -malloc_limit_mb=1
//! ```
//!
//! The input consists of two bytes, which give the number of zeros after the header, and the header.
#![no_main]

mod folder;

use bytemuck::{Pod, bytes_of};
use libfuzzer_sys::fuzz_target;
use ndarray::{Dimension, Ix1, Ix2, IxDyn};
use ndarray_mmap::{ArrayOptions, Error, ErrorKind, MmapArray, OnDrop};
use std::path::Path;
use std::time::Duration;

fuzz_target!(|input: &[u8]| {
    let Some((zeros, header)) = input.split_at_checked(2) else { return };
    let zeros = usize::from(u16::from_le_bytes([zeros[0], zeros[1]]));
    let bytes = [header, &vec![0; zeros][..]].concat();
    let path = folder::file("any.npy");
    std::fs::write(&path, &bytes).expect("the folder takes files");
    let started = cpu_time();
    let opened_as = [
        open::<f32, IxDyn>(&path, &bytes),
        open::<u8, IxDyn>(&path, &bytes),
        open::<f64, Ix2>(&path, &bytes),
        open::<i16, Ix1>(&path, &bytes),
        open::<u64, IxDyn>(&path, &bytes),
    ];
    // These types have different descriptors, so at most one of them can open the file.
    assert!(opened_as.iter().filter(|opened| **opened).count() <= 1, "{opened_as:?}");
    assert!(ndarray_mmap::open_arrays().is_empty());
    let spent = cpu_time() - started;
    assert!(spent < Duration::from_millis(500), "{spent:?} for ten attempts");
});

/// Returns the processor time of this thread. Unlike wall-clock time, processor time excludes other threads and
/// processes.
fn cpu_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = schedstat.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds on a processor"))
}

/// Opens the file as elements of type `T` and compares every byte. Returns whether the file could be opened.
fn open<T: Pod, D: Dimension>(path: &Path, bytes: &[u8]) -> bool {
    match ArrayOptions::new().on_drop(OnDrop::KeepCached).open::<T, D>(path) {
        Ok(array) => {
            let total_bytes = array.len() * size_of::<T>();
            let data_offset = bytes.len().checked_sub(total_bytes).expect("no array is longer than its file");
            let mut elements: Vec<&[u8]> = array.iter().map(bytes_of).collect();
            let mut stored: Vec<&[u8]> = bytes[data_offset..].chunks_exact(size_of::<T>()).collect();
            // The iterator yields elements in logical order, and the file may store the elements in Fortran order.
            // Sorting both lists removes the difference.
            elements.sort_unstable();
            stored.sort_unstable();
            assert_eq!(elements, stored);
            true
        }
        Err(error) => {
            assert_is_about_the_file(&error);
            let writable = MmapArray::<T, D>::open_rw(path);
            assert_eq!(writable.expect_err("open_rw fails like open").kind(), error.kind());
            assert_eq!(std::fs::metadata(path).map(|file| file.len()).ok(), Some(bytes.len() as u64));
            false
        }
    }
}

fn assert_is_about_the_file(error: &Error) {
    let kinds = [
        ErrorKind::InvalidHeader,
        ErrorKind::DtypeMismatch,
        ErrorKind::ShapeMismatch,
        ErrorKind::LengthMismatch,
        ErrorKind::SizeOverflow,
        ErrorKind::Unaligned,
    ];
    assert!(kinds.contains(&error.kind()), "{error:?}");
    let text = error.to_string();
    assert!(text.len() < 4096 && text.contains("expected") && text.contains("any.npy"), "{text}");
}
