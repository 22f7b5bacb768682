//! Atomics that can be statics, fields of statics, or bytes of zeroed memory. The fault guard needs all three.
//!
//! loom's own atomics are created by a function call in each interleaving. An atomic of this module is only an address.
//! The first operation on an address takes one of loom's atomics from a store, which `begin` fills for each
//! interleaving. So every atomic is zero at first.

pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};

use loom::sync::atomic::AtomicUsize as Modelled;
use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::rc::Rc;

/// How many addresses one interleaving can use.
const STORED: usize = 16;

#[derive(Default)]
struct Store {
    unused: Vec<Rc<Modelled>>,
    by_address: HashMap<usize, Rc<Modelled>>,
}

thread_local! {
    // loom runs all threads of a model in one thread of the operating system.
    static STORE: RefCell<Store> = RefCell::default();
}

/// Fills the store. The first thread of a model calls this before it starts another one.
pub(crate) fn begin() {
    let unused = (0..STORED).map(|_| Rc::new(Modelled::new(0))).collect();
    STORE.set(Store { unused, by_address: HashMap::new() });
}

/// Empties the store.
pub(crate) fn end() {
    STORE.take();
}

fn at<T>(address: *const T) -> Rc<Modelled> {
    STORE.with_borrow_mut(|store| {
        let Store { unused, by_address } = store;
        let new = || unused.pop().expect("an atomic from the store: make STORED larger");
        Rc::clone(by_address.entry(address as usize).or_insert_with(new))
    })
}

/// Loads a value.
///
/// loom treats a `SeqCst` load as an `Acquire` load, and therefore reports errors that cannot occur. This function
/// instead uses a read-modify-write operation, which reads the latest value. A `SeqCst` load also reads the latest
/// value if every operation on the address is `SeqCst`.
fn load<T>(address: *const T, ordering: Ordering) -> usize {
    match ordering {
        // The ordering is `Acquire`, because a load releases nothing.
        Ordering::SeqCst => at(address).fetch_add(0, Ordering::Acquire),
        _ => at(address).load(ordering),
    }
}

macro_rules! atomic {
    ($name:ident $(<$of:ident>)?, $value:ty, $zero:expr) => {
        #[repr(transparent)]
        pub(crate) struct $name $(<$of>)? {
            _bytes: <$value as Bytes>::Of,
            _value: PhantomData<fn() -> $value>,
        }

        impl $(<$of>)? $name $(<$of>)? {
            pub(crate) const fn new(_zero: $value) -> Self {
                Self { _bytes: $zero, _value: PhantomData }
            }

            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                load(self, ordering) as $value
            }

            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                at(self).store(value as usize, ordering);
            }

            pub(crate) fn swap(&self, value: $value, ordering: Ordering) -> $value {
                at(self).swap(value as usize, ordering) as $value
            }

            pub(crate) fn compare_exchange(
                &self,
                expected: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let result = at(self).compare_exchange(expected as usize, new as usize, success, failure);
                result.map(|value| value as $value).map_err(|value| value as $value)
            }
        }
    };
}

/// Names the integer type that stores the bytes of a value.
trait Bytes {
    type Of;
}

impl Bytes for u8 {
    type Of = u8;
}

impl Bytes for usize {
    type Of = usize;
}

impl<T> Bytes for *mut T {
    type Of = usize;
}

atomic!(AtomicU8, u8, 0);
atomic!(AtomicUsize, usize, 0);
atomic!(AtomicPtr<T>, *mut T, 0);

impl AtomicUsize {
    pub(crate) fn fetch_add(&self, value: usize, ordering: Ordering) -> usize {
        at(self).fetch_add(value, ordering)
    }

    pub(crate) fn fetch_sub(&self, value: usize, ordering: Ordering) -> usize {
        at(self).fetch_sub(value, ordering)
    }

    pub(crate) fn fetch_or(&self, value: usize, ordering: Ordering) -> usize {
        at(self).fetch_or(value, ordering)
    }

    pub(crate) fn fetch_and(&self, value: usize, ordering: Ordering) -> usize {
        at(self).fetch_and(value, ordering)
    }
}
