//! Tests that a full disk causes an error but no signal, and that values stored earlier are kept.

use super::{Filler, Outcome, TRANSFERS};
use crate::place::Place;
use ndarray::{Array2, Ix2, s};
use ndarray_mmap::stream::{Stream, copy};
use ndarray_mmap::{Allocation, ArrayOptions, ErrorKind, MmapArray, ReadWrite, fault};

const SHAPE: (usize, usize) = (1024, 1024);

macro_rules! need_private {
    ($place:ident) => {
        if !$place.is_private {
            return Outcome::Skipped("a disk that others use is not filled".to_owned());
        }
    };
}

fn sparse(place: &Place, name: &str) -> MmapArray<f32, Ix2, ReadWrite> {
    let options = ArrayOptions::new().allocation(Allocation::Sparse).shape(SHAPE);
    options.create(place.path(name)).unwrap()
}

pub fn creating_on_a_full_disk(place: &Place) -> Outcome {
    need_private!(place);
    let values = Array2::<f32>::ones(SHAPE);
    let filler = Filler::new(place.path("filler"));
    let error = MmapArray::<f32, Ix2>::create(place.path("array.npy"), SHAPE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    for transfer in TRANSFERS {
        let written = Stream::from(&values).transfer(transfer).write_to(place.path("out.npy"));
        let error = written.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
    assert_eq!(place.names(), ["filler"]);
    drop(filler);
    assert_eq!(Stream::from(&values).write_to(place.path("out.npy")).unwrap(), values);
    Outcome::Done
}

pub fn storing_on_a_full_disk(place: &Place) -> Outcome {
    need_private!(place);
    let mut array = sparse(place, "array.npy");
    let filler = Filler::new(place.path("filler"));
    let error = fault::guard(|| array.fill(1.0)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Fault { .. }), "{error}");
    assert_eq!(array.flush().unwrap_err().kind(), error.kind());
    assert_eq!(array.close().unwrap_err().kind(), error.kind());
    drop(filler);
    assert_eq!(MmapArray::<f32, Ix2>::open(place.path("array.npy")).unwrap().dim(), SHAPE);
    Outcome::Done
}

/// Only the failed copy is missing. When space is free again, the same copy succeeds, and the other elements have not
/// changed.
pub fn streaming_to_a_full_disk(place: &Place) -> Outcome {
    need_private!(place);
    let values = Array2::<f32>::ones((SHAPE.0 - 20, SHAPE.1));
    for transfer in TRANSFERS {
        let mut array = sparse(place, "array.npy");
        array.slice_mut(s![..10, ..]).fill(5.0);
        array.flush().unwrap();
        let filler = Filler::new(place.path("filler"));
        let mut part = array.slice_mut(s![10..SHAPE.0 - 10, ..]);
        let error = Stream::from(&values).transfer(transfer).copy_into(&mut part).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        let error = copy(&values.slice(s![.., ..;2]), &mut array.slice_mut(s![20.., ..;2])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        drop(filler);
        Stream::from(&values)
            .transfer(transfer)
            .copy_into(&mut array.slice_mut(s![10..SHAPE.0 - 10, ..]))
            .unwrap();
        array.flush().unwrap();
        array.close().unwrap();
        let array = MmapArray::<f32, Ix2>::open(place.path("array.npy")).unwrap();
        assert!(array.slice(s![..10, ..]).iter().all(|&value| value == 5.0), "{transfer:?}");
        assert_eq!(array.slice(s![10..SHAPE.0 - 10, ..]), values, "{transfer:?}");
        array.close().unwrap();
    }
    Outcome::Done
}
