//! Results that are built once and found again, and hashes of arrays.
//!
//! - [`content_hash`] hashes the elements of an array (feature `blake3`).
//! - `open_or_build` opens a finished result, or builds it if no finished result for these parameters exists
//!   (feature `serde`).

#[cfg(feature = "serde")]
mod build;
#[cfg(feature = "serde")]
mod canonical;
mod content;
#[cfg(all(test, feature = "serde", feature = "npy", target_os = "linux", not(ndarray_mmap_portable)))]
mod injected;
#[cfg(feature = "serde")]
mod place;
#[cfg(feature = "serde")]
mod record;

#[cfg(feature = "serde")]
pub use self::build::{Built, open_or_build, open_or_build_with};
pub use self::content::{ContentHash, content_hash};
