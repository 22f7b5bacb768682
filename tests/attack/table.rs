//! The model that all threads and processes share: who holds which cells of which file, and what the cells contain.
//!
//! It is a text file under `flock`. A thread enters a hold after it has got the array, and removes it before it gives the array up.
//! So every hold in the table is backed by a lock of the library, and two holds in conflict mean two owners in conflict.

use crate::harness::judge;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How many cells a file has.
pub const CELLS: usize = 6;

/// What each element of a cell is: a value of the first stamp or a value of the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content(pub u64, pub u64);

impl Content {
    pub const ZEROS: Self = Self(0, 0);
    pub const UNKNOWN: Self = Self(u64::MAX, u64::MAX);

    pub fn of(stamp: u64) -> Self {
        Self(stamp, stamp)
    }

    /// What a cell contains after a write of `new` that may have ended anywhere.
    pub fn or(self, new: Self) -> Self {
        match (self, new) {
            (Self(a, b), Self(c, d)) if a == b && c == d && self != Self::UNKNOWN && new != Self::UNKNOWN => {
                Self(a, c)
            }
            _ => Self::UNKNOWN,
        }
    }

    /// Whether the element `index` of the cell can have this value.
    pub fn allows(self, index: usize, value: u64) -> bool {
        self == Self::UNKNOWN || value == value_of(self.0, index) || value == value_of(self.1, index)
    }
}

/// The value of an element of a cell with a stamp. Stamp zero means zeros.
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

    /// Enters a hold, and returns what its cells contain. Fails if there is a conflict.
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

    /// Removes a hold; `written` is what an exclusive owner leaves in its cells.
    pub fn release(&mut self, id: u64, written: Option<&[Content]>) {
        let at = self.holds.iter().position(|hold| hold.id == id).expect("a hold is released once");
        let hold = self.holds.swap_remove(at);
        if let (Some(written), Some(contents)) = (written, self.contents.get_mut(&hold.inode)) {
            contents[hold.cells].copy_from_slice(written);
        }
    }

    /// Notes what a new file contains, whatever file had its inode before.
    pub fn new_file(&mut self, inode: u64, contents: [Content; CELLS]) {
        if self.contents.len() > 60 {
            let holds = &self.holds;
            self.contents.retain(|inode, _| holds.iter().any(|hold| hold.inode == *inode));
        }
        self.contents.insert(inode, contents);
    }

    /// Forgets all contents: a new file could not be entered.
    pub fn forget_contents(&mut self) {
        self.contents.clear();
    }

    pub fn holds_of(&self, pid: u32) -> usize {
        self.holds.iter().filter(|hold| hold.pid == pid).count()
    }
}

/// One thread's handle on the table.
pub struct Table {
    file: File,
}

impl Table {
    pub fn open(path: &Path) -> Self {
        Self { file: File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap() }
    }

    /// Reads the table, lets `change` change it, and writes it, while nobody else does.
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
