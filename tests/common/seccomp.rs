//! Makes the kernel refuse system calls, as sandboxes and older kernels do. The refusal uses seccomp.

use std::io;

/// The condition under which a system call is refused.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "not every program that includes this file uses every condition")]
pub enum When {
    Always,
    /// The argument with this index has this value.
    Equal(u32, libc::c_int),
    /// The argument with this index has at least one of these bits.
    Bits(u32, libc::c_int),
}

/// A system call, the condition under which it is refused, and the error with which it fails.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub call: libc::c_long,
    pub when: When,
    pub errno: libc::c_int,
}

// Instruction codes of the kernel's packet filters (BPF). A seccomp filter is such a program.
const LOAD: u16 = 0x20;
const SKIP_UNLESS_EQUAL: u16 = 0x15;
const SKIP_UNLESS_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Makes the kernel refuse system calls of this thread, and of all threads and processes that this thread starts. This
/// cannot be undone. Returns an error if the kernel does not permit such a filter.
pub fn refuse(refusals: &[Refusal]) -> io::Result<()> {
    let mut program: Vec<_> = refusals.iter().flat_map(instructions).collect();
    program.push(instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the call changes one flag of this thread.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: `filter` points to a live program and has the length of that program.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if (promised, filtered) == (0, 0) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns an instruction. `skip` is the number of instructions that are skipped if a comparison fails.
fn instruction(code: u16, k: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: skip, k }
}

/// Returns the part of a filter that returns the error if this system call is made and the condition is met.
fn instructions(refusal: &Refusal) -> Vec<libc::sock_filter> {
    let argument = |index: u32| instruction(LOAD, 16 + 8 * index, 0); // the lower half of the argument (little-endian)
    let condition = match refusal.when {
        When::Always => vec![],
        When::Equal(index, value) => vec![argument(index), instruction(SKIP_UNLESS_EQUAL, value as u32, 1)],
        When::Bits(index, bits) => vec![argument(index), instruction(SKIP_UNLESS_BITS, bits as u32, 1)],
    };
    let skip = 1 + condition.len() as u8;
    let is_call = [instruction(LOAD, 0, 0), instruction(SKIP_UNLESS_EQUAL, refusal.call as u32, skip)];
    let fail = instruction(RETURN, libc::SECCOMP_RET_ERRNO | refusal.errno as u32, 0);
    is_call.into_iter().chain(condition).chain([fail]).collect()
}
