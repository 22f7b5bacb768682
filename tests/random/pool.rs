//! Source arrays for many streams. Each array is created once and stays open, together with its expected elements.

use crate::filesystems::Filesystem;
use crate::spec::{Access, Cache, Element, SourceSpec, StreamSpec};
use crate::steps;
use bytemuck::{Pod, Zeroable};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, ShapeBuilder, Slice};
use ndarray_mmap::stream::{Element as Streamable, Source, Stream};
use ndarray_mmap::{ArrayOptions, CopyOnWrite, Format, MmapArray, OnDrop, ReadOnly, ReadWrite};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// An element type, and a function that makes different values for neighbouring indices.
pub trait Sample: Streamable + PartialEq + Debug {
    fn of_index(index: usize) -> Self;
}

macro_rules! samples {
    ($($type:ty: |$index:ident| $value:expr;)*) => {
        $(impl Sample for $type {
            fn of_index($index: usize) -> Self {
                $value
            }
        })*
    };
}

samples! {
    u8: |index| (index % 251) as u8;
    u16: |index| (index % 65_521) as u16;
    f32: |index| (index % 1_000_003) as f32 + 0.5;
    f64: |index| index as f64 - 1000.25;
    i64: |index| index as i64 * 1_000_003 - (1 << 30);
    Triple: |index| Triple([index as f32, 1.5, -(index as f32)]);
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Triple([f32; 3]);

enum Array<T: 'static> {
    Reader(MmapArray<T, IxDyn, ReadOnly>),
    Writer(MmapArray<T, IxDyn, ReadWrite>),
    Private(MmapArray<T, IxDyn, CopyOnWrite>),
}

/// An open array, and its expected elements in memory.
pub struct Held<T: 'static> {
    array: Array<T>,
    pub values: ArrayD<T>,
}

impl<T: Sample> Held<T> {
    fn make(spec: &SourceSpec, path: &Path) -> Self {
        let format = if spec.offset_bytes.is_none() { Format::Npy } else { Format::Raw };
        let options = ArrayOptions::new()
            .format(format)
            .offset_bytes(spec.offset_bytes.unwrap_or(0))
            .shape(IxDyn(&spec.shape).set_f(spec.fortran))
            .on_drop(OnDrop::KeepCached);
        let mut values = ArrayD::from_elem(IxDyn(&spec.shape), T::zeroed());
        values.iter_mut().enumerate().for_each(|(index, value)| *value = T::of_index(index));
        let mut writer = options.create::<T, IxDyn>(path).unwrap();
        writer.assign(&values);
        let array = match spec.access {
            Access::ReadWrite => Array::Writer(writer),
            Access::ReadOnly => Array::Reader(writer.into_read_only().unwrap()),
            Access::CopyOnWrite => {
                writer.close().unwrap();
                let mut private = options.open_cow::<T, IxDyn>(path).unwrap();
                let changed = |index: usize| index % 5000 == 17 || (600..700).contains(&index);
                for array in [&mut *private, &mut *values] {
                    let changes = array.iter_mut().enumerate().filter(|(index, _)| changed(*index));
                    changes.for_each(|(index, value)| *value = T::of_index(index + 3));
                }
                Array::Private(private)
            }
        };
        Self { array, values }
    }

