//! Runs an arbitrary list of operations on one file, and compares its arrays with an ndarray in memory after each
//! operation.
//!
//! ```sh
//! RUSTC_BOOTSTRAP=1 cargo fuzz run operations -- -max_total_time=600 -timeout=120 -len_control=0 -max_len=700
//! ```
#![no_main]

mod folder;
mod input;

use self::input::{FileSpec, Input, Operation};
use libfuzzer_sys::fuzz_target;
use ndarray::{Array2, Ix2, ShapeBuilder, s};
use ndarray_mmap::{
    AccessPattern, Allocation, ArrayOptions, CopyOnWrite, ErrorKind, Format, MmapArray, OnDrop, ReadOnly,
    ReadWrite,
};
use std::path::PathBuf;

enum Held {
    Nothing,
    Reader(MmapArray<u16, Ix2, ReadOnly>),
    Writer(MmapArray<u16, Ix2, ReadWrite>),
    Private(MmapArray<u16, Ix2, CopyOnWrite>),
}

/// Evaluates an expression for the held array, if there is one and it is open.
macro_rules! on_held {
    ($world:ident, |$array:ident| $call:expr) => {
        match &$world.held {
            Held::Reader($array) if !$array.is_closed() => $call,
            Held::Writer($array) if !$array.is_closed() => $call,
            Held::Private($array) if !$array.is_closed() => $call,
            _ => {}
        }
    };
}

/// Evaluates an expression for the held array, if it is open and not a private copy.
macro_rules! on_file_backed {
    ($world:ident, |$array:ident| $call:expr) => {
        match &$world.held {
            Held::Reader($array) if !$array.is_closed() => $call,
            Held::Writer($array) if !$array.is_closed() => $call,
            _ => {}
        }
    };
}

/// The file, the held array of this file, and the elements that both must hold.
struct World {
    spec: FileSpec,
    path: PathBuf,
    held: Held,
    /// The elements of the file, if it exists.
    file: Option<Array2<u16>>,
    /// The elements of the held array. They differ from `file` only by private changes.
    array: Array2<u16>,
    /// Whether the row axis and the column axis of the held array have been inverted.
    inverted: [bool; 2],
}

impl World {
    fn new(spec: FileSpec) -> Self {
        let path = folder::file(if spec.npy { "array.npy" } else { "array.bin" });
        let _ = std::fs::remove_file(&path);
        Self {
            spec,
            path,
            held: Held::Nothing,
            file: None,
            array: Array2::zeros((0, 0)),
            inverted: [false; 2],
        }
    }

    fn shape(&self) -> (usize, usize) {
        (usize::from(self.spec.rows % 67), usize::from(self.spec.columns % 1021))
    }

    fn options(&self) -> ArrayOptions {
        let options = if self.spec.npy {
            ArrayOptions::new()
        } else {
            ArrayOptions::new().format(Format::Raw).offset_bytes(2 * u64::from(self.spec.offset))
        };
        let options =
            if self.spec.fortran { options.shape(self.shape().f()) } else { options.shape(self.shape()) };
        options
            .allocation(if self.spec.sparse { Allocation::Sparse } else { Allocation::Reserve })
            .on_drop(if self.spec.keep_cached { OnDrop::KeepCached } else { OnDrop::Evict })
    }

    /// Replaces the held array and its oracle.
    fn hold(&mut self, held: Held, array: Array2<u16>) {
        (self.held, self.array, self.inverted) = (held, array, [false; 2]);
    }

    /// Drops the held array. Changes of a writer stay in the file; private changes are lost.
    fn let_go(&mut self) {
        self.held = Held::Nothing;
    }

    fn create(&mut self) {
        // `create` closes the arrays of this process on the path, so the held array must be closed.
        let writer = self.options().create(&self.path).expect("create");
        match &self.held {
            Held::Nothing => {}
            Held::Reader(array) => assert!(array.is_closed()),
            Held::Writer(array) => assert!(array.is_closed()),
            Held::Private(array) => assert!(array.is_closed()),
        }
        self.file = Some(Array2::zeros(self.shape()));
        self.hold(Held::Writer(writer), Array2::zeros(self.shape()));
    }

