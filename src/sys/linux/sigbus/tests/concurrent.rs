//! Tests with several threads, with several mappings, and with handlers of other signals that access mappings.

use super::super::install;
use super::{Watched, assert_success, folder, in_child, page};
use crate::ErrorKind;
use crate::fault::guard;
use std::mem;
use std::ptr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread;

#[test]
fn eight_threads_on_four_arrays() {
    const PAGES: usize = 512;
    let child = || {
        let folder = folder();
        let arrays: Vec<_> = (0..4).map(|_| Watched::sparse(folder.path(), PAGES).truncated()).collect();
        thread::scope(|scope| {
            for t in 0..8 {
                let array = &arrays[t % 4];
                scope.spawn(move || {
                    // Two threads share each array. One of them uses the even pages, the other one the odd pages.
                    let error =
                        guard(|| (t / 4..PAGES).step_by(2).for_each(|i| array.store(page(i), t as u8 + 1)));
                    let error = error.unwrap_err();
                    // The error is about this thread's own array and page, although other threads fault at the same
                    // time.
                    assert_eq!(error.kind(), ErrorKind::Fault { offset: page(t / 4) as u64 });
                    assert_eq!(error.path(), Some(&*array.path));
                });
            }
        });
        for (a, array) in arrays.iter().enumerate() {
            assert_eq!(array.watch.count(), PAGES);
            assert!([Some(0), Some(page(1) as u64)].contains(&array.watch.first_fault()));
            assert!((0..PAGES).all(|i| usize::from(array.load(page(i))) == a + 1 + 4 * (i % 2)));
        }
    };
    assert_success(&in_child("sys::linux::sigbus::tests::concurrent::eight_threads_on_four_arrays", child));
}

/// When two threads fault on one page, the second thread must not discard stores of the first thread to the page of
/// zeros.
#[test]
fn threads_on_the_same_page_lose_no_store() {
    const PAGES: usize = 20_000;
    const THREADS: usize = 4;
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), PAGES).truncated();
        install().unwrap();
        array.watch.handle_in_all_threads();
        let (start, lost) = (Barrier::new(THREADS), AtomicUsize::new(0));
        thread::scope(|scope| {
            for t in 0..THREADS {
                let (array, start, lost) = (&array, &start, &lost);
                scope.spawn(move || {
                    for i in 0..PAGES {
                        if i % 64 == 0 {
                            start.wait();
                        }
                        array.store(page(i) + 64 * t, t as u8 + 1);
                        lost.fetch_add(
                            usize::from(array.load(page(i) + 64 * t) != t as u8 + 1),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        assert_eq!(lost.into_inner(), 0, "stores that their own thread could not read back");
        let kept = |i| (0..THREADS).all(|t| usize::from(array.load(page(i) + 64 * t)) == t + 1);
        assert_eq!((0..PAGES).filter(|&i| !kept(i)).count(), 0, "pages with a store lost later");
        assert_eq!(array.watch.count(), PAGES, "each page is replaced once");
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::concurrent::threads_on_the_same_page_lose_no_store",
        child,
    ));
}

/// The address of the mapping that `on_alarm` stores to.
static BASE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static CURRENT: AtomicUsize = AtomicUsize::new(0);
static ALARMS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_alarm(_signal: libc::c_int) {
    ALARMS.fetch_add(1, Ordering::Relaxed);
    let at = BASE.load(Ordering::Relaxed).wrapping_add(page(CURRENT.load(Ordering::Relaxed)) + 8);
    // SAFETY: the address is inside the mapping, which lives as long as the test.
    unsafe { at.write_volatile(9) };
}

#[test]
fn another_signal_handler_may_fault_on_the_same_page() {
    const PAGES: usize = 50_000;
    let child = || {
        let folder = folder();
        let array = Watched::sparse(folder.path(), PAGES).truncated();
        BASE.store(array.address(0), Ordering::Relaxed);
        // SAFETY: the structure consists of integers, for which zero is a valid value, and an optional function
        // pointer.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = on_alarm as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the pointer is to a live structure, and the handler has the signature that the flags require.
        assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()) }, 0);
        // SAFETY: the call has no preconditions.
        let this_thread = unsafe { libc::pthread_self() };
        let (started, done) = (Barrier::new(2), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                started.wait();
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: `this_thread` is live: it waits at the end of the scope until this loop has ended.
                    assert_eq!(unsafe { libc::pthread_kill(this_thread, libc::SIGALRM) }, 0);
                }
            });
            let stored = guard(|| {
                started.wait();
                for i in 0..PAGES {
                    CURRENT.store(i, Ordering::Relaxed);
                    array.store(page(i), 1);
                }
            });
            assert!(stored.is_err());
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(array.watch.count(), PAGES);
        assert!((0..PAGES).all(|i| array.load(page(i)) == 1));
        let alarms = (0..PAGES).filter(|&i| array.load(page(i) + 8) == 9).count();
        println!("{} alarms, on {alarms} pages", ALARMS.load(Ordering::Relaxed));
        assert!(alarms > 0);
    };
    let output = in_child(
        "sys::linux::sigbus::tests::concurrent::another_signal_handler_may_fault_on_the_same_page",
        child,
    );
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert_success(&output);
}

/// A child of `fork` inherits claims of threads that do not exist in it. These claims must not last for ever.
#[test]
fn a_child_of_fork_handles_its_own_faults() {
    let child = || {
        const PAGES: usize = 2000;
        let folder = folder();
        let array = Watched::sparse(folder.path(), PAGES).truncated();
        array.watch.handle_in_all_threads();
        install().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for first in 0..3 {
                let (array, stop) = (&array, &stop);
                scope.spawn(move || {
                    (0..PAGES)
                        .cycle()
                        .skip(first * PAGES / 3)
                        .take_while(|_| !stop.load(Ordering::Relaxed))
                        .for_each(|page| {
                            array.load(page);
                        });
                });
            }
            for _ in 0..20 {
                // SAFETY: the child only touches mapped memory and atomics, and ends by `_exit`. It uses nothing that a
                // thread of the parent could have locked.
                match unsafe { libc::fork() } {
                    0 => {
                        // SAFETY: the call has no preconditions. The alarm ends a child that hangs.
                        unsafe { libc::alarm(20) };
                        (0..PAGES).for_each(|page| _ = array.load(page));
                        // SAFETY: the call has no preconditions.
                        unsafe { libc::_exit(0) };
                    }
                    pid => {
                        let mut status = 0;
                        // SAFETY: the pointer is to a live integer.
                        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
                        assert_eq!(status, 0, "the child did not exit with success");
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::concurrent::a_child_of_fork_handles_its_own_faults",
        child,
    ));
}
