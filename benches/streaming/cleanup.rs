//! Removes folders, control groups and processes when the benchmark ends, also when a signal ends it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::os;

static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// The process of the running contender, which leads a process group; 0 if no contender runs.
static CONTENDER: AtomicU32 = AtomicU32::new(0);

fn folders() -> MutexGuard<'static, Vec<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a folder that is removed when a signal stops the benchmark.
pub fn remember(folder: &Path) {
    folders().push(folder.to_owned());
}

/// Removes a folder from the list. Call this function when the folder has been removed.
pub fn forget(folder: &Path) {
    folders().retain(|other| other != folder);
}

/// Sets the process to kill when a signal stops the benchmark; 0 if there is none.
pub fn set_contender(pid: u32) {
    CONTENDER.store(pid, Ordering::SeqCst);
}

/// Cleans up when a signal asks the benchmark to stop. Call this function before any thread is started.
pub fn on_stop_signals() {
    os::hold_stop_signals();
    thread::spawn(|| {
        os::wait_for_stop();
        stop();
    });
}

fn stop() -> ! {
    let contender = CONTENDER.load(Ordering::SeqCst);
    if contender != 0 {
        os::kill_group(contender);
    }
    for folder in folders().iter() {
        if let Err(error) = remove(folder) {
            eprintln!("{}: not removed: {error}", folder.display());
        }
    }
    process::exit(130)
}

/// Removes a folder with its content, or a control group.
fn remove(folder: &Path) -> io::Result<()> {
    if folder.starts_with("/sys/fs/cgroup") { remove_group(folder) } else { fs::remove_dir_all(folder) }
}

/// Removes a control group. Tries again for a while, because the kernel refuses to remove a group that still contains a
/// process.
pub fn remove_group(folder: &Path) -> io::Result<()> {
    for _ in 0..100 {
        if fs::remove_dir(folder).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    fs::remove_dir(folder)
}
