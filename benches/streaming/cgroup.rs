//! One control group for each run, which counts and limits the memory of the run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use super::cleanup;

/// The names of the files of the memory controller, which differ between its two versions.
struct Layout {
    peak: &'static str,
    limit: &'static str,
}

const V1: Layout = Layout { peak: "memory.max_usage_in_bytes", limit: "memory.limit_in_bytes" };
const V2: Layout = Layout { peak: "memory.peak", limit: "memory.max" };

/// A control group for one run. Dropping the value removes the group.
pub struct Group {
    path: PathBuf,
    layout: &'static Layout,
}

impl Group {
    /// Makes a group whose processes may use `limit_bytes` of memory, including page cache.
    pub fn create(limit_bytes: Option<u64>) -> io::Result<Self> {
        let mut refusal = io::Error::other("no memory controller under /sys/fs/cgroup");
        for (parent, layout) in candidates() {
            match Self::create_under(&parent, layout, limit_bytes) {
                Ok(group) => return Ok(group),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn create_under(parent: &Path, layout: &'static Layout, limit_bytes: Option<u64>) -> io::Result<Self> {
        let path = parent.join(format!("ndarray-mmap-bench-{}", process::id()));
        fs::create_dir(&path)?;
        cleanup::remember(&path);
        let group = Self { path, layout };
        group.peak_bytes()?;
        if let Some(bytes) = limit_bytes {
            fs::write(group.path.join(layout.limit), bytes.to_string())?;
        }
        Ok(group)
    }

    /// Moves a process into the group. Processes that it starts later belong to the group as well.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// Returns the peak of the memory that was charged to the group: anonymous memory, page cache and kernel memory.
    pub fn peak_bytes(&self) -> io::Result<u64> {
        self.read(self.layout.peak)
    }

    fn read(&self, file: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.path.join(file))?;
        text.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        match cleanup::remove_group(&self.path) {
            Ok(()) => cleanup::forget(&self.path),
            Err(error) => eprintln!("{}: not removed: {error}", self.path.display()),
        }
    }
}

/// Returns the directories in which a group may be made. For each version of the memory controller, these are the root
/// of its hierarchy and the group of this process.
fn candidates() -> Vec<(PathBuf, &'static Layout)> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own_path = |controller: &str| {
        own.lines().find_map(|line| Some(line.split_once(controller)?.1.trim_start_matches('/').to_owned()))
    };
    let mut found = Vec::new();
    let mut add = |mount: &str, own: Option<String>, layout| {
        found.push((PathBuf::from(mount), layout));
        found.extend(own.map(|own| (Path::new(mount).join(own), layout)));
    };
    add("/sys/fs/cgroup/memory", own_path(":memory:"), &V1);
    add("/sys/fs/cgroup", own_path("0::"), &V2);
    found
}
