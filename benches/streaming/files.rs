//! The files of a run: creates them, sets their page-cache state before each contender, and removes them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use super::plan::{Cache, GIB, MIB, Match, Work};
use super::{cleanup, os};

/// The most disk space that a run may take.
const MOST_BYTES: u64 = 30 * GIB;
const PREFIX: &str = "ndarray-mmap-bench-";
const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;
/// The length of the header of the NPY files that are made here.
const NPY_HEADER_BYTES: usize = 128;

/// A folder with the sources, and a folder inside it for the outputs. Dropping the value removes both folders.
pub struct Files {
    folder: PathBuf,
    outputs: PathBuf,
}

impl Files {
    /// Makes the folder for files of `needed_bytes` in `parent`, or in the first of the usual temporary folders that lies on a disk.
    pub fn create(parent: Option<&Path>, needed_bytes: u64) -> io::Result<Self> {
        let parent = match parent {
            Some(parent) => parent
                .canonicalize()
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", parent.display())))?,
            None => default_parent()?,
        };
        refuse_memory_filesystem(&parent)?;
        remove_leftovers(&parent)?;
        check_space(&parent, needed_bytes)?;
        let folder = parent.join(format!("{PREFIX}{}", process::id()));
        let outputs = folder.join("outputs");
        fs::create_dir(&folder)?;
        cleanup::remember(&folder);
        fs::create_dir(&outputs)?;
        Ok(Self { folder, outputs })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn outputs(&self) -> &Path {
        &self.outputs
    }

    /// Returns the source of a match. The first call makes it.
    pub fn source(&self, work: Work, bytes: u64) -> io::Result<PathBuf> {
        let extension = if work == Work::CopyNpy { "npy" } else { "bin" };
        let path = self.folder.join(format!("source-{}MiB.{extension}", bytes / MIB));
        if !path.exists() {
            let npy = work == Work::CopyNpy;
            let rows = bytes as usize / 4 / work.columns();
            let header = if npy { npy_header(rows, work.columns(), false) } else { Vec::new() };
            write_source(&path, bytes, &header)?;
        }
        Ok(path)
    }

    /// Returns the list of rows that a gather reads. The first call makes it.
    pub fn index(&self, work: Work, rows: usize) -> io::Result<PathBuf> {
        let path = self.folder.join(format!("{}.index", work.name()));
        if !path.exists() {
            fs::write(&path, bytemuck::cast_slice::<u64, u8>(&index(work, rows)))?;
        }
        Ok(path)
    }

    /// Deletes the outputs of the contenders, and syncs the filesystem.
    pub fn clear_outputs(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.outputs)? {
            fs::remove_file(entry?.path())?;
        }
        os::sync_filesystem(&File::open(&self.outputs)?)
    }

    /// Touches as much memory as a run can need, so that a virtual machine does not have to get memory from its host
    /// during the run.
    ///
    /// Reads a sparse file, because its pages come from the same free lists as the pages that the page cache needs
    /// later.
    pub fn touch_memory(&self, bytes: u64) -> io::Result<()> {
        let path = self.folder.join("hole");
        let hole = OpenOptions::new().write(true).create_new(true).open(&path)?;
        hole.set_len(bytes.min(available_memory_bytes() / 2))?;
        read_through(&path)?;
        fs::remove_file(&path)
    }

    /// Returns how many bytes of the outputs are in the page cache now.
    pub fn cached_output_bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.outputs) else { return 0 };
        let files = entries.filter_map(|entry| File::open(entry.ok()?.path()).ok());
        files.filter_map(|file| os::cached_bytes(&file).ok()).sum()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.folder) {
            Ok(()) => cleanup::forget(&self.folder),
            Err(error) => eprintln!("{}: not removed: {error}", self.folder.display()),
        }
    }
}

