//! File formats: the format that a file's name implies, and the encoding of headers. This module opens no files.

mod dict;
mod names;
pub(crate) mod npy;

pub(crate) use self::names::{is_npy_name, is_packed_name};
