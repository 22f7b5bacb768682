//! A simulated disk whose power can be cut.
//!
//! The kernels of the test machines lack device-mapper's `log-writes`. A log of the crate's own system calls would not
//! show in which order the file system writes to the disk. The disk is therefore built from three file systems, each in
//! a file on the one below:
//!
//! ```text
//! files          ext4 on a loop device; the worker writes its files here
//! cache          ext4 on a loop device; holds the file `disk`. The page cache of `disk` acts as the volatile cache of
//!                the disk: it keeps written blocks until the file system above requests a flush (a sync of `disk`)
//! platter        XFS with reflinks on a loop device; holds the file `cache`, which is the durable content of the disk
//! ```
//!
//! A power cut is a clone of the file `cache` (`FICLONE`, which is atomic even while other processes write). The clone
//! holds every flushed block and some of the blocks that were being written. Mounting the clone replays both journals,
//! like a machine that starts after a power cut.

use crate::loop_device::{MIB, Mount, Unavailable, make_image, run};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The mounted disk. Rust drops the fields in this order, so the top file system is unmounted first.
pub struct Disk {
    files: Mount,
    _cache: Mount,
    platter: Mount,
    folder: TempDir,
}

impl Disk {
    pub fn new() -> Result<Self, Unavailable> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let platter_image = folder.path().join("platter.img");
        // The image file is sparse, so only written blocks take disk space.
        make_image(&platter_image, 1024 * MIB, false)?;
        run(Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&platter_image))?;
        let platter = Mount::image(&platter_image, &folder.path().join("platter"))?;
        let cache = make_ext4(&platter.0.join("cache"), 160 * MIB, &folder.path().join("cache"))?;
        let files = make_ext4(&cache.0.join("disk"), 96 * MIB, &folder.path().join("files"))?;
        run(Command::new("sync").arg("--file-system").arg(&files.0).arg(&cache.0))?;
        Ok(Self { files, _cache: cache, platter, folder })
    }

    /// Returns the folder in which the worker writes.
    pub fn files(&self) -> &Path {
        &self.files.0
    }

    /// Clones the durable content of the disk and mounts the clone. The original disk stays in use.
    pub fn cut(&self) -> Cut {
        let clone = self.platter.0.join("cut");
        let _ = std::fs::remove_file(&clone);
        run(Command::new("cp").arg("--reflink=always").arg(self.platter.0.join("cache")).arg(&clone))
            .unwrap();
        let at = |name| self.folder.path().join(name);
        let cache = Mount::image(&clone, &at("cut-cache")).expect("the clone's journal is replayed");
        let files =
            Mount::image(&cache.0.join("disk"), &at("cut-files")).expect("the disk's journal is replayed");
        Cut { files, _cache: cache }
    }
}

/// The mounted files that exist after a simulated power cut.
pub struct Cut {
    files: Mount,
    _cache: Mount,
}

impl Cut {
    pub fn files(&self) -> &Path {
        &self.files.0
    }
}

fn make_ext4(image: &Path, len: u64, at: &Path) -> Result<Mount, Unavailable> {
    make_image(image, len, true)?;
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
        .arg(image))?;
    Mount::image(image, at)
}
