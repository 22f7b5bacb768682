//! A disk whose power can be cut.
//!
//! No kernel here has device-mapper's `log-writes`, and a record of our own calls would not show what the file system
//! makes of them. So the disk is built of three file systems, each in a file of the one below:
//!
//! ```text
//! files          ext4, on a loop device: where the worker works
//! cache          ext4, on a loop device: holds the file `disk`; its page cache is the volatile cache of the disk, which
//!                keeps what was written until the file system above asks for a flush (a sync of `disk`)
//! platter        XFS with reflinks, on a loop device: holds the file `cache`, what is on the platter
//! ```
//!
//! To cut the power is to clone the file `cache` (`FICLONE`: one step, while everybody goes on working). The clone has what
//! was flushed, some of what was under way, and nothing else. Mounting it replays both journals, as a machine does that
//! comes up again.

use crate::loop_device::{MIB, Mount, Unavailable, make_image, run};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The disk, in use. Fields are in the order in which they have to go.
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
        // Holes: only what is written takes space.
        make_image(&platter_image, 1024 * MIB, false)?;
        run(Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&platter_image))?;
        let platter = Mount::image(&platter_image, &folder.path().join("platter"))?;
        let cache = make_ext4(&platter.0.join("cache"), 160 * MIB, &folder.path().join("cache"))?;
        let files = make_ext4(&cache.0.join("disk"), 96 * MIB, &folder.path().join("files"))?;
        run(Command::new("sync").arg("--file-system").arg(&files.0).arg(&cache.0))?;
        Ok(Self { files, _cache: cache, platter, folder })
    }

    /// Where to work.
    pub fn files(&self) -> &Path {
        &self.files.0
    }

    /// Cuts the power, and comes up again with what is on the platter, while the disk itself goes on.
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

/// What a power cut has left.
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
