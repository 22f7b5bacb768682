//! The signal handler: which SIGBUS signals the handler handles, and how.
//!
//! The handler is async-signal-safe. It reads and writes atomics, takes no lock, allocates nothing on the heap, and
//! leaves `errno` unchanged. Its only system calls are `mmap`, `munmap`, `madvise` and those of `previous.rs`.
#![allow(unsafe_code)]

use super::pages::{CLAIMED, INTACT, ONE_REPLACEMENT};
use super::{gate, previous, table, thread};
use crate::sys::page_bytes;
use std::io;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// Installs the handler of this crate, unless it is installed already.
///
/// If another library has replaced this crate's handler by its own, the library's handler stays. The library's handler
/// must call this crate's handler for signals that the library does not know. If this crate's handler were installed
/// again in front of the library's handler, the two handlers would call each other for ever. If no handler is installed
/// any more, this crate's handler is installed again. This happens because Rust's handler restores the default when it
/// receives a SIGBUS that is not a stack overflow.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = crate::sync::lock(&INSTALLED);
    let current = sigbus_action(None)?;
    let ours = on_sigbus as *const () as libc::sighandler_t;
    let none = [libc::SIG_DFL, libc::SIG_IGN].contains(&current.sa_sigaction);
    if current.sa_sigaction == ours || (*installed && !none) {
        return Ok(());
    }
    // The previous handler is remembered before our handler is installed, because our handler calls it.
    previous::remember(&current);
    let found = sigbus_action(Some(&our_action(ours, &current)))?;
    if found.sa_sigaction != current.sa_sigaction && found.sa_sigaction != ours {
        previous::remember(&found); // another thread or library has changed the handler meanwhile
    }
    *installed = true;
    Ok(())
}

/// Returns whether this crate's handler is the first to receive a SIGBUS of this thread, and the thread does not block
/// SIGBUS. The kernel ends the process if a thread that blocks SIGBUS faults.
pub(crate) fn is_first_in_this_thread() -> bool {
    let ours = on_sigbus as *const () as libc::sighandler_t;
    let mut blocked = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: a null set changes nothing, and the second pointer is to writable memory of the right type.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), blocked.as_mut_ptr()) };
    if result != 0 {
        return false;
    }
    // SAFETY: the call has succeeded, so it has written the set.
    let is_blocked = unsafe { libc::sigismember(blocked.as_ptr(), libc::SIGBUS) } != 0;
    !is_blocked && sigbus_action(None).is_ok_and(|action| action.sa_sigaction == ours)
}

