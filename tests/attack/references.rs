//! Tests that the elements behind a shared reference never change, whatever happens to the file at the array's path.

use crate::harness::{folder, is_alone};
use ndarray::{Array2, ArrayView2, Axis, Ix2, s};
use ndarray_mmap::stream::{Budget, Stream};
use ndarray_mmap::{
    Access, ArrayOptions, ErrorKind, Format, MmapArray, close_path, close_under, evict_view, sweep_staged,
};
use std::hint::black_box;
use std::path::Path;

const SHAPE: (usize, usize) = (600, 50);
const BYTES: u64 = (SHAPE.0 * SHAPE.1 * 8) as u64;

/// A function that reads the elements behind a reference.
type Read<'a> = Box<dyn Fn() -> Vec<u64> + 'a>;

/// A function that opens an array with the access `A`.
type Open<'o, A> = dyn Fn() -> MmapArray<u64, Ix2, A> + 'o;

/// An operation (attack) on the path of an open array. An attack may fail, but must not change any element of the
/// array.
const ATTACKS: [&str; 12] = [
    "close_path",
    "close_under",
    "open_rw after closing",
    "a part opened after closing",
    "open_cow that stores",
    "create",
    "create of another shape",
    "create without closing",
    "write_to",
    "rename over it",
    "unlink",
    "neighbours that store",
];

fn npy_options() -> ArrayOptions {
    ArrayOptions::new().shape(SHAPE)
}

fn attack(name: &str, path: &Path) {
    let folder = path.parent().unwrap();
    let sevens = Array2::<u64>::from_elem(SHAPE, 7);
    match name {
        "close_path" => _ = close_path(path).unwrap(),
        "close_under" => _ = close_under(folder).unwrap(),
        "open_rw after closing" => {
            let opened = npy_options().close_existing(true).open_rw::<u64, Ix2>(path);
            assert_eq!(opened.unwrap_err().kind(), ErrorKind::InUse);
        }
        "a part opened after closing" => {
            for offset_bytes in [128, 128 + 8 * 77, 128 + BYTES - 8] {
                let part = ArrayOptions::new().format(Format::Raw).offset_bytes(offset_bytes).shape((1, 1));
                let opened = part.close_existing(true).open_rw::<u64, Ix2>(path);
                assert_eq!(opened.unwrap_err().kind(), ErrorKind::InUse);
            }
        }
        "open_cow that stores" => {
            if let Ok(mut private) = npy_options().open_cow::<u64, Ix2>(path) {
                private.fill(7);
                Stream::from(&(&sevens + 1)).copy_into(&mut private).unwrap();
                private.close().unwrap();
            }
        }
        "create" => npy_options().create::<u64, Ix2>(path).unwrap().fill(7),
        "create of another shape" => MmapArray::<u8, Ix2>::create(path, (3, 3)).unwrap().fill(7),
        "create without closing" => {
            let mut new = npy_options().close_existing(false).create::<u64, Ix2>(path).unwrap();
            new.fill(7);
            Stream::from(&sevens).copy_into(&mut new).unwrap();
            new.evict().unwrap();
        }
        "write_to" => drop(Stream::from(&sevens).write_to(path).unwrap()),
        "rename over it" => {
            let other = folder.join("other");
            std::fs::write(&other, vec![7; 128 + BYTES as usize]).unwrap();
            std::fs::rename(other, path).unwrap();
        }
        "unlink" => std::fs::remove_file(path).unwrap(),
        "neighbours that store" => {
            let column = |offset_bytes| {
                ArrayOptions::new().format(Format::Raw).offset_bytes(offset_bytes).shape((1, 16))
            };
            // The header and the first rows are in the same page, but the header is not part of the array.
            let mut neighbour = column(0).open_rw::<u64, Ix2>(path).unwrap();
            let header = neighbour.to_owned();
            neighbour.fill(7);
            neighbour.evict().unwrap();
            Stream::from(&header).copy_into(&mut neighbour).unwrap();
            neighbour.close().unwrap();
        }
        other => panic!("attack {other}"),
    }
    assert_eq!(sweep_staged(folder).unwrap(), 0);
}

