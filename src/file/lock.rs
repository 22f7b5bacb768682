//! Locks that enforce the borrow rule, many readers or one writer, for byte ranges of files.
//!
//! Each range is locked twice. First, the range is entered in the lock table of this process, under the identity of the
//! file. The lock table works on every filesystem, and records the access mode of the array that has locked the range.
//! Second, the kernel locks the range with an open-file-description lock, which other processes respect.

use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{self, LazyLock, Mutex, MutexGuard};
use crate::sys::{self, FileId, LockMode, LockOutcome};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who enforces the borrow rules for an array's bytes.
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
    /// The kernel, across processes, and the table of this process.
    Kernel,
    /// Only the table of this process: the filesystem or the platform does not support locks.
    Process,
    /// Nobody: the array was opened [`unlocked`](crate::ArrayOptions::unlocked), or the array has no bytes.
    Nobody,
}

/// How long to wait for a lock, and whether a kernel lock is required.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockPolicy {
    /// The maximum time to wait until another holder releases the lock.
    pub(crate) timeout: Duration,
    /// Whether to fail if the kernel cannot lock the range.
    pub(crate) require_kernel: bool,
}

/// A lock on a byte range of a file. Dropping this value releases the lock.
#[derive(Debug)]
pub(crate) struct RangeLock {
    file: Arc<File>,
    id: FileId,
    bytes: Range<u64>,
    key: u64,
    locking: Locking,
    /// The process that took the lock. A child of `fork` shares the open file, so a system call of the child would
    /// change the lock of the parent.
    process: u32,
}

/// A locked range in the table of this process.
struct Claim {
    key: u64,
    bytes: Range<u64>,
    mode: LockMode,
    access: AccessMode,
    /// Whether the array was closed by its path. In that case the owner of the array still holds the lock.
    is_closed: bool,
}

/// The claims on a file, in the order of their first bytes. A conflict is found without a look at every claim, so the
/// time to open many windows of a file is linear.
#[derive(Default)]
struct FileClaims {
    /// The claims by first byte and key.
    held: BTreeMap<(u64, u64), Claim>,
    /// The number of bytes of the longest claim since the table of the file was empty.
    longest: u64,
}

impl FileClaims {
    /// Returns a claim that conflicts with a request for these bytes.
    fn conflict(&self, bytes: &Range<u64>, mode: LockMode) -> Option<&Claim> {
        // No claim that starts earlier reaches the bytes.
        let first = bytes.start.saturating_sub(self.longest);
        self.held.range((first, 0)..(bytes.end, 0)).map(|(_, claim)| claim).find(|claim| {
            let reaches = bytes.start < claim.bytes.end;
            reaches && (mode == LockMode::Exclusive || claim.mode == LockMode::Exclusive)
        })
    }

    fn insert(&mut self, claim: Claim) {
        self.longest = self.longest.max(claim.bytes.end - claim.bytes.start);
        self.held.insert((claim.bytes.start, claim.key), claim);
    }
}

#[derive(Default)]
struct Claims {
    by_file: HashMap<FileId, FileClaims>,
    next_key: u64,
}

static CLAIMS: LazyLock<Mutex<Claims>> = LazyLock::new(Mutex::default);

fn claims() -> MutexGuard<'static, Claims> {
    sync::lock(&CLAIMS)
}

/// The holder of a lock that conflicts with a request.
#[derive(Debug)]
enum Holder {
    /// An array of this process.
    Here { access: AccessMode, bytes: Range<u64>, is_closed: bool },
    /// Another open file, in this process or in another one.
    Elsewhere,
}

/// Returns the lock mode that an array with this access mode needs.
fn mode_of(access: AccessMode) -> LockMode {
    match access {
        AccessMode::ReadWrite => LockMode::Exclusive,
        AccessMode::ReadOnly | AccessMode::CopyOnWrite => LockMode::Shared,
    }
}

