//! Tests that every system call that is not in POSIX has a fallback. The tests run in child processes in which a
//! seccomp filter refuses one of these calls, or all of them.
#![allow(unsafe_code)]

#[path = "../../tests/common/seccomp.rs"]
mod seccomp;

use self::seccomp::When;
use super::types::{Hint, LockMode, LockOutcome, Piece, Protection, Residency};
use super::*;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;

/// A system call that the filter refuses: its name and its number. If the third field is `Some`, the filter refuses
/// only calls with this second argument.
type Refused = (&'static str, libc::c_long, Option<libc::c_int>);

const CALLS: [Refused; 20] = [
    ("cachestat", 451, None),
    ("mincore", libc::SYS_mincore, None),
    ("preadv2", libc::SYS_preadv2, None),
    ("pwritev2", libc::SYS_pwritev2, None),
    ("sync_file_range", libc::SYS_sync_file_range, None),
    ("fadvise", libc::SYS_fadvise64, None),
    ("syncfs", libc::SYS_syncfs, None),
    ("fallocate", libc::SYS_fallocate, None),
    ("lseek", libc::SYS_lseek, None),
    ("ioctl_clone", libc::SYS_ioctl, Some(os::FICLONERANGE as libc::c_int)),
    ("renameat2", libc::SYS_renameat2, None),
    ("linkat", libc::SYS_linkat, None),
    ("fcntl_set_lock", libc::SYS_fcntl, Some(libc::F_OFD_SETLK)),
    ("fcntl_get_lock", libc::SYS_fcntl, Some(libc::F_OFD_GETLK)),
    ("io_setup", libc::SYS_io_setup, None),
    ("io_submit", libc::SYS_io_submit, None),
    ("io_getevents", libc::SYS_io_getevents, None),
    ("io_destroy", libc::SYS_io_destroy, None),
    ("process_vm_readv", libc::SYS_process_vm_readv, None),
    ("madvise", libc::SYS_madvise, None),
];

/// Makes the kernel refuse system calls of this thread from now on. Returns `false` if the kernel does not permit such
/// a filter.
fn refuse(refused: &[Refused], errno: libc::c_int) -> bool {
    let refusal = |&(_, call, second): &Refused| seccomp::Refusal {
        call,
        when: second.map_or(When::Always, |value| When::Equal(1, value)),
        errno,
    };
    seccomp::refuse(&refused.iter().map(refusal).collect::<Vec<_>>()).is_ok()
}

/// Makes the kernel refuse `linkat` on this thread, so that new files need temporary names. Returns `false` if the kernel
/// does not permit such a filter.
pub(crate) fn refuse_links() -> bool {
    refuse(&[("linkat", libc::SYS_linkat, None)], libc::EPERM)
}

/// The environment variable that tells the child which calls are refused, and with which error.
const REFUSED: &str = "NDARRAY_MMAP_TEST_REFUSED";

#[test]
fn every_call_has_a_fallback_alone_and_with_all_others_refused() {
    let sets = CALLS.iter().map(|(name, ..)| *name).chain(["all"]);
    for (set, errno) in sets.flat_map(|set| [(set, libc::EPERM), (set, libc::ENOSYS)]) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sys::refused::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(REFUSED, format!("{set} {errno}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "without {set}, error {errno}: {text}{errors}"
        );
        if text.contains("SKIPPED") {
            return println!("SKIPPED: this process may not filter its system calls");
        }
    }
}

#[test]
#[ignore = "runs in the children of `every_call_has_a_fallback_alone_and_with_all_others_refused`"]
fn child() {
    let Ok(task) = std::env::var(REFUSED) else { return };
    let (set, errno) = task.split_once(' ').unwrap();
    let refused: Vec<_> = CALLS.into_iter().filter(|(name, ..)| set == "all" || set == *name).collect();
    assert!(!refused.is_empty());
    // The folder is created before any call is refused.
    let folder = tempfile::Builder::new().prefix("ndarray-mmap-test-").tempdir_in("/var/tmp").unwrap();
    if !refuse(&refused, errno.parse().unwrap()) {
        return println!("SKIPPED: no seccomp");
    }
    let is_refused = |name: &str| set == "all" || set == name;
    files_are_created_and_renamed(folder.path(), &is_refused);
    unnamed_files_get_a_name_unless_links_are_refused(folder.path(), &is_refused);
    holes_are_found_or_count_as_data(folder.path(), &is_refused);
    page_counts_are_true_or_unknown(folder.path(), &is_refused);
    batches_are_read(folder.path());
    mappings_keep_their_content(folder.path());
    locks_are_taken_or_reported_as_unsupported(folder.path(), &is_refused);
}

const LEN: usize = 300 * 4096;

/// Creates a durable file whose bytes differ from page to page.
fn filled(path: &Path) -> (File, Vec<u8>) {
    let content: Vec<u8> = (0..LEN).map(|byte| (byte / 7 % 251) as u8).collect();
    let file = fs::create_exclusive(path).unwrap();
    fs::write_all_at(&file, &content, 0).unwrap();
    fs::sync_all(&file).unwrap();
    (file, content)
}

fn files_are_created_and_renamed(folder: &Path, is_refused: &dyn Fn(&str) -> bool) {
    let (first, second) = (folder.join("first"), folder.join("second"));
    let file = fs::create_exclusive(&first).unwrap();
    fs::reserve_or_zero(&file, LEN as u64).unwrap();
    let status = status(&file).unwrap();
    assert!(status.len == LEN as u64 && status.allocated_bytes >= status.len, "{status:?}");
    let block = vec![7; 100_000];
    match write_all_uncached(&file, &block, 50) {
        Err(error) if is_unsupported(&error) => fs::write_all_at(&file, &block, 50).unwrap(),
        written => written.unwrap(),
    }
    start_writeback(&file, 0..102_400).unwrap();
    sync_range(&file, 0..102_400).unwrap();
    drop_cached(&file, 0..102_400).unwrap();
    let mut back = vec![0; 100_052];
    fs::read_exact_at(&file, &mut back, 49).unwrap();
    assert!(back[0] == 0 && back[1..100_001] == block && back[100_001..] == [0; 51]);
    std::fs::write(&second, "taken").unwrap();
    let error = fs::rename_no_replace(&first, &second).unwrap_err();
    assert_eq!(std::fs::read(&second).unwrap(), b"taken");
    std::fs::remove_file(&second).unwrap();
    if is_refused("renameat2") && is_refused("linkat") {
        // No other call refuses to replace a file.
        fs::rename_no_replace(&first, &second).unwrap_err();
        fs::rename(&first, &second).unwrap();
    } else {
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        fs::rename_no_replace(&first, &second).unwrap();
    }
    assert_eq!((status_of_path(&second).unwrap().id, first.exists()), (status.id, false));
    fs::sync_directory(None, &file).unwrap();
}

fn holes_are_found_or_count_as_data(folder: &Path, is_refused: &dyn Fn(&str) -> bool) {
    let len = 3 << 20;
    let file = fs::create_exclusive(&folder.join("holes")).unwrap();
    fs::set_len(&file, len).unwrap();
    fs::write_all_at(&file, &[1; 4096], 1 << 20).unwrap();
    let found = next_data(&file, 0..len);
    if is_refused("lseek") {
        assert_eq!(found, 0..len);
    } else {
        assert!(found.start <= 1 << 20 && found.end >= (1 << 20) + 4096, "{found:?}");
        assert_eq!(next_data(&file, 2 << 20..len), len..len);
    }
    match zero(&file, 1 << 20..(1 << 20) + 4096) {
        Err(error) => assert!(refuses_arguments(&error), "{error}"),
        Ok(()) => assert!(
            !is_refused("fallocate") && std::fs::read(folder.join("holes")).unwrap() == vec![0; 3 << 20]
        ),
    }
    let copy = fs::create_exclusive(&folder.join("clone")).unwrap();
    match clone_range(&file, &(0..1 << 20), &copy, 0) {
        Err(error) => assert!(cannot_share(&error), "{error}"),
        Ok(()) => assert!(!is_refused("ioctl_clone")),
    }
}

fn unnamed_files_get_a_name_unless_links_are_refused(folder: &Path, is_refused: &dyn Fn(&str) -> bool) {
    let (name, taken) = (folder.join("linked"), folder.join("taken"));
    let file = create_unnamed(folder).unwrap();
    fs::write_all_at(&file, b"bytes", 0).unwrap();
    std::fs::write(&taken, "taken").unwrap();
    assert_eq!(status(&file).unwrap().names, 0);
    let error = link_unnamed(&file, &taken).unwrap_err();
    assert_eq!(error.kind() == io::ErrorKind::AlreadyExists, !is_refused("linkat"), "{error}");
    assert_eq!(link_unnamed(&file, &name).is_ok(), !is_refused("linkat"));
    assert_eq!(std::fs::read(&name).is_ok_and(|bytes| bytes == b"bytes"), !is_refused("linkat"));
    assert_eq!(status(&file).unwrap().names, u64::from(!is_refused("linkat")));
}

fn page_counts_are_true_or_unknown(folder: &Path, is_refused: &dyn Fn(&str) -> bool) {
    let (file, _) = filled(&folder.join("counted"));
    let pages = LEN / page_bytes();
    let all = 0..LEN as u64;
    let counter = PageCounter::default();
    let count = || counter.resident_pages(&file, all.clone()).unwrap();
    let is_known = !["cachestat", "mincore"].into_iter().all(is_refused);
    let expected = |count| if is_known { Residency::Known(count) } else { Residency::Unknown };
    assert_eq!(count(), expected(pages as u64));
    assert_eq!(counter.all_resident(&file, all.clone()), is_known);
    assert_eq!(counter.most_resident(&file, all.clone()), is_known);
    let page = page_bytes() as u64;
    reclaim_page(&file, page..2 * page).unwrap();
    drop_cached(&file, all.clone()).unwrap();
    if !is_refused("fadvise") {
        assert_eq!(count(), expected(0));
        let left = if is_known { Left::Nothing } else { Left::Settled };
        assert_eq!(counter.left(&file, all.clone()).unwrap(), left);
        assert!(!counter.all_resident(&file, all.clone()) && !counter.most_resident(&file, all));
    }
}

fn batches_are_read(folder: &Path) {
    let (file, content) = filled(&folder.join("read"));
    let direct = open_direct(&file, false).unwrap_or(file);
    let mut buffer = AlignedBuf::new(LEN).unwrap();
    let page = page_bytes();
    let last = LEN / page - 1;
    let pieces: Vec<_> = (0..=last)
        .map(|index| Piece { offset: ((last - index) * page) as u64, at: index * page..(index + 1) * page })
        .collect();
    let mut queue = ReadQueue::default();
    for _ in 0..2 {
        buffer.bytes_mut().fill(0);
        let counts = queue.read(&direct, buffer.bytes_mut(), &pieces).unwrap();
        assert!(counts.iter().all(|&count| count == page));
        for piece in &pieces {
            assert_eq!(buffer.bytes()[piece.at.clone()], content[piece.offset as usize..][..page]);
        }
    }
}

fn mappings_keep_their_content(folder: &Path) {
    let (file, content) = filled(&folder.join("mapped"));
    let offset = 100;
    let copy = Memory::map(&file, offset, LEN - 100, Protection::CopyOnWrite).unwrap();
    let shared = Memory::map(&file, offset, LEN - 100, Protection::ReadOnly).unwrap();
    let changed_at = 5 * page_bytes() - 100; // the first byte of page number 5
    // SAFETY: the byte lies in the private mapping, which no other code uses.
    unsafe { copy.as_mut_ptr().wrapping_add(changed_at).write(77) };
    for hint in [Hint::Normal, Hint::Sequential, Hint::Random, Hint::WillNeed, Hint::HugePages] {
        copy.advise(1..LEN - 200, hint).unwrap();
        shared.advise(0..0, hint).unwrap();
    }
    if let Ok(changed) = copy.changed_pages(0..LEN - 100) {
        assert!(changed.iter().enumerate().all(|(page, &changed)| changed == (page == 5)));
    }
    // SAFETY: the mapping is shared and has not faulted, so the mapping has no private page.
    unsafe { shared.release(7..LEN - 107) }.unwrap();
    copy.page_out(0..LEN - 100).unwrap();
    let mut buffer = vec![0; LEN - 101];
    shared.copy_out(1, &mut buffer).unwrap();
    assert_eq!(buffer, content[101..]);
    copy.copy_out(1, &mut buffer).unwrap();
    assert_eq!(buffer[changed_at - 1], 77);
    buffer[changed_at - 1] = content[101 + changed_at - 1];
    assert_eq!(buffer, content[101..]);
}

fn locks_are_taken_or_reported_as_unsupported(folder: &Path, is_refused: &dyn Fn(&str) -> bool) {
    let (file, _) = filled(&folder.join("locked"));
    let other = fs::open(&folder.join("locked"), true).unwrap();
    let id = status(&file).unwrap().id;
    let is_supported = !is_refused("fcntl_set_lock");
    let expected = |outcome| if is_supported { outcome } else { LockOutcome::Unsupported };
    let lock = |file: &File, mode| lock_range(file, 10..20, mode).unwrap();
    assert_eq!(lock(&file, LockMode::Exclusive), expected(LockOutcome::Taken));
    assert_eq!(lock(&other, LockMode::Shared), expected(LockOutcome::Conflict));
    assert_eq!(lock_holder(&other, id, 10..20, LockMode::Shared), None, "no other process");
    if is_supported {
        unlock_range(&file, 10..20).unwrap();
    }
    assert_eq!(lock(&other, LockMode::Shared), expected(LockOutcome::Taken));
}
