//! What is known to fail, and why: defects that wait to be mended, and what a system without a call cannot do.

/// A case that fails on a filesystem, without a call, or wherever it runs (`*`).
struct Known {
    filesystem: &'static str,
    /// A refusal, or the start of one; `none` where every call is there.
    refusal: &'static str,
    case: &'static str,
    reason: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        filesystem: "*",
        refusal: "*",
        case: "full::streaming_to_a_full_disk",
        reason: "an array stays poisoned after a copy that found the disk full",
    },
    Known {
        filesystem: "overlay",
        refusal: "none",
        case: "evict::residency_is_what_mincore_says",
        reason: "cachestat knows nothing of the pages of the file below",
    },
];

/// Why the case is known to fail there, if it is.
pub fn known(filesystem: &str, refusal: Option<&str>, case: &str) -> Option<&'static str> {
    let refusal = refusal.unwrap_or("none");
    let is_it = |known: &&Known| {
        let at = known.filesystem == "*" || known.filesystem == filesystem;
        let without = known.refusal == "*" || refusal.starts_with(known.refusal);
        at && without && known.case == case
    };
    KNOWN.iter().find(is_it).map(|known| known.reason)
}
