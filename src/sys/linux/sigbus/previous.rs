//! The SIGBUS handler that was there before ours, called for what is not ours, as the kernel would have called it.
#![allow(unsafe_code)]

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The action that was set before ours; null stands for the default. What it points to is never freed: a handler may be
/// reading it.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// Keeps the action for [`pass_on`].
pub(super) fn remember(action: &libc::sigaction) {
    PREVIOUS.store(Box::into_raw(Box::new(*action)), Ordering::Release);
}

/// From here on, [`pass_on`] does what the kernel does by default. Async-signal-safe.
pub(super) fn forget() {
    PREVIOUS.store(ptr::null_mut(), Ordering::Release);
}

/// Does with the signal what would have been done without us; true if a handler was called, and has returned.
///
/// The one difference: a handler that did not ask for the alternate stack runs on it all the same, as ours does.
///
/// # Safety
/// The arguments are those that the kernel gave our handler, which returns when this does, and in which every signal is
/// blocked.
pub(super) unsafe fn pass_on(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) -> bool {
    let remembered = PREVIOUS.load(Ordering::Acquire);
    let die = || {
        die_of(signal, info);
        false
    };
    // SAFETY: the pointer is null or to an action that was leaked by `remember`.
    let Some(action) = (unsafe { remembered.as_ref() }) else { return die() };
    // SAFETY: the kernel's description of the signal is live until our handler returns.
    let code = unsafe { (*info).si_code };
    match action.sa_sigaction {
        libc::SIG_DFL => die(),
        libc::SIG_IGN if is_forced(code) => die(),
        libc::SIG_IGN => false,
        handler => {
            if action.sa_flags & libc::SA_RESETHAND != 0 && !is_first_to_reset(remembered) {
                return die();
            }
            set_mask(&mask_in(signal, action, interrupted_mask(context)));
            // SAFETY: the handler was set with these flags, so it has the signature that they stand for; the arguments
            // are the kernel's own (promised by the caller).
            unsafe { call(handler, action.sa_flags, signal, info, context) }
            true
        }
    }
}

/// Whether the signal was raised by an access of this thread: the kernel then kills rather than ignore it.
fn is_forced(code: libc::c_int) -> bool {
    code > 0 && code != libc::BUS_MCEERR_AO
}

/// Whether this thread is the one that sets a one-time handler back to the default.
fn is_first_to_reset(remembered: *mut libc::sigaction) -> bool {
    PREVIOUS.compare_exchange(remembered, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// What the kernel would have blocked in the previous handler: the signals that the interrupted code had blocked, those
/// that the action names, and the signal itself.
fn mask_in(signal: libc::c_int, action: &libc::sigaction, mut mask: libc::sigset_t) -> libc::sigset_t {
    const LAST_SIGNAL: libc::c_int = 64;
    let is_named = |other: libc::c_int| {
        // SAFETY: the pointer is to a live set.
        unsafe { libc::sigismember(&raw const action.sa_mask, other) == 1 }
    };
    let is_deferred = |other| other == signal && action.sa_flags & libc::SA_NODEFER == 0;
    for other in (1..=LAST_SIGNAL).filter(|&other| is_named(other) || is_deferred(other)) {
        // SAFETY: the pointer is to a live set.
        unsafe { libc::sigaddset(&raw mut mask, other) };
    }
    mask
}

/// What the interrupted code had blocked, on the architectures whose signal context libc describes.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64",
    target_arch = "s390x",
    target_arch = "x86",
    target_arch = "arm",
))]
fn interrupted_mask(context: *const libc::c_void) -> libc::sigset_t {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a pointer to the context of what it interrupted, live until it
    // returns. It fills in the part of the set that it knows, and no other part is used.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_sigmask }
}

/// Elsewhere, nothing: the previous handler is then called with no more than its own mask.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64",
    target_arch = "s390x",
    target_arch = "x86",
    target_arch = "arm",
)))]
fn interrupted_mask(_context: *const libc::c_void) -> libc::sigset_t {
    // SAFETY: the type is integers, for which zero is a value (an empty set).
    unsafe { mem::zeroed() }
}

/// Blocks these signals in this thread and no others, until the return from our handler restores the mask of the
/// interrupted code.
fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: the pointer is to a live set; the third argument may be null.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// # Safety
/// - `handler` is neither `SIG_DFL` nor `SIG_IGN`, and was set with `flags`.
/// - The other arguments are those that the kernel gave our handler.
unsafe fn call(
    handler: libc::sighandler_t,
    flags: libc::c_int,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    type Short = unsafe extern "C" fn(libc::c_int);
    type Long = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    let handler = handler as *const ();
    if flags & libc::SA_SIGINFO == 0 {
        // SAFETY: without SA_SIGINFO, what was set as a handler is a function of this type.
        let handler = unsafe { mem::transmute::<*const (), Short>(handler) };
        // SAFETY: the argument is the kernel's.
        unsafe { handler(signal) }
    } else {
        // SAFETY: with SA_SIGINFO, what was set as a handler is a function of this type.
        let handler = unsafe { mem::transmute::<*const (), Long>(handler) };
        // SAFETY: the arguments are the kernel's.
        unsafe { handler(signal, info, context) }
    }
}

/// The default: the process ends with this signal, at the place and with the description that it came with.
///
/// The signal is sent again, and stays blocked until our handler returns. To leave it to the access, which would fault
/// again, is not enough: it might not, and a signal that somebody sent has no access.
fn die_of(signal: libc::c_int, info: *mut libc::siginfo_t) {
    // SAFETY: the structure is integers, for which zero is a value (the default action), and an optional pointer.
    let default: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live structure; the third argument may be null.
    unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) };
    // SAFETY: the call has no preconditions.
    let process = unsafe { libc::getpid() };
    // SAFETY: the call has no preconditions. (The C library's own function for it is not there everywhere.)
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    // SAFETY: the pointer is to the kernel's description of the signal, live until our handler returns. A thread may
    // send itself any description.
    unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info) };
}
