//! The crate seen from outside, one module per capability.
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod evict;
mod support;
