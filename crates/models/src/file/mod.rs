//! The lock table of the library's module `file`.

#[path = "../../../../src/file/lock.rs"]
mod lock;
mod models;

pub(crate) use self::lock::{LockPolicy, Locking, RangeLock};
pub(crate) use self::models::{MODELS, acquire};

/// The same type as in the library's `file/options.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDrop {
    KeepCached,
    Evict,
}

/// The same type as in the library's `file/mod.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    Never,
    Given,
}
