//! Tests that close arrays by path while a stream reads or writes them.

use super::{LAYOUTS, Outcome, TRANSFERS, counting};
use crate::place::Place;
use ndarray::{Axis, Ix2};
use ndarray_mmap::stream::{Budget, Stream};
use ndarray_mmap::{ErrorKind, close_path};

/// The stream must return the right result, or the error that its source is closed.
pub fn sources_closed_in_the_middle(place: &Place) -> Outcome {
    for (layout, transfer) in LAYOUTS[2..].iter().zip(TRANSFERS) {
        for list in [None, Some((0..1000).rev().collect::<Vec<_>>())] {
            let path = place.path("source");
            let values = counting(1_000_000, 1000);
            let options = layout.store(&path, &values, true);
            let source = options.open::<f32, Ix2>(&path).unwrap();
            let close = |_, _| _ = close_path(&path).unwrap();
            let stream =
                Stream::from(&source).transfer(transfer).budget(Budget::bytes(1 << 18)).progress(close);
            let (stream, expected) = match &list {
                None => (stream, values.clone()),
                Some(list) => (stream.select_rows(list), values.select(Axis(0), list)),
            };
            match stream.write_to(place.path("out.npy")) {
                Ok(written) => assert_eq!(written, expected, "{layout:?}, {transfer:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
            }
            assert!(source.is_closed());
            assert_eq!(source.try_view().unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(Stream::from(&source).min_max().unwrap_err().kind(), ErrorKind::Closed);
            drop(source);
            assert_eq!(options.open_rw::<f32, Ix2>(&path).unwrap(), values);
        }
    }
    Outcome::Done
}

/// After the stream has ended, another array can open the file, and each element of the file has its old value or its
/// new value.
pub fn destinations_closed_in_the_middle(place: &Place) -> Outcome {
    for (layout, transfer) in LAYOUTS[2..].iter().zip(TRANSFERS) {
        let path = place.path("target");
        let values = counting(1_000_000, 1000);
        let options = layout.store(&path, &(&values * -1.0), true);
        let mut target = options.open_rw::<f32, Ix2>(&path).unwrap();
        let close = |_, _| _ = close_path(&path).unwrap();
        let stream = Stream::from(&values).transfer(transfer).budget(Budget::bytes(1 << 18)).progress(close);
        let copied = stream.copy_into(&mut target);
        let is_copied = copied.is_ok();
        if let Err(error) = copied {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        }
        assert!(target.is_closed());
        drop(target);
        let after = options.open_rw::<f32, Ix2>(&path).unwrap();
        let is_right = |(&now, &new): (&f32, &f32)| now == new || !is_copied && now == -new;
        assert!(after.iter().zip(&values).all(is_right), "{layout:?}, {transfer:?}, copied {is_copied}");
    }
    Outcome::Done
}
