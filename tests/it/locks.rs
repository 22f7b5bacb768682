//! Tests of locks. A byte range of a file has many readers or one writer, across arrays, threads and processes.

use crate::child::Child;
use crate::support::{disk_folder, skipped};
use ndarray::{Ix1, Ix2, ShapeBuilder};
use ndarray_mmap::{ArrayOptions, Error, ErrorKind, Format, Locking, MmapArray, ReadOnly, ReadWrite, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Writes a raw file of `len` bytes, which are all 1.
fn bytes_file(folder: &tempfile::TempDir, len: usize) -> PathBuf {
    let path = folder.path().join("bytes");
    std::fs::write(&path, vec![1_u8; len]).unwrap();
    path
}

fn part(offset_bytes: u64, len: usize) -> ArrayOptions {
    ArrayOptions::new().format(Format::Raw).offset_bytes(offset_bytes).shape(len)
}

fn reader(path: &Path, offset_bytes: u64, len: usize) -> Result<MmapArray<u8, Ix1, ReadOnly>> {
    part(offset_bytes, len).open(path)
}

fn writer(path: &Path, offset_bytes: u64, len: usize) -> Result<MmapArray<u8, Ix1, ReadWrite>> {
    part(offset_bytes, len).open_rw(path)
}

fn assert_in_use<T>(result: Result<T>, words: &[&str]) -> Error {
    let error = result.err().expect("the bytes are in use");
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in {error}");
    }
    error
}

#[test]
fn readers_share_and_a_writer_does_not() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 10_000);
    let first = reader(&path, 0, 10_000).unwrap();
    let second = reader(&path, 0, 10_000).unwrap();
    let private = part(0, 10_000).open_cow::<u8, Ix1>(&path).unwrap();
    let text = assert_in_use(
        writer(&path, 0, 10_000),
        &["open_rw", "a read-only array of this process", "0..10000"],
    );
    assert_eq!(text.path(), Some(first.path()));
    drop((first, second));
    assert_in_use(writer(&path, 0, 10_000), &["a copy-on-write array of this process"]);
    drop(private);
    let writer_now = writer(&path, 0, 10_000).unwrap();
    assert_in_use(reader(&path, 0, 10_000), &["a read-write array of this process", "into_read_only"]);
    assert_in_use(writer(&path, 0, 10_000), &["a read-write array of this process"]);
    assert_in_use(part(0, 10_000).open_cow::<u8, Ix1>(&path), &["open_cow"]);
    drop(writer_now);
    reader(&path, 0, 10_000).unwrap();
}

#[test]
fn disjoint_ranges_never_conflict_and_one_byte_of_overlap_does() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 10_000);
    // The three arrays share a page, but no byte.
    let mut low = writer(&path, 0, 1000).unwrap();
    let mut middle = writer(&path, 1000, 1).unwrap();
    let mut high = writer(&path, 1001, 8999).unwrap();
    low.fill(2);
    middle.fill(3);
    high.fill(4);
    low.evict().unwrap();
    high.evict().unwrap();
    middle.evict().unwrap();
    assert_in_use(reader(&path, 999, 1), &["0..1000"]);
    assert_in_use(reader(&path, 1000, 1), &["1000..1001"]);
    assert_in_use(reader(&path, 0, 10_000), &[]);
    drop(middle);
    assert_eq!(reader(&path, 1000, 1).unwrap()[0], 3);
    drop((low, high));
    let all = reader(&path, 0, 10_000).unwrap();
    assert_eq!((all[999], all[1000], all[1001], all[9999]), (2, 3, 4, 4));
}

#[test]
fn disjoint_ranges_never_conflict_between_processes() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 10_000);
    let mut child = Child::holding("r+", &path, 0, 5000);
    let mut ours = writer(&path, 5000, 5000).unwrap();
    ours.fill(7);
    assert_eq!(child.tell("fill 5"), "filled");
    ours.evict().unwrap();
    assert_eq!(child.tell("close"), "closed");
    assert_in_use(reader(&path, 4999, 2), &["5000..10000"]);
    ours.close().unwrap();
    let all = reader(&path, 0, 10_000).unwrap();
    assert!(all.iter().take(5000).all(|&x| x == 5) && all.iter().skip(5000).all(|&x| x == 7));
}

