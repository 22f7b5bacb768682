//! Integration tests of the public interface, with one module per subject.
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod any;
mod cache;
mod child;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod containers;
mod create;
mod create_names;
mod destinations;
mod drop;
mod ecosystem;
mod errors;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod errors_kinds;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod errors_writes;
mod evict;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod fault;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod fault_streams;
mod fork;
mod inspect;
mod layout;
mod locks;
mod names_lost;
mod ndarray;
mod numpy;
mod numpy_inspect;
mod open;
#[path = "../common/refuse.rs"]
mod refuse;
mod registry;
#[cfg(all(feature = "serde", feature = "npy", target_os = "linux", not(ndarray_mmap_portable)))]
mod reuse;
#[cfg(all(feature = "serde", feature = "npy", target_os = "linux", not(ndarray_mmap_portable)))]
mod reuse_processes;
#[path = "../common/seccomp.rs"]
mod seccomp;
mod stateful;
mod stream;
mod stream_chains;
mod stream_chunks;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod stream_concat;
mod stream_elements;
mod stream_errors;
mod stream_exact;
mod stream_functions;
mod stream_memory;
mod stream_numpy;
mod stream_odd;
mod stream_places;
#[cfg(feature = "rayon")]
mod stream_rayon;
mod stream_reduce;
mod stream_steps;
mod support;
mod syscalls;
mod views;
mod windows;