    pub fn view(&self) -> ArrayViewD<'_, T> {
        match &self.array {
            Array::Reader(array) => array.view(),
            Array::Writer(array) => array.view(),
            Array::Private(array) => array.view(),
        }
    }

    pub fn stream(&self) -> Stream<'static, Source<'_, T, IxDyn>> {
        match &self.array {
            Array::Reader(array) => Stream::from(array),
            Array::Writer(array) => Stream::from(array),
            Array::Private(array) => Stream::from(array),
        }
    }

    fn prepare(&mut self, cache: Cache) {
        let rows = self.values.shape().first().copied().unwrap_or(1);
        match cache {
            Cache::AsItIs => {}
            Cache::Cold | Cache::PartlyCached => {
                match &self.array {
                    Array::Reader(array) => array.evict().unwrap(),
                    Array::Writer(array) => array.evict().unwrap(),
                    Array::Private(_) => {}
                }
                if cache == Cache::PartlyCached && self.values.ndim() > 0 {
                    let view = self.view();
                    let part = view.slice_axis(Axis(0), Slice::from(..rows / 3));
                    assert!(part.iter().eq(self.values.slice_axis(Axis(0), Slice::from(..rows / 3))));
                }
            }
            Cache::Cached => assert_eq!(self.view(), self.values),
            Cache::Dirty => {
                if let Array::Writer(array) = &mut self.array {
                    let stored = array.iter_mut().zip(&self.values).skip(rows).step_by(997);
                    stored.for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// The source arrays of one element type. The key is the filesystem and the description of the source.
type Sources<T> = BTreeMap<(String, SourceSpec), Held<T>>;

/// All source arrays that one worker thread keeps open.
pub struct Pool<'f> {
    filesystems: &'f [Filesystem],
    worker: usize,
    made: usize,
    /// The size of all source arrays in bytes, counting at least 64 KiB for each array.
    held_bytes: usize,
    u8s: Sources<u8>,
    u16s: Sources<u16>,
    f32s: Sources<f32>,
    f64s: Sources<f64>,
    i64s: Sources<i64>,
    triples: Sources<Triple>,
}

/// The limit of `held_bytes`. Above this limit, the pool drops all source arrays and creates new ones.
const MOST_BYTES: usize = 12 << 20;

impl<'f> Pool<'f> {
    pub fn new(filesystems: &'f [Filesystem], worker: usize) -> Self {
        let (u8s, u16s, f32s) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (f64s, i64s, triples) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { filesystems, worker, made: 0, held_bytes: 0, u8s, u16s, f32s, f64s, i64s, triples }
    }

    /// Runs the stream that `spec` describes. The error describes how the result of the stream differs.
    pub fn run(&mut self, spec: &StreamSpec) -> Result<(), String> {
        let filesystem = self.filesystems.iter().find(|filesystem| filesystem.name == spec.filesystem);
        let Some(filesystem) = filesystem else { return Ok(()) };
        self.made += 1;
        if self.held_bytes > MOST_BYTES {
            *self = Self { made: self.made, ..Self::new(self.filesystems, self.worker) };
        }
        let files = Files { folder: &filesystem.directory, worker: self.worker, number: self.made };
        files.remove_large();
        match spec.source.element {
            Element::U8 => {
                steps::numeric(source(&mut self.u8s, &mut self.held_bytes, spec, &files), spec, &files)
            }
            Element::U16 => {
                steps::numeric(source(&mut self.u16s, &mut self.held_bytes, spec, &files), spec, &files)
            }
            Element::F32 => {
                steps::numeric(source(&mut self.f32s, &mut self.held_bytes, spec, &files), spec, &files)
            }
            Element::F64 => {
                steps::numeric(source(&mut self.f64s, &mut self.held_bytes, spec, &files), spec, &files)
            }
            Element::I64 => {
                steps::numeric(source(&mut self.i64s, &mut self.held_bytes, spec, &files), spec, &files)
            }
            Element::Triple => {
                steps::plain(source(&mut self.triples, &mut self.held_bytes, spec, &files), spec, &files)
            }
        }
    }
}

/// Returns the source array of the stream, and brings its pages into the wanted page-cache state. Creates the array if
/// the pool does not contain it.
fn source<'s, T: Sample>(
    sources: &'s mut Sources<T>,
    held_bytes: &mut usize,
    spec: &StreamSpec,
    files: &Files<'_>,
) -> &'s Held<T> {
    let key = (spec.filesystem.clone(), spec.source.clone());
    let held = sources.entry(key).or_insert_with(|| {
        let path = files.folder.join(format!("source-{}-{}", files.worker, files.number));
        let held = Held::make(&spec.source, &path);
        *held_bytes += (held.values.len() * size_of::<T>()).max(1 << 16);
        std::fs::remove_file(path).unwrap(); // the open array keeps the file alive
        held
    });
    held.prepare(spec.cache);
    held
}

/// The paths of the files that one stream creates.
pub struct Files<'f> {
    folder: &'f Path,
    worker: usize,
    number: usize,
}

impl Files<'_> {
    pub fn out(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("out-{}.{extension}", self.worker))
    }

    /// Removes the output files of earlier streams that are larger than 4 MiB, because the test disks are small.
    fn remove_large(&self) {
        let target = self.folder.join(format!("target-{}", self.worker));
        for path in [self.out("npy"), self.out("bin"), target] {
            if std::fs::metadata(&path).is_ok_and(|file| file.len() > 4 << 20) {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// Returns the path of a file that has at least `len` bytes, with any content.
    pub fn target(&self, len: u64) -> PathBuf {
        let path = self.folder.join(format!("target-{}", self.worker));
        let file = std::fs::File::options().write(true).create(true).truncate(false).open(&path).unwrap();
        if file.metadata().unwrap().len() < len {
            file.set_len(len).unwrap();
        }
        path
    }
}
