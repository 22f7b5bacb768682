//! Tests that a signal that the fault guard does not handle has the same effect as without the guard.

use super::super::install;
use super::{Watched, assert_died_of, assert_success, folder, in_child, page, truncate};
use crate::ErrorKind;
use crate::fault::guard;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::hint::black_box;
use std::mem;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

static CALLS: AtomicUsize = AtomicUsize::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static SIGBUS_BLOCKED: AtomicBool = AtomicBool::new(false);
static SIGUSR1_BLOCKED: AtomicBool = AtomicBool::new(false);
static SIGUSR2_BLOCKED: AtomicBool = AtomicBool::new(false);
static NEXT_HANDLER: AtomicUsize = AtomicUsize::new(0);

type LongHandler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// A user's handler that maps a page over the fault, as ours does, and records how it was called.
extern "C" fn mapping_handler(_signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    note_mask();
    assert!(!context.is_null());
    // SAFETY: the kernel's description of the signal is live.
    let info = unsafe { &*info };
    CODE.store(info.si_code, Ordering::Relaxed);
    if info.si_code == libc::BUS_ADRERR {
        // SAFETY: for this code the kernel fills in the address.
        let address = unsafe { info.si_addr() };
        ADDRESS.store(address as usize, Ordering::Relaxed);
        let (protection, flags) =
            (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
        let start = address.wrapping_byte_sub(address as usize % page(1));
        // SAFETY: the page belongs to the foreign mapping of the test.
        unsafe { libc::mmap(start, page(1), protection, flags, -1, 0) };
    }
}

extern "C" fn short_handler(signal: libc::c_int) {
    assert_eq!(signal, libc::SIGBUS);
    CALLS.fetch_add(1, Ordering::Relaxed);
    note_mask();
}

/// A handler that is installed after ours and calls ours.
extern "C" fn calling_handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let next = NEXT_HANDLER.load(Ordering::Relaxed) as *const ();
    // SAFETY: the value is the address of our own handler, which has this type.
    let next = unsafe { mem::transmute::<*const (), LongHandler>(next) };
    next(signal, info, context);
}

/// Removes the limit on the address space, so that the next attempt to replace the page succeeds.
extern "C" fn limit_removing_handler(_signal: libc::c_int) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    limit_address_space(libc::RLIM_INFINITY);
}

fn limit_address_space(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to a live structure.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

fn note_mask() {
    // SAFETY: the type consists of integers, for which zero is a valid value.
    let mut mask: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the second argument may be null, and the third points to a live signal set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut mask) };
    for (signal, blocked) in [
        (libc::SIGBUS, &SIGBUS_BLOCKED),
        (libc::SIGUSR1, &SIGUSR1_BLOCKED),
        (libc::SIGUSR2, &SIGUSR2_BLOCKED),
    ] {
        // SAFETY: the pointer is to a live signal set.
        blocked.store(unsafe { libc::sigismember(&raw const mask, signal) } == 1, Ordering::Relaxed);
    }
}

fn blocked() -> [bool; 3] {
    [&SIGBUS_BLOCKED, &SIGUSR1_BLOCKED, &SIGUSR2_BLOCKED].map(|blocked| blocked.load(Ordering::Relaxed))
}

fn calls() -> usize {
    CALLS.load(Ordering::Relaxed)
}

/// Sets an action for SIGBUS whose mask contains SIGUSR1, and returns the previous action.
fn set(handler: usize, flags: libc::c_int) -> libc::sigaction {
    // SAFETY: the structure consists of integers, for which zero is a valid value, and an optional function pointer.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    let mut before = action;
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    // SAFETY: the pointer is to a live signal set.
    unsafe { libc::sigaddset(&raw mut action.sa_mask, libc::SIGUSR1) };
    // SAFETY: both pointers are to live structures, and the handler has the signature that the flags require.
    assert_eq!(unsafe { libc::sigaction(libc::SIGBUS, &raw const action, &raw mut before) }, 0);
    before
}

fn current_handler() -> usize {
    // SAFETY: the structure consists of integers, for which zero is a valid value, and an optional function pointer.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the second argument may be null, and the third points to a live structure.
    assert_eq!(unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut action) }, 0);
    action.sa_sigaction
}

fn raise() {
    // SAFETY: the call has no preconditions.
    assert_eq!(unsafe { libc::raise(libc::SIGBUS) }, 0);
}

