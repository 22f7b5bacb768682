//! Steps that run streams and loops over chunks. Functions inside these streams close arrays, open files, panic, or
//! cancel the stream.

use crate::harness::{MISCHIEF, judge};
use crate::held::{Array, Held, with_array};
use crate::player::Player;
use crate::table::{CELLS, Content};
use ndarray::{ArrayView2, ArrayViewMut2, Ix2, s};
use ndarray_mmap::stream::{Budget, Stream};
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, Result, close_path, close_under};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A harmful action that a function inside a stream performs in one of its calls.
struct Mischief {
    kind: usize,
    /// The number of the call that performs the action. The first call has number zero.
    at: usize,
    calls: AtomicUsize,
    folder: PathBuf,
    paths: Vec<PathBuf>,
    /// The inode of the file that the destination of the stream has locked, if there is one.
    locked_inode: Option<u64>,
}

impl Mischief {
    fn act(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed) != self.at {
            return;
        }
        // Errors of `close_path` are ignored, because the call may also close arrays of damaged files.
        match self.kind {
            0..=2 => drop(close_path(&self.paths[self.kind % self.paths.len()])),
            3 => panic!("{MISCHIEF}"),
            4 => {
                let inner = ndarray::Array2::<u64>::ones((50, 3));
                let closing = |chunk: ArrayView2<'_, u64>, mut out: ArrayViewMut2<'_, u64>| {
                    let _ = close_path(&self.paths[0]);
                    out.assign(&chunk);
                };
                let sum = Stream::from(&inner).map(closing).fold(0, |sum, chunk| sum + chunk.sum());
                assert_eq!(sum.unwrap(), 150);
            }
            5 => drop(close_under(&self.folder)),
            6 => {
                let _ = close_path(&self.paths[0]);
                let options = ArrayOptions::new().format(Format::Raw).offset_bytes(4096).shape((1, 1));
                let taken = options.close_existing(true).open_rw::<u64, Ix2>(&self.paths[0]);
                drop(taken);
                self.try_to_take_everything();
            }
            _ => {}
        }
    }

    /// Tries to open the whole file of the destination for writing. Fails the test if that succeeds, because the
    /// destination has locked the file.
    fn try_to_take_everything(&self) {
        let (Some(locked), Ok(metadata)) = (self.locked_inode, std::fs::metadata(&self.paths[0])) else {
            return;
        };
        let options = ArrayOptions::new().format(Format::Raw).shape((metadata.len() as usize / 8, 1));
        if let Ok(array) = options.open_rw::<u64, Ix2>(&self.paths[0]).map(Array::Writer) {
            let inode = array.inode();
            judge(inode != Some(locked), || {
                format!("the bytes of a stream's destination on {locked} were taken")
            });
        }
    }
}

/// Calls a function that panics if an array is closed. Returns `None` if the function has panicked.
fn unless_closed<R>(open: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(open)).ok()
}

