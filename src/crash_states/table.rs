//! The table of operations. Each operation calls [`acknowledge`] after each call that promises something, and lists what
//! a disk may contain after each number of acknowledged calls, if the power is cut then or during the next call.

use crate::array::{MmapArray, close_path, evict_view, flush_view};
use crate::error::Result;
use crate::file::{Allocation, ArrayOptions, Format, prepare_path, sweep_staged};
use crate::stream::{Budget, Stream, Transfer, copy};
use crate::sys::record::acknowledge;
use ndarray::{Array2, Axis, Ix2, ShapeBuilder, s};
use std::path::Path;

pub(super) type Array = Array2<u32>;

pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// The shape of raw files in C order, and the offset of their elements. `None` for NPY files.
    pub(super) raw: Option<((usize, usize), usize)>,
    /// Makes the files that exist before the operation. They are durable.
    pub(super) before: fn(&Path) -> Result<()>,
    pub(super) run: fn(&Path) -> Result<()>,
    /// Whether the operation can run again after it has succeeded.
    pub(super) can_repeat: bool,
    pub(super) legal: fn(usize) -> Vec<Expected>,
}

/// What a path may lead to.
pub(super) struct Expected {
    pub(super) path: &'static str,
    pub(super) outcomes: Vec<Outcome>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Absent,
    Directory,
    /// An array with these elements.
    Holds(Array),
    /// An array whose elements each come from one of these two arrays.
    Mixes(Array, Array),
    /// The first rows of an array, at least so many.
    #[allow(dead_code, reason = "for operations that append rows")]
    Starts(Array, usize),
}

impl Outcome {
    pub(super) fn contains(&self, found: &Array) -> bool {
        match self {
            Self::Absent | Self::Directory => false,
            Self::Holds(array) => found == array,
            Self::Mixes(one, other) => {
                let mut elements = found.iter().zip(one.iter().zip(other));
                found.dim() == one.dim()
                    && elements.all(|(found, (one, other))| found == one || found == other)
            }
            Self::Starts(array, least) => {
                let rows = found.nrows();
                (*least..=array.nrows()).contains(&rows) && found == array.slice(s![..rows, ..])
            }
        }
    }
}

use Outcome::{Absent, Directory, Holds, Mixes};

const SHAPE: (usize, usize) = (700, 7);
const PATH: &str = "a.npy";
const RAW: Option<((usize, usize), usize)> = Some((SHAPE, 512));

fn old() -> Array {
    Array::from_shape_fn(SHAPE, |(row, column)| 1_000_000 + (row * 10 + column) as u32)
}

fn new() -> Array {
    Array::from_shape_fn(SHAPE, |(row, column)| 1 + (row * 10 + column) as u32)
}

fn zeros() -> Array {
    Array::zeros(SHAPE)
}

/// Returns the old array, in which some rows are new.
fn patched(rows: std::ops::Range<usize>, mut array: Array) -> Array {
    array.slice_mut(s![rows.clone(), ..]).assign(&new().slice(s![rows, ..]));
    array
}

fn write(path: &Path, array: &Array) -> Result<()> {
    let mut written = MmapArray::<u32, Ix2>::create(path, array.dim())?;
    written.assign(array);
    written.close()
}

fn raw() -> ArrayOptions {
    ArrayOptions::new().format(Format::Raw).shape(SHAPE).offset_bytes(512)
}

fn at(path: &'static str, outcomes: impl Into<Vec<Outcome>>) -> Vec<Expected> {
    vec![Expected { path, outcomes: outcomes.into() }]
}

/// What a path may lead to before and after a new file appears as a whole.
fn appears(acknowledged: usize, before: Outcome, after: Array) -> Vec<Outcome> {
    if acknowledged == 0 { vec![before, Holds(after)] } else { vec![Holds(after)] }
}

fn nothing(_: &Path) -> Result<()> {
    Ok(())
}

fn old_file(folder: &Path) -> Result<()> {
    write(&folder.join(PATH), &old())
}

fn source_and_old_file(folder: &Path) -> Result<()> {
    write(&folder.join("source.npy"), &new())?;
    old_file(folder)
}

/// Writes the source to a new file, one thread, in several blocks.
fn stream(folder: &Path, options: &ArrayOptions, transfer: Transfer) -> Result<()> {
    let source = MmapArray::<u32, Ix2>::open(folder.join("source.npy"))?;
    let stream = Stream::from(&source).threads(1).budget(Budget::bytes(60_000)).transfer(transfer);
    stream.write_with(options, folder.join(PATH))?;
    acknowledge();
    Ok(())
}

