//! Code for the wide vector registers that a processor may have.

/// Runs a closure, compiled for AVX2 where the processor has it.
///
/// Every function that the closure calls must be `#[inline(always)]`: others keep the instructions that the crate is compiled for.
/// The results are the same either way, since the compiler does not fuse or reorder floating-point operations.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
pub(crate) fn with_wide_vectors<R>(function: impl FnOnce() -> R) -> R {
    /// # Safety
    /// The processor and the system have AVX2.
    #[target_feature(enable = "avx2")]
    unsafe fn with_avx2<R>(function: impl FnOnce() -> R) -> R {
        function()
    }

    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor and the system have AVX2, as was just asked.
        return unsafe { with_avx2(function) };
    }
    function()
}

/// Runs a closure: the crate is compiled for the vector registers that every such processor has.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn with_wide_vectors<R>(function: impl FnOnce() -> R) -> R {
    function()
}
