//! Replaces the kernel functions that the included files call: the locks of open files, and the length of a file.

#[path = "../../../../src/sys/types.rs"]
mod types;

pub(crate) use self::types::{FileId, FileStatus, LockMode, LockOutcome, MappedRange};

use crate::sync::{LazyLock, Mutex, lock};
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

/// A lock of the modelled kernel. The lock belongs to an open file.
struct OpenFileLock {
    file: RawFd,
    bytes: Range<u64>,
    mode: LockMode,
}

static LOCKS: LazyLock<Mutex<Vec<OpenFileLock>>> = LazyLock::new(|| Mutex::new(Vec::new()));

/// The only file of every model.
pub(crate) const FILE: FileId = FileId { device: 1, inode: 1 };

/// The length of the only file.
const FILE_BYTES: u64 = 4096;

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Replaces `lock_range` of `sys/linux/locks.rs`: takes or changes the lock of an open file, without waiting.
pub(crate) fn lock_range(file: &File, bytes: Range<u64>, mode: LockMode) -> io::Result<LockOutcome> {
    let file = file.as_raw_fd();
    let mut locks = lock(&LOCKS);
    let conflicts = |held: &OpenFileLock| {
        let exclusive = mode == LockMode::Exclusive || held.mode == LockMode::Exclusive;
        held.file != file && overlap(&held.bytes, &bytes) && exclusive
    };
    if locks.iter().any(conflicts) {
        return Ok(LockOutcome::Conflict);
    }
    locks.retain(|held| held.file != file || held.bytes != bytes);
    locks.push(OpenFileLock { file, bytes, mode });
    Ok(LockOutcome::Taken)
}

/// Replaces `unlock_range` of `sys/linux/locks.rs`. Panics if the open file does not have this lock.
pub(crate) fn unlock_range(file: &File, bytes: Range<u64>) -> io::Result<()> {
    let mut locks = lock(&LOCKS);
    let before = locks.len();
    locks.retain(|held| held.file != file.as_raw_fd() || held.bytes != bytes);
    assert_eq!(locks.len() + 1, before, "a lock is released once");
    Ok(())
}

pub(crate) fn lock_holder(_: &File, _: FileId, _: Range<u64>, _: LockMode) -> Option<u32> {
    None
}

/// Returns how many locks there are.
pub(crate) fn locks_held() -> usize {
    lock(&LOCKS).len()
}

/// Replaces `in_words` of `sys/failure.rs`: no model reads the text.
pub(crate) fn in_words(error: &io::Error) -> Cow<'static, str> {
    error.to_string().into()
}

pub(crate) fn page_bytes() -> usize {
    4096
}

pub(crate) fn status(_: &File) -> io::Result<FileStatus> {
    let (names, is_regular, is_directory) = (1, true, false);
    let (len, allocated_bytes, modified) = (FILE_BYTES, FILE_BYTES, (0, 0));
    Ok(FileStatus { id: FILE, len, allocated_bytes, names, is_regular, is_directory, modified })
}

pub(crate) fn sync_range(_: &File, _: Range<u64>) -> io::Result<()> {
    Ok(())
}

pub(crate) fn start_writeback(_: &File, _: Range<u64>) -> io::Result<()> {
    Ok(())
}

/// Opens `/dev/null`, so that the open file has its own descriptor.
pub(crate) fn open_file() -> File {
    File::options().read(true).write(true).open("/dev/null").expect("/dev/null")
}

pub(crate) mod fault {
    /// A mapping without faults.
    #[derive(Debug)]
    pub(crate) struct Watch;

    impl Watch {
        pub(crate) fn first_fault(&self) -> Option<u64> {
            None
        }

        pub(crate) fn set_read_only(&self) {}
    }
}
