//! The crate seen from outside, one module per capability.
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod cache;
mod child;
mod create;
mod drop;
mod ecosystem;
mod errors;
mod evict;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod fault;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod fault_streams;
mod layout;
mod locks;
mod ndarray;
mod numpy;
mod open;
mod registry;
mod stateful;
mod stream;
mod stream_chunks;
mod stream_errors;
mod stream_exact;
mod stream_memory;
mod stream_odd;
mod stream_reduce;
mod support;
mod syscalls;
mod views;
