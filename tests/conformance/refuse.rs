//! Makes the kernel refuse system calls, as sandboxes and older kernels do. The refusal uses seccomp and affects a
//! whole process.

use std::fmt;

/// The filesystems on which the cases run with refused system calls.
pub const FILESYSTEMS: [&str; 2] = ["ext4", "tmpfs"];

/// The condition under which a system call is refused.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    /// The argument with this index has this value.
    Equal(u32, libc::c_int),
    /// The argument with this index has at least one of these bits.
    Bits(u32, libc::c_int),
}

const SYS_CACHESTAT: libc::c_long = 451;

/// The names of everything that can be refused, and the system calls that each name stands for.
const CALLS: [(&str, &[(libc::c_long, When)]); 17] = [
    ("cachestat", &[(SYS_CACHESTAT, When::Always)]),
    ("aio", &[(libc::SYS_io_setup, When::Always), (libc::SYS_io_submit, When::Always)]),
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

const ERRORS: [(&str, libc::c_int); 2] = [("ENOSYS", libc::ENOSYS), ("EPERM", libc::EPERM)];

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
        let error = ERRORS.iter().find(|(name, _)| *name == error).expect("ENOSYS or EPERM").0;
        let is_known = call == EVERYTHING || CALLS.iter().any(|(name, _)| *name == call);
        assert!(is_known, "{call} is none of the calls that can be refused");
        Some(Self { call: call.to_owned(), error })
    }

    /// Returns the refusals that `NDARRAY_MMAP_REFUSALS` names, each with a filesystem. Without this variable, each
    /// name is refused once, with alternating errors and filesystems, and `everything` is refused once with each error.
    pub fn chosen() -> Vec<(Self, &'static str)> {
        let everywhere = |refusal: Self| FILESYSTEMS.map(|filesystem| (refusal.clone(), filesystem));
        let names = || CALLS.iter().map(|(name, _)| *name).chain([EVERYTHING]);
        let with = |call: &str, (error, _): (&'static str, i32)| Self { call: call.to_owned(), error };
        match std::env::var("NDARRAY_MMAP_REFUSALS").as_deref() {
            Ok("none") => Vec::new(),
            Ok("all") => {
                names().flat_map(|call| ERRORS.map(|error| with(call, error))).flat_map(everywhere).collect()
            }
            Ok(list) => list.split(',').filter_map(Self::parse).flat_map(everywhere).collect(),
            Err(_) => {
                let in_turn = names()
                    .enumerate()
                    .map(|(index, call)| (with(call, ERRORS[index % 2]), FILESYSTEMS[index / 2 % 2]));
                in_turn.chain([(with(EVERYTHING, ERRORS[0]), FILESYSTEMS[0])]).collect()
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
        let mut program = vec![];
        for (_, calls) in CALLS.iter().filter(|(name, _)| self.is_about(name)) {
            calls.iter().for_each(|&(call, when)| refuse(&mut program, call, when, errno));
        }
        program.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the call changes one flag of this thread.
        let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: `filter` points to a live program and has the length of that program.
        let filtered =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
        let error = std::io::Error::last_os_error();
        if (promised, filtered) == (0, 0) { Ok(()) } else { Err(format!("no seccomp here: {error}")) }
    }
}

// Instruction codes of the kernel's packet filters (BPF). A seccomp filter is such a program.
const LOAD: u16 = 0x20;
const SKIP_UNLESS_EQUAL: u16 = 0x15;
const SKIP_UNLESS_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

fn statement(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// Adds instructions to a filter. They return the error if this system call is made and the condition is met.
fn refuse(program: &mut Vec<libc::sock_filter>, call: libc::c_long, when: When, errno: libc::c_int) {
    let unless = |code, k, skip| libc::sock_filter { code, jt: 0, jf: skip, k };
    let argument = |number: u32| statement(LOAD, 16 + 8 * number); // the lower half of the argument (little-endian)
    program.push(statement(LOAD, 0));
    let skipped = if matches!(when, When::Always) { 1 } else { 3 };
    program.push(unless(SKIP_UNLESS_EQUAL, call as u32, skipped));
    match when {
        When::Always => {}
        When::Equal(number, value) => {
            program.extend([argument(number), unless(SKIP_UNLESS_EQUAL, value as u32, 1)]);
        }
        When::Bits(number, bits) => {
            program.extend([argument(number), unless(SKIP_UNLESS_BITS, bits as u32, 1)]);
        }
    }
    program.push(statement(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32));
}
