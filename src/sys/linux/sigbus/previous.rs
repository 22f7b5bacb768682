//! The SIGBUS handler that was installed before the handler of this crate. Our handler passes every signal that it does
//! not handle to this previous handler, and calls it in the same way as the kernel would have called it.
#![allow(unsafe_code)]

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The action that was installed before the handler of this crate. Null stands for the default action. The memory of an
/// action is never freed, because a handler may be reading it.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// Stores the action for [`pass_on`].
pub(super) fn remember(action: &libc::sigaction) {
    PREVIOUS.store(Box::into_raw(Box::new(*action)), Ordering::Release);
}

/// Makes [`pass_on`] perform the default action from now on. Async-signal-safe.
pub(super) fn forget() {
    PREVIOUS.store(ptr::null_mut(), Ordering::Release);
}

/// Handles the signal as if our handler were not installed. Returns `true` if a handler was called and has returned.
///
/// There is one difference: a handler that was installed without SA_ONSTACK runs on the alternate stack nevertheless,
/// because our handler runs there.
///
/// # Safety
/// The arguments are those that the kernel gave to our handler. Every signal is blocked, and our handler returns soon
/// after this function has returned.
pub(super) unsafe fn pass_on(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) -> bool {
    let remembered = PREVIOUS.load(Ordering::Acquire);
    let die = || {
        end_process_by(signal, info);
        false
    };
    // SAFETY: the pointer is null, or to an action that `remember` leaked.
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
            // SAFETY: the handler was installed with these flags, so the handler has the signature that the flags
            // require. The arguments are the kernel's own (the caller's promise).
            unsafe { call(handler, action.sa_flags, signal, info, context) }
            true
        }
    }
}

/// Returns whether an access of this thread raised the signal. The kernel ends the process by such a signal even if the
/// action is to ignore the signal.
fn is_forced(code: libc::c_int) -> bool {
    code > 0 && code != libc::BUS_MCEERR_AO
}

/// Restores the default action after a one-time handler (SA_RESETHAND), and returns whether this thread was the first
/// to do so.
fn is_first_to_reset(remembered: *mut libc::sigaction) -> bool {
    PREVIOUS.compare_exchange(remembered, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Returns the signals that the kernel would have blocked in the previous handler: the signals that the interrupted
/// code had blocked, the signals in the action's mask, and the signal itself.
fn mask_in(signal: libc::c_int, action: &libc::sigaction, mut mask: libc::sigset_t) -> libc::sigset_t {
    const LAST_SIGNAL: libc::c_int = 64;
    let is_named = |other: libc::c_int| {
        // SAFETY: the pointer is to a live signal set.
        unsafe { libc::sigismember(&raw const action.sa_mask, other) == 1 }
    };
    let is_deferred = |other| other == signal && action.sa_flags & libc::SA_NODEFER == 0;
    for other in (1..=LAST_SIGNAL).filter(|&other| is_named(other) || is_deferred(other)) {
        // SAFETY: the pointer is to a live signal set.
        unsafe { libc::sigaddset(&raw mut mask, other) };
    }
    mask
}

/// Returns the signals that the interrupted code had blocked, on architectures whose signal context is defined in libc.
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
    // SAFETY: the kernel gives a handler with SA_SIGINFO a pointer to the context of the interrupted code, which is
    // live until the handler returns. The kernel fills in the part of the set for the signals that the kernel knows,
    // and only that part is used.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_sigmask }
}

/// Returns an empty set on other architectures: the previous handler is then called with its own mask only.
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
    // SAFETY: the type consists of integers, for which zero is a valid value (an empty set).
    unsafe { mem::zeroed() }
}

/// Blocks exactly these signals in this thread. The return from our handler restores the mask of the interrupted code.
fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: the pointer is to a live signal set, and the third argument may be null.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// Calls a signal handler with the signature that its flags require.
///
/// # Safety
/// - `handler` is neither `SIG_DFL` nor `SIG_IGN`, and was installed with `flags`.
/// - The other arguments are those that the kernel gave to our handler.
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
        // SAFETY: a handler that was installed without SA_SIGINFO is a function of this type.
        let handler = unsafe { mem::transmute::<*const (), Short>(handler) };
        // SAFETY: the argument is the kernel's own.
        unsafe { handler(signal) }
    } else {
        // SAFETY: a handler that was installed with SA_SIGINFO is a function of this type.
        let handler = unsafe { mem::transmute::<*const (), Long>(handler) };
        // SAFETY: the arguments are the kernel's own.
        unsafe { handler(signal, info, context) }
    }
}

/// Performs the default action: ends the process with this signal, and passes on the original `siginfo_t`.
///
/// The function restores the default action, and sends the signal to this thread again. The signal stays blocked until
/// our handler returns, and then ends the process. Only returning from our handler would not be enough: the access
/// might succeed the second time. If a process has sent the signal, no access raises the signal again.
fn end_process_by(signal: libc::c_int, info: *mut libc::siginfo_t) {
    // SAFETY: the structure consists of integers, for which zero is a valid value (the default action), and an optional
    // pointer.
    let default: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live structure, and the third argument may be null.
    unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) };
    // SAFETY: the call has no preconditions.
    let process = unsafe { libc::getpid() };
    // SAFETY: the call has no preconditions. (Some C libraries have no function for this call.)
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    // SAFETY: the pointer is to the kernel's description of the signal, which is live until our handler returns. A
    // thread may send any description to itself.
    unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info) };
}
