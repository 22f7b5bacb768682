//! Replaces the primitives of the library's `src/sync.rs` by those of loom. loom can switch to another thread at each
//! operation on them.

pub(crate) use self::counted::{Arc, Weak};
pub(crate) use loom::hint;
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[path = "atomic.rs"]
pub(crate) mod atomic;
#[path = "counted.rs"]
mod counted;

use std::marker::PhantomData;
use std::ops::Deref;

/// Locks a mutex.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("loom poisons no lock")
}

/// Waits on a condition variable.
pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).expect("loom poisons no lock")
}

/// Locks for reading.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().expect("loom poisons no lock")
}

/// Locks for writing.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().expect("loom poisons no lock")
}

/// A value that is created at its first use in each interleaving. Only statics may have this type.
pub(crate) struct LazyLock<T: 'static>(loom::lazy_static::Lazy<T>);

impl<T> LazyLock<T> {
    pub(crate) const fn new(init: fn() -> T) -> Self {
        Self(loom::lazy_static::Lazy { init, _p: PhantomData })
    }
}

impl<T> Deref for LazyLock<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let this: *const Self = self;
        // SAFETY: only statics have this type, so the value lives for ever.
        unsafe { &*this }.0.get()
    }
}
