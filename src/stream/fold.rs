//! Processes blocks of rows in order on the calling thread, for [`Stream::fold`] and for assigning rows to an array.

use super::budget::Plan;
use super::job::Job;
use super::pipeline::Stream;
use super::stage::{Stage, slice_rows};
use super::steps::{StandardLayout, call};
use super::workers::{Progress, Shared};
use crate::error::Result;
use crate::sync::lock;
use ndarray::ArrayView;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, mpsc};
use std::thread;

/// A function that processes a block of rows.
type UseBlock<'u, S> =
    dyn FnMut(Range<usize>, ArrayView<'_, <S as Stage>::Item, <S as Stage>::Dim>) -> Result<()> + 'u;

/// A loaded block: its number, and the state that contains its rows. `None` if a block could not be loaded.
type Loaded<S> = Option<(usize, <S as Stage>::State)>;

impl<S: Stage> Stream<'_, S> {
    /// Folds the rows to a value: calls `function` with each chunk of rows, in order.
    ///
    /// The function runs on the calling thread, while other threads read ahead. (On a worker of a rayon pool, the
    /// calling thread reads as well.) Every chunk is in standard layout. The number of rows in a chunk depends on the
    /// budget: [`Budget::chunk_rows`](super::Budget::chunk_rows) sets this number.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::{Budget, Stream}};
    ///
    /// let array = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// let (chunks, sum) = Stream::from(&array)
    ///     .budget(Budget::chunk_rows(300))
    ///     .fold((0, 0.0), |(chunks, sum), chunk| (chunks + 1, sum + chunk.sum()))?;
    /// assert_eq!((chunks, sum), (4, 0.0));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// - An error of the calls that created this stream.
    /// - [`LengthMismatch`](crate::ErrorKind::LengthMismatch) if the source file is truncated meanwhile, and
    ///   [`Io`](crate::ErrorKind::Io) if it cannot be read.
    /// - [`Panicked`](crate::ErrorKind::Panicked) if a function of the caller panics.
    /// - [`Cancelled`](crate::ErrorKind::Cancelled) if the progress function asks to stop.
    #[allow(clippy::missing_panics_doc, reason = "the value is there whenever it is taken")]
    pub fn fold<B>(
        self,
        initial: B,
        mut function: impl FnMut(B, ArrayView<'_, S::Item, S::Dim>) -> B,
    ) -> Result<B> {
        self.then(StandardLayout::new).run("fold", None, |job, progress| {
            let chunk_rows = job.budget.chosen_rows().unwrap_or(usize::MAX);
            let mut value = Some(initial);
            job.for_each_block(progress, &mut |rows, block| {
                for first in (0..rows.len()).step_by(chunk_rows) {
                    let end = first.saturating_add(chunk_rows).min(rows.len());
                    let chunk = slice_rows(&block, &(first..end));
                    let before = value.take().expect("a chunk that took it and failed has ended the fold");
                    value = Some(call(|| function(before, chunk))?);
                }
                Ok(())
            })?;
            Ok(value.expect("every chunk that took it has put a new one back"))
        })
    }
}

impl<S: Stage> Job<S> {
    /// Calls `use_block` with every block of rows in order, on this thread. Progress is reported before the first block
    /// and after each one.
    pub(super) fn for_each_block(
        &self,
        progress: &mut Progress<'_>,
        use_block: &mut UseBlock<'_, S>,
    ) -> Result<()> {
        progress.report(0)?;
        let plan = self.plan(0, self.threads_to_read());
        match plan.threads {
            1 => self.load_and_use(plan, self.rows(), progress, use_block),
            _ => self.load_ahead(plan, self.rows(), progress, use_block),
        }?;
        progress.report(self.rows())
    }

    /// Loads and processes every block on this thread.
    fn load_and_use(
        &self,
        plan: Plan,
        rows: usize,
        progress: &mut Progress<'_>,
        use_block: &mut UseBlock<'_, S>,
    ) -> Result<()> {
        let mut state = S::State::default();
        for block in 0..plan.blocks {
            let range = plan.rows_of_block(block, rows);
            call(|| self.stage.load(&mut state, range.clone())).and_then(|loaded| loaded)?;
            use_block(range.clone(), self.stage.view(&state, range.clone()))?;
            progress.report(range.end)?;
        }
        Ok(())
    }

    /// Processes the blocks in order on this thread, while other threads load them ahead.
    ///
    /// There are as many states as threads. A loader takes a state, loads a block into it, and sends both to this thread,
    /// which returns the state to the loaders.
    fn load_ahead(
        &self,
        plan: Plan,
        rows: usize,
        progress: &mut Progress<'_>,
        use_block: &mut UseBlock<'_, S>,
    ) -> Result<()> {
        let shared = Shared::new(plan.blocks);
        let (give_back, free) = mpsc::channel::<S::State>();
        let (hand_over, loaded) = mpsc::channel();
        (0..plan.threads).for_each(|_| _ = give_back.send(S::State::default()));
        let free = Mutex::new(free);
        // A loader takes a state and the next block under the same lock, so the states are assigned in the order of the
        // blocks. Therefore the block that this thread waits for always has a state.
        let claim = || {
            let free = lock(&free);
            let state = free.recv().ok()?;
            shared.claim().map(|block| (block, state))
        };
        let load = |hand_over: mpsc::Sender<Loaded<S>>| {
            while let Some((block, mut state)) = claim() {
                let range = plan.rows_of_block(block, rows);
                match call(|| self.stage.load(&mut state, range)).and_then(|loaded| loaded) {
                    Ok(()) => _ = hand_over.send(Some((block, state))),
                    Err(error) => {
                        shared.fail(error);
                        let _ = hand_over.send(None);
                    }
                }
            }
        };
        let load = &load;
        thread::scope(|scope| {
            let mut loaders = 0;
            for _ in 1..plan.threads {
                let hand_over = hand_over.clone();
                let started = thread::Builder::new().spawn_scoped(scope, move || load(hand_over));
                loaders += usize::from(started.is_ok());
            }
            drop(hand_over);
            if loaders == 0 {
                return self.load_and_use(plan, rows, progress, use_block);
            }
            let used = self.use_in_order(plan, rows, &loaded, give_back, progress, use_block);
            if let Err(error) = used {
                shared.fail(error);
            }
            // `use_in_order` has dropped `give_back`, so every loader that waits for a state ends.
            Ok(())
        })?;
        shared.into_result()
    }

    /// Processes each block in order, and returns its state to the loaders. If a loader has failed, returns early without
    /// an error.
    fn use_in_order(
        &self,
        plan: Plan,
        rows: usize,
        loaded: &mpsc::Receiver<Loaded<S>>,
        give_back: mpsc::Sender<S::State>,
        progress: &mut Progress<'_>,
        use_block: &mut UseBlock<'_, S>,
    ) -> Result<()> {
        let mut early = BTreeMap::new();
        for block in 0..plan.blocks {
            let state = loop {
                if let Some(state) = early.remove(&block) {
                    break state;
                }
                match loaded.recv() {
                    Ok(Some((number, state))) => _ = early.insert(number, state),
                    // A loader has failed and recorded the error. The other loaders end when they cannot get a state
                    // any more.
                    Ok(None) | Err(_) => return Ok(()),
                }
            };
            let range = plan.rows_of_block(block, rows);
            use_block(range.clone(), self.stage.view(&state, range.clone()))?;
            progress.report(range.end)?;
            let _ = give_back.send(state);
        }
        Ok(())
    }
}
