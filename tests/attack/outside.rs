//! Steps that change the files without the library, as other programs do, and a step that forks the process.

use crate::harness::{judge, traces_of};
use crate::held::{Array, with_array};
use crate::player::Player;
use crate::table::{CELLS, Content};
use ndarray_mmap::{ErrorKind, close_path, sweep_staged};
use std::fs::{self, File};
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A child of `fork` is killed after this many seconds.
const CHILD_SECONDS: libc::c_uint = 8;

impl Player<'_> {
    /// Renames a new file over an existing one, as an editor does.
    pub fn replace(&mut self) {
        let spec = &self.world.files[self.any_file()];
        let stamp = self.world.stamp();
        let new = self.world.table.with_file_name(format!("outside-{}", self.world.number()));
        fs::write(&new, self.world.file_bytes(spec, stamp)).unwrap();
        let inode = fs::metadata(&new).unwrap().ino();
        // Write the contents to the shared table before the rename, because another thread can open the file
        // immediately after the rename.
        self.table.with(|state| state.new_file(inode, [Content::of(stamp); CELLS]));
        fs::rename(new, &spec.path).unwrap();
    }

    pub fn unlink(&mut self) {
        match fs::remove_file(&self.world.files[self.any_file()].path) {
            Err(error) if error.kind() != IoErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }

    /// Cuts a fragile file short, extends it, or overwrites a part of it.
    pub fn damage(&mut self) {
        let file = 2 + self.dice.below(2);
        let spec = &self.world.files[file];
        let Ok(opened) = File::options().write(true).open(&spec.path) else { return };
        let whole = spec.offset_bytes + (CELLS * self.world.cell_elements() * 8) as u64;
        let choice = self.dice.below(5);
        self.log(&format!("damage {choice} to file {file}"));
        match choice {
            0 => opened.set_len(0).unwrap(),
            1 => opened.set_len(self.dice.below(whole as usize) as u64).unwrap(),
            2 => opened.set_len(whole + 5000).unwrap(),
            3 => opened.write_all_at(&[0xab; 3000], self.dice.below(whole as usize) as u64).unwrap(),
            _ => {
                let bytes = self.world.file_bytes(spec, 1 << 60);
                opened.write_all_at(&bytes, 0).unwrap();
                opened.set_len(whole).unwrap();
            }
        }
    }

    pub fn sweep(&mut self) {
        judge(sweep_staged(&self.world.folder).is_ok(), || "the sweep fails".to_owned());
    }

    /// Forks a child that drops, closes and flushes its copies of the arrays, and tries to open the files of its
    /// parent. The arrays of the parent must not change.
    pub fn fork(&mut self) {
        if self.accompanied {
            return;
        }
        // SAFETY: no other thread of this process takes steps; the watchdog holds no lock while it sleeps.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: `alarm` has no preconditions. It ends a child that hangs.
                unsafe { libc::alarm(CHILD_SECONDS) };
                let passed = catch_unwind(AssertUnwindSafe(|| self.live_as_child())).is_ok();
                // SAFETY: `_exit` has no preconditions.
                unsafe { libc::_exit(i32::from(!passed)) }
            }
            child => {
                judge(child > 0, || "fork fails".to_owned());
                let mut status = 0;
                // SAFETY: the pointer is to a live integer.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                judge(status == 0, || format!("a child of fork ended with status {status:#x}"));
                self.held.iter().for_each(|held| held.verify(self.world, "after a child of fork"));
            }
        }
    }

    fn live_as_child(&mut self) {
        let mut locked = Vec::new();
        for held in std::mem::take(&mut self.held) {
            let was_writer = matches!(held.array, Array::Writer(_));
            let (was_closed, fragile, name) = (held.array.is_closed(), held.fragile, held.name());
            if was_writer {
                locked.push((held.file, held.inode, held.cells.clone()));
            }
            // The child does not remove the entry from the table: the parent still owns the array.
            match (held.array, self.dice.below(4)) {
                (Array::Writer(array), 0) => {
                    let error = array.into_read_only().unwrap_err();
                    let expected = if was_closed { ErrorKind::Closed } else { ErrorKind::Unsupported };
                    let is_explained = [expected, ErrorKind::NameLost].contains(&error.kind());
                    judge(is_explained || fragile, || format!("child: {name}: {error}"));
                }
                (Array::Writer(array), 1) => {
                    let flushed = array.flush();
                    let is_lost = matches!(&flushed, Err(error) if error.kind() == ErrorKind::NameLost);
                    judge(flushed.is_ok() || is_lost || was_closed || fragile, || {
                        format!("child: {name}: {flushed:?}")
                    });
                }
                (array, 2) => drop(with_array!(array, array => array.close())),
                (array, _) => drop(array),
            }
        }
        let _ = close_path(&self.world.files[0].path);
        judge(sweep_staged(&self.world.folder).is_ok(), || "child: the sweep fails".to_owned());
        for (file, inode, cells) in locked {
            let spec = &self.world.files[file];
            let options = self.world.options(spec, &cells, &mut self.dice);
            let taken = match self.dice.once_in(2) {
                true => options.open_rw(&spec.path).map(Array::Writer),
                false => options.open(&spec.path).map(Array::Reader),
            };
            if let Ok(array) = taken {
                // Opening succeeds if another file has replaced the parent's file in the meantime.
                judge(array.inode() != Some(inode), || {
                    format!("child: took its parent's cells {cells:?} of {file}")
                });
            }
        }
        let own = self.world.folder.join(format!("child-{}.npy", std::process::id()));
        let (stamp, values) = (self.world.stamp(), self.world.values(&[9 << 24; 2]));
        let written = ndarray_mmap::stream::Stream::from(&values).write_to(&own);
        judge(written.is_ok_and(|written| written == values), || format!("child {stamp:x}: write_to"));
        fs::remove_file(&own).unwrap();
        judge(!traces_of(&self.world.folder).iter().any(|trace| trace.contains("child-")), || {
            format!("child: leftovers {:?}", traces_of(&self.world.folder))
        });
    }
}
