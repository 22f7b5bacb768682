//! Makes system calls fail, with a seccomp filter.

/// A system call that fails with a given error. If `argument` gives an index and a value, only calls with this argument
/// fail.
pub struct Refusal {
    pub call: libc::c_long,
    pub argument: Option<(u32, libc::c_int)>,
    pub errno: libc::c_int,
}

pub fn refusal(call: libc::c_long, errno: libc::c_int) -> Refusal {
    Refusal { call, argument: None, errno }
}

/// Makes the kernel refuse system calls of this thread, and of processes that it starts, until the thread ends. Prints `SKIPPED` and returns false if
/// this process may not install filters.
pub fn refuse(refusals: &[Refusal]) -> bool {
    let program = program(refusals);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the call changes one flag of this thread.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the pointer is to a live program of the length that it states.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if (promised, filtered) != (0, 0) {
        println!("SKIPPED: this process may not filter its system calls");
        eprintln!("SKIPPED: this process may not filter its system calls");
    }
    (promised, filtered) == (0, 0)
}

/// Returns the filter as a BPF program. For each refusal, the program compares the system call number, and returns the
/// error if the number matches.
fn program(refusals: &[Refusal]) -> Vec<libc::sock_filter> {
    let load = |offset| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let unless = |k, skip| libc::sock_filter { code: 0x15, jt: 0, jf: skip, k };
    let give = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let mut program = Vec::new();
    for Refusal { call, argument, errno } in refusals {
        program.extend([load(0), unless(*call as u32, if argument.is_some() { 3 } else { 1 })]);
        if let Some((index, value)) = argument {
            program.extend([load(16 + 8 * index), unless(*value as u32, 1)]);
        }
        program.push(give(libc::SECCOMP_RET_ERRNO | *errno as u32));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}
