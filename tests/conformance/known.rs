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

const FULL_DISK: &str = "an array stays poisoned after a copy that found the disk full";
const NO_ERROR_OF_ITS_OWN: &str = "the crate takes the refusal for an error of the file";
const UNTRIED: &str = "residency asks the next call only after ENOSYS, not after EPERM";
const NOBODY_TO_ASK: &str =
    "without cachestat and mincore nobody knows what is cached: residency is an error";

const READ_THROUGH_MAPPING: &str = "streams read private copies through the mapping, where a cut is SIGBUS";

const KNOWN: &[Known] = &[
    known_everywhere("*", "full::streaming_to_a_full_disk", FULL_DISK),
    Known {
        filesystem: "overlay",
        refusal: "none",
        case: "evict::residency_is_what_mincore_says",
        reason: "cachestat does not count the pages of the file below",
    },
    known_everywhere("everything", "evict::residency_is_what_mincore_says", NOBODY_TO_ASK),
    known_everywhere("everything", "", NO_ERROR_OF_ITS_OWN),
    known_everywhere("cachestat+EPERM", "evict::residency_is_what_mincore_says", UNTRIED),
    known_everywhere("pwritev2+EPERM", "", NO_ERROR_OF_ITS_OWN),
    known_everywhere("sync_file_range", "", NO_ERROR_OF_ITS_OWN),
    known_everywhere("fallocate+EPERM", "", NO_ERROR_OF_ITS_OWN),
    known_everywhere("locks+EPERM", "", NO_ERROR_OF_ITS_OWN),
    known_everywhere("populate", "", NO_ERROR_OF_ITS_OWN),
    known_everywhere("pageout", "", NO_ERROR_OF_ITS_OWN),
    known_everywhere("process_vm_readv", "truncate::small", READ_THROUGH_MAPPING),
    known_everywhere("process_vm_readv", "truncate::large", READ_THROUGH_MAPPING),
    known_everywhere("renameat2+EPERM", "files::new_files_and_names", NO_ERROR_OF_ITS_OWN),
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