impl RangeLock {
    /// Locks a range that is not empty. If another holder has a conflicting lock, waits as long as the policy allows.
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
                // The process that holds the lock is looked up only after the timeout, because the search reads all of
                // `/proc`.
                let pid = match holder {
                    Holder::Here { .. } => None,
                    Holder::Elsewhere => sys::lock_holder(file, id, bytes.clone(), mode_of(access)),
                };
                return Err(in_use(access, &bytes, &holder, pid).at(path));
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
        // From here on, dropping `lock` removes its entry from the lock table of this process.
        let (locking, process) = (Locking::Process, std::process::id());
        let mut lock = Self { file: Arc::clone(file), id, bytes, key, locking, process };
        let outcome = sys::lock_range(file, lock.bytes.clone(), mode_of(access))
            .map_err(|error| Error::io("lock", "to lock the bytes of the array", error))?;
        match outcome {
            LockOutcome::Taken => {
                lock.locking = Locking::Kernel;
                Ok(Ok(lock))
            }
            LockOutcome::Conflict => Ok(Err(Holder::Elsewhere)),
            LockOutcome::Unsupported if policy.require_kernel => Err(Error::new(
                ErrorKind::LockUnavailable,
                "lock",
                "a filesystem with byte-range locks",
                "one without them",
            )
            .with_remedy(
                "mount it with locks, or leave `require_lock` off: then the rules hold inside this process",
            )),
            LockOutcome::Unsupported => Ok(Ok(lock)),
        }
    }

    pub(crate) fn locking(&self) -> Locking {
        self.locking
    }

    /// Changes a writer's lock to a reader's lock atomically: no other writer can take the lock in between.
    ///
    /// In a child of `fork`, this function fails, and the lock of the parent does not change.
    pub(crate) fn downgrade(&self) -> Result<()> {
        if !self.is_ours() {
            let (expected, found) = ("the process that opened the array", "a child of `fork`");
            return Err(Error::new(ErrorKind::Unsupported, "into_read_only", expected, found)
                .with_remedy("open the file again in the child"));
        }
        if self.locking == Locking::Kernel {
            sys::lock_range(&self.file, self.bytes.clone(), LockMode::Shared)
                .map_err(|error| Error::io("into_read_only", "to turn the lock into a shared one", error))?;
        }
        self.change_claim(|claim| {
            claim.mode = LockMode::Shared;
            claim.access = AccessMode::ReadOnly;
        });
        Ok(())
    }

    /// Records that the array was closed by its path. The lock stays until the owner of the array is dropped or closed.
    /// If another request conflicts with this lock, its error mentions the closed array.
    pub(crate) fn mark_closed(&self) {
        self.change_claim(|claim| claim.is_closed = true);
    }

    fn change_claim(&self, change: impl FnOnce(&mut Claim)) {
        let mut claims = claims();
        let place = (self.bytes.start, self.key);
        if let Some(claim) = claims.by_file.get_mut(&self.id).and_then(|file| file.held.get_mut(&place)) {
            change(claim);
        }
    }

    /// Returns whether this process has taken the lock. Returns `false` in a child of `fork`, because its parent has
    /// taken the lock.
    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }
}

impl Drop for RangeLock {
    fn drop(&mut self) {
        // Release the kernel's lock before the table entry: otherwise a waiter could find the entry removed and still
        // conflict.
        if self.locking == Locking::Kernel && self.is_ours() {
            let _ = sys::unlock_range(&self.file, self.bytes.clone());
        }
        // A child of `fork` has its own copy of the lock table. The child removes the entry from this copy, and the
        // table of its parent does not change.
        let mut claims = claims();
        if let Some(file) = claims.by_file.get_mut(&self.id) {
            file.held.remove(&(self.bytes.start, self.key));
            if file.held.is_empty() {
                claims.by_file.remove(&self.id);
            }
        }
    }
}

