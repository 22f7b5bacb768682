//! The list of known failures with their reasons: defects that are not fixed yet, and limits without some system call.
//!
//! Remove an entry when its defect is fixed. A case that passes needs no entry.

/// A case that is known to fail on every filesystem.
struct Known {
    /// The refusal as text, or the start of that text.
    refusal: &'static str,
    /// The name of the case, or the start of the name.
    case: &'static str,
    reason: &'static str,
}

const fn without(refusal: &'static str, case: &'static str, reason: &'static str) -> Known {
    Known { refusal, case, reason }
}

const NOBODY_TO_ASK: &str =
    "without cachestat and mincore nobody knows what is cached: residency is an error";

const WHOLE_FOLIOS: &str =
    "with neither populate nor pageout, folios that reach over an edge of the range stay in the page cache";
const NO_DROPPING: &str = "without fadvise64 no call drops pages from the page cache";
const NO_RESERVATION: &str = "without fallocate no space is reserved for holes: a strided copy that fills the disk is a fault, not a full disk";

const KNOWN: &[Known] = &[
    without("everything", "evict::residency_is_what_mincore_says", NOBODY_TO_ASK),
    without("everything", "evict::evicted_rows", WHOLE_FOLIOS),
    without("everything", "full::streaming_to_a_full_disk", NO_RESERVATION),
    without("fadvise64", "evict::evicted_rows", NO_DROPPING),
    without("fallocate", "full::streaming_to_a_full_disk", NO_RESERVATION),
];

/// Returns why the case is known to fail, or `None` if the case must pass.
pub fn known(refusal: Option<&str>, case: &str) -> Option<&'static str> {
    let refusal = refusal?;
    let is_it = |known: &&Known| refusal.starts_with(known.refusal) && case.starts_with(known.case);
    KNOWN.iter().find(is_it).map(|known| known.reason)
}
