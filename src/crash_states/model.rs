//! [`Model`]: what a disk may contain after a power cut. `docs/crash-states.md` explains the rules.

use super::choice::{Choices, Kind};
use crate::sys::record::{
    BLOCK_BYTES, Block, Change, Content, Disk, Event, Inode, Name, SECTOR_BYTES, Scope,
};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The durable content of a disk, and the changes that may have reached the disk.
#[derive(Clone, Debug)]
pub(super) struct Model {
    durable: Disk,
    names: Vec<Vec<(Name, Option<Inode>)>>,
    files: BTreeMap<Inode, Pending>,
}

/// The versions of a file's length and blocks since they were last made durable, from the oldest to the newest.
#[derive(Clone, Debug, Default)]
struct Pending {
    lengths: Vec<u64>,
    blocks: BTreeMap<u64, Vec<Block>>,
}

/// The files and directories that a program finds after a power cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) directories: BTreeSet<String>,
    pub(super) files: BTreeMap<String, Content>,
}

impl Model {
    pub(super) fn new(durable: Disk) -> Self {
        Self { durable, names: Vec::new(), files: BTreeMap::new() }
    }

    /// Returns whether a sync would make a pending change durable.
    pub(super) fn has_pending(&self, scope: &Scope) -> bool {
        let mut later = self.clone();
        later.sync(scope);
        let count = |model: &Self| -> usize {
            let of = |file: &Pending| file.lengths.len() + file.blocks.len();
            model.names.len() + model.files.values().map(of).sum::<usize>()
        };
        count(&later) < count(self)
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Change(Change::Names(names)) => self.names.push(names.clone()),
            Event::Change(Change::Length(file, len)) => {
                self.files.entry(*file).or_default().lengths.push(*len);
            }
            Event::Change(Change::Block(file, index, block)) => {
                let blocks = &mut self.files.entry(*file).or_default().blocks;
                blocks.entry(*index).or_default().push(block.clone());
            }
            Event::Sync(scope, _) => self.sync(scope),
            Event::Acknowledged => {}
        }
    }

    fn sync(&mut self, scope: &Scope) {
        if let Scope::File(inode, bytes) = scope {
            let Some(pending) = self.files.get_mut(inode) else { return };
            let content = self.durable.files.entry(*inode).or_default();
            content.len = pending.lengths.pop().unwrap_or(content.len);
            pending.lengths.clear();
            let block_bytes = BLOCK_BYTES as u64;
            let first = bytes.start / block_bytes;
            let mut synced = pending.blocks.split_off(&first);
            pending.blocks.append(&mut synced.split_off(&bytes.end.div_ceil(block_bytes)));
            content.blocks.extend(
                synced.into_iter().filter_map(|(index, mut versions)| Some((index, versions.pop()?))),
            );
        } else {
            let (durable, pending): (Vec<_>, _) =
                std::mem::take(&mut self.names).into_iter().partition(|names| {
                    matches!(scope, Scope::Everything)
                        || names.iter().any(|((directory, _), _)| *scope == Scope::Directory(*directory))
                });
            self.names = pending;
            durable.iter().for_each(|names| rename(&mut self.durable.names, names));
        }
        if *scope == Scope::Everything {
            for inode in self.files.keys().copied().collect::<Vec<_>>() {
                self.sync(&Scope::File(inode, 0..u64::MAX));
            }
        }
    }

    /// Returns the number of states, or a smaller number if many states are equal.
    pub(super) fn states(&self) -> f64 {
        let of_blocks = |(index, versions): (&u64, &Vec<Block>)| {
            let versions = versions.len() as f64 + 1.0;
            if *index == 0 { versions + versions.powi((BLOCK_BYTES / SECTOR_BYTES) as i32) } else { versions }
        };
        let of = |(inode, file): (&Inode, &Pending)| {
            self.lengths(*inode, file).len() as f64 * file.blocks.iter().map(of_blocks).product::<f64>()
        };
        2_f64.powi(self.names.len() as i32) * self.files.iter().map(of).product::<f64>()
    }

    /// Returns the lengths that a file may have, from the durable length to the newest. A file that grows may have
    /// every length of whole blocks in between.
    fn lengths(&self, inode: Inode, pending: &Pending) -> Vec<u64> {
        let durable = self.durable.files.get(&inode).map_or(0, |content| content.len);
        let mut lengths = vec![durable];
        for &len in &pending.lengths {
            let last = lengths[lengths.len() - 1];
            let between = (last / BLOCK_BYTES as u64 + 1..len.div_ceil(BLOCK_BYTES as u64))
                .map(|blocks| blocks * BLOCK_BYTES as u64);
            lengths.extend(between);
            lengths.push(len);
        }
        lengths.dedup();
        lengths
    }

    /// Returns the state of the disk that results from a list of choices.
    pub(super) fn state(&self, choices: &mut Choices) -> Image {
        let mut names = self.durable.names.clone();
        for changed in &self.names {
            if choices.choose(Kind::Name, 2) == 1 {
                rename(&mut names, changed);
            }
        }
        let mut image = Image::default();
        let mut content_of = BTreeMap::new();
        let mut directories = vec![(self.durable.root, String::new())];
        while let Some((directory, path)) = directories.pop() {
            let from = (directory, String::new());
            for ((_, name), &inode) in names.range(from..).take_while(|((above, _), _)| *above == directory) {
                let path = format!("{path}{name}");
                if self.durable.files.contains_key(&inode) || self.files.contains_key(&inode) {
                    let content = content_of.entry(inode).or_insert_with(|| self.content(inode, choices));
                    image.files.insert(path, content.clone());
                } else {
                    directories.push((inode, format!("{path}/")));
                    image.directories.insert(path);
                }
            }
        }
        image
    }

    fn content(&self, inode: Inode, choices: &mut Choices) -> Content {
        let mut content = self.durable.files.get(&inode).cloned().unwrap_or_default();
        let Some(pending) = self.files.get(&inode) else { return content };
        let lengths = self.lengths(inode, pending);
        content.len = lengths[choices.choose(Kind::Length, lengths.len())];
        for (&index, newer) in &pending.blocks {
            let oldest = content.blocks.get(&index).cloned();
            let oldest = oldest.unwrap_or_else(|| Block::new([0; BLOCK_BYTES]));
            let versions: Vec<&Block> = std::iter::once(&oldest).chain(newer).collect();
            let is_torn = (index == 0 || choices.tears_all_blocks()) && choices.choose(Kind::Torn, 2) == 1;
            let block = if is_torn {
                let (mut bytes, mut hashes) = ([0; BLOCK_BYTES], oldest.hashes);
                for (sector, place) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
                    let version = versions[choices.choose(Kind::Block, versions.len())];
                    place.copy_from_slice(&version.bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES]);
                    hashes[sector] = version.hashes[sector];
                }
                Block { bytes: Arc::new(bytes), hashes }
            } else {
                versions[choices.choose(Kind::Block, versions.len())].clone()
            };
            content.blocks.insert(index, block);
        }
        content
    }
}

