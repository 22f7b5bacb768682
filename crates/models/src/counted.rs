//! `Arc` and `Weak`, because loom has no `Weak`. The count of owners is an atomic of loom, so that loom can switch to
//! another thread when the count changes.

use loom::sync::atomic::{AtomicUsize, Ordering};
use std::ops::Deref;
use std::sync;

/// A shared owner of a value.
#[derive(Debug)]
pub(crate) struct Arc<T> {
    owners: sync::Arc<AtomicUsize>,
    value: sync::Arc<T>,
}

/// A handle that does not keep the value alive.
pub(crate) struct Weak<T> {
    owners: sync::Arc<AtomicUsize>,
    value: sync::Weak<T>,
}

impl<T> Arc<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { owners: sync::Arc::new(AtomicUsize::new(1)), value: sync::Arc::new(value) }
    }

    pub(crate) fn downgrade(this: &Self) -> Weak<T> {
        Weak { owners: sync::Arc::clone(&this.owners), value: sync::Arc::downgrade(&this.value) }
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        self.owners.fetch_add(1, Ordering::Relaxed);
        Self { owners: sync::Arc::clone(&self.owners), value: sync::Arc::clone(&self.value) }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Arc<T> {
    /// Subtracts one owner. No other thread runs before the field `value` is dropped too. The last owner thereby drops
    /// the value.
    fn drop(&mut self) {
        self.owners.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T> Weak<T> {
    pub(crate) fn upgrade(&self) -> Option<Arc<T>> {
        let more = |owners: usize| (owners > 0).then_some(owners + 1);
        self.owners.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).ok()?;
        let value = self.value.upgrade().expect("the count says that somebody owns the value");
        Some(Arc { owners: sync::Arc::clone(&self.owners), value })
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.value.as_ptr()
    }
}
