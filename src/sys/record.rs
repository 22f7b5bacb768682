//! Recording: a unit test can record what an operation changes in a folder, and what the operation makes durable.
//!
//! The recorder compares the folder with a copy in memory after each system call that changes files, and before each
//! sync. So it also sees stores through mappings, which are no system calls. It finds files without a name through
//! `/proc/self/fd`. It records only the calling thread.

use super::inject::Durable;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The size in bytes of the blocks that a disk writes in any order.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// The number of a file or a directory on its filesystem.
pub(crate) type Inode = u64;

/// A disk writes a sector as a whole.
pub(crate) const SECTOR_BYTES: usize = 512;

/// The content of one block. Bytes after the end of the file are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) bytes: Arc<[u8; BLOCK_BYTES]>,
    /// A hash of each sector.
    pub(crate) hashes: [u64; BLOCK_BYTES / SECTOR_BYTES],
}

impl Block {
    pub(crate) fn new(bytes: [u8; BLOCK_BYTES]) -> Self {
        let mut hashes = [0; BLOCK_BYTES / SECTOR_BYTES];
        for (hash, sector) in hashes.iter_mut().zip(bytes.chunks(SECTOR_BYTES)) {
            let mut hasher = DefaultHasher::new();
            hasher.write(sector);
            *hash = hasher.finish();
        }
        Self { bytes: Arc::new(bytes), hashes }
    }
}

/// A name in a directory.
pub(crate) type Name = (Inode, String);

/// The content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) len: u64,
    /// The blocks that are not zero, or were not zero at some time.
    pub(crate) blocks: BTreeMap<u64, Block>,
}

/// The files and names below a folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) root: Inode,
    pub(crate) names: BTreeMap<Name, Inode>,
    /// The regular files. Every other named inode is a directory.
    pub(crate) files: BTreeMap<Inode, Content>,
}

/// One change of the folder, which may reach the disk at any time.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Names that appeared, disappeared or changed together, by one system call.
    Names(Vec<(Name, Option<Inode>)>),
    Length(Inode, u64),
    Block(Inode, u64, Block),
}

/// What a sync makes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// These bytes of a file, and its length.
    File(Inode, Range<u64>),
    /// The names in a directory.
    Directory(Inode),
    Everything,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Change(Change),
    /// A sync has returned. The location is that of the call in the crate.
    Sync(Scope, &'static Location<'static>),
    /// A call of the public interface has returned `Ok`, and so has promised something.
    Acknowledged,
}

/// What happened in the folder between [`start`] and [`stop`].
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) before: Disk,
    pub(crate) events: Vec<Event>,
}

struct Recorder {
    folder: PathBuf,
    now: Disk,
    /// One descriptor for each file that the recorder has seen. It keeps the inode number in use.
    handles: BTreeMap<Inode, File>,
    log: Log,
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Starts recording changes of the folder on this thread. Everything that the folder contains now counts as durable.
pub(crate) fn start(folder: &Path) {
    let root = fs::metadata(folder).unwrap().ino();
    let disk = Disk { root, ..Disk::default() };
    let log = Log { before: disk.clone(), events: Vec::new() };
    let mut recorder = Recorder { folder: folder.to_path_buf(), now: disk, handles: BTreeMap::new(), log };
    recorder.observe();
    recorder.log = Log { before: recorder.now.clone(), events: Vec::new() };
    RECORDER.set(Some(recorder));
}

/// Ends the recording.
pub(crate) fn stop() -> Log {
    let mut recorder = RECORDER.take().unwrap();
    recorder.observe();
    recorder.log
}

/// Records that a call of the public interface has returned `Ok`. Does nothing if this thread records nothing.
pub(crate) fn acknowledge() {
    with(|recorder| {
        recorder.observe();
        recorder.log.events.push(Event::Acknowledged);
    });
}

/// Records the changes since the last event.
pub(super) fn observe() {
    with(Recorder::observe);
}

/// Records a sync that has succeeded.
pub(super) fn synced(durable: Durable<'_>, at: &'static Location<'static>) {
    with(|recorder| {
        let inode = |file: &File| file.metadata().unwrap().ino();
        let scope = match durable {
            Durable::File(file) => Scope::File(inode(file), 0..u64::MAX),
            Durable::Memory(start, len) => {
                let Some((inode, offset)) = mapped_file(start) else { return };
                let first = offset - offset % BLOCK_BYTES as u64;
                Scope::File(inode, first..offset + len as u64)
            }
            Durable::Names(Some(directory)) => Scope::Directory(inode(directory)),
            Durable::Names(None) => Scope::Everything,
        };
        recorder.log.events.push(Event::Sync(scope, at));
    });
}

fn with(act: impl FnOnce(&mut Recorder)) {
    RECORDER.with_borrow_mut(|recorder| recorder.as_mut().map(act));
}

/// Returns the file that is mapped at an address, and the offset in the file of the byte at this address.
fn mapped_file(address: usize) -> Option<(Inode, u64)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        let start = hex(start)?;
        if !(start..hex(end)?).contains(&address) {
            return None;
        }
        let offset = hex(fields.nth(1)?)? + address - start;
        Some((fields.nth(1)?.parse().ok()?, offset as u64))
    })
}