/// Brings the pages of the source into the page-cache state that the match needs, and checks this state.
///
/// Warm pages are dropped and read again each time. Otherwise the size of the cached folios would depend on the
/// previous contender: random access to a mapping leaves single pages in the page cache, and `read` leaves large
/// folios. Single pages made the next contender a third slower.
pub fn set_cache(source: &Path, cache: Cache) -> io::Result<()> {
    let file = File::open(source)?;
    let length = file.metadata()?.len();
    for _ in 0..20 {
        file.sync_all()?;
        os::drop_cached(&file)?;
        match cache {
            Cache::Cold if os::cached_bytes(&file)? == 0 => return Ok(()),
            Cache::Cold => {}
            Cache::Warm => {
                read_through(source)?;
                if os::cached_bytes(&file)? >= length {
                    return Ok(());
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let found = os::cached_bytes(&file)?;
    Err(io::Error::other(format!("{}: not {}: {found} bytes resident", source.display(), cache.name())))
}

fn read_through(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; MIB as usize];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

fn available_memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn default_parent() -> io::Result<PathBuf> {
    let candidates = [std::env::temp_dir(), PathBuf::from(env!("CARGO_TARGET_TMPDIR"))];
    let on_disk = candidates.into_iter().find(|folder| refuse_memory_filesystem(folder).is_ok());
    on_disk.ok_or_else(|| io::Error::other("found no folder on a disk: name one with --dir"))
}

fn refuse_memory_filesystem(folder: &Path) -> io::Result<()> {
    let magic = os::filesystem_magic(&File::open(folder)?)?;
    if magic == TMPFS_MAGIC || magic == RAMFS_MAGIC {
        let problem =
            format!("{}: the filesystem is in memory; name a folder on a disk with --dir", folder.display());
        return Err(io::Error::other(problem));
    }
    Ok(())
}

/// Removes the folders of benchmark processes that were killed.
fn remove_leftovers(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Returns the disk space that these matches need.
pub fn needed_bytes(matches: &[Match]) -> u64 {
    let mut sources: Vec<_> =
        matches.iter().map(|one| (one.work == Work::CopyNpy, one.source_bytes)).collect();
    sources.sort_unstable();
    sources.dedup();
    let source_bytes: u64 = sources.iter().map(|(_, bytes)| bytes).sum();
    let target_bytes = matches.iter().map(|one| one.work.target_bytes(one.source_bytes)).max().unwrap_or(0);
    source_bytes + target_bytes + GIB / 4
}

fn check_space(parent: &Path, needed: u64) -> io::Result<()> {
    let free = os::free_bytes(&File::open(parent)?)?;
    if needed > free.min(MOST_BYTES) {
        let problem = format!("{}: needs {needed} bytes, {free} are free", parent.display());
        return Err(io::Error::new(io::ErrorKind::StorageFull, problem));
    }
    Ok(())
}

/// Writes the header, and then `bytes` of coordinates between 1 and 100.
pub fn write_source(path: &Path, bytes: u64, header: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let mut writer = BufWriter::with_capacity(4 * MIB as usize, &file);
    writer.write_all(header)?;
    let mut block = vec![0_f32; MIB as usize / 4];
    for position in 0..bytes.div_ceil(MIB) {
        fill_with_coordinates(&mut block, position);
        let left = (bytes - position * MIB).min(MIB) as usize;
        writer.write_all(&bytemuck::cast_slice(&block)[..left])?;
    }
    writer.flush()?;
    drop(writer);
    file.sync_all()
}

/// Makes the NPY header of an array of `f32` in C or Fortran order.
pub fn npy_header(rows: usize, columns: usize, fortran: bool) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((NPY_HEADER_BYTES as u16 - 10).to_le_bytes());
    header.extend(
        format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': ({rows}, {columns}), }}").into_bytes(),
    );
    header.resize(NPY_HEADER_BYTES - 1, b' ');
    header.push(b'\n');
    header
}

fn fill_with_coordinates(block: &mut [f32], position: u64) {
    let mut random = Random(position + 1);
    for value in block {
        *value = 1.0 + (random.next() >> 40) as f32 * (99.0 / (1 << 24) as f32);
    }
}

/// Picks rows, each at most once, in ascending or in random order.
fn index(work: Work, rows: usize) -> Vec<u64> {
    let mut all: Vec<u64> = (0..rows as u64).collect();
    let mut random = Random(rows as u64);
    for place in (1..rows).rev() {
        all.swap(place, (random.next() % (place as u64 + 1)) as usize);
    }
    all.truncate(Work::gathered_rows(rows));
    if work.is_sorted_gather() {
        all.sort_unstable();
    }
    all
}

/// The pseudo-random generator SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
