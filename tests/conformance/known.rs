//! The list of known failures with their reasons: defects that are not fixed yet, and limits without some system call.
//!
//! Remove an entry when its defect is fixed. A case that passes needs no entry.

/// A case that is known to fail. The value `*` stands for every filesystem, or for every refusal.
struct Known {
    filesystem: &'static str,
    /// The refusal as text, or the start of that text. The value `none` means that no system call is refused.
    refusal: &'static str,
    /// The name of the case, or the start of the name.
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

/// Returns why the case is known to fail, or `None` if the case must pass.
pub fn known(filesystem: &str, refusal: Option<&str>, case: &str) -> Option<&'static str> {
    let refusal = refusal.unwrap_or("none");
    let is_it = |known: &&Known| {
        let at = known.filesystem == "*" || known.filesystem == filesystem;
        let without = known.refusal == "*" || refusal.starts_with(known.refusal);
        at && without && case.starts_with(known.case)
    };
    KNOWN.iter().find(is_it).map(|known| known.reason)
}
