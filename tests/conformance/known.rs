//! What is known to fail, and why: defects that wait to be mended, and what a system without a call cannot do.
//!
//! Take an entry out when its defect is mended: a case that passes needs none.

/// A case that fails on a filesystem, without a call, or wherever it runs (`*`).
struct Known {
    filesystem: &'static str,
    /// A refusal, or the start of one; `none` where every call is there.
    refusal: &'static str,
    /// A case, or the start of its name.
    case: &'static str,
    reason: &'static str,
}

const fn known_everywhere(refusal: &'static str, case: &'static str, reason: &'static str) -> Known {
    Known { filesystem: "*", refusal, case, reason }
}

const NOBODY_TO_ASK: &str =
    "without cachestat and mincore nobody knows what is cached: residency is an error";

const WHOLE_FOLIOS: &str =
    "with neither populate nor pageout, folios that reach over an edge of the range stay in the page cache";
const NO_RESERVATION: &str = "without fallocate no space is reserved for holes: a strided copy that fills the disk is a fault, not a full disk";

const KNOWN: &[Known] = &[
    known_everywhere("everything", "evict::residency_is_what_mincore_says", NOBODY_TO_ASK),
    known_everywhere("everything", "evict::evicted_rows", WHOLE_FOLIOS),
    known_everywhere("everything", "full::streaming_to_a_full_disk", NO_RESERVATION),
    known_everywhere("fallocate", "full::streaming_to_a_full_disk", NO_RESERVATION),
];

/// Why the case is known to fail there, if it is.
pub fn known(filesystem: &str, refusal: Option<&str>, case: &str) -> Option<&'static str> {
    let refusal = refusal.unwrap_or("none");
    let is_it = |known: &&Known| {
        let at = known.filesystem == "*" || known.filesystem == filesystem;
        let without = known.refusal == "*" || refusal.starts_with(known.refusal);
        at && without && case.starts_with(known.case)
    };
    KNOWN.iter().find(is_it).map(|known| known.reason)
}