/// The source, and the old or new file.
fn source_and(outcomes: Vec<Outcome>) -> Vec<Expected> {
    let source = Expected { path: "source.npy", outcomes: vec![Holds(new())] };
    vec![source, Expected { path: PATH, outcomes }]
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let base =
        Scenario { name: "", raw: None, before: nothing, run: nothing, can_repeat: true, legal: |_| vec![] };
    vec![
        Scenario {
            name: "create, flush_rows, evict_rows, flush, into_read_only",
            run: |folder| {
                let mut array = MmapArray::<u32, Ix2>::create(folder.join(PATH), SHAPE)?;
                acknowledge();
                array.assign(&patched(0..400, zeros()));
                array.flush_rows(10..300)?;
                acknowledge();
                array.assign(&new());
                array.evict_rows(..500)?;
                array.flush()?;
                acknowledge();
                array.into_read_only()?.close()
            },
            legal: |acknowledged| {
                at(
                    PATH,
                    match acknowledged {
                        0 => vec![Absent, Holds(zeros())],
                        1 => vec![Mixes(zeros(), new())],
                        2 => vec![Mixes(patched(10..300, zeros()), new())],
                        _ => vec![Holds(new())],
                    },
                )
            },
            ..base
        },
        Scenario {
            name: "create over a file, into_read_only",
            before: old_file,
            run: |folder| {
                let mut array = MmapArray::<u32, Ix2>::create(folder.join(PATH), SHAPE)?;
                acknowledge();
                array.assign(&new());
                array.into_read_only()?;
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| {
                at(
                    PATH,
                    match acknowledged {
                        0 => vec![Holds(old()), Holds(zeros())],
                        1 => vec![Mixes(zeros(), new())],
                        _ => vec![Holds(new())],
                    },
                )
            },
            ..base
        },
        Scenario {
            name: "prepare_path, create_new in new directories, drop",
            raw: RAW,
            can_repeat: false,
            run: |folder| {
                let path = prepare_path(folder.join("b/c/a.bin"), true)?;
                acknowledge();
                let mut array = raw().allocation(Allocation::Sparse).create_new::<u32, Ix2>(path)?;
                acknowledge();
                array.assign(&new());
                drop(array);
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| {
                let directory = if acknowledged == 0 { vec![Absent, Directory] } else { vec![Directory] };
                let mut all = at("b/c", directory);
                all.extend(at(
                    "b/c/a.bin",
                    match acknowledged {
                        0 => vec![Absent],
                        1 => vec![Absent, Holds(zeros())],
                        2 => vec![Mixes(zeros(), new())],
                        _ => vec![Holds(new())],
                    },
                ));
                all
            },
            ..base
        },
        Scenario {
            name: "publish_on_close over a file, close",
            before: old_file,
            run: |folder| {
                let options = ArrayOptions::new().shape(SHAPE).publish_on_close(true);
                let mut array = options.create::<u32, Ix2>(folder.join(PATH))?;
                array.assign(&new());
                array.close()?;
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| at(PATH, appears(acknowledged, Holds(old()), new())),
            ..base
        },
        Scenario {
            name: "publish_on_close to a new file, flush, into_read_only",
            run: |folder| {
                let options = ArrayOptions::new().shape(SHAPE).publish_on_close(true);
                let mut array = options.create::<u32, Ix2>(folder.join(PATH))?;
                array.assign(&patched(0..200, zeros()));
                array.flush()?;
                array.assign(&new());
                array.into_read_only()?;
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| at(PATH, appears(acknowledged, Absent, new())),
            ..base
        },
        Scenario {
            name: "write_to a new file in new directories",
            before: source_and_old_file,
            run: |folder| {
                let source = MmapArray::<u32, Ix2>::open(folder.join("source.npy"))?;
                let stream = Stream::from(&source).threads(1).budget(Budget::bytes(60_000)).rows(100..);
                stream.map(|chunk, mut out| out.assign(&chunk)).write_to(folder.join("b/c/a.npy"))?;
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| {
                let mut all = source_and(vec![Holds(old())]);
                let rows = new().slice(s![100.., ..]).to_owned();
                all.extend(at("b/c/a.npy", appears(acknowledged, Absent, rows)));
                all
            },
            ..base
        },
        Scenario {
            name: "write_to over a file, direct",
            before: source_and_old_file,
            run: |folder| stream(folder, &ArrayOptions::new(), Transfer::Direct),
            legal: |acknowledged| source_and(appears(acknowledged, Holds(old()), new())),
            ..base
        },
        Scenario {
            name: "write_to over a file, through the page cache",
            before: source_and_old_file,
            run: |folder| stream(folder, &ArrayOptions::new(), Transfer::Buffered),
            legal: |acknowledged| source_and(appears(acknowledged, Holds(old()), new())),
            ..base
        },
        Scenario {
            name: "write_with Fortran order, raw",
            raw: Some(((SHAPE.1, SHAPE.0), 512)),
            run: |folder| {
                let array = new();
                let stream = Stream::from(&array).threads(1).budget(Budget::bytes(60_000));
                stream.write_with(&raw().shape(SHAPE.f()), folder.join("a.bin"))?;
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| {
                let columns = new().reversed_axes().as_standard_layout().into_owned();
                at("a.bin", appears(acknowledged, Absent, columns))
            },
            ..base
        },
        Scenario {
            name: "copy_into a whole array, close",
            before: source_and_old_file,
            run: |folder| copy_into_rows(folder, 0..SHAPE.0),
            legal: |acknowledged| source_and(filled(acknowledged, new())),
            ..base
        },
        Scenario {
            name: "copy_into rows of an array, close",
            before: source_and_old_file,
            run: |folder| copy_into_rows(folder, 33..650),
            legal: |acknowledged| source_and(filled(acknowledged, patched(33..650, old()))),
            ..base
        },
        Scenario {
            name: "copy_into columns of an array",
            before: old_file,
            run: |folder| {
                let mut array = MmapArray::<u32, Ix2>::open_rw(folder.join(PATH))?;
                copy(&new().slice(s![.., ..;2]), &mut array.slice_mut(s![.., ..;2]))?;
                acknowledge();
                let odd = new().select(Axis(1), &[1, 3, 5]);
                Stream::from(&odd).threads(1).copy_into(&mut array.slice_mut(s![.., 1..;2]))?;
                acknowledge();
                array.close()
            },
            legal: |acknowledged| {
                let mut half = old();
                half.slice_mut(s![.., ..;2]).assign(&new().slice(s![.., ..;2]));
                at(
                    PATH,
                    match acknowledged {
                        0 => vec![Mixes(old(), half)],
                        1 => vec![Mixes(half, new())],
                        _ => vec![Holds(new())],
                    },
                )
            },
            ..base
        },
        Scenario {
            name: "open_rw a raw file, flush_view, evict_view, close_path",
            raw: RAW,
            before: |folder| {
                let mut array = raw().create::<u32, Ix2>(folder.join("a.bin"))?;
                array.assign(&old());
                array.close()
            },
            run: |folder| {
                let mut array = raw().open_rw::<u32, Ix2>(folder.join("a.bin"))?;
                array.assign(&patched(0..300, old()));
                flush_view(&array.slice(s![50..250, 1..]))?;
                acknowledge();
                array.assign(&new());
                evict_view(&array.slice(s![..;3, ..]))?;
                close_path(folder.join("a.bin"))?;
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| {
                let mut flushed = old();
                flushed.slice_mut(s![50..250, 1..]).assign(&new().slice(s![50..250, 1..]));
                at(
                    "a.bin",
                    match acknowledged {
                        0 => vec![Mixes(old(), new())],
                        1 => vec![Mixes(flushed, new())],
                        _ => vec![Holds(new())],
                    },
                )
            },
            ..base
        },
        Scenario {
            name: "row_chunks_mut, close",
            before: old_file,
            run: |folder| {
                let mut array = MmapArray::<u32, Ix2>::open_rw(folder.join(PATH))?;
                let mut chunks = array.row_chunks_mut(Budget::chunk_rows(200));
                while let Some((rows, mut chunk)) = chunks.try_next()? {
                    chunk.assign(&new().slice(s![rows, ..]));
                }
                drop(chunks);
                array.close()?;
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| at(PATH, filled(acknowledged, new())),
            ..base
        },
        Scenario {
            name: "write_to a new file, from a source with holes",
            before: |folder| {
                let sparse = ArrayOptions::new().shape((4000, 7)).allocation(Allocation::Sparse);
                let mut array = sparse.create::<u32, Ix2>(folder.join("source.npy"))?;
                array.slice_mut(s![2000..2100, ..]).fill(5);
                array.close()
            },
            run: |folder| stream(folder, &ArrayOptions::new(), Transfer::Auto),
            legal: |acknowledged| {
                let mut array = Array::zeros((4000, 7));
                array.slice_mut(s![2000..2100, ..]).fill(5);
                at("source.npy", [Holds(array.clone())])
                    .into_iter()
                    .chain(at(PATH, appears(acknowledged, Absent, array)))
                    .collect()
            },
            ..base
        },
        Scenario {
            name: "sweep_staged, create over a file, drop",
            before: |folder| {
                let left =
                    ".ndarray-mmap-4000000000-0000000000000000-0000000000000000-0000000000000000.staged";
                std::fs::write(folder.join(left), "left").unwrap();
                old_file(folder)
            },
            run: |folder| {
                sweep_staged(folder)?;
                let mut array = MmapArray::<u32, Ix2>::create(folder.join(PATH), SHAPE)?;
                acknowledge();
                array.assign(&new());
                drop(array);
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| {
                at(
                    PATH,
                    match acknowledged {
                        0 => vec![Holds(old()), Holds(zeros())],
                        1 => vec![Mixes(zeros(), new())],
                        _ => vec![Holds(new())],
                    },
                )
            },
            ..base
        },
    ]
}

/// Copies rows of the source into the same rows of the old file.
fn copy_into_rows(folder: &Path, rows: std::ops::Range<usize>) -> Result<()> {
    let source = MmapArray::<u32, Ix2>::open(folder.join("source.npy"))?;
    let mut array = MmapArray::<u32, Ix2>::open_rw(folder.join(PATH))?;
    let stream = Stream::from(&source).threads(1).budget(Budget::bytes(60_000)).rows(rows.clone());
    stream.copy_into(&mut array.slice_mut(s![rows, ..]))?;
    acknowledge();
    array.close()
}

/// What the old file may contain before and after it is filled in place.
fn filled(acknowledged: usize, after: Array) -> Vec<Outcome> {
    if acknowledged == 0 { vec![Mixes(old(), after)] } else { vec![Holds(after)] }
}
