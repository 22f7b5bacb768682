//! The fault guard: turns a full disk, a truncated file or a failing medium into an error. Without it, they end the
//! process.
//!
//! An access to mapped memory cannot return an error. The kernel sends SIGBUS, which ends the process, in three cases:
//! a store needs disk space on a full filesystem, another process has truncated the file, or a sector cannot be read.
//! The guard handles this signal for mapped arrays of this crate. The guard maps a page of zeros over the page that
//! faulted, so that the program continues. It records the fault with the array. The guard reports the fault as
//! [`ErrorKind::Fault`], and so does every later flush, eviction, close and chunk step of the array. None of them
//! returns `Ok` again: stores to that page are lost, and loads from that page have returned zeros that are not in the
//! file. Drop the array, and open the file again.
//!
//! There are two ways to turn the guard on:
//!
//! - [`guard`] runs a function, and handles the faults of *the calling thread* on every array of this crate.
//! - [`ArrayOptions::guarded`](crate::ArrayOptions::guarded) handles the faults of *every thread* on one array. Choose
//!   this option if several threads share an array. For example, rayon runs work of a guarded function in the threads
//!   of its pool.
//!
//! Any other fault ends the process, as it does without this crate. So a program reads zeros in place of lost data only
//! if it has turned the guard on.
//!
//! # The handler
//!
//! Both ways [`install`] a handler for SIGBUS, once per process. So does a stream that reduces resident rows. The handler passes three kinds of SIGBUS on to the
//! previous handler, or to the default: a fault outside this crate's arrays, a signal that a process sent, and a fault
//! in a thread without a guard. Rust still reports stack overflows. The handler costs nothing until a fault occurs. It
//! needs:
//!
//! - Linux; on other systems the error is [`ErrorKind::Unsupported`];
//! - threads that do not block SIGBUS: the kernel ends the process if a thread that blocks the signal faults;
//! - free entries in the kernel's table of mappings: each run of adjacent pages that fault takes two entries of
//!   `vm.max_map_count` (65,530 by default). If the table is full, the previous handler receives the fault.
//!
//! # Faults that no guard sees
//!
//! The last page of a file never faults. Between the end of the file and the end of that page, loads see zeros, and
//! stores are lost.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::fault::{self as system_guard, FaultReport, Scope};
use std::hint::black_box;

/// Installs the handler of the fault guard for the whole process. Does nothing if the handler is already installed.
///
/// [`guard`] and [`ArrayOptions::guarded`](crate::ArrayOptions::guarded) install it, too. Call this function early if
/// the order of handlers matters: a crash reporter that is installed afterwards sees each fault before the guard does.
///
/// If another library has installed its own handler later, that handler stays. That handler must call the handler of
/// this crate for faults that it does not know. If the handler of this crate was removed, it is installed again.
///
/// ```
/// match ndarray_mmap::fault::install() {
///     Ok(()) => println!("faults on mapped arrays can be turned into errors"),
///     Err(error) => println!("{error}"),
/// }
/// ```
///
/// # Errors
/// [`ErrorKind::Unsupported`] on every system but Linux.
pub fn install() -> Result<()> {
    system_guard::install().map_err(|error| {
        Error::io("install", "a system on which SIGBUS can be handled", error)
            .with_remedy("without it, a fault on a mapped file ends the process")
    })
}

/// Runs `f`. While `f` runs, handles the faults of this thread on mapped arrays of this crate.
///
/// `Ok` means that every load and store of `f` through an array reached the file. Therefore a fault outside `f` is an
/// error too: an array that faulted earlier or in another thread contains pages of zeros, and `f` could have read these
/// zeros without a fault. The error names the file and the offset of this thread's first fault in `f`. If this thread
/// had no fault in `f`, the error names another fault. Drop an array that has faulted soon.
///
/// Guards can be nested. A panic in `f` continues in the caller.
///
/// # Errors
/// - [`ErrorKind::Fault`] with the file and the offset of the page that faulted. The result of `f` is dropped.
/// - [`ErrorKind::Unsupported`] on every system but Linux. `f` was not run.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// let sum = ndarray_mmap::fault::guard(|| 1 + 1)?;
/// assert_eq!(sum, 2);
/// # }
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub fn guard<R>(f: impl FnOnce() -> R) -> Result<R> {
    install().map_err(|error| error.during("guard"))?;
    let scope = Scope::enter();
    // The optimiser may move loads through references into or out of the guard. `black_box` around the closure and its
    // result keeps every access inside the guard.
    let value = black_box(black_box(f)());
    match scope.report() {
        None => Ok(value),
        Some(report) => Err(of_report("guard", report)),
    }
}

/// Runs `f`. While `f` runs, handles the faults of this thread, if the system has a fault guard. Afterwards the caller
/// checks whether the mappings that `f` used have faulted.
pub(crate) fn handling_faults<R>(f: impl FnOnce() -> R) -> R {
    // Without a guard a fault ends the process, as it does without this crate.
    let _scope = install().is_ok().then(Scope::enter);
    black_box(black_box(f)())
}

/// Runs `f`, handling the faults of this thread. Returns `None`, and does not run `f`, if a fault would end the process.
/// Afterwards the caller checks whether the mappings that `f` used have faulted.
pub(crate) fn if_faults_are_handled<R>(f: impl FnOnce() -> R) -> Option<R> {
    let is_handled = install().is_ok() && system_guard::is_first_in_this_thread();
    is_handled.then(|| handling_faults(f))
}

/// Returns the error for a fault at this offset of a file.
pub(crate) fn error(operation: &'static str, offset: u64) -> Error {
    let found = format!("a fault in the page at byte {offset}");
    Error::new(ErrorKind::Fault { offset }, operation, "every access to reach the file", found).with_remedy(
        "what was stored there is lost: see whether the disk is full or the file was cut short, open the file again",
    )
}

fn of_report(operation: &'static str, report: FaultReport) -> Error {
    let error = error(operation, report.offset);
    match report.path {
        Some(path) => error.at(&path),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    #[cfg(any(not(target_os = "linux"), ndarray_mmap_portable))]
    fn without_a_fault_guard_the_function_is_not_run() {
        let mut ran = false;
        let error = guard(|| ran = true).unwrap_err();
        assert_eq!((error.kind(), ran), (ErrorKind::Unsupported, false));
        assert_eq!(install().unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn the_error_names_the_file_the_offset_and_the_way_out() {
        let path = Path::new("/data/traj.npy");
        let error = of_report("flush", FaultReport { path: Some(path.into()), offset: 8192 });
        assert_eq!((error.kind(), error.path()), (ErrorKind::Fault { offset: 8192 }, Some(path)));
        let text = error.to_string();
        assert!(
            text.starts_with(
                "flush \"/data/traj.npy\": expected every access to reach the file, found a fault in the page at byte 8192; "
            ),
            "{text}"
        );
        assert!(text.ends_with("open the file again"), "{text}");
        let nameless = of_report("guard", FaultReport { path: None, offset: 0 });
        assert_eq!((nameless.kind(), nameless.path()), (ErrorKind::Fault { offset: 0 }, None));
    }
}
