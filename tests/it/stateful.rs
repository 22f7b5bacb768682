//! Tests of random sequences of operations, compared with arrays in memory. No stored byte may be lost, no other byte
//! may change, and the locking rules must hold.

use crate::support::disk_folder;
use bytemuck::Pod;
use ndarray::{Array2, Ix2, ShapeBuilder, s};
use ndarray_mmap::{
    AccessPattern, ArrayOptions, CopyOnWrite, ErrorKind, FileBacked, Format, MmapArray, OnDrop, ReadOnly,
    ReadWrite, Result, close_path, evict_view, flush_view,
};
use proptest::prelude::*;
use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;

/// The file that the operations use.
#[derive(Clone, Debug)]
struct Plan {
    rows: usize,
    row_bytes: usize,
    fortran: bool,
    npy: bool,
    /// The offset of the data in a raw file, in units of 8 bytes.
    offset: u64,
    on_drop: OnDrop,
}

/// An operation. A `usize` is an array index, a row or a column, taken modulo the number of arrays, rows or columns.
#[derive(Clone, Debug)]
enum Operation {
    Create,
    OpenRw,
    OpenReader,
    OpenCow,
    Element(usize, usize, usize, u8),
    Rows(usize, usize, usize, u8),
    Fill(usize, u8),
    Flush(usize),
    FlushRows(usize, usize, usize),
    Evict(usize),
    EvictRows(usize, usize, usize),
    EvictView(usize, usize, usize),
    Prefetch(usize, usize, usize),
    Advise(usize, usize, usize),
    IntoReadOnly(usize),
    Close(usize),
    Drop(usize),
    ClosePath,
    ReadBack,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    use Operation::*;
    let (h, n) = (0..8_usize, 0..2000_usize);
    let operation = prop_oneof![
        1 => Just(Create),
        3 => Just(OpenRw),
        3 => Just(OpenReader),
        2 => Just(OpenCow),
        4 => (h.clone(), n.clone(), n.clone(), any::<u8>()).prop_map(|(h, row, column, x)| Element(h, row, column, x)),
        4 => (h.clone(), n.clone(), n.clone(), any::<u8>()).prop_map(|(h, a, b, x)| Rows(h, a, b, x)),
        1 => (h.clone(), any::<u8>()).prop_map(|(h, x)| Fill(h, x)),
        1 => h.clone().prop_map(Flush),
        2 => (h.clone(), n.clone(), n.clone()).prop_map(|(h, a, b)| FlushRows(h, a, b)),
        1 => h.clone().prop_map(Evict),
        4 => (h.clone(), n.clone(), n.clone()).prop_map(|(h, a, b)| EvictRows(h, a, b)),
        2 => (h.clone(), n.clone(), n.clone()).prop_map(|(h, a, b)| EvictView(h, a, b)),
        1 => (h.clone(), n.clone(), n.clone()).prop_map(|(h, a, b)| Prefetch(h, a, b)),
        1 => (h.clone(), n.clone(), n).prop_map(|(h, a, b)| Advise(h, a, b)),
        1 => h.clone().prop_map(IntoReadOnly),
        2 => h.clone().prop_map(Close),
        2 => h.prop_map(Drop),
        1 => Just(ClosePath),
        2 => Just(ReadBack),
    ];
    prop::collection::vec(operation, 1..60)
}

fn plans() -> impl Strategy<Value = Plan> {
    let row_bytes = prop_oneof![Just(16), 8..200_usize, Just(4096), 1000..9000_usize, Just(37_000)];
    let ends = prop_oneof![Just(OnDrop::Evict), Just(OnDrop::KeepCached)];
    (1..400_usize, row_bytes, any::<bool>(), any::<bool>(), 0..3000_u64, ends).prop_map(
        |(rows, row_bytes, fortran, npy, offset, on_drop)| {
            let rows = rows.min(400_000 / row_bytes).max(1);
            Plan { rows, row_bytes, fortran, npy, offset, on_drop }
        },
    )
}

enum Array<T: 'static> {
    Writer(MmapArray<T, Ix2, ReadWrite>),
    Reader(MmapArray<T, Ix2, ReadOnly>),
    /// A private copy, and the elements that the private copy must show.
    Private(MmapArray<T, Ix2, CopyOnWrite>, Array2<T>),
}

/// A file, its open arrays, and the expected elements of each array.
struct World<T: 'static> {
    plan: Plan,
    path: PathBuf,
    options: ArrayOptions,
    file: Option<Array2<T>>,
    arrays: Vec<Array<T>>,
}