#[test]
fn other_processes_are_kept_out_and_named() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 10_000);
    let mut child = Child::holding("r+", &path, 100, 500);
    let pid = child.pid().to_string();
    let words =
        ["open \"", path.file_name().unwrap().to_str().unwrap(), "bytes 0..10000", &pid, "lock_timeout"];
    assert_in_use(reader(&path, 0, 10_000), &words);
    assert_in_use(writer(&path, 599, 1), &[&pid]);
    assert_in_use(part(0, 200).open_cow::<u8, Ix1>(&path), &[&pid]);
    reader(&path, 600, 9400).unwrap();
    reader(&path, 0, 100).unwrap();

    assert_eq!(child.tell("into_read_only"), "reads");
    reader(&path, 0, 10_000).unwrap();
    assert_in_use(writer(&path, 0, 10_000), &[&pid]);
    assert_eq!(child.tell("close"), "closed");
    let ours = writer(&path, 0, 10_000).unwrap();
    let answer = child.open("r", &path, 9999, 1);
    assert!(answer.starts_with("InUse: open "), "{answer}");
    assert!(answer.contains(&format!("process {}", std::process::id())), "{answer}");
    let ours = ours.into_read_only().unwrap();
    assert_eq!(child.open("c", &path, 0, 10_000), "open");
    assert_eq!(child.tell("sum"), "10000");
    drop(ours);
}

#[test]
fn the_error_names_the_process_that_holds_the_bytes() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 10_000);
    let low = Child::holding("r+", &path, 0, 5000);
    let high = Child::holding("r+", &path, 5000, 5000);
    for (child, offset_bytes) in [(&low, 0), (&high, 5000), (&low, 4000), (&high, 9999)] {
        assert_in_use(reader(&path, offset_bytes, 1), &[&format!("process {}", child.pid())]);
    }
}

#[test]
fn the_locks_of_a_killed_process_are_released() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 10_000);
    let child = Child::holding("r+", &path, 0, 10_000);
    assert_in_use(reader(&path, 0, 1), &[]);
    child.kill();
    writer(&path, 0, 10_000).unwrap();
}

#[test]
fn another_process_keeps_its_bytes_when_its_file_is_replaced() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 10_000);
    let mut reading = Child::holding("r", &path, 0, 10_000);
    let mut new = part(0, 20_000).create::<u8, Ix1>(&path).unwrap();
    new.fill(9);
    new.flush().unwrap();
    assert_eq!(reading.tell("sum"), "10000");
    let answer = Child::start().open("r", &path, 0, 10_000);
    assert!(answer.starts_with("InUse: open "), "the new file is held by us: {answer}");
    // When another process replaces the file, the array of this process keeps its bytes.
    let mut creating = Child::start();
    assert_eq!(creating.open("w+", &path, 0, 100), "open");
    assert_eq!(creating.tell("fill 1"), "filled");
    assert_eq!((new.len(), new.iter().all(|&x| x == 9)), (20_000, true));
    assert_eq!(creating.tell("sum"), "100");
}

#[test]
fn waiting_ends_with_the_lock_or_after_the_timeout() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 100);
    let timeout = Duration::from_millis(400);
    let mut child = Child::holding("r+", &path, 0, 100);

    let started = Instant::now();
    let waiting = part(0, 100).lock_timeout(timeout).open::<u8, Ix1>(&path);
    let waited = started.elapsed();
    assert_in_use(waiting, &[&child.pid().to_string()]);
    assert!(waited >= timeout && waited < timeout * 3, "waited {waited:?}");

    assert_eq!(child.tell("close_in 200"), "closing");
    let started = Instant::now();
    part(0, 100).lock_timeout(Duration::from_secs(20)).open::<u8, Ix1>(&path).unwrap();
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(100) && waited < Duration::from_secs(5), "waited {waited:?}");

    // One thread waits for a lock that another thread of the same process holds.
    let ours = writer(&path, 0, 100).unwrap();
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| part(0, 100).lock_timeout(Duration::from_secs(20)).open_rw::<u8, Ix1>(&path));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        drop(ours);
        waiting.join().unwrap().unwrap();
    });
    let started = Instant::now();
    let _held = reader(&path, 0, 100).unwrap();
    assert_in_use(writer(&path, 0, 100), &[]);
    assert!(
        started.elapsed() < Duration::from_millis(300),
        "without a timeout, the call returns immediately"
    );
}

/// Returns how often this thread has called `read`. Returns `None` if the kernel does not count the calls.
fn reads_of_this_thread() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("syscr: "))?.parse().ok()
}

/// Tests that a waiting thread searches `/proc` for the holder of the lock once. A search reads a file for each open
/// descriptor of each process. A thread that waits for 700 ms tries to lock the file about 18 times.
#[test]
fn waiting_searches_for_the_holder_only_once() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 100);
    let _holder = Child::holding("r+", &path, 0, 100);
    let reads = |timeout_millis| {
        let before = reads_of_this_thread()?;
        let options = part(0, 100).lock_timeout(Duration::from_millis(timeout_millis));
        assert_in_use(options.open_rw::<u8, Ix1>(&path), &["a lock held by process"]);
        Some(reads_of_this_thread()? - before)
    };
    let (Some(at_once), Some(waiting)) = (reads(0), reads(700)) else {
        return skipped("the kernel does not count the reads of a thread");
    };
    assert!(at_once > 3, "a search makes {at_once} reads, which is too few to count searches");
    // Processes and descriptors of other programs appear and disappear meanwhile.
    assert!(waiting < 4 * at_once, "a search makes {at_once} reads, and waiting made {waiting}");
}

