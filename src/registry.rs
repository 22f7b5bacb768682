//! A registry of live mappings, by address and by file. The registry holds weak references, and does not depend on the
//! type of the mappings.

use crate::sync::{Arc, Mutex, MutexGuard, Weak, lock};
use crate::sys::FileId;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Finds live mappings of type `M`: the mapping at an address, the mappings of a file, or all mappings.
///
/// Invariants:
/// 1. every key of `by_address` is the start of a live mapping, and mappings do not overlap: an entry is
///    [removed](Self::remove) before its addresses are unmapped, so the operating system cannot reuse these addresses
///    while the entry exists;
/// 2. an entry is removed before its mapping `M` is freed. So `upgrade` fails only while the last owner is dropping the
///    mapping.
pub(crate) struct Registry<M> {
    tables: Mutex<Tables<M>>,
}

struct Tables<M> {
    by_address: BTreeMap<usize, (usize, Weak<M>)>,
    /// The mappings of each file, by the address of `M`, so that one of many is removed quickly.
    by_file: HashMap<FileId, BTreeMap<usize, Weak<M>>>,
}

impl<M> Registry<M> {
    pub(crate) fn new() -> Self {
        Self { tables: Mutex::new(Tables { by_address: BTreeMap::new(), by_file: HashMap::new() }) }
    }

    fn tables(&self) -> MutexGuard<'_, Tables<M>> {
        lock(&self.tables)
    }

    /// Adds an entry. `addresses` is empty for a mapping without bytes. Such a mapping is found only by its file.
    pub(crate) fn insert(&self, addresses: Range<usize>, file: FileId, entry: &Arc<M>) {
        let mut tables = self.tables();
        if !addresses.is_empty() {
            tables.by_address.insert(addresses.start, (addresses.end, Arc::downgrade(entry)));
        }
        let held = Arc::downgrade(entry);
        tables.by_file.entry(file).or_default().insert(held.as_ptr() as usize, held);
    }

    /// Removes an entry. Does nothing if the entry was removed before.
    pub(crate) fn remove(&self, addresses: Range<usize>, file: FileId, entry: *const M) {
        let mut tables = self.tables();
        if let Some((_, held)) = tables.by_address.get(&addresses.start) {
            if !addresses.is_empty() && held.as_ptr() == entry {
                tables.by_address.remove(&addresses.start);
            }
        }
        if let Some(entries) = tables.by_file.get_mut(&file) {
            entries.remove(&(entry as usize));
            if entries.is_empty() {
                tables.by_file.remove(&file);
            }
        }
    }

    /// Returns the entry whose addresses contain `address`.
    pub(crate) fn at_address(&self, address: usize) -> Option<Arc<M>> {
        let tables = self.tables();
        let (_, (end, entry)) = tables.by_address.range(..=address).next_back()?;
        if address < *end { entry.upgrade() } else { None }
    }

    /// Returns every entry of a file.
    pub(crate) fn on_file(&self, file: FileId) -> Vec<Arc<M>> {
        self.tables()
            .by_file
            .get(&file)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Returns whether there is no entry, not even one whose mapping was freed. Used by the models of `crates/models`.
    #[cfg(loom)]
    pub(crate) fn is_empty(&self) -> bool {
        let tables = self.tables();
        tables.by_address.is_empty() && tables.by_file.is_empty()
    }

    /// Returns every entry.
    pub(crate) fn all(&self) -> Vec<Arc<M>> {
        self.tables().by_file.values().flat_map(BTreeMap::values).filter_map(Weak::upgrade).collect()
    }
}
