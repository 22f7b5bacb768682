//! Refused system calls of a test that ends with `SKIPPED` if it may not refuse any.

use crate::seccomp::{self, When};

pub use crate::seccomp::Refusal;

pub fn refusal(call: libc::c_long, errno: libc::c_int) -> Refusal {
    Refusal { call, when: When::Always, errno }
}

/// Makes the kernel refuse system calls of this thread, and of processes that it starts, until the thread ends. Prints
/// `SKIPPED` and returns false if this process may not install filters.
pub fn refuse(refusals: &[Refusal]) -> bool {
    let refused = seccomp::refuse(refusals);
    if refused.is_err() {
        println!("SKIPPED: this process may not filter its system calls");
        eprintln!("SKIPPED: this process may not filter its system calls");
    }
    refused.is_ok()
}