/// Returns the current action for SIGBUS. If `new` is given, installs `new` as the action.
fn sigbus_action(new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: the structure consists of integers, for which zero is a valid value, and an optional function pointer.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: each pointer is null or to a live structure, and the second one is writable. The new handler is either
    // one that was installed before, or `on_sigbus`, whose signature is the one that SA_SIGINFO requires.
    match unsafe { libc::sigaction(libc::SIGBUS, new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the action of our own handler.
///
/// - Our handler runs on the alternate stack, as Rust's handler does: after a stack overflow the thread has no other
///   stack.
/// - Every signal is blocked while our handler runs. Otherwise a handler of another signal could run while a page is
///   claimed. If that handler faulted on the same page, it would retry its access for ever. Also, the alternate stack
///   is too small for a second handler. Signals that arrive meanwhile are delivered on the thread's own stack, after
///   our handler has returned.
/// - An interrupted system call restarts after our handler if it would have restarted after the previous handler.
fn our_action(handler: libc::sighandler_t, previous: &libc::sigaction) -> libc::sigaction {
    let ignored = previous.sa_sigaction == libc::SIG_IGN;
    let restart = if ignored { libc::SA_RESTART } else { previous.sa_flags & libc::SA_RESTART };
    // SAFETY: the structure consists of integers, for which zero is a valid value, and an optional function pointer.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live signal set.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | restart;
    action
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let handled = with_errno_kept(|| address_of_fault(info).is_some_and(handle_fault));
    if handled {
        return;
    }
    // SAFETY: these are the arguments that the kernel gave us.
    if unsafe { previous::pass_on(signal, info, context) } {
        with_errno_kept(reinstall);
    }
}

/// Installs our handler again if the previous handler has restored the default action.
///
/// Rust's handler restores the default when it receives a SIGBUS that is not a stack overflow, because it expects the
/// access to fault again and end the process. If our handler is installed again, that second fault still ends the
/// process. But a signal that another process sent is not repeated. Then the process continues, and the fault guard
/// must continue to work.
fn reinstall() {
    let Ok(current) = sigbus_action(None) else { return };
    if current.sa_sigaction == libc::SIG_DFL {
        previous::forget();
        _ = sigbus_action(Some(&our_action(on_sigbus as *const () as libc::sighandler_t, &current)));
    }
}

/// Runs code that may change `errno`, and restores `errno` afterwards, because the interrupted code may use it.
fn with_errno_kept<R>(run: impl FnOnce() -> R) -> R {
    // SAFETY: the function has no preconditions. It returns the address of this thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is to this thread's `errno`, a live integer.
    let before = unsafe { *errno };
    let result = run();
    // SAFETY: the pointer is to this thread's `errno`, a live integer.
    unsafe { *errno = before };
    result
}

/// Returns the address whose access raised the signal. Returns `None` for a signal that a process sent, and for a
/// misaligned access.
fn address_of_fault(info: *const libc::siginfo_t) -> Option<usize> {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a pointer to the signal's description, which is live until the
    // handler returns.
    let info = unsafe { &*info };
    match info.si_code {
        libc::BUS_ADRERR | libc::BUS_MCEERR_AR => {
            // SAFETY: for these codes the kernel fills in the address.
            Some(unsafe { info.si_addr() } as usize)
        }
        _ => None,
    }
}

/// Handles a fault on a watched mapping, if the thread is in a guard, or if the mapping's faults are handled in every
/// thread. Returns `true` if the access can be retried.
fn handle_fault(address: usize) -> bool {
    let Some(found) = table::find(address) else { return false };
    if !found.is_handled_in_all_threads() && !thread::is_guarded() {
        return false;
    }
    gate::run_if_open(|| replace_once(&found, address))
}

/// Replaces the page at `address`, unless another thread is replacing the page or has just replaced it. Returns `true`
/// if the access can be retried.
///
/// Several threads can fault on one page at once. If a second thread replaced the page again, the stores that the first
/// thread has made to the page of zeros would be lost. So a thread first claims the page: it sets the lowest bit of the
/// page's state. The other bits of the state count how often the page was replaced by a page of zeros. There are three
/// cases:
///
/// - The page is claimed: another thread is replacing the page now. This thread retries its access, which succeeds or
///   faults again.
/// - The page was replaced before, and this thread has not retried its access since. This fault may be older than the
///   replacement. The thread retries its access, and remembers how often the page was replaced until now.
/// - The thread has retried since the last replacement, and the page faults *again*. Either other code has mapped the
///   file over the page of zeros, or the page of zeros could not be read back from swap. The thread replaces the page
///   again. This loses no store, because a page that faults contains none. If another thread has replaced the page in
///   between, the count has changed, and the claim with the old count fails.
///
/// The mapping remembers the fault before the page is replaced, so no thread reads the zeros before the fault is known.
fn replace_once(found: &table::Found, address: usize) -> bool {
    let page = found.page_of(address);
    thread::record_fault(found.serial, found.file_page(page));
    let Some(state) = found.slot.pages.get(page, found.page_count()) else { return false };
    let page_address = address & !(page_bytes() - 1);
    let seen = state.load(Ordering::Acquire);
    if seen & CLAIMED != 0 || (seen != INTACT && !thread::retries_again(found.serial, page_address, seen)) {
        return true;
    }
    if state.compare_exchange(seen, seen | CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return true;
    }
    found.record_fault(page);
    let replaced = map_zeros(page_address, found.is_writable());
    let after = if replaced { seen.wrapping_add(ONE_REPLACEMENT) } else { seen };
    thread::retries_again(found.serial, page_address, after);
    state.store(after, Ordering::Release);
    replaced
}

/// Maps a page of zeros over the page that faulted. Returns `false` if the kernel refuses.
///
/// The usual reason is `ENOMEM`: the number of mappings of a process is limited (`vm.max_map_count`). Adjacent pages of
/// zeros count as one mapping.
fn map_zeros(page_address: usize, writable: bool) -> bool {
    let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let address = ptr::without_provenance_mut(page_address);
    // SAFETY: MAP_FIXED replaces one page. The page belongs to a mapping whose owner has called `watch`, and thereby
    // permits the replacement. The mapping is live, because the interrupted code is in the middle of an access to it.
    // The page keeps its protection, so every access that was valid stays valid.
    let mapped = unsafe { libc::mmap(address, page_bytes(), protection, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}
