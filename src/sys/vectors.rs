//! Running code with the wide vector registers of the processor, and loading memory into its cache.

/// Runs a closure. If the processor has AVX2, runs a version of the closure that is compiled for AVX2.
///
/// Every function that the closure calls must be `#[inline(always)]`. A function that is not inlined uses only the
/// instructions for which the whole crate is compiled. The results are the same with and without AVX2, because the
/// compiler neither fuses nor reorders floating-point operations.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
pub(crate) fn with_wide_vectors<R>(function: impl FnOnce() -> R) -> R {
    /// Runs a closure that is compiled for AVX2.
    ///
    /// # Safety
    /// The processor and the system support AVX2.
    #[target_feature(enable = "avx2")]
    unsafe fn with_avx2<R>(function: impl FnOnce() -> R) -> R {
        function()
    }

    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor and the system support AVX2, as was just checked.
        return unsafe { with_avx2(function) };
    }
    function()
}

/// Runs a closure. AVX2 exists only on x86-64, so there is nothing to detect on this architecture.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn with_wide_vectors<R>(function: impl FnOnce() -> R) -> R {
    function()
}

/// Starts to load `count` items into the cache of the processor. The memory does not have to exist.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline(always)]
pub(crate) fn prefetch<T>(items: *const T, count: usize) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    const LINE: usize = 64;
    for at in (0..count * size_of::<T>()).step_by(LINE) {
        // SAFETY: every processor of x86-64 has the instruction. It accepts any address, changes no memory, and raises no
        // fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(items.cast::<i8>().wrapping_add(at)) };
    }
}

/// Does nothing: the standard library has no such function for this processor.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn prefetch<T>(_items: *const T, _count: usize) {}
