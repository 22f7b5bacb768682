//! Models of the registry: mappings are created and dropped at an address that the kernel uses again.

use crate::Model;
use crate::explore::{at_once, explore};
use crate::registry::Registry;
use crate::sync::{Arc, LazyLock, Mutex, lock};
use crate::sys::FILE;
use std::ops::Range;

pub(crate) const MODELS: &[Model] = &[
    ("registry: two mappings come and go at one address, one looks there", address_reuse),
    ("registry: a mapping goes, while two threads look", lookup_while_dropped),
];

static REGISTRY: LazyLock<Registry<Mapping>> = LazyLock::new(Registry::new);

/// The number of the mapping at the only address, or `None` if the address is free.
static MAPPED: LazyLock<Mutex<Option<usize>>> = LazyLock::new(|| Mutex::new(None));

/// The only address range at which this modelled kernel can map memory.
const ADDRESSES: Range<usize> = 4096..8192;

/// Mapped memory. Dropping it unmaps the memory, as in the library's `sys/memory.rs`.
struct Memory {
    number: usize,
}

impl Drop for Memory {
    fn drop(&mut self) {
        assert_eq!(lock(&MAPPED).take(), Some(self.number), "unmapped once");
    }
}

/// A small version of the library's `map/mod.rs`. `new` maps the memory and then inserts an entry into the registry.
/// `drop` removes the entry, and then the drop of the field `memory` unmaps the memory.
struct Mapping {
    memory: Memory,
}

impl Mapping {
    /// Maps the address, if it is free.
    fn new(number: usize) -> Option<Arc<Self>> {
        {
            let mut mapped = lock(&MAPPED);
            if mapped.is_some() {
                return None;
            }
            *mapped = Some(number);
        }
        let mapping = Arc::new(Self { memory: Memory { number } });
        REGISTRY.insert(ADDRESSES, FILE, &mapping);
        Some(mapping)
    }

    fn assert_mapped(&self) {
        assert_eq!(*lock(&MAPPED), Some(self.memory.number), "a mapping that is found has its memory");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        REGISTRY.remove(ADDRESSES, FILE, self);
    }
}

/// Creates a mapping, finds it in the registry, and drops it.
fn come_and_go(number: usize) {
    if let Some(mapping) = Mapping::new(number) {
        let found = REGISTRY.at_address(ADDRESSES.start).expect("a live mapping is found by its address");
        assert_eq!(found.memory.number, number, "no other mapping is at the address");
        drop(mapping);
        drop(found);
    }
}

fn look() {
    if let Some(found) = REGISTRY.at_address(ADDRESSES.end - 1) {
        found.assert_mapped();
    }
}

fn address_reuse() -> usize {
    explore(|| {
        at_once!(|| come_and_go(1), || come_and_go(2); look);
        assert!(REGISTRY.is_empty(), "no entry is left");
        assert!(lock(&MAPPED).is_none());
    })
}

fn lookup_while_dropped() -> usize {
    explore(|| {
        let mapping = Mapping::new(1).expect("the address is free");
        let close_all = || REGISTRY.all().into_iter().for_each(|mapping| mapping.assert_mapped());
        at_once!(look, close_all; move || drop(mapping));
        assert!(REGISTRY.is_empty(), "no entry is left");
        assert!(lock(&MAPPED).is_none());
    })
}
