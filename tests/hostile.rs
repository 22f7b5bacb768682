//! Tests that opening a file with a hostile NPY header returns an error, within 100 ms of processor time and 1 MiB of
//! allocations.
//!
//! The tests have a binary of their own, because they replace the global allocator to count allocations.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "npy")]

use ndarray::IxDyn;
use ndarray_mmap::{ErrorKind, MmapArray};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An allocator that counts the allocated bytes of each thread. Freed bytes are not subtracted.
struct Counting;

thread_local! {
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: both methods forward the call to the system allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED_BYTES.try_with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller upholds the preconditions of `GlobalAlloc`, which the system allocator shares.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the preconditions of `GlobalAlloc`, which the system allocator shares.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the processor time of this thread. Unlike wall-clock time, processor time excludes other threads and
/// processes.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec`, which the call overwrites.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Opens the file and asserts the limits on time, allocations and message length. Returns the kind of the error, or
/// `None` if the file could be opened.
fn open(path: &Path) -> Option<ErrorKind> {
    let (allocated_before, started) = (ALLOCATED_BYTES.get(), thread_time());
    let result = MmapArray::<f32, IxDyn>::open(path);
    let (allocated, time) = (ALLOCATED_BYTES.get() - allocated_before, thread_time() - started);
    assert!(allocated < 1 << 20, "{allocated} bytes allocated for {path:?}: {result:?}");
    assert!(time < Duration::from_millis(100), "{time:?} for {path:?}: {result:?}");
    if let Err(error) = &result {
        let words = error.to_string();
        assert!(words.len() < 1000 && words.lines().count() == 1, "{words}");
    }
    result.err().map(|error| error.kind())
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("hostile.npy")
    }

    fn open(&self, bytes: &[u8]) -> Option<ErrorKind> {
        fs::write(self.path(), bytes).unwrap();
        open(&self.path())
    }
}

/// Returns an NPY header: the magic bytes, the version, the length of the text, and the text.
fn with_prefix(version: u8, text: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY".to_vec();
    file.extend([version, 0]);
    match version {
        1 => file.extend((text.len() as u16).to_le_bytes()),
        _ => file.extend((text.len() as u32).to_le_bytes()),
    }
    file.extend(text);
    file
}

fn with_shape(shape: &str) -> Vec<u8> {
    with_prefix(2, format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}").as_bytes())
}

fn valid_file() -> Vec<u8> {
    let padding = " ".repeat(59); // pads the header to 128 bytes
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3)}}{padding}");
    let mut file = with_prefix(2, text.as_bytes());
    assert_eq!(file.len(), 128);
    file.resize(128 + 60, 1);
    file
}

#[test]
fn the_allocator_counts_allocations() {
    let before = ALLOCATED_BYTES.get();
    drop(vec![0_u8; 5000]);
    assert!(ALLOCATED_BYTES.get() - before >= 5000);
    assert_eq!(Files::new().open(&valid_file()), None);
}

