//! Tests with real faults. Each test runs in a process of its own, because a fault that is not handled ends the
//! process.
#![allow(unsafe_code)]

mod concurrent;
mod handlers;
mod reports;
mod table;

use super::{MappedRange, Watch, watch};
use crate::sys::page_bytes;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// Runs `body` in a child process and returns the child's output. The child is this test program, which runs only this
/// test.
///
/// `test` is the path of the test function inside the crate. In the child, the call does not return.
pub(super) fn in_child(test: &str, body: impl FnOnce()) -> Output {
    const CHILD: &str = "NDARRAY_MMAP_FAULT_CHILD";
    if env::var(CHILD).is_ok_and(|running| running == test) {
        body();
        std::process::exit(0);
    }
    let program = env::current_exe().unwrap();
    // The time limit ends a child that retries a fault for ever.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120"]).arg(program);
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, test);
    // The child creates its temporary folders in this folder. A child that a signal ends removes nothing.
    let folder = folder();
    command.env("TMPDIR", folder.path()).env("RUST_BACKTRACE", "0").output().unwrap()
}

/// Asserts that the child succeeded.
#[track_caller]
pub(super) fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Asserts that the signal ended the child. The command `timeout` either ends by the same signal, or exits with 128
/// plus the number of the signal.
#[track_caller]
pub(super) fn assert_died_of(output: &Output, signal: i32) {
    let status = output.status;
    let died = status.signal() == Some(signal) || status.code() == Some(128 + signal);
    assert!(died, "{status}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A whole file, mapped and watched.
pub(super) struct Watched {
    pub(super) watch: Watch, // dropped first
    memory: MmapRaw,
    pub(super) path: PathBuf,
}

impl Watched {
    pub(super) fn writable(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        Self::of(MmapOptions::new().map_raw(&file).unwrap(), path, true, 0)
    }

    pub(super) fn read_only(path: &Path) -> Self {
        Self::of(MmapOptions::new().map_raw_read_only(&File::open(path).unwrap()).unwrap(), path, false, 0)
    }

    pub(super) fn private(path: &Path) -> Self {
        // SAFETY: the memory is only accessed through volatile loads and stores.
        let memory = unsafe { MmapOptions::new().map_copy(&File::open(path).unwrap()) }.unwrap();
        Self::of(memory.into(), path, true, 0)
    }

    pub(super) fn of(memory: MmapRaw, path: &Path, writable: bool, file_offset: u64) -> Self {
        let (start, len) = (memory.as_ptr() as usize, memory.len());
        let range = MappedRange { start, len, file_offset, writable, path: path.into() };
        // SAFETY: the mapping is new and has the given range, and `watch` is dropped before `memory`.
        let watch = unsafe { watch(&range) };
        Self { watch, memory, path: path.to_path_buf() }
    }

    /// Creates and maps a new file of `pages` pages without any disk blocks.
    pub(super) fn sparse(folder: &Path, pages: usize) -> Self {
        let path = folder
            .join(format!("{pages}-pages-{:x}", env::args().count() * fs::read_dir(folder).unwrap().count()));
        File::create_new(&path).unwrap().set_len(page(pages) as u64).unwrap();
        Self::writable(&path)
    }

    pub(super) fn pages(&self) -> usize {
        self.memory.len() / page_bytes()
    }

    pub(super) fn address(&self, index: usize) -> *mut u8 {
        assert!(index < self.memory.len());
        self.memory.as_mut_ptr().wrapping_add(index)
    }

    pub(super) fn load(&self, index: usize) -> u8 {
        // SAFETY: the address is inside the mapping.
        unsafe { self.address(index).read_volatile() }
    }

    pub(super) fn store(&self, index: usize, value: u8) {
        // SAFETY: the address is inside the mapping, which the test has mapped writable.
        unsafe { self.address(index).write_volatile(value) }
    }

    pub(super) fn flush(&self) -> std::io::Result<()> {
        self.memory.flush()
    }

    /// Truncates the file in another process.
    pub(super) fn truncate_to_pages(&self, pages: usize) {
        truncate(&self.path, page(pages));
    }

    /// Truncates the file to zero bytes, so that every access to an element faults.
    pub(super) fn truncated(self) -> Self {
        self.truncate_to_pages(0);
        self
    }
}

/// Returns the offset of page number `index`.
pub(super) fn page(index: usize) -> usize {
    index * page_bytes()
}

/// Sets the length of a file in another process.
pub(super) fn truncate(path: &Path, len: usize) {
    assert!(Command::new("truncate").arg(format!("--size={len}")).arg(path).status().unwrap().success());
}

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