/// Makes every kind of reference into an array. Returns the name of each reference, and a function that reads the
/// elements behind the reference.
fn readers(view: ArrayView2<'_, u64>) -> Vec<(&'static str, Read<'_>)> {
    let slice = view.to_slice().unwrap();
    let (first, last) = (&slice[0], &slice[slice.len() - 1]);
    let chunks: Vec<_> = view.axis_chunks_iter(Axis(0), 64).map(|chunk| chunk.sum()).collect();
    assert_eq!(chunks.len(), 10);
    let iterator = slice.iter();
    let columns = view.slice_move(s![.., ..;7]);
    vec![
        ("slice", Box::new(move || black_box(slice).to_vec())),
        ("element", Box::new(move || vec![*black_box(first), *black_box(last)])),
        ("iterator", Box::new(move || iterator.clone().copied().collect())),
        ("columns", Box::new(move || columns.iter().copied().collect())),
    ]
}

fn under_attack<A: Access>(access: &str, path: &Path, open: &Open<'_, A>) {
    for name in ATTACKS {
        for closed_before in [false, true] {
            let array = open();
            let what = format!("{access}, {name}, closed before: {closed_before}");
            let view = array.try_view().unwrap();
            let mut chunks = array.row_chunks(Budget::chunk_rows(100));
            let (_, passed) = chunks.next().unwrap();
            let (_, kept) = chunks.next().unwrap();
            let _ = chunks.next().unwrap();
            let mut readers = readers(view);
            readers.push(("passed chunk", Box::new(move || passed.iter().copied().collect())));
            readers.push(("kept chunk", Box::new(move || kept.iter().copied().collect())));
            let before: Vec<_> = readers.iter().map(|(_, read)| read()).collect();
            if closed_before {
                close_path(path).unwrap();
            }
            std::thread::scope(|scope| {
                scope.spawn(|| attack(name, path));
                for _ in 0..20 {
                    for ((kind, read), before) in readers.iter().zip(&before) {
                        assert!(read() == *before, "{what}: the {kind} has changed meanwhile");
                    }
                }
            });
            let _ = evict_view(&view);
            for ((kind, read), before) in readers.iter().zip(&before) {
                assert!(read() == *before, "{what}: the {kind} has changed");
            }
            drop(readers);
            drop(chunks);
            // `close` returns an error if a store to the array may be missing from the file, and if an attack has taken
            // the name of the file away.
            let closed = array.close().map_err(|error| error.kind());
            let may_lose_its_name =
                name.starts_with("create") || ["write_to", "rename over it", "unlink"].contains(&name);
            assert!(
                closed.is_ok() || may_lose_its_name && closed == Err(ErrorKind::NameLost),
                "{what}: {closed:?}"
            );
        }
    }
}

#[test]
fn no_reference_changes() {
    if !is_alone("references::no_reference_changes") {
        return;
    }
    let folder = folder(false);
    let path = folder.path().join("a.npy");
    let values = Array2::from_shape_fn(SHAPE, |(row, column)| (row * 1000 + column) as u64);
    let create = || {
        let mut array = MmapArray::<u64, Ix2>::create(&path, SHAPE).unwrap();
        array.assign(&values);
        array
    };
    under_attack("writer", &path, &create);
    under_attack("finished writer", &path, &|| create().into_read_only().unwrap());
    under_attack("write_to", &path, &|| Stream::from(&values).write_to(&path).unwrap());
    under_attack("reader", &path, &|| {
        create().close().unwrap();
        MmapArray::<u64, Ix2>::open(&path).unwrap()
    });
    under_attack("copy-on-write array", &path, &|| {
        create().close().unwrap();
        let mut array = MmapArray::<u64, Ix2>::open_cow(&path).unwrap();
        array.row_mut(70).fill(3);
        array
    });
}
