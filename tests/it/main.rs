//! The crate seen from outside, one module per capability.
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod child;
mod create;
mod ecosystem;
mod errors;
mod evict;
mod layout;
mod locks;
mod ndarray;
mod open;
mod registry;
mod support;
mod views;
