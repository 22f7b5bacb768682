//! The record of the open arrays, which all threads and processes of a test program share. The record lists which cells
//! of which file each array covers, and what each cell contains.
//!
//! The table is a text file that is locked with `flock`. A thread adds an entry, called a hold, after it has opened an
//! array, and removes the hold before it drops the array. So the library must hold a lock on the cells of every hold.
//! If two holds conflict, the library has let two arrays lock the same bytes.

use crate::harness::judge;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Each file consists of this many cells. A cell is a block of consecutive rows.
pub const CELLS: usize = 6;

/// What a cell contains: each element has the value of the first stamp or the value of the second stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content(pub u64, pub u64);

impl Content {
    pub const ZEROS: Self = Self(0, 0);
    pub const UNKNOWN: Self = Self(u64::MAX, u64::MAX);

    pub fn of(stamp: u64) -> Self {
        Self(stamp, stamp)
    }

    /// Returns what a cell contains after a write of `new` that may have stopped at any element.
    pub fn or(self, new: Self) -> Self {
        match (self, new) {
            (Self(a, b), Self(c, d)) if a == b && c == d && self != Self::UNKNOWN && new != Self::UNKNOWN => {
                Self(a, c)
            }
            _ => Self::UNKNOWN,
        }
    }

    /// Returns whether the element `index` of the cell may have this value.
    pub fn allows(self, index: usize, value: u64) -> bool {
        self == Self::UNKNOWN || value == value_of(self.0, index) || value == value_of(self.1, index)
    }
}

/// Returns the value of the element `index` in a cell with this stamp. Stamp zero means that all elements are zero.
pub fn value_of(stamp: u64, index: usize) -> u64 {
    if stamp == 0 { 0 } else { stamp.wrapping_add(index as u64) }
}

#[derive(Clone, Debug)]
struct Hold {
    id: u64,
    pid: u32,
    inode: u64,
    cells: Range<usize>,
    exclusive: bool,
}

#[derive(Debug, Default)]
pub struct State {
    holds: Vec<Hold>,
    contents: BTreeMap<u64, [Content; CELLS]>,
}

impl State {
    fn parse(text: &str) -> Self {
        let mut state = Self::default();
        for line in text.lines() {
            let fields: Vec<u64> =
                line[1..].split_ascii_whitespace().map(|field| field.parse().unwrap()).collect();
            match (line.as_bytes()[0], &fields[..]) {
                (b'H', &[id, pid, inode, start, end, exclusive]) => state.holds.push(Hold {
                    id,
                    pid: pid as u32,
                    inode,
                    cells: start as usize..end as usize,
                    exclusive: exclusive == 1,
                }),
                (b'C', [inode, stamps @ ..]) => {
                    let mut pairs = stamps.chunks(2).map(|pair| Content(pair[0], pair[1]));
                    state.contents.insert(*inode, std::array::from_fn(|_| pairs.next().unwrap()));
                }
                _ => panic!("line {line:?} of the table"),
            }
        }
        state
    }

    fn print(&self) -> String {
        let mut text = String::new();
        for Hold { id, pid, inode, cells, exclusive } in &self.holds {
            writeln!(text, "H {id} {pid} {inode} {} {} {}", cells.start, cells.end, u8::from(*exclusive))
                .unwrap();
        }
        for (inode, contents) in &self.contents {
            write!(text, "C {inode}").unwrap();
            contents.iter().for_each(|content| write!(text, " {} {}", content.0, content.1).unwrap());
            text.push('\n');
        }
        text
    }

    /// Adds a hold, and returns what its cells contain. Fails the test if the hold conflicts with another one.
    pub fn hold(&mut self, id: u64, inode: u64, cells: Range<usize>, exclusive: bool) -> Vec<Content> {
        let new = Hold { id, pid: std::process::id(), inode, cells: cells.clone(), exclusive };
        let conflict = self.holds.iter().find(|held| {
            held.inode == inode
                && held.cells.start < cells.end
                && cells.start < held.cells.end
                && (held.exclusive || exclusive)
        });
        judge(conflict.is_none(), || format!("two owners of the same bytes: {new:?} and {conflict:?}"));
        self.holds.push(new);
        match self.contents.get(&inode) {
            Some(contents) => contents[cells].to_vec(),
            None => vec![Content::UNKNOWN; cells.len()],
        }
    }

    /// Removes a hold. For a writer, `written` is what the cells contain now.
    pub fn release(&mut self, id: u64, written: Option<&[Content]>) {
        let at = self.holds.iter().position(|hold| hold.id == id).expect("a hold is released once");
        let hold = self.holds.swap_remove(at);
        if let (Some(written), Some(contents)) = (written, self.contents.get_mut(&hold.inode)) {
            contents[hold.cells].copy_from_slice(written);
        }
    }

    /// Sets what a new file contains. The file may have got the inode of a removed file, whose contents are replaced.
    pub fn new_file(&mut self, inode: u64, contents: [Content; CELLS]) {
        if self.contents.len() > 60 {
            let holds = &self.holds;
            self.contents.retain(|inode, _| holds.iter().any(|hold| hold.inode == *inode));
        }
        self.contents.insert(inode, contents);
    }

    /// Forgets the contents of all files. This is necessary if the inode of a new file is unknown.
    pub fn forget_contents(&mut self) {
        self.contents.clear();
    }

    pub fn holds_of(&self, pid: u32) -> usize {
        self.holds.iter().filter(|hold| hold.pid == pid).count()
    }
}

/// The table file, as one thread has opened it.
pub struct Table {
    file: File,
}

impl Table {
    pub fn open(path: &Path) -> Self {
        Self { file: File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap() }
    }

    /// Locks and reads the table, calls `change`, and writes the table back.
    pub fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        self.flock(libc::LOCK_EX);
        let mut bytes = vec![0; self.file.metadata().unwrap().len() as usize];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        let mut state = State::parse(std::str::from_utf8(&bytes).unwrap());
        let result = change(&mut state);
        let text = state.print();
        self.file.set_len(text.len() as u64).unwrap();
        self.file.write_all_at(text.as_bytes(), 0).unwrap();
        self.flock(libc::LOCK_UN);
        result
    }

    fn flock(&self, operation: libc::c_int) {
        // SAFETY: `flock` takes an open descriptor and an integer, and touches no memory.
        let result = unsafe { libc::flock(self.file.as_raw_fd(), operation) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}
