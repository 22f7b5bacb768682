//! Tests that create, open, change and replace files.

use super::{LAYOUTS, Layout, Outcome, ROW_BYTES, counting, data_offset};
use crate::place::Place;
use bytemuck::{Pod, Zeroable};
use ndarray::{Array2, Ix1, Ix2};
use ndarray_mmap::stream::{Element, Stream};
use ndarray_mmap::{ArrayOptions, ErrorKind, MmapArray};
use std::fmt::Debug;

const PLAIN: Layout = LAYOUTS[0];

/// Values that are stored through the mapping are in the file, in the order that the layout specifies. An array that
/// opens the file again has the same values.
pub fn written_and_opened_again(place: &Place) -> Outcome {
    for (row_bytes, layout) in ROW_BYTES.into_iter().flat_map(|bytes| LAYOUTS.map(|layout| (bytes, layout))) {
        let path = place.path("array");
        let values = counting(40_000, row_bytes);
        let options = layout.options(values.dim());
        let mut array = options.create::<f32, Ix2>(&path).unwrap();
        array.assign(&values);
        array.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let data = bytes[data_offset(&path, 4 * values.len())..].chunks_exact(4);
        let mut stored = data.map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap()));
        let case = format!("rows of {row_bytes} bytes, {layout:?}");
        let is_in_order = if layout.fortran {
            stored.by_ref().eq(values.t().iter().copied())
        } else {
            stored.by_ref().eq(values.iter().copied())
        };
        assert!(is_in_order, "{case}");
        array.close().unwrap();
        assert_eq!(options.open::<f32, Ix2>(&path).unwrap(), values, "{case}");
    }
    Outcome::Done
}

/// Changes of a read-write array reach the file. Changes of a copy-on-write array do not reach the file. Each array
/// shows its own changes.
pub fn changes_of_each_access(place: &Place) -> Outcome {
    for layout in LAYOUTS {
        let path = place.path("array");
        let mut values = counting(200_000, 1000);
        let options = layout.store(&path, &values, true);
        let mut private = options.open_cow::<f32, Ix2>(&path).unwrap();
        private.row_mut(7).fill(-7.0);
        assert_eq!(private.row(8), values.row(8), "{layout:?}");
        assert!(private.row(7).iter().all(|&value| value == -7.0), "{layout:?}");
        assert_eq!(options.open::<f32, Ix2>(&path).unwrap(), values, "{layout:?}");
        drop(private);
        let mut writer = options.open_rw::<f32, Ix2>(&path).unwrap();
        for array in [&mut *writer, &mut *values] {
            array.row_mut(3).fill(-3.0);
            array.row_mut(199).fill(-1.0);
        }
        writer.flush_rows(..10).unwrap();
        writer.close().unwrap();
        assert_eq!(options.open::<f32, Ix2>(&path).unwrap(), values, "{layout:?}");
    }
    Outcome::Done
}

/// `create_new` fails if the file exists, and `open` fails if the file does not exist. Neither leaves other files.
pub fn new_files_and_names(place: &Place) -> Outcome {
    let path = place.path("new.npy");
    assert_eq!(MmapArray::<u16, Ix1>::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
    MmapArray::<u16, Ix1>::create_new(&path, 3000).unwrap().close().unwrap();
    let error = MmapArray::<u16, Ix1>::create_new(&path, 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(MmapArray::<u16, Ix1>::open(&path).unwrap().len(), 3000);
    MmapArray::<u16, Ix1>::create(place.path("a/b/c.npy"), 0).unwrap().close().unwrap();
    assert_eq!(place.names(), ["a", "new.npy"]);
    Outcome::Done
}

pub fn unnamed_files(place: &Place) -> Outcome {
    let options = ArrayOptions::new().scratch_directory(&place.folder).shape((300, 250));
    let mut array = options.scratch::<f32, Ix2>().unwrap();
    let values = counting(300_000, 1000);
    array.assign(&values);
    array.flush().unwrap();
    array.evict().unwrap();
    assert_eq!(array, values);
    assert_eq!(Stream::from(&array).write_to(place.path("copy.npy")).unwrap(), values);
    array.close().unwrap();
    assert_eq!(place.names(), ["copy.npy"]);
    Outcome::Done
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Position([f32; 3]);

pub fn elements_of_every_size(place: &Place) -> Outcome {
    fn check<T: Element + Debug + PartialEq>(place: &Place, layout: Layout, of_index: impl Fn(usize) -> T) {
        let path = place.path("array");
        let values = Array2::from_shape_fn((333, 21), |(row, column)| of_index(row * 21 + column));
        let options = layout.store(&path, &values, true);
        let array = options.open::<T, Ix2>(&path).unwrap();
        assert_eq!(array, values, "{layout:?}");
        let out = place.path("out.bin");
        assert_eq!(Stream::from(&array).write_to(out).unwrap(), values, "{layout:?}");
    }
    check(place, PLAIN, |index| index as u8);
    check(place, LAYOUTS[3], |index| index as u16);
    check(place, LAYOUTS[4], |index| index as f64);
    check(place, LAYOUTS[2], |index| -(index as i64));
    check(place, LAYOUTS[3], |index| Position([index as f32, 1.0, -1.0]));
    Outcome::Done
}

/// An open array keeps its file when another file gets the same name.
pub fn older_mappings_outlive_a_replacement(place: &Place) -> Outcome {
    let path = place.path("array.npy");
    let older = counting(300_000, 1000);
    let newer = &older + 1.0;
    let options = PLAIN.store(&path, &older, true);
    let closed = options.open::<f32, Ix2>(&path).unwrap();
    let borrowed = closed.view();
    assert_eq!(Stream::from(&newer).write_to(&path).unwrap(), newer);
    assert!(closed.is_closed());
    assert_eq!(borrowed, older, "a borrow of a closed array still reads the older file");
    let reader = options.open::<f32, Ix2>(&path).unwrap();
    let created = options.clone().close_existing(false).create::<f32, Ix2>(&path).unwrap();
    assert!(created.iter().all(|&value| value == 0.0));
    assert_eq!(reader, newer);
    reader.evict_rows(50..100).unwrap();
    assert_eq!(reader, newer, "read again from the file without a name");
    assert_eq!(Stream::from(&reader).mean_axis0().unwrap().len(), 250);
    assert_eq!(place.names(), ["array.npy"]);
    Outcome::Done
}
