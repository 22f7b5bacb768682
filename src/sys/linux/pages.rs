//! The pages of this process's mappings.
#![allow(unsafe_code)]

use crate::sys::failure::{check, overflow};
use crate::sys::inject::{Call, through};
use crate::sys::unix::page_bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Asks the kernel to reclaim the pages at these addresses. The kernel drops unchanged pages, and moves changed pages
/// to swap if the system has swap space. Fails with `EINVAL` before Linux 5.4. `start` is page-aligned.
pub(crate) fn page_out(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: reclaiming pages changes no bytes, whatever the memory is used for. Addresses that are not mapped are an
    // error.
    check(unsafe { libc::madvise(start.cast(), len, libc::MADV_PAGEOUT) })
}

/// Makes the pages at these addresses resident for reading. Fails with `EINVAL` before Linux 5.14. `start` is
/// page-aligned.
pub(crate) fn populate(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: reading pages changes no bytes, whatever the memory is used for. Addresses that are not mapped are an
    // error.
    check(unsafe { libc::madvise(start.cast(), len, libc::MADV_POPULATE_READ) })
}

/// Copies memory of this process with a system call. If a page does not exist, the call fails with `EFAULT`, and the
/// kernel sends no signal.
pub(crate) fn copy_mapped(from: *const u8, to: &mut [u8]) -> io::Result<()> {
    let this = std::process::id() as libc::pid_t; // the kernel's own type, from which the number was converted
    let mut done = 0;
    while done < to.len() {
        let rest = &mut to[done..];
        let len = rest.len();
        let target = libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: len };
        let source = libc::iovec { iov_base: from.wrapping_add(done).cast_mut().cast(), iov_len: len };
        let copied = through(Call::Read, || {
            // SAFETY: `target` describes `len` writable bytes of `to`. The kernel checks every page of `source`.
            let copied =
                unsafe { libc::process_vm_readv(this, &raw const target, 1, &raw const source, 1, 0) };
            usize::try_from(copied).map_err(|_| io::Error::last_os_error())
        })?;
        if copied == 0 {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        done += copied;
    }
    Ok(())
}

/// Returns one flag for each of `count` pages of a private mapping: whether the page was changed. A changed page is a
/// private copy of the file's page.
pub(crate) fn changed_pages(start: *const u8, count: usize) -> io::Result<Vec<bool>> {
    // Bits of an entry of `/proc/PID/pagemap`.
    const OF_FILE: u64 = 1 << 61;
    const SWAPPED: u64 = 1 << 62;
    const PRESENT: u64 = 1 << 63;
    let table = through(Call::Open, || File::open("/proc/self/pagemap"))?; // the table of this process, also in a child of `fork`
    let mut entries = vec![0; count.checked_mul(size_of::<u64>()).ok_or_else(overflow)?];
    let first = (start as usize / page_bytes() * size_of::<u64>()) as u64;
    through(Call::Read, || table.read_exact_at(&mut entries, first))?;
    let entry = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    let is_changed = |entry: u64| entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0;
    Ok(entries.chunks_exact(size_of::<u64>()).map(|bytes| is_changed(entry(bytes))).collect())
}