impl<T: Pod + PartialEq + Debug + From<u8>> World<T> {
    fn new(plan: &Plan, folder: &tempfile::TempDir) -> Self {
        let columns = (plan.row_bytes / size_of::<T>()).max(1);
        let format = if plan.npy { Format::Npy } else { Format::Raw };
        let shape = (plan.rows, columns).set_f(plan.fortran);
        let options = ArrayOptions::new().format(format).shape(shape).on_drop(plan.on_drop);
        let options = if plan.npy { options } else { options.offset_bytes(plan.offset * 8) };
        Self { plan: plan.clone(), path: folder.path().join("file"), options, file: None, arrays: Vec::new() }
    }

    fn columns(&self) -> usize {
        (self.plan.row_bytes / size_of::<T>()).max(1)
    }

    fn zeros(&self) -> Array2<T> {
        Array2::from_elem((self.plan.rows, self.columns()).set_f(self.plan.fortran), T::from(0))
    }

    /// Returns a range of rows. The end of the range may lie after the last row, or before the start of the range.
    fn rows(&self, a: usize, b: usize) -> Range<usize> {
        a % (self.plan.rows + 2)..b % (self.plan.rows + 2)
    }

    fn has_writer(&self) -> bool {
        self.arrays.iter().any(|array| matches!(array, Array::Writer(_)))
    }

    /// Keeps an opened array, or asserts that the locking rules explain the error. `alone` is true for a writer, which
    /// excludes every other array.
    fn keep<A>(&mut self, opened: Result<A>, alone: bool, wrap: impl FnOnce(A, &Array2<T>) -> Array<T>) {
        match (&self.file, opened) {
            (None, opened) => assert_eq!(opened.err().unwrap().kind(), ErrorKind::NotFound),
            (Some(_), Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
                assert!(self.has_writer() || (alone && !self.arrays.is_empty()), "{error}");
            }
            (Some(file), Ok(array)) => {
                let free = !self.has_writer() && (!alone || self.arrays.is_empty());
                assert!(free, "an array was opened against the locking rules");
                self.arrays.push(wrap(array, file));
            }
        }
    }

    /// Applies a change to one array and to the expected elements of this array.
    fn write(&mut self, at: usize, change: impl Fn(&mut ndarray::ArrayRef<T, Ix2>)) {
        let Some(len) = Some(self.arrays.len()).filter(|&len| len > 0) else { return };
        match &mut self.arrays[at % len] {
            Array::Writer(array) => {
                change(array);
                change(self.file.as_mut().unwrap());
            }
            Array::Private(array, expected) => {
                change(array);
                change(expected);
            }
            Array::Reader(_) => {}
        }
    }

    fn with(&mut self, at: usize, work: impl Fn(&dyn Cached, &ndarray::ArrayRef<T, Ix2>)) {
        let Some(len) = Some(self.arrays.len()).filter(|&len| len > 0) else { return };
        match &self.arrays[at % len] {
            Array::Writer(array) => work(array, array),
            Array::Reader(array) => work(array, array),
            Array::Private(array, _) => {
                evict_view(&**array).unwrap();
                flush_view(&**array).unwrap();
            }
        }
    }

    fn evict(&mut self, at: usize, rows: Range<usize>) {
        // The kernel can evict a page that one private mapping maps, but not a page that two private mappings share.
        let privates = self.arrays.iter().filter(|array| matches!(array, Array::Private(..))).count();
        self.with(at, |cached, _| {
            // The kernel cannot evict a page that the kernel is using at this moment, so the test tries the eviction up
            // to five times.
            let gone = (0..5).any(|_| cached.evict_them(rows.clone()) == 0);
            assert!(gone || privates > 1, "rows {rows:?} are still cached");
        });
    }

    fn take(&mut self, at: usize) -> Option<Array<T>> {
        let len = self.arrays.len();
        (len > 0).then(|| self.arrays.remove(at % len))
    }

    fn read_back(&self) {
        let Some(file) = &self.file else { return };
        for array in &self.arrays {
            match array {
                Array::Writer(array) => assert_eq!(array, file),
                Array::Reader(array) => assert_eq!(array, file),
                Array::Private(array, expected) => assert_eq!(array, expected),
            }
        }
        let bytes = std::fs::read(&self.path).unwrap();
        let data = &bytes[bytes.len() - file.len() * size_of::<T>()..];
        let ordered = file.as_slice_memory_order().unwrap();
        assert!(data == bytemuck::cast_slice::<T, u8>(ordered), "the bytes of the file differ");
        let before = if self.plan.npy { 128 } else { self.plan.offset as usize * 8 };
        assert_eq!(bytes.len() - data.len(), before);
    }

