//! The file operations that every Unix has, each through the door of fault injection.

use super::inject::let_through;
use super::{Call, through};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(super::OPEN_FLAGS);
    options
}

/// Opens an existing file, for reading or for both.
pub(crate) fn open(path: &Path, writable: bool) -> io::Result<File> {
    through(Call::Open, || options().read(true).write(writable).open(path))
}

/// Creates a file that did not exist; never follows a link at its name.
pub(crate) fn create_exclusive(path: &Path) -> io::Result<File> {
    through(Call::Open, || options().read(true).write(true).create_new(true).open(path))
}

/// Creates every missing parent of `path`, and makes their names durable as far as directories can be read.
pub(crate) fn create_parents(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) else { return Ok(()) };
    create_parents(parent)?;
    match through(Call::Open, || fs::create_dir(parent)) {
        // Somebody else was faster, and makes it durable.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && parent.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            let above = parent.parent().unwrap_or(Path::new("/"));
            let Some(above) = open_directory(above)? else { return Ok(()) };
            sync_directory(Some(&above), &above)
        }
    }
}

pub(crate) fn set_len(file: &File, len: u64) -> io::Result<()> {
    super::check_file_size_limit(len)?;
    through(Call::Allocate, || file.set_len(len))
}

/// Makes the file `len` bytes long and takes disk space for all of them: by reservation, or, where the filesystem cannot
/// reserve, by writing zeros.
pub(crate) fn reserve_or_zero(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    super::check_file_size_limit(len)?;
    match super::reserve(file, 0..len) {
        Err(error) if super::is_unsupported(&error) => write_zeros(file, len),
        reserved => reserved,
    }
}

fn write_zeros(file: &File, len: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 1 << 20];
    let mut written = 0;
    while written < len {
        let block = ZEROS.len().min(usize::try_from(len - written).unwrap_or(usize::MAX));
        write_all_at(file, &ZEROS[..block], written)?;
        written += block as u64;
    }
    Ok(())
}

/// The file's bytes from the start, a block at a time.
pub(crate) fn reader(file: &File) -> impl io::Read + '_ {
    struct FromStart<'a>(&'a File, u64);
    impl io::Read for FromStart<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = read_at(self.0, buffer, self.1)?;
            self.1 += read as u64;
            Ok(read)
        }
    }
    io::BufReader::with_capacity(4096, FromStart(file, 0))
}

/// Reads what one call gives; 0 at the end of the file.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let len = let_through(Call::Read, buffer.len());
    through(Call::Read, || file.read_at(&mut buffer[..len], offset))
}

/// Reads into the whole buffer, or fails with `UnexpectedEof`.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, &mut buffer[filled..], offset + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}

/// Writes the whole buffer.
pub(crate) fn write_all_at(file: &File, buffer: &[u8], offset: u64) -> io::Result<()> {
    super::check_file_size_limit(offset.saturating_add(buffer.len() as u64))?;
    let mut written = 0;
    while written < buffer.len() {
        let len = let_through(Call::Write, buffer.len() - written);
        let block = &buffer[written..written + len];
        match through(Call::Write, || file.write_at(block, offset + written as u64))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => written += n,
        }
    }
    Ok(())
}

/// Makes data and length durable.
pub(crate) fn sync_all(file: &File) -> io::Result<()> {
    through(Call::Sync, || file.sync_all())
}

/// Makes data durable, and of the metadata what is needed to read it back.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    through(Call::Sync, || file.sync_data())
}

/// Renames over whatever holds the name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    through(Call::Publish, || fs::rename(from, to))
}

/// Gives the file a second name, which must be free.
pub(crate) fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    through(Call::Publish, || fs::hard_link(from, to))
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    through(Call::Remove, || fs::remove_file(path))
}

/// Opens a directory for [`sync_directory`]; `None` if it may be searched and written, but not read.
pub(crate) fn open_directory(path: &Path) -> io::Result<Option<File>> {
    match through(Call::Open, || File::open(path)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        opened => opened.map(Some),
    }
}

/// Makes the names in a directory durable. Where it could not be opened, or its filesystem knows no such call, by way of the
/// whole filesystem, which `file` lies on.
pub(crate) fn sync_directory(directory: Option<&File>, file: &File) -> io::Result<()> {
    through(Call::SyncDirectory, || match directory.map(File::sync_all) {
        Some(Err(error)) if error.raw_os_error() == Some(libc::EINVAL) || super::is_unsupported(&error) => {
            super::sync_filesystem(file)
        }
        Some(synced) => synced,
        None => super::sync_filesystem(file),
    })
}
