//! An n-dimensional array that lives in a file and *is* an [ndarray]: larger than memory, evicted row range by
//! row range, safe to share.
//!
//! ```
//! use ndarray::{Axis, Ix3};
//! use ndarray_mmap::MmapArray;
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("traj.npy");
//! let mut trajectory = MmapArray::<f32, Ix3>::create(&path, (1000, 50, 3))?; // frames x atoms x 3, on disk
//! for (frame, mut positions) in trajectory.axis_iter_mut(Axis(0)).enumerate() {
//!     positions.fill(frame as f32);
//! }
//! trajectory.evict_rows(..500)?; //                        the first half leaves memory, not the file
//! trajectory.close()?; //                                  durable, or an error
//!
//! let trajectory = MmapArray::<f32, Ix3>::open(&path)?; // numpy.load("traj.npy", mmap_mode="r") opens it as well
//! assert_eq!(trajectory.mean(), Some(499.5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! - [`MmapArray<T, D, A>`](MmapArray) is the array. It dereferences to [`ndarray::ArrayRef`], so every method of ndarray
//!   and every function that takes an array works on it. `A` is [`ReadOnly`], [`ReadWrite`] or [`CopyOnWrite`]: writing
//!   through the first, or evicting the last, does not compile.
//! - [`ArrayOptions`] has the choices: [raw or NPY](Format), [order and shape](ArrayOptions::shape),
//!   [offset](ArrayOptions::offset_bytes), [disk space now or later](Allocation), [read-ahead](AccessPattern), locks.
//! - [`inspect`] reads what an NPY file says about its array; [`AnyArray`] opens it whatever its dtype is, and
//!   [`match_dtype!`] runs one generic function on it.
//! - [`flush_rows`](MmapArray::flush_rows), [`evict_rows`](MmapArray::evict_rows),
//!   [`prefetch_rows`](MmapArray::prefetch_rows) and [`residency_rows`](MmapArray::residency_rows) control the page cache,
//!   for the whole array or for a range of rows; [`flush_view`] and [`evict_view`] do it by the address of any view.
//! - [`stream`] moves many rows through little memory: copies, selections, conversions, reductions.
//! - [`open_arrays`], [`close_path`], [`close_under`], [`is_mmap_backed`] and [`backing`] say and change what is mapped.
//! - [`fault`] turns the signal that a full disk or a file cut short raises into an [`Error`].
//! - [`Error`] says operation, path, what was expected, what was found, and the way out; match on its [`ErrorKind`].
//!
//! # Cookbook
//!
//! **A loop with bounded memory.** Evict what lies behind:
//!
//! ```
//! use ndarray::{Axis, Ix2, s};
//! use ndarray_mmap::MmapArray;
//!
//! # let folder = tempfile::tempdir()?;
//! let source = MmapArray::<f32, Ix2>::create(folder.path().join("a.npy"), (100_000, 12))?;
//! let mut target = MmapArray::<f32, Ix2>::create(folder.path().join("b.npy"), (100_000, 12))?;
//! for first in (0..source.nrows()).step_by(10_000) {
//!     let rows = first..first + 10_000;
//!     target.slice_mut(s![rows.clone(), ..]).assign(&source.slice(s![rows.clone(), ..]));
//!     source.evict_rows(rows.clone())?;
//!     target.evict_rows(rows)?;
//! }
//! assert_eq!(target.residency()?.resident_bytes, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **A raw file of another program**, with a header of its own, in Fortran order:
//!
//! ```
//! use ndarray::{Ix2, ShapeBuilder};
//! use ndarray_mmap::ArrayOptions;
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("matrix.dat");
//! # std::fs::write(&path, [0; 64 + 8 * 6])?;
//! let matrix = ArrayOptions::new().offset_bytes(64).shape((2, 3).f()).open::<f64, Ix2>(&path)?;
//! assert_eq!(matrix.strides(), [1, 2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Your own element type**, in a raw file:
//!
//! ```
//! use bytemuck::{Pod, Zeroable};
//! use ndarray::Ix1;
//! use ndarray_mmap::MmapArray;
//!
//! #[derive(Clone, Copy, Pod, Zeroable)]
//! #[repr(C)]
//! struct Atom {
//!     position: [f32; 3],
//!     element: u32,
//! }
//!
//! # let folder = tempfile::tempdir()?;
//! let mut atoms = MmapArray::<Atom, Ix1>::create(folder.path().join("atoms.bin"), 1000)?;
//! atoms[7].element = 26;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Surviving a full disk or a truncated file**, which are signals to any other mapping:
//!
//! ```
//! # #[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))] {
//! use ndarray::Ix2;
//! use ndarray_mmap::{Allocation, ArrayOptions, fault};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("a.npy");
//! let mut array = ArrayOptions::new().allocation(Allocation::Sparse).shape((100, 3)).create::<f32, Ix2>(&path)?;
//! fault::guard(|| array.fill(1.0))?; // `ErrorKind::Fault` if the disk fills up meanwhile
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Waiting for a writer** in another process:
//!
//! ```
//! use std::time::Duration;
//! use ndarray::Ix2;
//! use ndarray_mmap::{ArrayOptions, MmapArray};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("a.npy");
//! # drop(MmapArray::<f32, Ix2>::create(&path, (3, 4))?);
//! let array = ArrayOptions::new().lock_timeout(Duration::from_secs(30)).open::<f32, Ix2>(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Soundness
//!
//! A reference into a mapped file is a promise that nobody changes the bytes behind it. This crate keeps the promise with
//! Rust's own rule, many readers or one writer, applied to byte ranges of files:
//!
//! - Every array holds a lock on the bytes that it maps: shared for [`ReadOnly`] and [`CopyOnWrite`], exclusive for
//!   [`ReadWrite`]. A conflict is [`ErrorKind::InUse`] before anything is mapped. This holds between the arrays of one
//!   thread, between threads, and, by open-file-description locks of the kernel, between processes that take such locks.
//! - A file is never truncated or overwritten in place: `create` fills a new file and renames it over the old one, which
//!   whoever has it mapped keeps.
//! - The memory of an array stays mapped until its owner goes. [`close_path`] only marks it closed: later accesses panic or
//!   are [`ErrorKind::Closed`]. A borrow that was out already goes on reading the file's bytes; what it writes from then on
//!   is private to the process, so it cannot meet the next owner of the lock.
//! - A child of `fork` has its parent's mappings and open files. It must not write through the arrays, and gives up none
//!   of its parent's locks when it drops them; the parent's bytes stay locked until both have.
//! - Only types whose every bit pattern is a value ([`bytemuck::Pod`]) can be elements.
//!
//! What it cannot keep, because no program can: these locks are *advisory*. A program that ignores them (numpy, `cp`, an
//! editor) can change the bytes under a reference, or truncate the file, which turns an access past the new end into the
//! signal SIGBUS: [`fault::guard`] and [`ArrayOptions::guarded`] make that an [`Error`]. The same is true of a borrow that was out when [`close_path`] gave the lock back: it can see what the next
//! owner writes. And on a filesystem that knows no locks, the rules hold inside this process alone:
//! [`MmapArray::locking`] tells, [`ArrayOptions::require_lock`] insists. To opt out is
//! [`ArrayOptions::unlocked`], which is `unsafe`.
//!
//! # Features
//!
//! - `npy` (default): numpy's `.npy` files.
//! - `rayon`: parallel iterators over arrays, and streams that use every core.
//! - `complex`, `half`: `Complex<f32>` and `Complex<f64>`; `f16` and, in raw files, `bf16`.
//!
//! # Platforms
//!
//! Linux is what it is made for and tested on. Other Unix systems have the same interface with fewer means: no range
//! locks, whole-file flushes, and eviction that only lowers the process's own memory. Windows is not supported.
#![deny(unsafe_code)]

#[cfg(not(unix))]
compile_error!("ndarray-mmap is made for Unix systems; there is no port to this one");

mod access;
mod array;
mod element;
mod error;
pub mod fault;
mod file;
mod format;
mod geometry;
mod io;
mod map;
mod registry;
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
    AccessPattern, Allocation, ArrayOptions, Description, Format, Locking, OnDrop, inspect, prepare_path,
    sweep_staged,
};
pub use map::Residency;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
