//! Typed n-dimensional arrays that live in files.
#![deny(unsafe_code)]

mod error;

pub use error::{Error, ErrorKind, Result};
