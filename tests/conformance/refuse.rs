//! The system calls that the kernel refuses while the cases run, as in sandboxes and on older kernels.

use crate::seccomp::{self, When};
use std::fmt;

/// The filesystems on which the cases run with each system call refused.
const FILESYSTEMS: [&str; 2] = ["ext4", "tmpfs"];

/// The filesystem of containers, on which the cases run with all system calls refused together.
const OF_CONTAINERS: &str = "overlay";

const SYS_CACHESTAT: libc::c_long = 451;

// A kernel or a filesystem that does not know a flag of these calls fails with `EOPNOTSUPP`.
const FLAGS_OF_READS: &str = "preadv2_flags";
const FLAGS_OF_WRITES: &str = "pwritev2_flags";
const ALL_BITS: libc::c_int = -1;

/// The names of everything that can be refused, and the system calls that each name stands for.
const CALLS: [(&str, &[(libc::c_long, When)]); 23] = [
    ("cachestat", &[(SYS_CACHESTAT, When::Always)]),
    ("aio", &[(libc::SYS_io_setup, When::Always), (libc::SYS_io_submit, When::Always)]),
    ("io_submit", &[(libc::SYS_io_submit, When::Always)]),
    ("io_getevents", &[(libc::SYS_io_getevents, When::Always)]),
    ("fadvise64", &[(libc::SYS_fadvise64, When::Always)]),
    ("syncfs", &[(libc::SYS_syncfs, When::Always)]),
    (FLAGS_OF_READS, &[(libc::SYS_preadv2, When::Bits(5, ALL_BITS))]),
    (FLAGS_OF_WRITES, &[(libc::SYS_pwritev2, When::Bits(5, ALL_BITS))]),
    ("preadv2", &[(libc::SYS_preadv2, When::Always)]),
    ("pwritev2", &[(libc::SYS_pwritev2, When::Always)]),
    ("memfd_create", &[(libc::SYS_memfd_create, When::Always)]),
    ("process_vm_readv", &[(libc::SYS_process_vm_readv, When::Always)]),
    ("sync_file_range", &[(libc::SYS_sync_file_range, When::Always)]),
    ("fallocate", &[(libc::SYS_fallocate, When::Always)]),
    ("renameat2", &[(libc::SYS_renameat2, When::Always)]),
    ("statx", &[(libc::SYS_statx, When::Always)]),
    ("mincore", &[(libc::SYS_mincore, When::Always)]),
    ("copy_file_range", &[(libc::SYS_copy_file_range, When::Always)]),
    (
        "populate",
        &[
            (libc::SYS_madvise, When::Equal(2, libc::MADV_POPULATE_READ)),
            (libc::SYS_madvise, When::Equal(2, libc::MADV_POPULATE_WRITE)),
        ],
    ),
    ("pageout", &[(libc::SYS_madvise, When::Equal(2, libc::MADV_PAGEOUT))]),
    (
        "locks",
        &[
            (libc::SYS_fcntl, When::Equal(1, libc::F_OFD_SETLK)),
            (libc::SYS_fcntl, When::Equal(1, libc::F_OFD_SETLKW)),
            (libc::SYS_fcntl, When::Equal(1, libc::F_OFD_GETLK)),
        ],
    ),
    ("tmpfile", &[(libc::SYS_openat, When::Bits(2, libc::O_TMPFILE & !libc::O_DIRECTORY))]),
    ("direct", &[(libc::SYS_openat, When::Bits(2, libc::O_DIRECT))]),
];

/// The name that stands for all entries of `CALLS` together.
const EVERYTHING: &str = "everything";

const ERRORS: [(&str, libc::c_int); 3] =
    [("ENOSYS", libc::ENOSYS), ("EPERM", libc::EPERM), ("EOPNOTSUPP", libc::EOPNOTSUPP)];

/// Returns the names of the errors with which calls of this name are refused.
fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        FLAGS_OF_READS | FLAGS_OF_WRITES => &["EOPNOTSUPP"],
        _ => &["ENOSYS", "EPERM"],
    }
}

/// A name from `CALLS`, or `everything`, and the error with which these system calls fail. Example: `cachestat+EPERM`.
#[derive(Clone, Debug)]
pub struct Refusal {
    call: String,
    error: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.call, self.error)
    }
}

impl Refusal {
    /// Parses a refusal. Returns `None` for the text `none`.
    pub fn parse(text: &str) -> Option<Self> {
        let (call, error) = text.split_once('+')?;
        let error = ERRORS.iter().find(|(name, _)| *name == error).expect("one of `ERRORS`").0;
        let is_known = call == EVERYTHING || CALLS.iter().any(|(name, _)| *name == call);
        assert!(is_known, "{call} is none of the calls that can be refused");
        Some(Self { call: call.to_owned(), error })
    }

    /// Returns the refusals that `NDARRAY_MMAP_REFUSALS` names, each with a filesystem. Without this variable, each
    /// name is refused once, with alternating errors and filesystems, and `everything` is also refused on the other
    /// filesystems.
    pub fn chosen() -> Vec<(Self, &'static str)> {
        let names = || CALLS.iter().map(|(name, _)| *name).chain([EVERYTHING]);
        let with = |call: &str, error| Self { call: call.to_owned(), error };
        let everywhere = |refusal: Self| {
            let in_containers = (refusal.call == EVERYTHING).then_some(OF_CONTAINERS);
            FILESYSTEMS.into_iter().chain(in_containers).map(move |at| (refusal.clone(), at))
        };
        match std::env::var("NDARRAY_MMAP_REFUSALS").as_deref() {
            Ok("none") => Vec::new(),
            Ok("all") => names()
                .flat_map(|call| errors_of(call).iter().map(move |error| with(call, error)))
                .flat_map(everywhere)
                .collect(),
            Ok(list) => list.split(',').filter_map(Self::parse).flat_map(everywhere).collect(),
            Err(_) => {
                let in_turn = names().enumerate().map(|(index, call)| {
                    let errors = errors_of(call);
                    (with(call, errors[index % errors.len()]), FILESYSTEMS[index / 2 % 2])
                });
                let others = [("ENOSYS", FILESYSTEMS[0]), ("EPERM", OF_CONTAINERS)];
                in_turn.chain(others.map(|(error, at)| (with(EVERYTHING, error), at))).collect()
            }
        }
    }

    pub fn is_about(&self, call: &str) -> bool {
        self.call == call || self.call == EVERYTHING
    }

    /// Makes the kernel refuse these system calls for this thread, and for all threads and processes that it starts.
    /// This cannot be undone.
    pub fn install(&self) -> Result<(), String> {
        let errno = ERRORS.iter().find(|(name, _)| *name == self.error).unwrap().1;
        let calls = CALLS.iter().filter(|(name, _)| self.is_about(name)).flat_map(|(_, calls)| *calls);
        let refusals: Vec<_> = calls.map(|&(call, when)| seccomp::Refusal { call, when, errno }).collect();
        seccomp::refuse(&refusals).map_err(|error| format!("no seccomp here: {error}"))
    }
}
