//! The fault guard: a full disk, a file cut short or a failing medium becomes an error, not the end of the process.
//!
//! A store through a mapping into a hole of a full filesystem, an access past the end of a file that another process
//! has truncated, and a sector that cannot be read have no way to return an error: the kernel sends SIGBUS, and the
//! process dies. The guard answers that signal on mapped arrays of this crate. A page of zeros takes the place of the
//! page that faulted, the program goes on, and the fault is remembered with the array for as long as the array lives.
//! It is reported as [`ErrorKind::Fault`] by the guard, and by every later flush, eviction, close and chunk step of the
//! array. None of them says `Ok` again: what was stored in that page is lost, and what was read from it is made up.
//! Drop the array, and open the file again.
//!
//! There are two ways to turn it on:
//!
//! - [`guard`] runs a function and answers the faults of *the calling thread*, on every array of this crate.
//! - [`ArrayOptions::guarded`](crate::ArrayOptions::guarded) answers the faults of *every thread*, on that array. Choose it where threads share an
//!   array (with rayon, the threads of the pool do the work that a guarded function hands out).
//!
//! A fault that nobody has asked to answer ends the process, as it does without this crate: made-up bytes are never
//! handed to code that does not expect them.
//!
//! # The handler
//!
//! Both ways [`install`] a handler for SIGBUS, once in a process. A fault outside this crate's arrays, a SIGBUS that
//! somebody sent, and one in a thread that did not ask go on to the handler that was there before, or to the default;
//! Rust's report of a stack overflow works as ever. It costs nothing until a fault comes up. It needs:
//!
//! - Linux; elsewhere the error is [`ErrorKind::Unsupported`];
//! - threads that do not block SIGBUS: the kernel kills the process when a blocked one has to be delivered;
//! - room in the kernel's table of mappings: each run of adjacent pages that fault takes up two entries of
//!   `vm.max_map_count` (65,530 by default). When it is full, the fault goes on to the previous handler.
//!
//! # What no guard sees
//!
//! Within the last page of a file there is no fault: between the end of the file and the end of that page loads see
//! zeros, and stores are lost.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::fault::{self as guard_of_the_system, FaultReport, Scope};
use std::hint::black_box;

/// Installs the handler of the fault guard, for the whole process; does nothing if it is there.
///
/// [`guard`] and [`ArrayOptions::guarded`](crate::ArrayOptions::guarded) do this by themselves. Call it early where it matters which handler comes
/// first: a crash reporter installed afterwards sees each fault before the guard does.
///
/// If another library has put its own handler in front, that one stays and has to pass on what it does not know.
/// If the handler was taken out again, it is put back.
///
/// ```
/// match ndarray_mmap::fault::install() {
///     Ok(()) => println!("faults on mapped arrays can be turned into errors"),
///     Err(error) => println!("{error}"),
/// }
/// ```
///
/// # Errors
/// [`ErrorKind::Unsupported`] where there is no fault guard, which is everywhere but on Linux.
pub fn install() -> Result<()> {
    guard_of_the_system::install().map_err(|error| {
        Error::io("install the fault guard", "a system that lets SIGBUS be answered", error)
            .or_else_try("without it, a fault on a mapped file ends the process")
    })
}

/// Runs `f`, and answers what faults in this thread meanwhile on mapped arrays of this crate.
///
/// `Ok` means that no byte that `f` read or stored through an array was made up. That is why an error is also returned
/// for a fault that was not met by this thread in `f`: an array that has faulted before or in another thread, and
/// lives during the call, has pages of zeros that `f` could have read without a fault of its own. The error names the
/// file and the place of this thread's first fault in `f`, or else of such a fault elsewhere. An array that has faulted
/// is best dropped soon.
///
/// Guards nest, and a panic in `f` passes through.
///
/// # Errors
/// - [`ErrorKind::Fault`] with the file and where in it the page starts that faulted. What `f` returned is dropped.
/// - [`ErrorKind::Unsupported`] where there is no fault guard; `f` has not run then.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// let sum = ndarray_mmap::fault::guard(|| 1 + 1)?;
/// assert_eq!(sum, 2);
/// # }
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub fn guard<R>(f: impl FnOnce() -> R) -> Result<R> {
    install()?;
    let scope = Scope::enter();
    // The compiler knows of no signals: it may move a load through a reference anywhere the reference is known to be
    // good. Out of a function and into a result that it cannot see through, it moves none.
    let value = black_box(black_box(f)());
    match scope.report() {
        None => Ok(value),
        Some(report) => Err(of_report("guard", report)),
    }
}

/// The error for a fault at this offset of a file.
pub(crate) fn error(operation: &'static str, offset: u64) -> Error {
    let found = format!("a fault in the page at byte {offset}");
    Error::new(ErrorKind::Fault { offset }, operation, "every access to reach the file", found).or_else_try(
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
    fn without_a_guard_nothing_runs() {
        let mut ran = false;
        let error = guard(|| ran = true).unwrap_err();
        assert_eq!((error.kind(), ran), (ErrorKind::Unsupported, false));
        assert_eq!(install().unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn the_error_says_where_and_what_to_do() {
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
