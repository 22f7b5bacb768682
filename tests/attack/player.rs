//! [`Player`]: a thread of a random program, and its steps on arrays. The other steps are in `streams.rs` and
//! `outside.rs`.

use crate::harness::{Dice, MAX_NESTING, begin, fail, judge, note};
use crate::held::{Array, Held, with_array};
use crate::table::{CELLS, Content, Table};
use crate::world::World;
use ndarray::{ArrayViewMut2, s};
use ndarray_mmap::{
    AccessPattern, Error, ErrorKind, MmapArray, Result, close_path, close_under, evict_view, fault,
    flush_view,
};
use std::ops::Range;
use std::time::Duration;

/// How many arrays a thread owns at most.
const MAX_HELD: usize = 6;

/// A step: its relative frequency, its name, and its function.
type Step<'w> = (usize, &'static str, fn(&mut Player<'w>));

pub struct Player<'w> {
    pub world: &'w World,
    pub dice: Dice,
    pub held: Vec<Held>,
    pub table: Table,
    /// The number of this thread in its process.
    pub number: usize,
    /// Whether other threads of the process may be running. If so, this thread must not fork.
    pub accompanied: bool,
    depth: usize,
}

impl<'w> Player<'w> {
    pub fn new(world: &'w World, seed: u64, number: usize, accompanied: bool) -> Self {
        let (held, table) = (Vec::new(), Table::open(&world.table));
        Self { world, dice: Dice::new(seed), held, table, number, accompanied, depth: 0 }
    }

    pub fn log(&self, text: &str) {
        note(self.number, &format!("{}{text}", "  ".repeat(self.depth)));
    }

    /// Takes some steps inside a step of the caller, which may have borrowed an array.
    pub fn nested(&mut self, up_to: usize) {
        self.depth += 1;
        for _ in 0..self.dice.below(up_to + 1) {
            if self.depth <= MAX_NESTING {
                self.step();
            }
        }
        self.depth -= 1;
    }

    pub fn step(&mut self) {
        let steps: [Step<'w>; 21] = [
            (14, "open", Self::open),
            (4, "create", Self::create),
            (1, "scratch", Self::scratch),
            (10, "write", Self::write),
            (10, "hold a view", Self::hold_view),
            (6, "hold a mutable view", Self::hold_mutable_view),
            (8, "cache", Self::cache),
            (5, "close by path", Self::close_by_path),
            (5, "into_read_only", Self::finish_writer),
            (10, "drop", Self::drop_one),
            (4, "verify", Self::verify_all),
            (8, "copy_into", Self::copy_into),
            (2, "write_to", Self::write_to),
            (5, "reduce", Self::reduce),
            (4, "row_chunks", Self::row_chunks),
            (4, "row_chunks_mut", Self::row_chunks_mut),
            (2, "replace from outside", Self::replace),
            (1, "unlink from outside", Self::unlink),
            (4, "damage from outside", Self::damage),
            (2, "fork", Self::fork),
            (2, "sweep", Self::sweep),
        ];
        let total = steps.iter().map(|(weight, ..)| weight).sum();
        let mut at = self.dice.below(total);
        let (_, name, step) = steps
            .iter()
            .find(|(weight, ..)| {
                let found = at < *weight;
                at = at.wrapping_sub(*weight);
                found
            })
            .unwrap();
        begin(self.number, &format!("{}{name}", "  ".repeat(self.depth)));
        step(self);
    }

    pub fn any_file(&mut self) -> usize {
        self.dice.below(self.world.files.len())
    }

    fn any_cells(&mut self) -> Range<usize> {
        let first = self.dice.below(CELLS);
        first..first + 1 + self.dice.below(CELLS - first)
    }

    /// Takes an array out of `held`. The caller puts the array back.
    pub fn take(&mut self, wanted: impl Fn(&Held) -> bool) -> Option<Held> {
        let places: Vec<_> = (0..self.held.len()).filter(|&at| wanted(&self.held[at])).collect();
        let at = *places.get(self.dice.below(places.len().max(1)))?;
        let held = self.held.swap_remove(at);
        self.log(&format!("takes the {}", held.name()));
        Some(held)
    }

    /// Fails the test unless the error is expected, or damage to a fragile file explains the error. Any file can lose its
    /// name at any time, because other steps delete and replace files.
    pub fn expect(&self, error: &Error, fragile: bool, expected: &[ErrorKind]) {
        self.log(&format!("fails: {error}"));
        let explained = matches!(
            error.kind(),
            ErrorKind::LengthMismatch
                | ErrorKind::InvalidHeader
                | ErrorKind::Fault { .. }
                | ErrorKind::Poisoned
        );
        let is_lost = error.kind() == ErrorKind::NameLost;
        judge(is_lost || expected.contains(&error.kind()) || (fragile && explained), || {
            format!("an error that nothing explains: {:?} {error}", error.kind())
        });
    }

