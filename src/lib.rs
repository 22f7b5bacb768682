//! Typed n-dimensional arrays that live in files.
#![deny(unsafe_code)]

mod access;
mod array;
mod element;
mod error;
mod format;
mod geometry;
mod map;
mod path;
mod registry;
mod sys;

pub use access::{Access, AccessMode, CopyOnWrite, FileBacked, ReadOnly, ReadWrite, Writable};
pub use array::{
    AccessPattern, Allocation, ArrayOptions, Backing, Format, MmapArray, backing, close_path, close_under,
    evict_view, flush_view, is_mmap_backed, open_arrays,
};
pub use error::{Error, ErrorKind, Result};
pub use map::{Locking, OnDrop, Residency};
pub use path::{prepare_path, sweep_staged};
