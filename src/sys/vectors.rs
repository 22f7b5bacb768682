//! Running code with the wide vector registers of the processor.

/// Runs a closure that is compiled for AVX2 if the processor has AVX2.
///
/// Every function that the closure calls must be `#[inline(always)]`. Other functions use only the instructions for which
/// the crate is compiled. The results are the same with and without AVX2, because the compiler neither fuses nor reorders
/// floating-point operations.
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

/// Runs a closure. On this architecture the crate is always compiled for all vector registers.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn with_wide_vectors<R>(function: impl FnOnce() -> R) -> R {
    function()
}
