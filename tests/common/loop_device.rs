//! Image files that hold a filesystem and are mounted by loop devices. Some tests need a disk that no other program
//! uses.

use std::path::{Path, PathBuf};
use std::process::Command;

pub const MIB: u64 = 1 << 20;

/// The reason why this machine cannot make a filesystem.
pub type Unavailable = String;

/// A mounted filesystem. Dropping the value unmounts the filesystem and detaches its loop device.
pub struct Mount(pub PathBuf);

impl Mount {
    /// Mounts an image file on the folder `at`.
    pub fn image(image: &Path, at: &Path) -> Result<Self, Unavailable> {
        Self::with(Command::new("mount").args(["-o", "loop"]).arg(image), at)
    }

    /// Runs a `mount` command with the folder `at` as its last argument.
    pub fn with(command: &mut Command, at: &Path) -> Result<Self, Unavailable> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        run(command.arg(at))?;
        Ok(Self(at.to_path_buf()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // `mount -o loop` marks the loop device so that the kernel detaches it on unmount.
        if run(Command::new("umount").arg(&self.0)).is_err() {
            let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
        }
    }
}

/// Makes an image file of `len` bytes. The file is filled with zeros if `allocated` is true, and sparse otherwise.
pub fn make_image(path: &Path, len: u64, allocated: bool) -> Result<(), Unavailable> {
    let made = if allocated {
        std::fs::write(path, vec![0; usize::try_from(len).unwrap()])
    } else {
        std::fs::File::create(path).and_then(|file| file.set_len(len))
    };
    made.map_err(|error| format!("{path:?} cannot be made: {error}"))
}

/// Runs a command. Returns the output of the command as an error if the command fails.
pub fn run(command: &mut Command) -> Result<(), Unavailable> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
