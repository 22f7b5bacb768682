//! Tests of streams on sparse files, and of streams that share disk space between files. The tests run on each
//! filesystem that this machine can make.
//!
//! `cargo test --release --all-features --test sparse -- --ignored --nocapture --test-threads=1` measures the time of
//! streams on sparse files: see `figures.rs`.
#![cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod clones;
mod figures;
#[path = "../common/filesystems.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod filesystems;
mod holes;
#[path = "../common/loop_device.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod loop_device;

use crate::filesystems::Filesystem;
use ndarray_mmap::{ArrayOptions, Format, OnDrop};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Makes the filesystems of these names. Prints `SKIPPED` for each one that this machine cannot make.
fn filesystems(names: &[&str]) -> Vec<Filesystem> {
    let made = names.iter().map(|name| (name, Filesystem::make(name)));
    made.filter_map(|(name, made)| made.map_err(|error| println!("SKIPPED: {name}: {error}")).ok()).collect()
}

/// Returns the disk space of a file, in bytes.
fn allocated_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// Returns the options for a raw file.
fn raw(shape: (usize, usize), offset_bytes: u64) -> ArrayOptions {
    ArrayOptions::new()
        .format(Format::Raw)
        .shape(shape)
        .offset_bytes(offset_bytes)
        .on_drop(OnDrop::KeepCached)
}