/// Claims a range in the table of this process, or returns the holder of a conflicting claim.
fn claim(id: FileId, bytes: Range<u64>, access: AccessMode) -> Result<u64, Holder> {
    let mode = mode_of(access);
    let mut claims = claims();
    let key = claims.next_key;
    let file = claims.by_file.entry(id).or_default();
    match file.conflict(&bytes, mode) {
        Some(&Claim { access, ref bytes, is_closed, .. }) => {
            Err(Holder::Here { access, bytes: bytes.clone(), is_closed })
        }
        None => {
            file.insert(Claim { key, bytes, mode, access, is_closed: false });
            claims.next_key += 1;
            Ok(key)
        }
    }
}

/// Returns the error for a request that conflicts with `holder`. `pid` is the process that holds the lock, if this
/// process is known.
fn in_use(access: AccessMode, bytes: &Range<u64>, holder: &Holder, pid: Option<u32>) -> Error {
    let expected = format!("bytes {}..{} free for {access} access", bytes.start, bytes.end);
    let (found, way_out) = match (holder, pid) {
        (Holder::Here { access, bytes, is_closed: false }, _) => (
            format!("a {access} array of this process on bytes {}..{}", bytes.start, bytes.end),
            "drop or close that array first, or call `into_read_only` on a finished writer",
        ),
        (Holder::Here { access, bytes, is_closed: true }, _) => (
            format!(
                "a {access} array of this process on bytes {}..{}, closed by its path, whose owner still lives",
                bytes.start, bytes.end
            ),
            "drop or `close` the closed array",
        ),
        (Holder::Elsewhere, Some(pid)) => {
            (format!("a lock held by process {pid}"), "wait for it with `lock_timeout`")
        }
        (Holder::Elsewhere, None) => {
            ("a lock held by another open file".to_owned(), "wait for it with `lock_timeout`")
        }
    };
    Error::new(ErrorKind::InUse, "lock", expected, found).with_remedy(way_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: LockPolicy = LockPolicy { timeout: Duration::ZERO, require_kernel: false };

    /// Locks the first ten bytes of a file.
    fn lock(path: &Path, access: AccessMode, policy: LockPolicy) -> Result<RangeLock> {
        let file = Arc::new(File::options().read(true).write(true).open(path).unwrap());
        let id = crate::sys::status(&file).unwrap().id;
        RangeLock::acquire(&file, id, 0..10, access, policy, path)
    }

    fn file() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(10).unwrap();
        file
    }

    #[test]
    fn a_conflict_with_a_closed_array_reports_its_owner() {
        let file = file();
        let held = lock(file.path(), AccessMode::ReadWrite, AT_ONCE).unwrap();
        let conflict = || lock(file.path(), AccessMode::ReadOnly, AT_ONCE).unwrap_err();
        assert!(conflict().to_string().ends_with("`into_read_only` on a finished writer"), "{}", conflict());
        held.mark_closed();
        let error = conflict();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(
            error.to_string().ends_with(
                "bytes 0..10, closed by its path, whose owner still lives; drop or `close` the closed array"
            ),
            "{error}"
        );
        drop(held);
        lock(file.path(), AccessMode::ReadWrite, AT_ONCE).unwrap();
    }

    /// The test simulates a child of `fork`. The child has a copy of the lock, which contains the process id of the
    /// parent. The child shares the open file.
    #[test]
    fn a_child_of_fork_does_not_change_the_lock() {
        let file = file();
        let mut held = lock(file.path(), AccessMode::ReadWrite, AT_ONCE).unwrap();
        if held.locking() != Locking::Kernel {
            println!("SKIPPED: the filesystem of the temporary directory has no locks");
            return;
        }
        held.process += 1;
        let error = held.downgrade().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("expected the process that opened the array"), "{error}");
        let kept_open = Arc::clone(&held.file);
        drop(held);
        let error = lock(file.path(), AccessMode::ReadOnly, AT_ONCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "the kernel's lock is still exclusive: {error}");
        drop(kept_open);
        lock(file.path(), AccessMode::ReadWrite, AT_ONCE).unwrap();
    }
}
