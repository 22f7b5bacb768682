//! The operations of arrays: creating, filling, flushing, evicting and closing.

use super::table::Outcome::{Absent, Directory, Holds, Mixes};
use super::table::{
    Array, Expected, PATH, RAW, SHAPE, Scenario, appears, at, filled, new, old, old_file, patched, raw, zeros,
};
use crate::array::{MmapArray, close_path, evict_view, flush_view};
use crate::file::{Allocation, ArrayOptions, prepare_path, sweep_staged};
use crate::stream::Budget;
use crate::sys::record::acknowledge;
use ndarray::{Ix2, s};

/// `create` over a file is acknowledged, and then a close that flushes the new elements.
fn created_over_a_file(acknowledged: usize) -> Vec<Expected> {
    let outcomes = match acknowledged {
        0 => vec![Holds(old()), Holds(zeros())],
        1 => vec![Mixes(zeros(), new())],
        _ => vec![Holds(new())],
    };
    at(PATH, outcomes)
}

pub(super) fn scenarios() -> Vec<Scenario> {
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
            ..Scenario::BASE
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
            legal: created_over_a_file,
            ..Scenario::BASE
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
            ..Scenario::BASE
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
            ..Scenario::BASE
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
            ..Scenario::BASE
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
            ..Scenario::BASE
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
            ..Scenario::BASE
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
            legal: created_over_a_file,
            ..Scenario::BASE
        },
        Scenario {
            name: "create an array without elements over an open array with two names",
            before: |folder| {
                old_file(folder)?;
                std::fs::hard_link(folder.join(PATH), folder.join("b.npy")).unwrap();
                Ok(())
            },
            run: |folder| {
                let mut array = MmapArray::<u32, Ix2>::open_rw(folder.join(PATH))?;
                array.assign(&new());
                let empty = MmapArray::<u32, Ix2>::create(folder.join(PATH), (0, 7))?;
                acknowledge();
                drop(array); // `close` returns `NameLost`
                empty.close()?;
                acknowledge();
                Ok(())
            },
            // A repetition opens an array without elements, and cannot assign elements to it.
            can_repeat: false,
            legal: |acknowledged| {
                let empty = Holds(Array::zeros((0, 7)));
                let first = if acknowledged == 0 { vec![Mixes(old(), new()), empty] } else { vec![empty] };
                at(PATH, first).into_iter().chain(at("b.npy", filled(acknowledged, new()))).collect()
            },
            ..Scenario::BASE
        },
    ]
}