impl Recorder {
    fn observe(&mut self) {
        let mut names = BTreeMap::new();
        self.list(&self.folder.clone(), self.now.root, &mut names);
        self.find_unnamed();
        let gone = self.now.names.keys().filter(|&name| !names.contains_key(name));
        let mut changed: Vec<_> = gone.map(|name| (name.clone(), None)).collect();
        let new = names.iter().filter(|&(name, inode)| self.now.names.get(name) != Some(inode));
        changed.extend(new.map(|(name, &inode)| (name.clone(), Some(inode))));
        self.now.names = names;
        for (&inode, handle) in &self.handles {
            if !self.now.files.contains_key(&inode) {
                self.log.events.push(Event::Change(Change::Length(inode, 0)));
            }
            let content = self.now.files.entry(inode).or_default();
            let found = read(handle);
            let blocks = found.len().max(content.len as usize).div_ceil(BLOCK_BYTES);
            for index in 0..blocks {
                let mut block = [0; BLOCK_BYTES];
                let bytes = found.chunks(BLOCK_BYTES).nth(index).unwrap_or_default();
                block[..bytes.len()].copy_from_slice(bytes);
                let known = content.blocks.get(&(index as u64));
                if known.map_or(block != [0; BLOCK_BYTES], |known| *known.bytes != block) {
                    let block = Block::new(block);
                    content.blocks.insert(index as u64, block.clone());
                    self.log.events.push(Event::Change(Change::Block(inode, index as u64, block)));
                }
            }
            if content.len != found.len() as u64 {
                content.len = found.len() as u64;
                self.log.events.push(Event::Change(Change::Length(inode, content.len)));
            }
        }
        if !changed.is_empty() {
            self.log.events.push(Event::Change(Change::Names(changed)));
        }
    }

    /// Adds the names in a directory and below it.
    fn list(&mut self, directory: &Path, inode: Inode, names: &mut BTreeMap<Name, Inode>) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            names.insert((inode, name), entry.ino());
            if entry.file_type().unwrap().is_dir() {
                self.list(&entry.path(), entry.ino(), names);
            } else {
                self.handles.entry(entry.ino()).or_insert_with(|| File::open(entry.path()).unwrap());
            }
        }
    }

    /// Finds the files of the folder that this process has open, and that have no name.
    fn find_unnamed(&mut self) {
        for entry in fs::read_dir("/proc/self/fd").unwrap() {
            // Other threads close descriptors meanwhile.
            let descriptor = entry.unwrap().path();
            let is_inside =
                |path: &Path| fs::read_link(path).is_ok_and(|path| path.starts_with(&self.folder));
            if !is_inside(&descriptor) {
                continue;
            }
            let Ok(metadata) = fs::metadata(&descriptor) else { continue };
            if !metadata.is_file() || self.handles.contains_key(&metadata.ino()) {
                continue;
            }
            self.handles.insert(metadata.ino(), File::open(&descriptor).unwrap());
        }
    }
}

fn read(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}