    fn create_new(&mut self) {
        let created = self.options().create_new::<u16, Ix2>(&self.path);
        match (created, &self.file) {
            (Ok(writer), None) => {
                self.file = Some(Array2::zeros(self.shape()));
                self.hold(Held::Writer(writer), Array2::zeros(self.shape()));
            }
            (Err(error), Some(_)) => assert_eq!(error.kind(), ErrorKind::AlreadyExists),
            (created, file) => panic!("{created:?} where a file is there: {}", file.is_some()),
        }
    }

    /// Opens the file while the held array has its lock, and holds the new array if opening succeeds.
    fn open(&mut self, mode: Operation) {
        let opened = match mode {
            Operation::OpenRead => self.options().open(&self.path).map(Held::Reader),
            Operation::OpenWrite => self.options().open_rw(&self.path).map(Held::Writer),
            _ => self.options().open_cow(&self.path).map(Held::Private),
        };
        // An array that was closed by its path keeps its lock until it is dropped.
        let held_writes = matches!(self.held, Held::Writer(_));
        let held_reads = matches!(self.held, Held::Reader(_) | Held::Private(_));
        let is_free =
            self.array.is_empty() || !held_writes && !(held_reads && matches!(mode, Operation::OpenWrite));
        match (opened, &self.file) {
            (Ok(held), Some(file)) if is_free => {
                let array = file.clone();
                self.hold(held, array);
            }
            (Err(error), Some(_)) if !is_free => assert_eq!(error.kind(), ErrorKind::InUse, "{error}"),
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
            (opened, file) => panic!("{mode:?}: {:?}, file {}, free {is_free}", opened.err(), file.is_some()),
        }
    }

