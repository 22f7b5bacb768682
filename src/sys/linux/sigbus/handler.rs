//! The signal handler: which SIGBUS it answers, and how.
//!
//! It is async-signal-safe: it reads and writes atomics, takes no lock, allocates nothing from the heap, makes no call
//! but `mmap` (and those of `previous.rs`), and leaves `errno` as it was.
#![allow(unsafe_code)]

use super::pages::{CLAIMED, INTACT, ONE_ANSWER};
use super::{gate, previous, table, thread};
use crate::sys::page_bytes;
use std::io;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// Installs the handler, if it is not there yet. Call it as often as you like.
///
/// A handler that was put in front of ours is taken to pass on what it does not know, and is left there: one more of
/// ours in front of it would send a signal around in circles. If there is none at all any more (Rust's own restores the
/// default when it meets a SIGBUS that is no stack overflow), ours is installed anew.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = crate::sync::lock(&INSTALLED);
    let current = sigbus_action(None)?;
    let ours = on_sigbus as *const () as libc::sighandler_t;
    let none = [libc::SIG_DFL, libc::SIG_IGN].contains(&current.sa_sigaction);
    if current.sa_sigaction == ours || (*installed && !none) {
        return Ok(());
    }
    // Before ours can run: it asks for the one that was there.
    previous::remember(&current);
    let found = sigbus_action(Some(&our_action(ours, &current)))?;
    if found.sa_sigaction != current.sa_sigaction && found.sa_sigaction != ours {
        previous::remember(&found); // somebody else has been faster than us
    }
    *installed = true;
    Ok(())
}

/// What the kernel does on SIGBUS; sets it, if something is given.
fn sigbus_action(new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: the structure is integers, for which zero is a value, and an optional function pointer.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both pointers are null or to live structures, the second one writable; a handler that is set is either
    // one that was set before or `on_sigbus`, which has the signature that SA_SIGINFO asks for.
    match unsafe { libc::sigaction(libc::SIGBUS, new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Our own action.
///
/// - On the alternate stack, as Rust's handler is: the thread may have no other left.
/// - Every signal is blocked in it. Another handler that came in between a claim and its end, and met a fault at the
///   same page, would wait for itself; and an alternate stack has no room for a second handler on top of ours. What was
///   sent meanwhile is delivered on the thread's own stack, when ours returns.
/// - System calls restart after it, if they would have after the previous one.
fn our_action(handler: libc::sighandler_t, previous: &libc::sigaction) -> libc::sigaction {
    let ignored = previous.sa_sigaction == libc::SIG_IGN;
    let restart = if ignored { libc::SA_RESTART } else { previous.sa_flags & libc::SA_RESTART };
    // SAFETY: the structure is integers, for which zero is a value, and an optional function pointer.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live set.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | restart;
    action
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let answered = with_errno_kept(|| address_of_fault(info).is_some_and(answer));
    if answered {
        return;
    }
    // SAFETY: these are the arguments that the kernel gave us.
    if unsafe { previous::pass_on(signal, info, context) } {
        with_errno_kept(come_back);
    }
}

/// Puts our handler back if the previous one has set the default. Rust's own does when it meets a SIGBUS that is no stack
/// overflow, and expects the access to fault again and end the process. So it will, by us; but of a signal that somebody
/// sent there is no access, the process lives on, and so must the guard.
fn come_back() {
    let Ok(current) = sigbus_action(None) else { return };
    if current.sa_sigaction == libc::SIG_DFL {
        previous::forget();
        _ = sigbus_action(Some(&our_action(on_sigbus as *const () as libc::sighandler_t, &current)));
    }
}

/// Runs code that may change `errno`, which belongs to the code that was interrupted.
fn with_errno_kept<R>(run: impl FnOnce() -> R) -> R {
    // SAFETY: the function has no preconditions; it answers with the address of this thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: `errno` is a live integer of this thread.
    let before = unsafe { *errno };
    let result = run();
    // SAFETY: as above.
    unsafe { *errno = before };
    result
}

/// The address whose access raised the signal. `None` for signals that somebody sent, and for misaligned accesses.
fn address_of_fault(info: *const libc::siginfo_t) -> Option<usize> {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a pointer to the signal's description, live until it returns.
    let info = unsafe { &*info };
    match info.si_code {
        libc::BUS_ADRERR | libc::BUS_MCEERR_AR => {
            // SAFETY: with these codes the kernel has filled in the address.
            Some(unsafe { info.si_addr() } as usize)
        }
        _ => None,
    }
}

/// Answers a fault, if it is at a mapping of ours and somebody asked for it: the access can be tried again.
fn answer(address: usize) -> bool {
    let Some(found) = table::find(address) else { return false };
    if !found.answers_always() && !thread::is_guarded() {
        return false;
    }
    gate::pass(|| replace_once(&found, address))
}

/// Replaces the page at `address`, unless another thread does or has just done.
///
/// Several threads can fault on one page at once, and the page of the first must not be replaced by the second: what the
/// first has stored in it since would be gone under its `&mut`. So a page is replaced by the thread that moves its state
/// from "not being replaced" to "being replaced", and at most once for each value of the count in that state:
///
/// - The thread finds the page claimed: another one is in the system call now. It goes back to its access, which works,
///   or faults again and asks again.
/// - The thread finds the page replaced already, and has not gone back to its access since: its fault may be older than
///   the replacement. It goes back, and remembers which count it saw.
/// - The thread has gone back with this very count, and the page faults *again*: the replacement itself was replaced
///   (a mapping that is closed under a borrow is mapped anew) or failed (swap). It is replaced as an intact page is. No
///   store is lost, for a page that faults now holds none; and if another thread has replaced it in between, the count
///   has changed, and the claim with the old count fails.
///
/// The fault is remembered before the page is replaced: no thread reads the zeros before the mapping knows.
fn replace_once(found: &table::Found, address: usize) -> bool {
    let page = found.page_of(address);
    thread::meet(found.serial, found.file_page(page));
    let Some(state) = found.slot.pages.get(page, found.page_count()) else { return false };
    let page_address = address & !(page_bytes() - 1);
    let seen = state.load(Ordering::Acquire);
    if seen & CLAIMED != 0 || (seen != INTACT && !thread::retries_again(found.serial, page_address, seen)) {
        return true;
    }
    if state.compare_exchange(seen, seen | CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return true;
    }
    found.remember(page);
    let replaced = map_zeros(page_address, found.is_writable());
    let after = if replaced { seen.wrapping_add(ONE_ANSWER) } else { seen };
    thread::retries_again(found.serial, page_address, after);
    state.store(after, Ordering::Release);
    replaced
}

/// Puts a page of zeros where the access faulted. False if the kernel has no room: `ENOMEM`, mostly because a process
/// may have only so many mappings (`vm.max_map_count`; neighbouring pages of zeros count as one).
fn map_zeros(page_address: usize, writable: bool) -> bool {
    let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let address = ptr::without_provenance_mut(page_address);
    // SAFETY: MAP_FIXED replaces one page, which belongs to a mapping that its owner has put under watch for this very
    // purpose (promised to `watch`), and which lives, for the interrupted code is in the middle of an access to it. The
    // page keeps its protection, so that what was valid to read or write stays so.
    let mapped = unsafe { libc::mmap(address, page_bytes(), protection, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}
