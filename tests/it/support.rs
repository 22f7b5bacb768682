//! Helpers that several modules share.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Creates a temporary folder on a disk. On tmpfs, tests of the page cache would be meaningless.
pub fn disk_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("ndarray-mmap-test-").tempdir_in(disk_directory()).unwrap()
}

/// Creates a temporary folder on tmpfs if `/dev/shm` exists. Tests that use many small files and do not test the disk
/// should use this folder.
pub fn memory_folder() -> tempfile::TempDir {
    let builder = || tempfile::Builder::new().prefix("ndarray-mmap-test-").tempdir_in("/dev/shm");
    builder().unwrap_or_else(|_| disk_folder())
}

/// Names the folder in which a child process creates its temporary folders. The parent removes that folder, because a
/// child that a signal ends removes nothing.
pub const FOLDER_OF_CHILD: &str = "NDARRAY_MMAP_TEST_FOLDER";

/// Returns the folder `CARGO_TARGET_TMPDIR` in the build directory, which is normally on a disk. In a child process,
/// returns the folder that the parent created there.
pub fn disk_directory() -> PathBuf {
    std::env::var_os(FOLDER_OF_CHILD).map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

/// Returns for each page of the file whether the page is in the page cache. The function calls `mincore` on a mapping
/// of its own, so the answer does not depend on the crate.
pub fn cached_pages(path: &Path) -> Vec<bool> {
    let file = File::open(path).unwrap();
    let map = memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap();
    let pages = map.len().div_ceil(4096);
    let mut answer = vec![0_u8; pages];
    // SAFETY: the mapping is live and `answer` has a byte for each of its pages.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), answer.as_mut_ptr()) };
    assert_eq!(result, 0);
    answer.into_iter().map(|state| state & 1 == 1).collect()
}

/// Returns how many pages of a part of the file are dirty or under write-back, by `cachestat(2)`. Returns `None` if the
/// kernel lacks `cachestat`.
pub fn dirty_pages(path: &Path, range: Range<u64>) -> Option<u64> {
    const SYS_CACHESTAT: libc::c_long = 451;
    let file = File::open(path).unwrap();
    let range = [range.start, range.end - range.start];
    let mut answer = [0_u64; 5]; // cached, dirty, under write-back, evicted, recently evicted
    // SAFETY: both pointers are to live arrays with the layout that the kernel documents, and `answer` is writable.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), range.as_ptr(), answer.as_mut_ptr(), 0) };
    (result == 0).then_some(answer[1] + answer[2])
}

/// Returns the names of the entries of a directory, sorted.
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns how many mappings of this process belong to files below a directory.
pub fn mappings_under(directory: &Path) -> usize {
    let directory = directory.to_str().unwrap();
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .filter(|line| line.contains(directory))
        .count()
}

/// Prints that a test could not run on this machine, and the reason.
pub fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// Runs a test again in a child process, and asserts that the test passes there.
///
/// Returns true in the child process, where the test must do its work. No other test runs in the child process, so no
/// other test opens files, maps memory or changes limits there.
pub fn is_alone(test: &str) -> bool {
    const ALONE: &str = "NDARRAY_MMAP_TEST_ALONE";
    if std::env::var_os(ALONE).is_some_and(|name| name == test) {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, test)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{test} failed in its child process");
    false
}

/// A mounted tmpfs of a given size. Dropping the value unmounts the tmpfs.
pub struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// Mounts a tmpfs. Prints `SKIPPED` and returns `None` if this process may not mount filesystems.
    pub fn mount(options: &str) -> Option<Self> {
        let folder = disk_folder();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "ndarray-mmap-test"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        skipped("this process may not mount a tmpfs");
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A mounted overlay of two folders on a disk. Dropping the value unmounts the overlay.
pub struct Overlay(tempfile::TempDir);

impl Overlay {
    /// Mounts an overlay after `fill` has put files into its lower folder. Prints `SKIPPED` and returns `None` if this
    /// process may not mount filesystems.
    pub fn mount(fill: impl FnOnce(&Path)) -> Option<Self> {
        let folder = disk_folder();
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        fill(&folder.path().join("lower"));
        let mounted = Command::new("mount")
            .args(["-t", "overlay", "-o", "lowerdir=lower,upperdir=upper,workdir=work", "ndarray-mmap-test"])
            .arg("merged")
            .current_dir(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        skipped("this process may not mount an overlay");
        None
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("merged")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Returns a command for a Python with numpy: `NDARRAY_MMAP_PYTHON` if it is set, or `python3`. Prints `SKIPPED` and
/// returns `None` if numpy is missing.
pub fn numpy() -> Option<Command> {
    let python = std::env::var_os("NDARRAY_MMAP_PYTHON").unwrap_or_else(|| "python3".into());
    let has_numpy = Command::new(&python).args(["-c", "import numpy"]).output();
    if has_numpy.is_ok_and(|output| output.status.success()) {
        return Some(Command::new(python));
    }
    skipped("no numpy: NDARRAY_MMAP_PYTHON can name a Python that has it");
    None
}

/// Returns an NPY header of version 1 with the padding that numpy uses. The function does not check `descr` and
/// `shape`.
pub fn numpy_header(descr: &str, shape: &str) -> Vec<u8> {
    let descr = if descr.starts_with('[') { descr.to_owned() } else { format!("'{descr}'") };
    let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
    let padding = 63 - (10 + text.len()) % 64;
    let text = format!("{text}{:padding$}\n", "");
    [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Returns whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: `geteuid` has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Creates a temporary folder that every user may list and search.
pub fn public_folder() -> tempfile::TempDir {
    let public = tempfile::Builder::new().prefix("ndarray-mmap-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(public.path(), PermissionsExt::from_mode(0o755)).unwrap();
    public
}

/// Runs an ignored test of this program as another user, with `variable` set to `value` in the environment.
///
/// Prints `SKIPPED` and returns false if the process is not root or the program `setpriv` is missing.
pub fn run_as_somebody_else(test: &str, variable: &str, value: &Path) -> bool {
    if Command::new("setpriv").arg("--version").output().is_err() || !is_root() {
        skipped("a test as another user needs root and setpriv");
        return false;
    }
    // The other user may have no access to the build folder, so the function copies the test program to a public
    // folder.
    let public = public_folder();
    let program = public.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(variable, value)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    true
}