#[test]
fn only_one_thread_writes_at_a_time() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 4096);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let options = part(0, 4096).lock_timeout(Duration::from_secs(60));
                    let mut array = options.open_rw::<u8, Ix1>(&path).unwrap();
                    let before = array[0];
                    assert!(array.iter().all(|&x| x == before));
                    array.fill(before + 1);
                }
            });
        }
    });
    assert_eq!(std::fs::read(&path).unwrap(), vec![161; 4096]);
}

#[test]
fn into_read_only_allows_other_readers_but_no_writer() {
    let folder = disk_folder();
    let path = folder.path().join("a.npy");
    let mut writing = MmapArray::<f32, Ix2>::create(&path, (100, 30).f()).unwrap();
    writing.fill(2.5);
    let address = writing.as_ptr();
    let finished = writing.into_read_only().unwrap();
    assert_eq!((finished.as_ptr(), finished.is_standard_layout()), (address, false));
    let another = MmapArray::<f32, Ix2>::open(&path).unwrap();
    assert_eq!(another, finished);
    assert_in_use(MmapArray::<f32, Ix2>::open_rw(&path), &["a read-only array of this process"]);
    finished.evict().unwrap();
    drop(another);
    assert_eq!(finished.sum(), 7500.0);
    assert_eq!(finished.locking(), Locking::Kernel);
    drop(finished);
    MmapArray::<f32, Ix2>::open_rw(&path).unwrap();
}

#[test]
fn a_lock_is_released_with_its_owner_or_by_an_unsafe_call() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 100);
    writer(&path, 0, 100).unwrap().close().unwrap();
    let held = writer(&path, 0, 100).unwrap();
    assert_eq!(ndarray_mmap::close_path(&path).unwrap(), 1);
    assert_in_use(writer(&path, 0, 100), &["closed by its path"]);
    assert_ne!(Child::start().open("r+", &path, 0, 100), "open");
    drop(held);
    assert_eq!(Child::start().open("r+", &path, 0, 100), "open");

    let held = writer(&path, 0, 100).unwrap();
    // SAFETY: no borrow of the elements of `held` exists.
    assert_eq!(unsafe { ndarray_mmap::close_path_and_unlock(&path) }.unwrap(), 1);
    let next = writer(&path, 0, 100).unwrap();
    drop(held);
    assert_in_use(writer(&path, 0, 100), &["read-write"]);
    drop(next);
    assert_eq!(Child::start().open("r+", &path, 0, 100), "open");
}

#[test]
fn a_failed_open_leaves_no_lock() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 100);
    let unaligned = part(1, 3).open_rw::<u32, Ix1>(&path).unwrap_err();
    assert_eq!(unaligned.kind(), ErrorKind::Unaligned);
    let _held = reader(&path, 0, 50).unwrap();
    assert_in_use(writer(&path, 0, 100), &[]);
    writer(&path, 50, 50).unwrap();
}

#[test]
fn unlocked_takes_no_lock_and_ignores_other_locks() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 100);
    let mut held = writer(&path, 0, 100).unwrap();
    // SAFETY: only this thread uses the two arrays, one after the other, and nothing truncates the file.
    let unlocked = unsafe { part(0, 100).unlocked() };
    let reading = unlocked.open::<u8, Ix1>(&path).unwrap();
    assert_eq!((reading.locking(), held.locking()), (Locking::Nobody, Locking::Kernel));
    held[7] = 42;
    drop(held);
    assert_eq!(reading[7], 42);
    writer(&path, 0, 100).unwrap();
}

#[test]
fn locking_returns_how_the_bytes_are_locked() {
    let folder = disk_folder();
    let path = bytes_file(&folder, 100);
    let required = part(0, 100).require_lock(true);
    assert_eq!(required.open::<u8, Ix1>(&path).unwrap().locking(), Locking::Kernel);
    assert_eq!(MmapArray::<u8, Ix1>::scratch(0).unwrap().locking(), Locking::Nobody);
    assert_eq!(MmapArray::<u8, Ix1>::scratch(1).unwrap().locking(), Locking::Kernel);
    // Arrays without bytes take no lock.
    let (_first, _second) = (writer(&path, 50, 0).unwrap(), writer(&path, 50, 0).unwrap());
    writer(&path, 0, 100).unwrap();
}
