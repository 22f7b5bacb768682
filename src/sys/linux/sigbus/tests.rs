//! Real faults, each in a process of its own: one that is not answered would end the test run.
#![allow(unsafe_code)]

mod answered;
mod concurrent;
mod handlers;
mod table;

use super::{MappedRange, Watch, watch};
use crate::sys::page_bytes;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// Runs `body` in a child process, by running this very test again, and says how that ended.
///
/// `test` is the test's path below the crate. In the child, the call does not return.
pub(super) fn in_child(test: &str, body: impl FnOnce()) -> Output {
    const CHILD: &str = "NDARRAY_MMAP_FAULT_CHILD";
    if env::var(CHILD).is_ok_and(|running| running == test) {
        body();
        std::process::exit(0);
    }
    let program = env::current_exe().unwrap();
    // Under a time limit: what must not happen to a fault is that it is answered for ever.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120"]).arg(program);
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, test);
    command.env("RUST_BACKTRACE", "0").output().unwrap()
}

/// The child's own assertions held.
#[track_caller]
pub(super) fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// The child was ended by the signal (`timeout` ends with the signal of its child, or says so in its code).
#[track_caller]
pub(super) fn assert_died_of(output: &Output, signal: i32) {
    let status = output.status;
    let died = status.signal() == Some(signal) || status.code() == Some(128 + signal);
    assert!(died, "{status}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A whole file, mapped shared and watched.
pub(super) struct Watched {
    pub(super) watch: Watch, // goes first
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
        // SAFETY: the memory is only ever accessed through volatile loads and stores.
        let memory = unsafe { MmapOptions::new().map_copy(&File::open(path).unwrap()) }.unwrap();
        Self::of(memory.into(), path, true, 0)
    }

    pub(super) fn of(memory: MmapRaw, path: &Path, writable: bool, file_offset: u64) -> Self {
        let (start, len) = (memory.as_ptr() as usize, memory.len());
        let range = MappedRange { start, len, file_offset, writable, path: path.into() };
        // SAFETY: the mapping is new, and `watch` goes before `memory`.
        let watch = unsafe { watch(&range) };
        Self { watch, memory, path: path.to_path_buf() }
    }

    /// A new file of so many pages, without a block on disk.
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
        // SAFETY: the address is inside the mapping, which the test has made writable.
        unsafe { self.address(index).write_volatile(value) }
    }

    pub(super) fn flush(&self) -> std::io::Result<()> {
        self.memory.flush()
    }

    /// Another process cuts the file.
    pub(super) fn truncate_to_pages(&self, pages: usize) {
        truncate(&self.path, page(pages));
    }

    /// Every access to an element faults from now on.
    pub(super) fn truncated(self) -> Self {
        self.truncate_to_pages(0);
        self
    }
}

/// Where page number `index` starts.
pub(super) fn page(index: usize) -> usize {
    index * page_bytes()
}

/// Another process sets the length of a file.
pub(super) fn truncate(path: &Path, len: usize) {
    assert!(Command::new("truncate").arg(format!("--size={len}")).arg(path).status().unwrap().success());
}

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