    /// Adds a new array to the table, checks its elements, and keeps the array in `held`.
    pub fn keep(&mut self, array: Array, file: usize, cells: Range<usize>, created: bool) {
        let Some(inode) = array.inode() else {
            if created {
                self.table.with(crate::table::State::forget_contents);
            }
            return self.log("was closed at once");
        };
        let (hold, exclusive) = (self.world.number(), matches!(array, Array::Writer(_)));
        let fragile = self.world.files[file].fragile;
        let mut expected = self.table.with(|state| {
            if created {
                state.new_file(inode, [Content::ZEROS; CELLS]);
            }
            state.hold(hold, inode, cells.clone(), exclusive)
        });
        if fragile {
            expected.fill(Content::UNKNOWN);
        }
        let held = Held { array, file, inode, cells, expected, hold, fragile };
        self.log(&format!("keeps the {}", held.name()));
        held.verify(self.world, "after opening");
        self.held.push(held);
        while self.held.len() > MAX_HELD {
            self.drop_one();
        }
    }

    fn open(&mut self) {
        let (file, cells) = (self.any_file(), self.any_cells());
        let spec = &self.world.files[file];
        let mut options = self.world.options(spec, &cells, &mut self.dice);
        if self.dice.once_in(8) {
            options = options.close_existing(true);
        }
        let opened = match self.dice.below(5) {
            0 | 1 => options.open_rw(&spec.path).map(Array::Writer),
            2 | 3 => options.open(&spec.path).map(Array::Reader),
            _ => options.open_cow(&spec.path).map(Array::Private),
        };
        match opened {
            Ok(array) => self.keep(array, file, cells, false),
            Err(error) if error.kind() == ErrorKind::NotFound => match self.dice.once_in(2) {
                true => self.create(),
                false => self.replace(),
            },
            Err(error) => self.expect(&error, spec.fragile, &[ErrorKind::InUse]),
        }
    }

    fn create(&mut self) {
        let file = self.any_file();
        let spec = &self.world.files[file];
        let options = self.world.new_file_options(spec).close_existing(!self.dice.once_in(3));
        let (created, allowed) = match self.dice.once_in(3) {
            true => (options.create_new(&spec.path), &[ErrorKind::AlreadyExists][..]),
            false => (options.create(&spec.path), &[][..]),
        };
        match created {
            Ok(array) => self.keep(Array::Writer(array), file, 0..CELLS, true),
            Err(error) => self.expect(&error, spec.fragile, allowed),
        }
    }

    fn scratch(&mut self) {
        let (world, stamp) = (self.world, self.world.stamp());
        let options = world.new_file_options(&world.files[1]).scratch_directory(&world.folder);
        let mut array = options.scratch::<u64, _>().unwrap();
        let values = world.values(&[stamp; CELLS]);
        array.assign(&values);
        self.nested(2);
        array.evict().unwrap();
        judge(array == values, || "a scratch array has changed".to_owned());
    }

    /// Overwrites some cells of a view with new stamps.
    pub fn restamp(&mut self, view: &mut ArrayViewMut2<'_, u64>, expected: &mut [Content], fragile: bool) {
        let (rows, first) = (self.world.cell_rows, self.dice.below(expected.len()));
        for cell in first..first + 1 + self.dice.below(expected.len() - first) {
            let stamp = self.world.stamp();
            let values = self.world.values(&[stamp]);
            let mut part = view.slice_mut(s![cell * rows..(cell + 1) * rows, ..]);
            if fragile {
                let _ = fault::guard(|| part.assign(&values));
            } else {
                part.assign(&values);
                expected[cell] = Content::of(stamp);
            }
        }
    }

    fn write(&mut self) {
        let Some(mut held) = self.take(|held| !matches!(held.array, Array::Reader(_))) else { return };
        let fragile = held.fragile;
        let view = match &mut held.array {
            Array::Writer(array) => array.try_view_mut(),
            Array::Private(array) => array.try_view_mut(),
            Array::Reader(_) => unreachable!(),
        };
        match view {
            Ok(mut view) => self.restamp(&mut view, &mut held.expected, fragile),
            Err(error) => self.expect(&error, false, &[ErrorKind::Closed]),
        }
        held.verify(self.world, "after a write");
        self.held.push(held);
    }

