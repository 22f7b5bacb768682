//! How many threads a stream uses if the caller does not say.

/// How many threads overlap reading, computing and writing.
pub(super) const THREADS: usize = 3;

/// The default for pipelines: enough to keep the disk busy and, with the feature `rayon`, every core.
pub(super) fn threads() -> usize {
    if cfg!(feature = "rayon") { THREADS.max(cores() + 1) } else { THREADS }
}

/// The default for work that waits for no disk: 1 or, with the feature `rayon`, the threads of the pool that this thread belongs to,
/// else the number of cores. Asking rayon for its global pool would start the pool, whose threads look for work for a while: that took
/// a quarter of the speed of a short reduction on two cores.
#[cfg(feature = "rayon")]
pub(super) fn cores() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The default for work that waits for no disk.
#[cfg(not(feature = "rayon"))]
pub(super) fn cores() -> usize {
    1
}
