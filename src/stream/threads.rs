//! The default number of threads of a stream, for callers that do not choose a number.

/// The number of threads that overlap reading, computing and writing.
pub(super) const THREADS: usize = 3;

/// Returns the default number of threads for pipelines: enough threads to keep the disk busy and, with the feature
/// `rayon`, every core.
pub(super) fn threads() -> usize {
    if cfg!(feature = "rayon") { THREADS.max(cores() + 1) } else { THREADS }
}

/// Returns the default number of threads for work that does not wait for a disk. With the feature `rayon`, this is the
/// number of threads of the pool that the calling thread belongs to. If it belongs to no pool, this is the number of
/// cores.
///
/// The function does not query rayon's global pool, because that would start the pool. The pool's threads would then
/// search for work for some time, which made a short reduction a quarter slower on two cores.
#[cfg(feature = "rayon")]
pub(super) fn cores() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Returns the default number of threads for work that does not wait for a disk.
#[cfg(not(feature = "rayon"))]
pub(super) fn cores() -> usize {
    1
}
