//! Replaces the library's module `map` by a `Mapping` that has the fields that the included methods use.

#[path = "../../../../src/map/close.rs"]
mod close;
mod evict;
#[path = "../../../../src/map/flush.rs"]
mod flush;
#[path = "../../../../src/map/gate.rs"]
mod gate;
#[path = "../../../../src/map/health.rs"]
mod health;
mod memory;
mod models;

pub(crate) use self::models::MODELS;

use self::gate::Gate;
use self::memory::Memory;
use crate::access::AccessMode;
use crate::error::Error;
use crate::file::{FileName, OnDrop, RangeLock, acquire};
use crate::sync::atomic::AtomicBool;
use crate::sync::{Mutex, RwLock, lock};
use crate::sys::{self, fault::Watch};
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The library's `Mapping` (`map/mod.rs`), with modelled memory.
#[derive(Debug)]
pub(crate) struct Mapping {
    watch: Option<Watch>,
    memory: Option<Memory>,
    file: File,
    path: PathBuf,
    file_bytes: Range<u64>,
    access: Mutex<AccessMode>,
    lock: Mutex<Option<RangeLock>>,
    on_drop: OnDrop,
    gate: Gate,
    close_failure: Mutex<Option<Error>>,
    poisoned: AtomicBool,
    syncs: RwLock<()>,
}

impl Mapping {
    /// Creates a read-write mapping. If `fails`, the first sync to the disk fails.
    fn new(fails: bool) -> Arc<Self> {
        let file_bytes = 0..4096;
        let lock = acquire(file_bytes.clone(), AccessMode::ReadWrite);
        assert!(lock.is_some());
        Arc::new(Self {
            watch: None,
            memory: Some(Memory::new(fails)),
            file: sys::open_file(),
            path: PathBuf::from("/model"),
            file_bytes,
            access: Mutex::new(AccessMode::ReadWrite),
            lock: Mutex::new(lock),
            on_drop: OnDrop::KeepCached,
            gate: Gate::open(),
            close_failure: Mutex::new(None),
            poisoned: AtomicBool::new(false),
            syncs: RwLock::new(()),
        })
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("a mapping of some bytes")
    }

    fn file_bytes(&self) -> Range<u64> {
        self.file_bytes.clone()
    }

    /// The files of the models have names.
    fn name(&self) -> FileName {
        FileName::Given
    }

    fn settle_name(&self, _: FileName) {}

    fn access(&self) -> AccessMode {
        *lock(&self.access)
    }

    fn local(&self, file_range: &Range<u64>) -> Range<usize> {
        file_range.start as usize..file_range.end as usize
    }
}
