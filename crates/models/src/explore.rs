//! Runs one model through every interleaving.

use crate::sync::atomic;
use loom::model::Builder;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The maximum number of branches in one interleaving. Only a thread that waits for ever reaches this number.
const MAX_BRANCHES: usize = 10_000;

/// Runs a model through every interleaving, and returns how many there are.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) -> usize {
    explore_within(None, model)
}

/// Runs a model through every interleaving with at most three preemptions. A preemption interrupts a thread that could
/// continue. This is for models that have too many interleavings to run all of them.
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

/// Runs the last function in this thread and each other function in a new thread. Waits for all threads.
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
