//! Makes and mounts filesystems of a given kind. Each filesystem stays mounted until its value is dropped.

use crate::loop_device::{MIB, Mount, Unavailable, make_image, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use tempfile::TempDir;

/// The names that `Filesystem::make` accepts. `plain` is the build folder. A name with a slash is the path of an
/// existing folder.
pub const NAMES: [&str; 10] =
    ["ext4", "ext4-1k", "xfs", "btrfs", "overlay", "tmpfs", "plain", "vfat", "exfat", "nfs"];

/// The prefix of the names of temporary folders. The process id follows the prefix.
const PREFIX: &str = "ndarray-mmap-filesystems-";

/// A mounted filesystem of a known kind, and a folder on this filesystem.
pub struct Filesystem {
    pub name: String,
    pub directory: PathBuf,
    /// The filesystem is small and only this test uses it, so the test may fill it.
    pub is_private: bool,
    /// A mutex that a test locks while the test fills the disk, or while a full disk would disturb the test.
    pub in_use: Mutex<()>,
    /// The mounts, from the top filesystem to the bottom one. Rust drops the mounts in this order.
    _mounts: Vec<Mount>,
    _folder: TempDir,
}

impl Filesystem {
    /// Makes the filesystem, mounts it, and returns a folder on it.
    pub fn make(name: &str) -> Result<Self, Unavailable> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .map_err(|error| error.to_string())?;
        let at = folder.path().join("mounted");
        let image =
            |size_mib, mkfs: &mut Command| mount_image(&folder.path().join("image"), size_mib, mkfs, &at);
        let mounts = match name {
            "ext4" => vec![image(96, Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096"]))?],
            "ext4-1k" => vec![image(96, Command::new("mkfs.ext4").args(["-q", "-F", "-b", "1024"]))?],
            "xfs" => vec![image(300, Command::new("mkfs.xfs").arg("-q"))?],
            "btrfs" => vec![image(512, Command::new("mkfs.btrfs").arg("-q"))?],
            "vfat" => vec![image(96, Command::new("mkfs.vfat").args(["-F", "32"]))?],
            "exfat" => vec![image(96, &mut Command::new("mkfs.exfat"))?],
            "overlay" => {
                let below = folder.path().join("below");
                let mkfs = &mut Command::new("mkfs.ext4");
                let disk = mount_image(&folder.path().join("image"), 96, mkfs.args(["-q", "-F"]), &below)?;
                vec![mount_overlay(&below, &at)?, disk]
            }
            "tmpfs" => {
                match Mount::with(
                    Command::new("mount").args(["-t", "tmpfs", "-o", "size=160m", "tmpfs"]),
                    &at,
                ) {
                    Ok(mount) => vec![mount],
                    Err(_) => return Self::in_folder(name, Path::new("/dev/shm")),
                }
            }
            "plain" => return Self::in_folder(name, Path::new(env!("CARGO_TARGET_TMPDIR"))),
            "nfs" => return Err("no server here; name a folder that is mounted from one instead".to_owned()),
            path if path.contains('/') => return Self::in_folder(name, Path::new(path)),
            _ => return Err(format!("there are {NAMES:?}, and folders")),
        };
        let directory = at.join("work");
        std::fs::create_dir(&directory).map_err(|error| error.to_string())?;
        Ok(Self {
            name: name.to_owned(),
            directory,
            is_private: true,
            in_use: Mutex::new(()),
            _mounts: mounts,
            _folder: folder,
        })
    }

    fn in_folder(name: &str, folder: &Path) -> Result<Self, Unavailable> {
        let builder = || {
            tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir_in(folder)
        };
        let folder = builder().map_err(|error| format!("{folder:?}: {error}"))?;
        let (name, directory) = (name.to_owned(), folder.path().to_path_buf());
        Ok(Self {
            name,
            directory,
            is_private: false,
            in_use: Mutex::new(()),
            _mounts: Vec::new(),
            _folder: folder,
        })
    }
}

fn mount_image(image: &Path, size_mib: u64, mkfs: &mut Command, at: &Path) -> Result<Mount, Unavailable> {
    make_image(image, size_mib * MIB, false)?;
    run(mkfs.arg(image))?;
    Mount::image(image, at)
}

fn mount_overlay(below: &Path, at: &Path) -> Result<Mount, Unavailable> {
    for name in ["lower", "upper", "work"] {
        std::fs::create_dir(below.join(name)).map_err(|error| error.to_string())?;
    }
    let below = below.display();
    let options = format!("lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work");
    Mount::with(Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay"]), at)
}

/// Unmounts the filesystems and removes the folders that killed test runs have left.
pub fn sweep() {
    for parent in [env!("CARGO_TARGET_TMPDIR"), "/dev/shm"] {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            let is_dead = process.is_some_and(|process| !Path::new("/proc").join(process).exists());
            if is_dead {
                unmount_under(&entry.path());
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn unmount_under(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let mut points: Vec<_> = points.filter(|point| point.starts_with(folder)).collect();
    points.reverse(); // a later mount may lie on an earlier mount, so the later mount is unmounted first
    points.into_iter().for_each(|point| drop(Mount(point)));
}