    /// Keeps a view of an array during other steps. The elements must not change.
    fn hold_view(&mut self) {
        let Some(held) = self.take(|_| true) else { return };
        if let Ok(view) = held.array.try_view() {
            let before = held.checksum(&view);
            if self.dice.once_in(3) {
                let (number, held) = (self.number, &held);
                let accompanied = std::mem::replace(&mut self.accompanied, true);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        for _ in 0..5 {
                            let now = held.checksum(&view);
                            judge(now == before, || {
                                format!("thread of {number}: {} has changed", held.name())
                            });
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    });
                    self.nested(3);
                });
                self.accompanied = accompanied;
            } else {
                self.nested(3);
            }
            self.log(&format!("looks again at the {}", held.name()));
            judge(held.checksum(&view) == before, || format!("{} has changed", held.name()));
            held.verify_view(self.world, &view, "behind a held view");
        }
        self.held.push(held);
    }

    /// Keeps a mutable view during other steps, and then stores through this view.
    fn hold_mutable_view(&mut self) {
        let Some(Held { array, file, inode, cells, mut expected, hold, fragile }) =
            self.take(|held| matches!(held.array, Array::Writer(_)))
        else {
            return;
        };
        let Array::Writer(mut writer) = array else { unreachable!() };
        if let Ok(mut view) = writer.try_view_mut() {
            self.nested(3);
            self.log("stores through a held view");
            self.restamp(&mut view, &mut expected, fragile);
            self.nested(1);
        }
        let held = Held { array: Array::Writer(writer), file, inode, cells, expected, hold, fragile };
        held.verify(self.world, "after a write through a held view");
        self.held.push(held);
    }

    fn cache(&mut self) {
        let Some(held) = self.take(|_| true) else { return };
        let was_closed = held.array.is_closed();
        let rows = held.cells.len() * self.world.cell_rows;
        let (start, end) = (self.dice.below(rows), self.dice.below(rows + 2));
        let choice = self.dice.below(7);
        fn one<A: ndarray_mmap::FileBacked>(
            array: &MmapArray<u64, ndarray::Ix2, A>,
            rows: Range<usize>,
            choice: usize,
        ) -> Result<()> {
            match choice {
                0 => array.evict_rows(rows),
                1 => array.flush_rows(rows),
                2 => array.residency_rows(rows).map(drop),
                3 => array.prefetch_rows(rows),
                4 => array.advise_rows(AccessPattern::Random, rows),
                5 => array.evict(),
                _ => array.flush(),
            }
        }
        let done = match &held.array {
            Array::Reader(array) => one(array, start..end, choice),
            Array::Writer(array) => one(array, start..end, choice),
            Array::Private(array) => match (array.try_view(), choice) {
                (Ok(view), 0) => evict_view(&view.slice(s![start.., ..])),
                (Ok(view), 1) => flush_view(&view.slice(s![start..;2, ..])),
                (Ok(_), _) => array.prefetch_rows(start..end),
                (Err(error), _) => Err(error),
            },
        };
        match done {
            Ok(()) => judge(!was_closed, || format!("operation {choice} on a closed {}", held.name())),
            Err(error) => self.expect(&error, held.fragile, &[ErrorKind::Closed]),
        }
        self.held.push(held);
    }

    fn close_by_path(&mut self) {
        let file = self.any_file();
        let closed = match self.dice.once_in(6) {
            true => close_under(&self.world.folder),
            false => close_path(&self.world.files[file].path),
        };
        if let Err(error) = closed {
            // The call may also close an array of a fragile file, so all errors of damaged files are allowed.
            self.expect(&error, true, &[]);
        }
    }

    fn finish_writer(&mut self) {
        let Some(held) = self.take(|held| matches!(held.array, Array::Writer(_))) else { return };
        held.verify(self.world, "before into_read_only");
        let (file, cells, fragile) = (held.file, held.cells.clone(), held.fragile);
        let Array::Writer(writer) = held.leave(&self.table) else { unreachable!() };
        match writer.into_read_only() {
            Ok(reader) => self.keep(Array::Reader(reader), file, cells, false),
            Err(error) => self.expect(&error, fragile, &[ErrorKind::Closed]),
        }
    }

    pub fn drop_one(&mut self) {
        let Some(held) = self.take(|_| true) else { return };
        held.verify(self.world, "before the end");
        let fragile = held.fragile;
        let array = held.leave(&self.table);
        if self.dice.once_in(2) {
            return drop(array);
        }
        if let Err(error) = with_array!(array, array => array.close()) {
            self.expect(&error, fragile, &[]);
        }
    }

    fn verify_all(&mut self) {
        self.held.iter().for_each(|held| held.verify(self.world, "again"));
    }

    /// Drops all arrays that are left.
    pub fn finish(&mut self) {
        while !self.held.is_empty() {
            self.drop_one();
        }
        if self.depth != 0 {
            fail("a step was left early");
        }
    }
}