fn rename(names: &mut BTreeMap<Name, Inode>, changed: &[(Name, Option<Inode>)]) {
    for (name, inode) in changed {
        match inode {
            Some(inode) => _ = names.insert(name.clone(), *inode),
            None => _ = names.remove(name),
        }
    }
}

impl Image {
    /// Returns the bytes of a file.
    pub(super) fn bytes(content: &Content) -> Vec<u8> {
        let mut bytes = vec![0; content.len as usize];
        for (index, place) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
            if let Some(block) = content.blocks.get(&(index as u64)) {
                place.copy_from_slice(&block.bytes[..place.len()]);
            }
        }
        bytes
    }

    /// Returns a number that is probably different for different images.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.directories.hash(&mut hasher);
        for (path, content) in &self.files {
            (path, content.len).hash(&mut hasher);
            let sectors = content.len.div_ceil(SECTOR_BYTES as u64) as usize;
            let per_block = BLOCK_BYTES / SECTOR_BYTES;
            let not_zero = |(_, block): &(&u64, &Block)| *block.bytes != [0; BLOCK_BYTES];
            for (&index, block) in content.blocks.iter().filter(not_zero) {
                let visible = sectors.saturating_sub(index as usize * per_block).min(per_block);
                (index, &block.hashes[..visible]).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}
