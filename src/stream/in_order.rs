//! Loads blocks of rows on several threads, and processes them in order on the calling thread.

use super::budget::Plan;
use super::chunked::call;
use super::job::Job;
use super::stage::Stage;
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

impl<S: Stage> Job<S> {
    /// Calls `use_block` with every block of rows in order, on this thread. Progress is reported before the first block
    /// and after each one.
    pub(super) fn for_each_block(
        &self,
        progress: &mut Progress<'_>,
        use_block: &mut UseBlock<'_, S>,
    ) -> Result<()> {
        let plan = self.plan(0, self.threads_to_read());
        let load = |state: &mut S::State, rows| self.stage.load(state, rows);
        let blocks = InOrder { plan, rows: self.rows(), load: &load };
        blocks.process_in_order(progress, &mut |rows, state| {
            use_block(rows.clone(), self.stage.view(state, rows))
        })
    }
}

/// Blocks of rows, and the function that loads the rows of a block into a state.
pub(super) struct InOrder<'l, B> {
    pub(super) plan: Plan,
    pub(super) rows: usize,
    pub(super) load: &'l (dyn Fn(&mut B, Range<usize>) -> Result<()> + Sync),
}

/// A function that processes the rows of a block, which were loaded into the state.
type UseState<'u, B> = dyn FnMut(Range<usize>, &B) -> Result<()> + 'u;

/// The number of a loaded block, and the state (the buffers) that contains the rows of the block. `None` if a block
/// could not be loaded.
type Loaded<B> = Option<(usize, B)>;

impl<B: Default + Send> InOrder<'_, B> {
    /// Calls `use_state` with every block of rows in order, on this thread. Progress is reported before the first block
    /// and after each one.
    pub(super) fn process_in_order(
        &self,
        progress: &mut Progress<'_>,
        use_state: &mut UseState<'_, B>,
    ) -> Result<()> {
        progress.report(0)?;
        match self.plan.threads {
            1 => self.load_and_use(progress, use_state),
            _ => self.load_ahead(progress, use_state),
        }?;
        progress.report(self.rows)
    }

    /// Loads and processes every block on this thread.
    fn load_and_use(&self, progress: &mut Progress<'_>, use_state: &mut UseState<'_, B>) -> Result<()> {
        let mut state = B::default();
        for block in 0..self.plan.blocks {
            let range = self.plan.rows_of_block(block, self.rows);
            call(|| (self.load)(&mut state, range.clone())).and_then(|loaded| loaded)?;
            use_state(range.clone(), &state)?;
            progress.report(range.end)?;
        }
        Ok(())
    }

    /// Processes the blocks in order on this thread, while other threads load them ahead.
    ///
    /// There are as many states as threads. A loader thread takes a state, loads a block into the state, and sends the
    /// block to this thread. This thread processes the block, and then returns the state to the loaders.
    fn load_ahead(&self, progress: &mut Progress<'_>, use_state: &mut UseState<'_, B>) -> Result<()> {
        let shared = Shared::new(self.plan.blocks);
        let (give_back, free) = mpsc::channel::<B>();
        let (hand_over, loaded) = mpsc::channel();
        (0..self.plan.threads).for_each(|_| _ = give_back.send(B::default()));
        let free = Mutex::new(free);
        // A loader takes a state and the next block under the same lock, so the states are assigned in the order of the
        // blocks. Therefore the block that this thread waits for always has a state.
        let claim = || {
            let free = lock(&free);
            let state = free.recv().ok()?;
            shared.claim().map(|block| (block, state))
        };
        let load = |hand_over: mpsc::Sender<Loaded<B>>| {
            while let Some((block, mut state)) = claim() {
                let range = self.plan.rows_of_block(block, self.rows);
                match call(|| (self.load)(&mut state, range)).and_then(|loaded| loaded) {
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
            for _ in 1..self.plan.threads {
                let hand_over = hand_over.clone();
                let started = thread::Builder::new().spawn_scoped(scope, move || load(hand_over));
                loaders += usize::from(started.is_ok());
            }
            drop(hand_over);
            if loaders == 0 {
                return self.load_and_use(progress, use_state);
            }
            let used = self.use_in_order(&loaded, give_back, progress, use_state);
            if let Err(error) = used {
                shared.fail(error);
            }
            // `use_in_order` has dropped `give_back`, so every loader that waits for a state ends.
            Ok(())
        })?;
        shared.into_result()
    }

    /// Processes the blocks in order, and returns the state of each block to the loaders. If a loader has failed, this
    /// function ends early and returns `Ok`, because the loader has recorded the error.
    fn use_in_order(
        &self,
        loaded: &mpsc::Receiver<Loaded<B>>,
        give_back: mpsc::Sender<B>,
        progress: &mut Progress<'_>,
        use_state: &mut UseState<'_, B>,
    ) -> Result<()> {
        let mut early = BTreeMap::new();
        for block in 0..self.plan.blocks {
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
            let range = self.plan.rows_of_block(block, self.rows);
            use_state(range.clone(), &state)?;
            progress.report(range.end)?;
            let _ = give_back.send(state);
        }
        Ok(())
    }
}
