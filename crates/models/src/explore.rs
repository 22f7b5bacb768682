//! Running one model through every interleaving.

use crate::sync::atomic;
use loom::model::Builder;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More than any thread of a model meets in one interleaving, unless it waits for ever.
const MAX_BRANCHES: usize = 10_000;

/// Runs a model through every interleaving, and returns how many there are.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) -> usize {
    explore_within(None, model)
}

/// Runs a model through every interleaving in which at most three times a thread is interrupted that could go on. For models with too
/// many interleavings; a model of the same code with fewer threads runs through all of them.
pub(crate) fn explore_three_preemptions(model: impl Fn() + Send + Sync + 'static) -> usize {
    explore_within(Some(3), model)
}

fn explore_within(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut builder = Builder::new();
    builder.max_branches = MAX_BRANCHES;
    builder.preemption_bound = preemptions;
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        atomic::begin();
        model();
        atomic::end();
    });
    count.load(Ordering::Relaxed)
}

/// Runs functions in threads of their own and the last one in this thread, and waits for all of them.
macro_rules! at_once {
    ($($thread:expr),+; $here:expr) => {{
        let threads = [$(loom::thread::spawn($thread)),+];
        let here = $here;
        here();
        for thread in threads {
            thread.join().expect("a thread of the model");
        }
    }};
}

pub(crate) use at_once;
