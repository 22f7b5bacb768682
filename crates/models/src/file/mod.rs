//! The room `file`: the lock table.

#[path = "../../../../src/file/lock.rs"]
mod lock;
mod models;

pub(crate) use self::lock::{LockPolicy, Locking, RangeLock};
pub(crate) use self::models::{MODELS, acquire};

/// As in `file/options.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDrop {
    KeepCached,
    Evict,
}