    fn into_read_only(&mut self) {
        self.held = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Writer(array) if !array.is_closed() => {
                Held::Reader(array.into_read_only().expect("an open array"))
            }
            Held::Writer(array) => {
                assert_eq!(array.into_read_only().expect_err("a closed array").kind(), ErrorKind::Closed);
                Held::Nothing
            }
            other => other,
        };
    }

    fn close(&mut self) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => Ok(()),
            Held::Reader(array) => array.close(),
            Held::Writer(array) => array.close(),
            Held::Private(array) => array.close(),
        }
        .expect("close");
    }

    /// Applies a change to the held array and to its oracle.
    fn write(&mut self, change: impl Fn(ndarray::ArrayViewMut2<'_, u16>)) {
        let view = match &mut self.held {
            Held::Writer(array) => array.try_view_mut(),
            Held::Private(array) => array.try_view_mut(),
            _ => return,
        };
        let Ok(mut view) = view else { return };
        // The axes of the oracle are never inverted, so the inversion is undone in the view.
        for axis in (0..2).filter(|&axis| self.inverted[axis]) {
            view.invert_axis(ndarray::Axis(axis));
        }
        change(view);
        change(self.array.view_mut());
        if matches!(self.held, Held::Writer(_)) {
            self.file = Some(self.array.clone());
        }
    }

    fn invert(&mut self, axes: [bool; 2]) {
        for axis in (0..2).filter(|&axis| axes[axis]) {
            match &mut self.held {
                Held::Writer(array) if !array.is_closed() => array.invert_axis(ndarray::Axis(axis)),
                Held::Private(array) if !array.is_closed() => array.invert_axis(ndarray::Axis(axis)),
                _ => return,
            }
            self.inverted[axis] = !self.inverted[axis];
        }
    }

    fn apply(&mut self, operation: Operation) {
        let (rows, columns) = self.shape();
        match operation {
            Operation::Create => self.create(),
            Operation::CreateNew => self.create_new(),
            Operation::OpenRead | Operation::OpenWrite | Operation::OpenPrivate => self.open(operation),
            Operation::IntoReadOnly => self.into_read_only(),
            Operation::Drop => self.let_go(),
            Operation::Close => self.close(),
            Operation::ClosePath => _ = ndarray_mmap::close_path(&self.path).expect("close_path"),
            Operation::CloseUnder => {
                _ = ndarray_mmap::close_under(self.path.parent().expect("a folder")).expect("close_under");
            }
            Operation::WriteElement { row, column, value } if rows > 0 && columns > 0 => {
                self.write(|mut view| view[[usize::from(row) % rows, usize::from(column) % columns]] = value);
            }
            Operation::WriteElement { .. } => {}
            Operation::WriteRows { rows: part, value } => {
                self.write(|mut view| view.slice_mut(s![part.within(rows), ..]).fill(value));
            }
            Operation::WriteColumn { column, value } if columns > 0 => {
                self.write(|mut view| view.column_mut(usize::from(column) % columns).fill(value));
            }
            Operation::WriteColumn { .. } => {}
            Operation::InvertAxes { row_axis, column_axis } => self.invert([row_axis, column_axis]),
            _ => self.control(operation),
        }
    }

    /// Runs an operation that must not change any element.
    fn control(&self, operation: Operation) {
        match operation {
            Operation::Flush => on_file_backed!(self, |array| array.flush().expect("flush")),
            Operation::FlushRows(rows) => {
                on_file_backed!(self, |array| array.flush_rows(rows.range()).expect("flush_rows"));
            }
            Operation::Evict => on_file_backed!(self, |array| array.evict().expect("evict")),
            Operation::EvictRows(rows) => {
                on_file_backed!(self, |array| array.evict_rows(rows.range()).expect("evict_rows"));
            }
            Operation::FlushSlice(part) => on_held!(self, |array| {
                ndarray_mmap::flush_view(&part.of(&array.view())).expect("flush_view");
            }),
            Operation::EvictSlice(part) => on_held!(self, |array| {
                ndarray_mmap::evict_view(&part.of(&array.view())).expect("evict_view");
            }),
            Operation::PrefetchRows(rows) => {
                on_held!(self, |array| array.prefetch_rows(rows.range()).expect("prefetch_rows"));
            }
            Operation::AdviseRows { random, rows } => on_held!(self, |array| {
                let pattern = if random { AccessPattern::Random } else { AccessPattern::Normal };
                array.advise_rows(pattern, rows.range()).expect("advise_rows");
            }),
            Operation::Residency(rows) => on_file_backed!(self, |array| {
                let residency = array.residency_rows(rows.range()).expect("residency");
                let expected = rows.within(self.shape().0).len() * self.shape().1 * size_of::<u16>();
                assert_eq!(residency.total_bytes, expected);
                assert!(residency.resident_bytes <= residency.total_bytes);
            }),
            _ => unreachable!("`apply` handles the other operations"),
        }
    }

    /// Asserts that the held array and the file, read by `std::fs::read`, hold the elements of their oracles.
    fn check(&self) {
        on_held!(self, |array| {
            let mut view = array.view();
            for axis in (0..2).filter(|&axis| self.inverted[axis]) {
                view.invert_axis(ndarray::Axis(axis));
            }
            assert_eq!(view, self.array);
        });
        let Some(expected) = &self.file else { return };
        let bytes = std::fs::read(&self.path).expect("the file is there");
        let data = &bytes[bytes.len() - expected.len() * size_of::<u16>()..];
        let stored = data.chunks_exact(2).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
        if self.spec.fortran {
            assert!(stored.eq(expected.t().iter().copied()));
        } else {
            assert!(stored.eq(expected.iter().copied()));
        }
    }
}

fuzz_target!(|input: Input| {
    let mut world = World::new(input.file);
    for operation in input.operations.into_iter().take(64) {
        world.apply(operation);
        world.check();
    }
    world.let_go();
    world.check();
    assert!(ndarray_mmap::open_arrays().is_empty());
});
