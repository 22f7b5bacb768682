//! The borrow rule, many readers or one writer, kept for byte ranges of files.
//!
//! Each range is claimed twice: in a table of this process by file identity, which can say who holds what and needs no
//! help of the filesystem; then from the kernel with an open-file-description lock, which other processes respect.

use super::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, FileId, LockMode, LockOutcome};
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Who keeps the borrow rules for an array's bytes.
///
/// ```
/// use ndarray_mmap::{Locking, MmapArray};
///
/// let array = MmapArray::<f32, ndarray::Ix1>::scratch(10)?;
/// if array.locking() != Locking::Kernel {
///     eprintln!("other processes are not kept away from {:?}", array.path());
/// }
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Locking {
    /// The kernel, across processes, and this process's own table.
    Kernel,
    /// This process's own table alone: the filesystem or the platform knows no locks.
    Process,
    /// Nobody: the array was opened [`unlocked`](crate::ArrayOptions::unlocked), or it has no bytes.
    Nobody,
}

/// How hard to try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockPolicy {
    /// How long to wait for another holder.
    pub(crate) timeout: Duration,
    /// Whether the kernel's lock is a must.
    pub(crate) require_kernel: bool,
}

/// A held claim on bytes of a file; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct RangeLock {
    file: Arc<File>,
    id: FileId,
    bytes: Range<u64>,
    key: u64,
    locking: Locking,
    /// Who took it: a child of `fork` has the same open file, and would give up its parent's lock.
    process: u32,
}

/// A claim in this process's table.
struct Claim {
    key: u64,
    bytes: Range<u64>,
    mode: LockMode,
    access: AccessMode,
}

#[derive(Default)]
struct Claims {
    by_file: HashMap<FileId, Vec<Claim>>,
    next_key: u64,
}

static CLAIMS: LazyLock<Mutex<Claims>> = LazyLock::new(Mutex::default);

fn claims() -> MutexGuard<'static, Claims> {
    crate::sync::lock(&CLAIMS)
}

/// Who stands in the way.
enum Holder {
    Here(AccessMode, Range<u64>),
    Elsewhere(Option<u32>),
}

/// The lock that an array of this access needs.
fn mode_of(access: AccessMode) -> LockMode {
    match access {
        AccessMode::ReadWrite => LockMode::Exclusive,
        AccessMode::ReadOnly | AccessMode::CopyOnWrite => LockMode::Shared,
    }
}

impl RangeLock {
    /// Claims a range that is not empty, waiting as long as the policy says.
    pub(crate) fn acquire(
        file: &Arc<File>,
        id: FileId,
        bytes: Range<u64>,
        access: AccessMode,
        policy: LockPolicy,
        path: &Path,
    ) -> Result<Self> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let holder = match Self::try_acquire(file, id, bytes.clone(), access, policy) {
                Ok(Ok(lock)) => return Ok(lock),
                Ok(Err(holder)) => holder,
                Err(error) => return Err(error.at(path)),
            };
            let left = policy.timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(in_use(access, &bytes, &holder).at(path));
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn try_acquire(
        file: &Arc<File>,
        id: FileId,
        bytes: Range<u64>,
        access: AccessMode,
        policy: LockPolicy,
    ) -> Result<Result<Self, Holder>> {
        let key = match claim(id, bytes.clone(), access) {
            Ok(key) => key,
            Err(holder) => return Ok(Err(holder)),
        };
        // From here on, dropping `lock` takes the claim back.
        let (locking, process) = (Locking::Process, std::process::id());
        let mut lock = Self { file: Arc::clone(file), id, bytes, key, locking, process };
        let outcome = sys::lock_range(file, lock.bytes.clone(), mode_of(access))
            .map_err(|error| Error::io("lock", "to lock the bytes of the array", error))?;
        match outcome {
            LockOutcome::Taken => {
                lock.locking = Locking::Kernel;
                Ok(Ok(lock))
            }
            LockOutcome::Conflict => {
                let pid = sys::lock_holder(file, id, lock.bytes.clone(), mode_of(access));
                Ok(Err(Holder::Elsewhere(pid)))
            }
            LockOutcome::Unsupported if policy.require_kernel => Err(Error::new(
                ErrorKind::LockUnavailable,
                "lock",
                "a filesystem with byte-range locks",
                "one that knows none",
            )
            .or_else_try(
                "mount it with locks, or leave `require_lock` off: then the rules hold inside this process",
            )),
            LockOutcome::Unsupported => Ok(Ok(lock)),
        }
    }

    pub(crate) fn locking(&self) -> Locking {
        self.locking
    }

    /// Turns a writer's claim into a reader's, in one step for everyone who waits.
    pub(crate) fn downgrade(&self) -> Result<()> {
        if self.locking == Locking::Kernel {
            sys::lock_range(&self.file, self.bytes.clone(), LockMode::Shared)
                .map_err(|error| Error::io("into_read_only", "to turn the lock into a shared one", error))?;
        }
        let mut claims = claims();
        let held = claims.by_file.get_mut(&self.id).into_iter().flatten().find(|claim| claim.key == self.key);
        if let Some(claim) = held {
            claim.mode = LockMode::Shared;
            claim.access = AccessMode::ReadOnly;
        }
        Ok(())
    }
}

impl Drop for RangeLock {
    fn drop(&mut self) {
        // The kernel's lock first: whoever finds the claim gone must not meet it.
        if self.locking == Locking::Kernel && self.process == std::process::id() {
            let _ = sys::unlock_range(&self.file, self.bytes.clone());
        }
        let mut claims = claims();
        if let Some(held) = claims.by_file.get_mut(&self.id) {
            held.retain(|claim| claim.key != self.key);
            if held.is_empty() {
                claims.by_file.remove(&self.id);
            }
        }
    }
}

/// Enters a claim in this process's table, or says which one it meets.
fn claim(id: FileId, bytes: Range<u64>, access: AccessMode) -> Result<u64, Holder> {
    let mode = mode_of(access);
    let mut claims = claims();
    let key = claims.next_key;
    let held = claims.by_file.entry(id).or_default();
    let meets = |other: &&Claim| {
        let apart = other.bytes.end <= bytes.start || bytes.end <= other.bytes.start;
        !apart && (mode == LockMode::Exclusive || other.mode == LockMode::Exclusive)
    };
    match held.iter().find(meets) {
        Some(other) => Err(Holder::Here(other.access, other.bytes.clone())),
        None => {
            held.push(Claim { key, bytes, mode, access });
            claims.next_key += 1;
            Ok(key)
        }
    }
}

fn in_use(access: AccessMode, bytes: &Range<u64>, holder: &Holder) -> Error {
    let expected = format!("bytes {}..{} free for {access} access", bytes.start, bytes.end);
    let (found, way_out) = match holder {
        Holder::Here(access, bytes) => (
            format!("a {access} array of this process on bytes {}..{}", bytes.start, bytes.end),
            "drop or close that array first, or call `into_read_only` on a finished writer",
        ),
        Holder::Elsewhere(Some(pid)) => {
            (format!("a lock held by process {pid}"), "wait for it with `lock_timeout`")
        }
        Holder::Elsewhere(None) => {
            ("a lock held by another open file".to_owned(), "wait for it with `lock_timeout`")
        }
    };
    Error::new(ErrorKind::InUse, "lock", expected, found).or_else_try(way_out)
}