/// Returns a mapping that is not watched, of a file that was truncated to zero bytes.
fn foreign(folder: &Path) -> MmapRaw {
    let path = folder.join("foreign");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_len(page(4) as u64).unwrap();
    let memory = MmapOptions::new().map_raw(&file).unwrap();
    truncate(&path, 0);
    memory
}

fn load(memory: &MmapRaw, index: usize) -> u8 {
    assert!(index < memory.len());
    let address = memory.as_ptr().wrapping_add(index);
    // SAFETY: the address is inside the mapping.
    unsafe { address.read_volatile() }
}

#[test]
fn a_stack_overflow_is_still_reported() {
    fn deeper(depth: u64) -> u64 {
        let here = black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { deeper(depth + 1) + here[(depth % 64) as usize] }
    }
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), 2).truncated();
        _ = guard(|| {
            array.load(0);
            eprintln!("handled: {}", array.watch.count());
            deeper(black_box(0))
        });
    };
    let output = in_child("sys::linux::sigbus::tests::handlers::a_stack_overflow_is_still_reported", child);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_died_of(&output, libc::SIGABRT);
    assert!(said.contains("handled: 1") && said.contains("has overflowed its stack"), "{said}");
}

#[test]
fn a_fault_on_an_unwatched_mapping_ends_the_process() {
    let child = || {
        let folder = folder();
        let (array, foreign) = (Watched::sparse(folder.path(), 2).truncated(), foreign(folder.path()));
        _ = guard(|| {
            array.load(0);
            eprintln!("handled: {}", array.watch.count());
            load(&foreign, 0)
        });
        eprintln!("never");
    };
    let output = in_child(
        "sys::linux::sigbus::tests::handlers::a_fault_on_an_unwatched_mapping_ends_the_process",
        child,
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_died_of(&output, libc::SIGBUS);
    assert!(said.contains("handled: 1") && !said.contains("never"), "{said}");
}

#[test]
fn the_default_action_ends_the_process_for_a_fault() {
    let child = || {
        set(libc::SIG_DFL, 0);
        install().unwrap();
        load(&foreign(folder().path()), 0);
        eprintln!("never");
    };
    let output = in_child(
        "sys::linux::sigbus::tests::handlers::the_default_action_ends_the_process_for_a_fault",
        child,
    );
    assert_died_of(&output, libc::SIGBUS);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("never"));
}

#[test]
fn the_default_action_ends_the_process_for_a_sent_signal() {
    let child = || {
        set(libc::SIG_DFL, 0);
        install().unwrap();
        _ = guard(raise);
        eprintln!("never");
    };
    let output = in_child(
        "sys::linux::sigbus::tests::handlers::the_default_action_ends_the_process_for_a_sent_signal",
        child,
    );
    assert_died_of(&output, libc::SIGBUS);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("never"));
}

#[test]
fn a_sent_signal_is_ignored_but_a_fault_is_not() {
    let child = || {
        set(libc::SIG_IGN, 0);
        let folder = folder();
        let array = Watched::sparse(folder.path(), 2).truncated();
        assert!(guard(raise).is_ok());
        assert!(guard(|| array.load(0)).is_err());
        raise();
        eprintln!("ignored");
        load(&foreign(folder.path()), 0);
        eprintln!("never");
    };
    let output =
        in_child("sys::linux::sigbus::tests::handlers::a_sent_signal_is_ignored_but_a_fault_is_not", child);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_died_of(&output, libc::SIGBUS);
    assert!(said.contains("ignored") && !said.contains("never"), "{said}");
}

#[test]
fn a_previous_handler_is_called_as_by_the_kernel() {
    let child = || {
        set(mapping_handler as *const () as usize, libc::SA_SIGINFO);
        let folder = folder();
        let (array, foreign) = (Watched::sparse(folder.path(), 2).truncated(), foreign(folder.path()));
        let guarded = guard(|| (array.load(0), load(&foreign, page(2) + 5)));
        assert!(guarded.is_err());
        assert_eq!((array.watch.count(), calls()), (1, 1));
        assert_eq!(CODE.load(Ordering::Relaxed), libc::BUS_ADRERR);
        assert_eq!(ADDRESS.load(Ordering::Relaxed), foreign.as_ptr() as usize + page(2) + 5);
        assert_eq!(blocked(), [true, true, false], "its own signal and its mask, and nothing else");
        // The array is watched, but this thread is not in a guard.
        array.load(page(1));
        assert_eq!((array.watch.count(), calls()), (1, 2));
        // A system call sends the signal, while the thread is in a guard.
        drop(array);
        assert!(guard(raise).is_ok());
        assert_eq!((calls(), CODE.load(Ordering::Relaxed)), (3, libc::SI_TKILL));
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::handlers::a_previous_handler_is_called_as_by_the_kernel",
        child,
    ));
}

