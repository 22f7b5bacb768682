//! The threads of a stream. They process numbered blocks, while the calling thread also reports progress.
//!
//! # Why streams do not deadlock
//!
//! The caller's functions may use a pool of threads themselves: ndarray's `par_for_each`, `rayon::join`, another
//! stream. If the thread that runs the function is not a worker of the pool, that thread blocks until a worker has run
//! the job. If a worker blocked on such a thread, it could wait for a job that only this worker can run. Three rules
//! exclude that:
//!
//! 1. **A worker of a rayon pool never waits for a thread that runs a user's closure.** If a worker starts a stream
//!    that has a closure (`map`, `map_rows`, `fold`, `progress`), the stream runs on this worker alone
//!    ([`must_run_alone`]). The stream then blocks only in system calls. If a closure waits for a job, rayon runs other
//!    jobs of the pool on the waiting thread meanwhile.
//! 2. **The threads of a stream that has no closures never need the pool.** Such threads read, convert, select, reduce
//!    and write, and run only code of this crate. These threads wait only for the kernel and for each other, so a
//!    worker may wait for them. (The conversions and comparisons that an element type implements must not use the pool
//!    either.)
//! 3. **No lock of this crate is held while a closure of the user runs.** So a job that rayon runs meanwhile, on the
//!    same thread or another one, does not find a lock of this crate taken.
//!
//! Suppose that some threads form a cycle in which each waits for the next one. The cycle contains no worker that waits
//! for a stream with closures (rule 1). It contains no worker that waits for a stream without closures, because such
//! a worker waits only for threads that end (rule 2). It contains no worker that waits for a job of its pool, because
//! such a worker runs jobs meanwhile. So no worker is part of the cycle, and every job ends. Therefore every thread
//! outside the pool that waits for a job also ends, and every stream that has such threads ends. Streams may be nested
//! to any depth: a stream inside a function is subject to the same rules.
//!
//! Without the feature `rayon` the crate cannot find out which threads belong to a pool. A program that runs streams
//! with functions inside a pool must enable the feature, or choose one thread by
//! [`Stream::threads`](super::Stream::threads).

use super::chunked::call;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{into_inner, lock};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Returns whether a stream must run on the calling thread alone: the thread is a worker of a rayon pool, and the
/// stream calls functions of the caller. See rule 1 in the description of this module.
pub(super) fn must_run_alone(calls_functions: bool) -> bool {
    #[cfg(feature = "rayon")]
    let is_pool_worker = rayon::current_thread_index().is_some();
    #[cfg(not(feature = "rayon"))]
    let is_pool_worker = false;
    calls_functions && is_pool_worker
}

/// The caller's progress function, and the progress that was last reported to it.
pub(super) struct Progress<'p> {
    report: Option<Report<'p>>,
    total_rows: usize,
    /// The number of units of work. A unit is a row, unless [`count_in`](Self::count_in) has chosen another unit.
    units: usize,
    /// Whether the end (all rows are processed) was already reported to the function.
    is_over: bool,
}

/// The caller's progress function. Its arguments are the number of processed rows and the number of all rows.
pub(super) type Report<'p> = Box<dyn FnMut(usize, usize) -> ControlFlow<()> + 'p>;

impl<'p> Progress<'p> {
    pub(super) fn new(report: Option<Report<'p>>, total_rows: usize) -> Self {
        Self { report, total_rows, units: total_rows, is_over: false }
    }

    /// From now on, the work is counted in `units` units instead of rows. The caller's function still gets numbers of
    /// rows, which are computed in proportion to the units.
    pub(super) fn count_in(&mut self, units: usize) {
        self.units = units;
    }

    /// Reports that all units are processed.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.report(self.units)
    }

    /// Starts to count from zero again, for another pass over all rows.
    pub(super) fn restart(&mut self) {
        self.is_over = false;
    }

    /// Reports to the caller's function that `done` units are processed. The end is reported once.
    ///
    /// Returns `Cancelled` if the function asks to stop, and `Panicked` if it panics.
    pub(super) fn report(&mut self, done: usize) -> Result<()> {
        let Some(report) = self.report.as_mut().filter(|_| !self.is_over) else { return Ok(()) };
        self.is_over = done >= self.units;
        let rows = match self.units {
            0 => self.total_rows,
            units => (done as u128 * self.total_rows as u128 / units as u128) as usize, // at most `total_rows`
        };
        match call(|| report(rows, self.total_rows))? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                let found = format!("a request to stop after {rows} of {} rows", self.total_rows);
                Err(Error::new(ErrorKind::Cancelled, "stream", "to go on to the end", found)
                    .with_remedy("the progress function decides: run the stream again to process all rows"))
            }
        }
    }
}

