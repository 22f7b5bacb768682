//! Models of the concurrent protocols of `ndarray-mmap`. loom runs each model through every interleaving of its
//! threads, and lets each load return every value that the memory model of C11 allows.
//!
//! The tested code is the code of the library: the modules below include files of its `src/` folder by `#[path]`. This
//! package replaces what those files import:
//! - loom's locks and atomics replace those of the standard library (`sync.rs`);
//! - a table of locks, and a disk that can fail, replace the kernel (`sys/mod.rs` and `map/memory.rs`);
//! - a `Mapping` with the fields that the included methods use replaces the library's (`map/mod.rs`).
//!
//! `mutants.rs` lists broken variants of the tested code. For each variant, `build.rs` copies the modules and replaces
//! some lines. Each variant names the model that must fail on this variant. The failure proves that the model detects
//! such an error.
#![cfg(loom)]
#![allow(dead_code, unused_imports, unused_mut, unused_variables)]

#[path = "../../../src/access.rs"]
mod access;
mod entries;
#[path = "../../../src/error.rs"]
mod error;
mod explore;
mod file;
mod map;
#[path = "../../../src/registry.rs"]
mod registry;
mod sigbus;
mod sync;
mod sys;

mod fault {
    pub(crate) fn error(_: &'static str, _: u64) -> crate::error::Error {
        unreachable!("the mappings of the models have no faults")
    }
}

mod geometry {
    use std::ops::Range;

    pub(crate) fn to_pages(bytes: Range<u64>, _: usize) -> Range<u64> {
        bytes
    }
}

/// A model: its name, and the function that runs it and returns the number of interleavings.
pub type Model = (&'static str, fn() -> usize);

/// Every model.
pub const MODELS: &[&[Model]] = &[map::MODELS, entries::MODELS, file::MODELS, sigbus::MODELS];

include!(concat!(env!("OUT_DIR"), "/broken.rs"));