#[test]
fn a_previous_handler_without_information_is_called() {
    let child = || {
        set(short_handler as *const () as usize, libc::SA_NODEFER);
        install().unwrap();
        // SAFETY: the type consists of integers, for which zero is a valid value.
        let mut mask: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: the pointer is to a live signal set.
        unsafe { libc::sigaddset(&raw mut mask, libc::SIGUSR2) };
        // SAFETY: the second argument points to a live signal set, and the third may be null.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, ptr::null_mut()) };
        (0..3).for_each(|_| raise());
        assert_eq!(calls(), 3);
        assert_eq!(
            blocked(),
            [false, true, true],
            "its mask and what the thread had blocked, not its own signal"
        );
        note_mask();
        assert_eq!(blocked(), [false, false, true], "afterwards, what the thread had blocked");
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::handlers::a_previous_handler_without_information_is_called",
        child,
    ));
}

#[test]
fn a_one_time_handler_is_called_once() {
    let child = || {
        set(short_handler as *const () as usize, libc::SA_RESETHAND);
        let folder = folder();
        let array = Watched::sparse(folder.path(), 1).truncated();
        install().unwrap();
        raise();
        assert_eq!(calls(), 1);
        assert!(guard(|| array.load(0)).is_err(), "ours is still there");
        eprintln!("once");
        raise();
        eprintln!("never");
    };
    let output = in_child("sys::linux::sigbus::tests::handlers::a_one_time_handler_is_called_once", child);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_died_of(&output, libc::SIGBUS);
    assert!(said.contains("once") && !said.contains("never"), "{said}");
}

#[test]
fn without_memory_the_previous_handler_gets_the_fault_and_errno_is_unchanged() {
    let child = || {
        set(limit_removing_handler as *const () as usize, 0);
        let folder = folder();
        let array = Watched::sparse(folder.path(), 1).truncated();
        let faulted = guard(|| {
            // SAFETY: the call has no preconditions.
            let errno = unsafe { libc::__errno_location() };
            // SAFETY: the pointer is to this thread's `errno`.
            unsafe { *errno = 4321 };
            limit_address_space(1);
            array.load(0);
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(4321));
        });
        assert_eq!(faulted.unwrap_err().kind(), ErrorKind::Fault { offset: 0 });
        assert_eq!((calls(), array.watch.count()), (1, 1));
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::handlers::without_memory_the_previous_handler_gets_the_fault_and_errno_is_unchanged",
        child,
    ));
}

#[test]
fn installing_is_idempotent() {
    let child = || {
        set(short_handler as *const () as usize, 0);
        (0..3).for_each(|_| install().unwrap());
        let ours = current_handler();
        raise();
        assert_eq!(calls(), 1, "the previous handler is called once, however often ours was installed");

        // A handler that is installed later and calls ours stays installed, and the two handlers do not call each other
        // in a loop.
        NEXT_HANDLER.store(
            set(calling_handler as *const () as usize, libc::SA_SIGINFO).sa_sigaction,
            Ordering::Relaxed,
        );
        install().unwrap();
        assert_eq!(current_handler(), calling_handler as *const () as usize);
        raise();
        assert_eq!(calls(), 3);

        // If our handler was removed, the next guard installs it again, in front of the current one.
        set(libc::SIG_IGN, 0);
        let folder = folder();
        let array = Watched::sparse(folder.path(), 1).truncated();
        assert!(guard(|| array.load(0)).is_err());
        assert_eq!(current_handler(), ours);
        raise();
        assert_eq!(calls(), 3);
    };
    assert_success(&in_child("sys::linux::sigbus::tests::handlers::installing_is_idempotent", child));
}

/// Rust's handler removes itself when it receives a SIGBUS that is not a stack overflow.
#[test]
fn the_guard_still_works_after_a_sent_signal() {
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), 2).truncated();
        install().unwrap();
        let ours = current_handler();
        // A guard that is running keeps working after the signal. The next such signal performs the default action, as
        // it would without this crate.
        let guarded = guard(|| {
            raise();
            eprintln!("survived");
            array.load(0)
        });
        assert!(guarded.is_err());
        assert_eq!(current_handler(), ours);
    };
    let output =
        in_child("sys::linux::sigbus::tests::handlers::the_guard_still_works_after_a_sent_signal", child);
    assert_success(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("survived"));
}