    fn apply(&mut self, operation: &Operation) {
        use Operation::*;
        let columns = self.columns();
        match *operation {
            Create => {
                let array = self.options.create(&self.path).unwrap();
                self.arrays.drain(..).for_each(assert_closed);
                self.file = Some(self.zeros());
                self.arrays.push(Array::Writer(array));
            }
            OpenRw => self.keep(self.options.open_rw(&self.path), true, |array, _| Array::Writer(array)),
            OpenReader => self.keep(self.options.open(&self.path), false, |array, _| Array::Reader(array)),
            OpenCow => self.keep(self.options.open_cow(&self.path), false, |array, file| {
                Array::Private(array, file.clone())
            }),
            Element(at, row, column, x) => {
                let index = [row % self.plan.rows, column % columns];
                self.write(at, |array| array[index] = T::from(x));
            }
            Rows(at, a, b, x) => {
                let (a, b) = (a % (self.plan.rows + 1), b % (self.plan.rows + 1));
                self.write(at, |array| array.slice_mut(s![a.min(b)..a.max(b), ..]).fill(T::from(x)));
            }
            Fill(at, x) => self.write(at, |array| array.fill(T::from(x))),
            Flush(at) => self.with(at, |cached, _| cached.flush_them(0..usize::MAX)),
            FlushRows(at, a, b) => {
                let rows = self.rows(a, b);
                self.with(at, |cached, _| cached.flush_them(rows.clone()));
            }
            Evict(at) => self.evict(at, 0..usize::MAX),
            EvictRows(at, a, b) => self.evict(at, self.rows(a, b)),
            EvictView(at, a, b) => {
                let (row, column) = (a % self.plan.rows, b % columns);
                self.with(at, |_, array| evict_view(&array.slice(s![row..;3, ..=column;-2])).unwrap());
            }
            Prefetch(at, a, b) => {
                let rows = self.rows(a, b);
                self.with(at, |cached, _| cached.prefetch_them(rows.clone()));
            }
            Advise(at, a, b) => {
                let rows = self.rows(a, b);
                self.with(at, |cached, _| cached.advise_them(rows.clone()));
            }
            IntoReadOnly(at) => match self.take(at) {
                Some(Array::Writer(array)) => {
                    self.arrays.push(Array::Reader(array.into_read_only().unwrap()))
                }
                Some(other) => self.arrays.push(other),
                None => {}
            },
            Close(at) => match self.take(at) {
                Some(Array::Writer(array)) => array.close().unwrap(),
                Some(Array::Reader(array)) => array.close().unwrap(),
                Some(Array::Private(array, _)) => array.close().unwrap(),
                None => {}
            },
            Drop(at) => drop(self.take(at)),
            ClosePath => {
                assert_eq!(close_path(&self.path).unwrap(), self.arrays.len());
                self.arrays.drain(..).for_each(assert_closed);
            }
            ReadBack => self.read_back(),
        }
    }
}

fn assert_closed<T>(array: Array<T>) {
    assert!(match &array {
        Array::Writer(array) => array.is_closed() && array.try_view().is_err(),
        Array::Reader(array) => array.is_closed() && array.try_view().is_err(),
        Array::Private(array, _) => array.is_closed() && array.try_view().is_err(),
    });
}

/// A trait for cache control that readers and writers implement.
trait Cached {
    fn flush_them(&self, rows: Range<usize>);
    /// Evicts rows. Returns how many bytes of these rows are still resident.
    fn evict_them(&self, rows: Range<usize>) -> usize;
    fn prefetch_them(&self, rows: Range<usize>);
    fn advise_them(&self, rows: Range<usize>);
}

impl<T: 'static, A: FileBacked> Cached for MmapArray<T, Ix2, A> {
    fn flush_them(&self, rows: Range<usize>) {
        self.flush_rows(rows).unwrap();
    }

    fn evict_them(&self, rows: Range<usize>) -> usize {
        self.evict_rows(rows.clone()).unwrap();
        self.residency_rows(rows).unwrap().resident_bytes
    }

    fn prefetch_them(&self, rows: Range<usize>) {
        self.prefetch_rows(rows).unwrap();
    }

    fn advise_them(&self, rows: Range<usize>) {
        let pattern =
            [AccessPattern::Normal, AccessPattern::Sequential, AccessPattern::Random][rows.start % 3];
        self.advise_rows(pattern, rows).unwrap();
    }
}

fn run<T: Pod + PartialEq + Debug + From<u8>>(plan: &Plan, operations: &[Operation]) {
    let folder = disk_folder();
    let mut world = World::<T>::new(plan, &folder);
    world.apply(&Operation::Create);
    for operation in operations {
        world.apply(operation);
    }
    world.read_back();
    world.arrays.clear();
    world.read_back();
}

/// Returns the configuration of the property tests. The default of 40 cases keeps the whole test suite within about a
/// minute. `PROPTEST_CASES` sets another number.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn of_bytes(plan in plans(), operations in operations()) {
        run::<u8>(&plan, &operations);
    }

    #[test]
    fn of_single_floats(plan in plans(), operations in operations()) {
        run::<f32>(&plan, &operations);
    }

    #[test]
    fn of_double_floats(plan in plans(), operations in operations()) {
        run::<f64>(&plan, &operations);
    }
}