/// The data that the threads of a stream share: the next block, the progress, and the first error.
pub(super) struct Shared {
    blocks: usize,
    next: AtomicUsize,
    done: AtomicUsize,
    stopped: AtomicBool,
    failed: Mutex<Option<Error>>,
}

impl Shared {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            blocks,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            failed: Mutex::new(None),
        }
    }

    /// Returns the number of a block that no thread has claimed before. Returns `None` after the last block, or after
    /// an error.
    pub(super) fn claim(&self) -> Option<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|&block| block < self.blocks)
    }

    /// Stops the work. The first error is kept, and later errors are dropped.
    pub(super) fn fail(&self, error: Error) {
        self.stopped.store(true, Ordering::Relaxed);
        lock(&self.failed).get_or_insert(error);
    }

    /// Returns the first error, if there was one.
    pub(super) fn into_result(self) -> Result<()> {
        into_inner(self.failed).map_or(Ok(()), Err)
    }
}

/// Calls `process` for every block, on `threads` threads including the calling one.
///
/// `process` gets a state that belongs to its thread, and returns how many units of progress it has made. Progress is
/// reported before the first block, after each block that the calling thread has processed, and at the end.
pub(super) fn run<S: Default>(
    blocks: usize,
    threads: usize,
    progress: &mut Progress<'_>,
    process: impl Fn(&mut S, usize) -> Result<usize> + Sync,
) -> Result<()> {
    progress.report(0)?;
    let shared = Shared::new(blocks);
    let process_blocks = |mut progress: Option<&mut Progress<'_>>| {
        let mut state = S::default();
        while let Some(block) = shared.claim() {
            let processed = call(|| process(&mut state, block)).and_then(|processed| processed);
            let reported = processed.and_then(|done| {
                let all = done + shared.done.fetch_add(done, Ordering::Relaxed);
                progress.as_mut().map_or(Ok(()), |progress| progress.report(all))
            });
            reported.unwrap_or_else(|error| shared.fail(error));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // If the system refuses to create a thread, the other threads process its blocks.
            let _ = thread::Builder::new().spawn_scoped(scope, || process_blocks(None));
        }
        process_blocks(Some(progress));
    });
    shared.into_result()?;
    progress.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Progress<'static> {
        Progress::new(None, 0)
    }

    #[test]
    fn every_block_is_processed_once() {
        for threads in [1, 2, 5] {
            let seen = Mutex::new(vec![0; 100]);
            run::<()>(100, threads, &mut silent(), |_, block| {
                lock(&seen)[block] += 1;
                Ok(1)
            })
            .unwrap();
            assert_eq!(lock(&seen)[..], [1; 100]);
        }
    }

    #[test]
    fn the_first_error_stops_the_work() {
        let processed = AtomicUsize::new(0);
        let error = run::<()>(1_000_000, 3, &mut silent(), |_, block| {
            processed.fetch_add(1, Ordering::Relaxed);
            match block {
                20 => Err(Error::new(ErrorKind::Io, "stream", "a block", "none")),
                _ => Ok(1),
            }
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
        assert!(processed.into_inner() < 1_000_000);
    }

    #[test]
    fn a_request_to_stop_at_the_start_processes_nothing() {
        for threads in [1, 3] {
            let stop: Report<'_> = Box::new(|_, _| ControlFlow::Break(()));
            let error = run::<()>(10, threads, &mut Progress::new(Some(stop), 30), |_, _| unreachable!());
            assert!(error.unwrap_err().to_string().contains("after 0 of 30 rows"));
        }
    }

    #[test]
    fn progress_starts_at_zero_ends_at_the_total_and_can_stop_the_work() {
        let (mut first, mut last) = (None, 0);
        let report: Report<'_> = Box::new(|done, total| {
            assert!(done >= last && total == 30);
            first = first.or(Some(done));
            last = done;
            ControlFlow::Continue(())
        });
        let mut progress = Progress::new(Some(report), 30);
        run::<()>(10, 2, &mut progress, |_, _| Ok(3)).unwrap();
        drop(progress);
        assert_eq!((first, last), (Some(0), 30));
        let stop: Report<'_> = Box::new(|done, _| match done {
            0..9 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        });
        let error = run::<()>(10, 1, &mut Progress::new(Some(stop), 30), |_, _| Ok(3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(error.to_string().contains("after 9 of 30 rows"), "{error}");
    }
}