impl Player<'_> {
    fn mischief(&mut self, files: &[usize], locked_inode: Option<u64>) -> Mischief {
        Mischief {
            kind: self.dice.below(10),
            at: self.dice.below(4),
            calls: AtomicUsize::new(0),
            folder: self.world.folder.clone(),
            paths: files.iter().map(|&file| self.world.files[file].path.clone()).collect(),
            locked_inode,
        }
    }

    fn budget(&mut self) -> Budget {
        match self.dice.below(3) {
            0 => Budget::default(),
            1 => Budget::bytes(1 << 20),
            _ => Budget::chunk_rows(1 + self.dice.below(2 * self.world.cell_rows)),
        }
    }

    pub fn copy_into(&mut self) {
        let Some(mut to) = self.take(|held| !matches!(held.array, Array::Reader(_))) else { return };
        let (cells, fragile) = (to.cells.len(), to.fragile);
        let from = match self.dice.once_in(2) {
            true => self.take(|held| held.cells.len() == cells && held.fragile == fragile),
            false => None,
        };
        let files = [to.file, from.as_ref().map_or(to.file, |from| from.file)];
        let mischief = self.mischief(&files, matches!(to.array, Array::Writer(_)).then_some(to.inode));
        let stamps: Vec<_> = (0..cells).map(|_| self.world.stamp()).collect();
        let values = self.world.values(&stamps);
        let (source, new) = match &from {
            Some(from) => (from.array.try_view(), from.expected.clone()),
            None => (Ok(values.view()), stamps.into_iter().map(Content::of).collect()),
        };
        let destination = match &mut to.array {
            Array::Writer(array) => array.try_view_mut(),
            Array::Private(array) => array.try_view_mut(),
            Array::Reader(_) => unreachable!(),
        };
        let accompanied = std::mem::replace(&mut self.accompanied, true);
        let copied = source.and_then(|source| destination.map(|destination| (source, destination)));
        let copied = copied.and_then(|(source, mut to)| self.pour(source, &mut to, &mischief));
        self.accompanied = accompanied;
        let contents = to.expected.iter_mut().zip(new);
        match copied {
            Ok(()) if !fragile => contents.for_each(|(expected, new)| *expected = new),
            Ok(()) => {}
            Err(error) => {
                contents.for_each(|(expected, new)| *expected = expected.or(new));
                let allowed =
                    [ErrorKind::Closed, ErrorKind::Panicked, ErrorKind::Cancelled, ErrorKind::Overlap];
                self.expect(&error, fragile, &allowed);
            }
        }
        to.verify(self.world, "behind copy_into");
        self.held.push(to);
        if let Some(from) = from {
            from.verify(self.world, "behind copy_into, at its source");
            self.held.push(from);
        }
    }

    /// Copies `source` into `to` with a randomly chosen kind of stream.
    fn pour(
        &mut self,
        source: ArrayView2<'_, u64>,
        to: &mut ArrayViewMut2<'_, u64>,
        mischief: &Mischief,
    ) -> Result<()> {
        let budget = self.budget();
        let assign = |chunk: ArrayView2<'_, u64>, mut out: ArrayViewMut2<'_, u64>| {
            mischief.act();
            out.assign(&chunk);
        };
        match self.dice.below(6) {
            0 => Stream::from(source).budget(budget).copy_into(to),
            1 => Stream::from(source).map(assign).budget(budget).copy_into(to),
            2 => {
                let cancel_at = self.dice.below(6);
                let mut reports = 0;
                let step = |_, _| {
                    reports += 1;
                    if reports < 4 {
                        self.nested(1);
                    }
                    if reports == cancel_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                Stream::from(source).map(assign).budget(budget).progress(step).copy_into(to)
            }
            3 => {
                let half = source.ncols() / 2;
                let columns = [(0, half), (half, source.ncols())];
                columns.into_iter().try_for_each(|(start, end)| {
                    Stream::from(source.slice(s![.., start..end]))
                        .map(assign)
                        .budget(budget)
                        .copy_into(&mut to.slice_mut(s![.., start..end]))
                })
            }
            4 => Stream::from(source.reversed_axes())
                .budget(budget)
                .copy_into(&mut to.view_mut().reversed_axes()),
            _ => Stream::from(source.slice(s![..;-1, ..]))
                .map(assign)
                .budget(budget)
                .copy_into(&mut to.slice_mut(s![..;-1, ..])),
        }
    }

    /// Writes a new file with `write_to`. The table stays locked until it lists the contents of the file, because
    /// another thread that opens the file looks them up there.
    pub fn write_to(&mut self) {
        let file = 2 * self.dice.below(2);
        let from = self.take(|held| held.cells.len() == CELLS && !held.fragile);
        let stamps = [self.world.stamp(); CELLS];
        let values = self.world.values(&stamps);
        let contents = from.as_ref().map_or(stamps.map(Content::of).to_vec(), |from| from.expected.clone());
        let source = from.as_ref().map_or(Ok(values.view()), |from| from.array.try_view());
        let mischief = self.mischief(&[file], None);
        let (world, hold) = (self.world, self.world.number());
        let (path, fragile) = (&world.files[file].path, world.files[file].fragile);
        let (budget, cancels) = (self.budget(), self.dice.once_in(5));
        let assign = |chunk: ArrayView2<'_, u64>, mut out: ArrayViewMut2<'_, u64>| {
            mischief.act();
            out.assign(&chunk);
        };
        let progress = |done, _| match cancels && done > 0 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let written = source.and_then(|source| {
            self.table.with(|state| {
                let written =
                    Stream::from(source).map(assign).budget(budget).progress(progress).write_to(path)?;
                let array = Array::Reader(written);
                let Some(inode) = array.inode() else {
                    state.forget_contents();
                    return Ok(None);
                };
                state.new_file(inode, contents.clone().try_into().unwrap());
                let mut expected = state.hold(hold, inode, 0..CELLS, false);
                if fragile {
                    expected.fill(Content::UNKNOWN);
                }
                Ok(Some(Held { array, file, inode, cells: 0..CELLS, expected, hold, fragile }))
            })
        });
        match written {
            Ok(written) => {
                written.iter().for_each(|written| written.verify(world, "behind write_to"));
                self.held.extend(written);
            }
            Err(error) => {
                self.expect(&error, fragile, &[ErrorKind::Closed, ErrorKind::Panicked, ErrorKind::Cancelled]);
            }
        }
        self.held.extend(from);
    }

    /// Folds an array with a stream, and takes other steps between the chunks. The result must equal a sum over the
    /// same elements.
    pub fn reduce(&mut self) {
        let Some(held) = self.take(|_| true) else { return };
        if let Ok(view) = held.array.try_view() {
            let expected = held.checksum(&view);
            let budget = self.budget();
            let accompanied = std::mem::replace(&mut self.accompanied, true);
            let mut chunks = 0;
            let folded = Stream::from(&view).budget(budget).fold(0_u64, |sum, chunk| {
                chunks += 1;
                if chunks < 4 {
                    self.nested(1);
                }
                chunk.iter().fold(sum, |sum, &value| {
                    sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(value).rotate_left(5)
                })
            });
            self.accompanied = accompanied;
            match folded {
                Ok(sum) => judge(held.fragile || sum == expected, || {
                    format!("a stream read other values than the {} shows", held.name())
                }),
                Err(error) => self.expect(&error, held.fragile, &[ErrorKind::Closed]),
            }
        }
        self.held.push(held);
    }

    /// Loops over some chunks of an array, and takes other steps between them. The elements of the first chunk must not
    /// change.
    pub fn row_chunks(&mut self) {
        let Some(held) = self.take(|_| true) else { return };
        let budget = Budget::chunk_rows(1 + self.dice.below(self.world.cell_rows * 2));
        with_array!(&held.array, array => {
            match unless_closed(|| array.row_chunks(budget)) {
                None => judge(array.is_closed(), || "row_chunks panics on an open array".to_owned()),
                Some(mut chunks) => {
                    let mut first = None;
                    for _ in 0..self.dice.below(6) {
                        match chunks.try_next() {
                            Ok(Some((_, chunk))) => {
                                let (_, sum) = first.get_or_insert_with(|| (chunk, held.checksum(&chunk)));
                                let _ = (&sum, held.checksum(&chunk));
                                self.nested(1);
                            }
                            Ok(None) => break,
                            Err(error) => {
                                self.expect(&error, held.fragile, &[ErrorKind::Closed]);
                                break;
                            }
                        }
                    }
                    if let Some((chunk, sum)) = first {
                        judge(held.checksum(&chunk) == sum, || format!("a chunk of the {} has changed", held.name()));
                    }
                }
            }
        });
        self.held.push(held);
    }

    /// Stores to some chunks of one cell each. The loop may end before the last chunk.
    pub fn row_chunks_mut(&mut self) {
        let Some(mut held) = self.take(|held| !matches!(held.array, Array::Reader(_)) && !held.fragile)
        else {
            return;
        };
        let budget = Budget::chunk_rows(self.world.cell_rows);
        macro_rules! write_chunks {
            ($array:expr) => {{
                let opened = unless_closed(|| $array.row_chunks_mut(budget));
                let Some(mut chunks) = opened else { return self.held.push(held) };
                for cell in 0..self.dice.below(CELLS + 1) {
                    match chunks.try_next() {
                        Ok(Some((rows, mut chunk))) => {
                            judge(rows.len() == self.world.cell_rows, || format!("a chunk of rows {rows:?}"));
                            self.nested(1);
                            let stamp = self.world.stamp();
                            chunk.assign(&self.world.values(&[stamp]));
                            held.expected[cell] = Content::of(stamp);
                        }
                        Ok(None) => break,
                        Err(error) => {
                            self.expect(&error, false, &[ErrorKind::Closed]);
                            break;
                        }
                    }
                }
            }};
        }
        match &mut held.array {
            Array::Writer(array) => write_chunks!(array),
            Array::Private(array) => write_chunks!(array),
            Array::Reader(_) => unreachable!(),
        }
        held.verify(self.world, "behind row_chunks_mut");
        self.held.push(held);
    }
}
