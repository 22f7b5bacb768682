//! Models of the concurrent protocols of `ndarray-mmap`. loom runs each model through every interleaving of its threads, and through
//! every value that the memory model of C11 lets a load return.
//!
//! The code under test is the code that ships: the modules below include files of `src/` of the library by `#[path]`. What those
//! files import from elsewhere is replaced: locks and atomics by loom's (`sync.rs`), the kernel by a table of locks and a disk that
//! can fail (`sys/mod.rs`), and `map::Mapping` by one with the fields that the included methods use (`map/mod.rs`).
//!
//! `mutants.rs` lists broken variants of the same code. `build.rs` makes a copy of the modules for each, with some lines replaced.
//! The model that a variant is listed with must fail on it: otherwise the model would prove nothing.
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
