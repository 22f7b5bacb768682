//! How an array lies in a file: pure bytes to header and back, no files.

#[cfg(feature = "npy")]
mod dict;
#[cfg(feature = "npy")]
pub(crate) mod npy;
