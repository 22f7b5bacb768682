//! The operations of streams: to a new file, over a file, and into an array.

use super::table::Outcome::{Absent, Holds, Mixes};
use super::table::{
    Array, Expected, Outcome, PATH, SHAPE, Scenario, appears, at, filled, new, old, old_file, patched, raw,
    write,
};
use crate::array::MmapArray;
use crate::error::Result;
use crate::file::{Allocation, ArrayOptions};
use crate::stream::{Budget, Stream, Transfer, copy};
use crate::sys::record::acknowledge;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, Ix2, ShapeBuilder, s};
use std::path::Path;

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

/// Copies rows of the source into the same rows of the old file.
fn copy_into_rows(folder: &Path, rows: std::ops::Range<usize>) -> Result<()> {
    let source = MmapArray::<u32, Ix2>::open(folder.join("source.npy"))?;
    let mut array = MmapArray::<u32, Ix2>::open_rw(folder.join(PATH))?;
    let stream = Stream::from(&source).threads(1).budget(Budget::bytes(60_000)).rows(rows.clone());
    stream.copy_into(&mut array.slice_mut(s![rows, ..]))?;
    acknowledge();
    array.close()
}

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
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
            ..Scenario::BASE
        },
        Scenario {
            name: "write_to over a file, direct",
            before: source_and_old_file,
            run: |folder| stream(folder, &ArrayOptions::new(), Transfer::Direct),
            legal: |acknowledged| source_and(appears(acknowledged, Holds(old()), new())),
            ..Scenario::BASE
        },
        Scenario {
            name: "write_to over a file, through the page cache",
            before: source_and_old_file,
            run: |folder| stream(folder, &ArrayOptions::new(), Transfer::Buffered),
            legal: |acknowledged| source_and(appears(acknowledged, Holds(old()), new())),
            ..Scenario::BASE
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
            ..Scenario::BASE
        },
        Scenario {
            name: "copy_into a whole array, close",
            before: source_and_old_file,
            run: |folder| copy_into_rows(folder, 0..SHAPE.0),
            legal: |acknowledged| source_and(filled(acknowledged, new())),
            ..Scenario::BASE
        },
        Scenario {
            name: "copy_into rows of an array, close",
            before: source_and_old_file,
            run: |folder| copy_into_rows(folder, 33..650),
            legal: |acknowledged| source_and(filled(acknowledged, patched(33..650, old()))),
            ..Scenario::BASE
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
            ..Scenario::BASE
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
            ..Scenario::BASE
        },
        Scenario {
            name: "write_to over its own source",
            before: |folder| write(&folder.join(PATH), &new()),
            run: |folder| {
                let source = MmapArray::<u32, Ix2>::open(folder.join(PATH))?;
                let stream = Stream::from(&source).threads(1).budget(Budget::bytes(60_000));
                let lowered = |chunk: ArrayView2<'_, u32>, mut out: ArrayViewMut2<'_, u32>| {
                    out.assign(&chunk.mapv(|element| element.min(3000)));
                };
                stream.map(lowered).write_to(folder.join(PATH))?;
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| {
                at(PATH, appears(acknowledged, Holds(new()), new().mapv(|element| element.min(3000))))
            },
            ..Scenario::BASE
        },
    ]
}
