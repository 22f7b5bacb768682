//! How an array lies in a file: pure bytes to header and back, no files.

mod dict;
pub(crate) mod npy;
