//! An n-dimensional array that lives in a file, is an [ndarray], and can be far larger than memory.
//!
//! ```
//! use ndarray::{Axis, Ix3};
//! use ndarray_mmap::{MmapArray, stream::Stream};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("traj.npy");
//! let mut trajectory = MmapArray::<f32, Ix3>::create(&path, (1000, 50, 3))?; // frames x atoms x 3, on disk
//! for (frame, mut positions) in trajectory.axis_iter_mut(Axis(0)).enumerate() {
//!     positions.fill(frame as f32);
//! }
//! trajectory.evict_rows(..500)?; // drops the first half from memory; the file keeps it
//! trajectory.close()?; //           the file is durable now, or this is an error
//!
//! let trajectory = MmapArray::<f32, Ix3>::open(&path)?; // numpy.load("traj.npy", mmap_mode="r") opens it as well
//! assert_eq!(Stream::from(&trajectory).mean()?, 499.5); // of all elements; `mean_axis0` returns one mean for each column
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! - [`MmapArray<T, D, A>`](MmapArray) is the array. It dereferences to [`ndarray::ArrayRef`], so every method of
//!   ndarray and every function that takes an array works on it. `A` is [`ReadOnly`], [`ReadWrite`] or [`CopyOnWrite`]:
//!   code that writes through a read-only array, or evicts a copy-on-write array, does not compile.
//! - [`ArrayOptions`] sets how an array is created or opened: [raw or NPY](Format), [order and
//!   shape](ArrayOptions::shape), [offset](ArrayOptions::offset_bytes), [disk space](Allocation),
//!   [read-ahead](AccessPattern), [locks](ArrayOptions::lock_timeout).
//! - [`inspect`] reads the header of an NPY file. [`AnyArray`] opens an NPY file of any supported dtype, and
//!   [`match_dtype!`] calls one generic function on the opened array.
//! - [`flush_rows`](MmapArray::flush_rows), [`evict_rows`](MmapArray::evict_rows),
//!   [`prefetch_rows`](MmapArray::prefetch_rows) and [`residency_rows`](MmapArray::residency_rows) control the page
//!   cache for a range of rows, and [`flush`](MmapArray::flush), [`evict`](MmapArray::evict) and
//!   [`residency`](MmapArray::residency) do the same for the whole array. [`flush_view`] and [`evict_view`] flush and
//!   evict the pages of any view.
//! - [`stream`] copies, selects, converts and reduces rows in bounded memory, without filling the page cache.
//! - [`open_arrays`] lists the arrays of this process. [`close_path`] and [`close_under`] close arrays by the path of
//!   their file. [`is_mmap_backed`] and [`backing`] find the file that contains the elements of a view.
//! - [`fault`] turns the signal that a full disk or a truncated file causes into an [`Error`].
//! - [`Error`] names the operation, the path, what was expected, what was found, and the way out. Match on its
//!   [`ErrorKind`].
//!
//! The [guide] has recipes for [programs](guide::arrays), [loops](guide::loops),
//! [threads and processes](guide::sharing) and [errors](guide::errors), and a page for
//! [users of numpy](guide::from_numpy).
//!
//! # Soundness
//!
//! A Rust reference into a mapped file is valid only while no other code changes the bytes that it points to. This
//! crate ensures that by applying Rust's own rule, many readers or one writer, to byte ranges of files:
//!
//! - Every array has a lock on the bytes that it maps: a shared lock for [`ReadOnly`] and [`CopyOnWrite`], and an
//!   exclusive lock for [`ReadWrite`]. If another array has a conflicting lock, the call fails with
//!   [`ErrorKind::InUse`] before anything is mapped. The locks work between the arrays of one thread, between threads,
//!   and between processes that take open-file-description locks as this crate does.
//! - The lock is released when the owner of the array is dropped or closed. At that moment no borrow of the elements
//!   exists any more. [`close_path`] marks an array as closed, but the array keeps its memory and its lock. Only an
//!   `unsafe` function, [`close_path_and_unlock`], releases the lock of an array whose owner is alive.
//! - No file is truncated or overwritten in place: `create` and `write_to` fill a new file and rename it over the old
//!   one. Arrays that have the old file mapped keep the old bytes.
//! - Only types for which every bit pattern is a valid value ([`bytemuck::Pod`]) can be elements.
//!
//! The page [`guide::soundness`] has the complete argument: the invariants, who can hold which lock or borrow, and why
//! each operation keeps the invariants.
//!
//! The locks are *advisory*. A program that ignores them (numpy, `cp`, an editor) can change the bytes under a
//! reference, or truncate the file. An access past the new end raises the signal SIGBUS; [`fault::guard`] and
//! [`ArrayOptions::guarded`] turn this signal into an [`Error`]. On a filesystem without locks, the rules are enforced
//! only inside this process: [`MmapArray::locking`] returns who enforces the rules, and [`ArrayOptions::require_lock`]
//! makes opening fail on such a filesystem. [`ArrayOptions::unlocked`] takes no lock and is `unsafe`.
//!
//! # Features
//!
//! - `npy` (default): numpy's `.npy` files.
//! - `rayon`: parallel iterators over arrays, and streams that use every core.
//! - `complex`: elements of type `Complex<f32>` and `Complex<f64>`.
//! - `half`: elements of type `f16`, and `bf16` in raw files.
//! - `blake3`: hashes of arrays, with `reuse::content_hash`.
//! - `serde`: results that are built once and found again, with `reuse::open_or_build`. Includes `blake3`.
//!
//! # Platforms
//!
//! The crate is made for Linux and tested on Linux. On other Unix systems it has the same interface, but it takes no
//! locks between processes, a flush writes the whole file, and an eviction releases only the memory of the process
//! itself. Windows is not supported.
#![deny(unsafe_code)]

#[cfg(not(unix))]
compile_error!("ndarray-mmap is made for Unix systems; there is no port to this one");

mod access;
mod array;
#[cfg(test)]
#[cfg(all(feature = "npy", target_os = "linux"))]
mod crash_states;
mod element;
mod error;
pub mod fault;
mod file;
mod format;
mod geometry;
pub mod guide;
mod io;
mod map;
mod registry;
#[cfg(feature = "blake3")]
pub mod reuse;
pub mod stream;
mod sync;
mod sys;

pub use access::{Access, AccessMode, CopyOnWrite, FileBacked, ReadOnly, ReadWrite, Writable};
pub use array::{
    AnyArray, AnyElement, Backing, MmapArray, backing, close_path, close_path_and_unlock, close_under,
    closed_arrays, evict_view, flush_view, is_mmap_backed, open_arrays,
};
pub use element::{ByteOrder, Dtype, ForeignDtype};
pub use error::{Error, ErrorKind, Result};
pub use file::{
    AccessPattern, Allocation, ArrayOptions, Description, Format, Locking, OnDrop, inspect, partition_rows,
    prepare_path, sweep_staged,
};
pub use map::Residency;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