#[test]
fn nested_headers_are_refused() {
    let files = Files::new();
    for (open, close) in [("[", "]"), ("(", ")"), ("{", "}"), ("[(", ")]"), ("{'descr':", "}"), ("'\\", "'")]
    {
        for depth in [40, 1000, 9_000 / open.len(), 60_000] {
            let (opened, closed) =
                (open.repeat(depth), format!("{}{}", open.repeat(depth), close.repeat(depth)));
            for nested in [opened, closed] {
                for text in [
                    nested.clone(),
                    format!("{{'descr': {nested}, 'fortran_order': False, 'shape': (3,), }}"),
                    format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {nested}, }}"),
                    format!("{{'descr': [('a', {nested})], 'fortran_order': False, 'shape': (3,), }}"),
                ] {
                    for version in [1, 2, 3] {
                        if version > 1 || text.len() < 1 << 16 {
                            let kind = files.open(&with_prefix(version, text.as_bytes())).unwrap();
                            // A nested structured dtype can be valid in numpy, and the crate refuses a structured dtype
                            // with `DtypeMismatch`.
                            let refused = matches!(kind, ErrorKind::InvalidHeader | ErrorKind::DtypeMismatch);
                            assert!(refused, "{open} {depth} times: {kind:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn header_lengths_above_the_limit_are_refused_before_reading() {
    let files = Files::new();
    for version in [2, 3] {
        for length in [10_001_u32, 1 << 16, 1 << 24, i32::MAX as u32, u32::MAX] {
            let mut bytes = b"\x93NUMPY".to_vec();
            bytes.extend([version, 0]);
            bytes.extend(length.to_le_bytes());
            bytes.extend(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }");
            assert_eq!(files.open(&bytes), Some(ErrorKind::InvalidHeader), "{length}");
            // Repeats the check with a sparse file. The length of the sparse file matches the length in its header.
            let mut file = File::create(files.path()).unwrap();
            file.write_all(&bytes).unwrap();
            file.set_len(u64::from(length) + 500).unwrap();
            assert_eq!(open(&files.path()), Some(ErrorKind::InvalidHeader), "{length}");
        }
    }
}

#[test]
fn shapes_that_overflow_are_refused() {
    let files = Files::new();
    let big =
        [1_u128 << 31, 1 << 32, 1 << 61, 1 << 62, 1 << 63, (1 << 64) - 1, 1 << 64, (1 << 64) + 1, u128::MAX];
    for n in big {
        for shape in [
            format!("({n},)"),
            format!("({n}, {n})"),
            format!("({n}, {n}, {n}, {n})"),
            format!("(1, {n})"),
            format!("({n}, 4294967296)"),
            format!("({})", "2, ".repeat(64)),
        ] {
            let kind = files.open(&with_shape(&shape)).unwrap();
            // If the size of the array does not overflow, the file is too short for the array.
            assert!(matches!(kind, ErrorKind::LengthMismatch | ErrorKind::SizeOverflow), "{shape}: {kind:?}");
        }
        for shape in [format!("({n}, 0)"), format!("(0, {n}, {n})"), format!("({n}, 3, 0, {n})")] {
            let kind = files.open(&with_shape(&shape));
            // ndarray multiplies the lengths of the other axes even if the array has no elements.
            assert!(matches!(kind, None | Some(ErrorKind::SizeOverflow)), "{shape}: {kind:?}");
        }
    }
    for digits in [20, 100, 9_000] {
        assert_eq!(
            files.open(&with_shape(&format!("({},)", "9".repeat(digits)))),
            Some(ErrorKind::SizeOverflow)
        );
        let zeros = format!("({}1,)", "0".repeat(digits));
        assert_eq!(files.open(&with_shape(&zeros)), Some(ErrorKind::InvalidHeader));
    }
    assert_eq!(files.open(&with_shape(&format!("({})", "1, ".repeat(3000)))), Some(ErrorKind::InvalidHeader));
    for shape in
        ["(-1,)", "(-9223372036854775808,)", "(1.0,)", "(3, 'x')", "None", "(True,)", "(1e9,)", "(0x10,)"]
    {
        assert_eq!(files.open(&with_shape(shape)), Some(ErrorKind::InvalidHeader), "{shape}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let files = Files::new();
    let whole = valid_file();
    for len in 0..whole.len() {
        let kind = files.open(&whole[..len]).unwrap();
        assert!(
            matches!(kind, ErrorKind::InvalidHeader | ErrorKind::LengthMismatch),
            "{len} bytes: {kind:?}"
        );
    }
    assert_eq!(files.open(&whole), None);
    assert_eq!(files.open(&[whole.as_slice(), &[0]].concat()), Some(ErrorKind::LengthMismatch));
}

#[test]
fn every_changed_byte_ends_in_an_array_or_an_error() {
    let files = Files::new();
    let whole = valid_file();
    let mut arrays = 0;
    for position in 0..whole.len() - 60 {
        for value in [0, 1, 9, b' ', b'\'', b'(', b')', b'0', b'9', b'{', b'L', 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[position] = value;
            arrays += usize::from(files.open(&bytes).is_none());
        }
    }
    assert!(
        (14..1000).contains(&arrays),
        "{arrays} changed files open: expected 14 to 999, as some changes keep the header valid"
    );
}

#[test]
fn files_that_are_something_else_are_refused() {
    let files = Files::new();
    let others: [&[u8]; 7] =
        [b"", b"\x93", b"\x93NUMPY", b"\x93NUMPX\x01\x00", b"PK\x03\x04", &[0; 4096], &[0xff; 100_000]];
    for bytes in others {
        assert_eq!(files.open(bytes), Some(ErrorKind::InvalidHeader));
    }
    for version in [0, 4, 255] {
        assert_eq!(files.open(&with_prefix(version, &valid_file()[12..])), Some(ErrorKind::InvalidHeader));
    }
}
