//! Threads that work on numbered blocks, in any order, while the calling thread reports progress.

use super::steps::call;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{into_inner, lock};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// What the caller is told of progress: how many rows are done, of how many. It says whether to go on.
pub(super) struct Progress<'p> {
    report: Option<Report<'p>>,
    total: usize,
    /// What the work counts in, in all: rows, or anything that there is as much of at every row.
    units: usize,
    /// All of it was told of.
    is_over: bool,
}

/// The caller's function.
pub(super) type Report<'p> = Box<dyn FnMut(usize, usize) -> ControlFlow<()> + 'p>;

impl<'p> Progress<'p> {
    pub(super) fn new(report: Option<Report<'p>>, total: usize) -> Self {
        Self { report, total, units: total, is_over: false }
    }

    /// Counts in something else than rows: there are so many of it in all.
    pub(super) fn count_in(&mut self, units: usize) {
        self.units = units;
    }

    /// Tells that so much is done; of the end once.
    pub(super) fn report(&mut self, done: usize) -> Result<()> {
        let Some(report) = self.report.as_mut().filter(|_| !self.is_over) else { return Ok(()) };
        self.is_over = done >= self.units;
        let done = match self.units {
            0 => self.total,
            units => (done as u128 * self.total as u128 / units as u128) as usize, // at most `total`
        };
        match call(|| report(done, self.total))? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                let found = format!("a request to stop after {done} of {} rows", self.total);
                Err(Error::new(ErrorKind::Cancelled, "stream", "to go on to the end", found))
            }
        }
    }
}

/// Blocks that are still to be given out, how far they are done, and the first error.
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

    /// The number of a block that nobody else has; `None` when there are no more, or something failed.
    pub(super) fn claim(&self) -> Option<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|&block| block < self.blocks)
    }

    /// Ends the work with an error; the first one counts.
    pub(super) fn fail(&self, error: Error) {
        self.stopped.store(true, Ordering::Relaxed);
        lock(&self.failed).get_or_insert(error);
    }

    /// How it ended.
    pub(super) fn into_result(self) -> Result<()> {
        into_inner(self.failed).map_or(Ok(()), Err)
    }
}

/// Runs `work` on every block, on `threads` threads of which the calling one is the first. `work` returns how much it
/// did, and is given a state that belongs to its thread.
pub(super) fn run<S: Default>(
    blocks: usize,
    threads: usize,
    progress: &mut Progress<'_>,
    work: impl Fn(&mut S, usize) -> Result<usize> + Sync,
) -> Result<()> {
    let shared = Shared::new(blocks);
    let labour = |mut report: Option<&mut Progress<'_>>| {
        let mut state = S::default();
        while let Some(block) = shared.claim() {
            let worked = call(|| work(&mut state, block)).and_then(|worked| worked).and_then(|done| {
                let all = done + shared.done.fetch_add(done, Ordering::Relaxed);
                report.as_mut().map_or(Ok(()), |progress| progress.report(all))
            });
            worked.unwrap_or_else(|error| shared.fail(error));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Without a further thread the work takes longer, no more.
            let _ = thread::Builder::new().spawn_scoped(scope, || labour(None));
        }
        labour(Some(progress));
    });
    let total = shared.done.load(Ordering::Relaxed);
    shared.into_result()?;
    progress.report(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Progress<'static> {
        Progress::new(None, 0)
    }

    #[test]
    fn every_block_is_worked_on_once() {
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
    fn the_first_error_ends_it() {
        let worked = AtomicUsize::new(0);
        let error = run::<()>(1_000_000, 3, &mut silent(), |_, block| {
            worked.fetch_add(1, Ordering::Relaxed);
            match block {
                20 => Err(Error::new(ErrorKind::Io, "stream", "a block", "none")),
                _ => Ok(1),
            }
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
        assert!(worked.into_inner() < 1_000_000);
    }

    #[test]
    fn progress_ends_at_the_total_and_can_stop_the_work() {
        let mut last = 0;
        let report: Report<'_> = Box::new(|done, total| {
            assert!(done >= last && total == 30);
            last = done;
            ControlFlow::Continue(())
        });
        let mut progress = Progress::new(Some(report), 30);
        run::<()>(10, 2, &mut progress, |_, _| Ok(3)).unwrap();
        drop(progress);
        assert_eq!(last, 30);
        let stop: Report<'_> = Box::new(|done, _| match done {
            0..9 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        });
        let error = run::<()>(10, 1, &mut Progress::new(Some(stop), 30), |_, _| Ok(3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(error.to_string().contains("after 9 of 30 rows"), "{error}");
    }
}
