//! Tests that call `close_path_and_unlock` while a stream writes to the array. The stream must not store to bytes that
//! another array has locked in the meantime.

use crate::harness::{folder, is_alone, silence_expected_panics};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Ix2, ShapeBuilder, s};
use ndarray_mmap::stream::{Budget, Stream, Transfer};
use ndarray_mmap::{
    ArrayOptions, ErrorKind, Format, Locking, MmapArray, Result, close_path, close_path_and_unlock,
};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROWS: usize = 3000;
const COLUMNS: usize = 40;

/// The part of the file that the stream writes, and the memory order of this part.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Whole,
    Columns,
    Inverted,
    Fortran,
}

/// Which code runs the attack.
#[derive(Clone, Copy, Debug)]
enum From {
    /// The attack runs in the function that the stream maps over its chunks, in the call with this number. The first
    /// call has number zero.
    Function(usize),
    /// The attack runs in an inner stream, inside the function that the outer stream maps over its chunks.
    InnerStream,
    /// The progress function.
    Progress,
    /// The attack runs in another thread, as soon as the mapped function has been called.
    OtherThread,
}

fn options(offset_bytes: u64, layout: Layout) -> ArrayOptions {
    let options = ArrayOptions::new().format(Format::Raw).offset_bytes(offset_bytes);
    options.shape((ROWS, COLUMNS).set_f(layout == Layout::Fortran))
}

/// Copies ones into an array with a stream, and calls `attack` once during the copy.
fn attacked_stream(
    array: &mut MmapArray<u64, Ix2>,
    layout: Layout,
    from: From,
    transfer: Transfer,
    attack: &(dyn Fn() + Sync),
) -> Result<()> {
    let calls = AtomicUsize::new(0);
    let started = AtomicBool::new(false);
    let source = Array2::<u64>::ones((ROWS, COLUMNS));
    let once = |at| {
        if calls.fetch_add(1, Ordering::Relaxed) == at {
            attack();
        }
    };
    let function = |chunk: ArrayView2<'_, u64>, mut out: ArrayViewMut2<'_, u64>| {
        out.assign(&chunk);
        match from {
            From::Function(call) => once(call),
            From::InnerStream => {
                let inner = Stream::from(&chunk).fold((), |(), _| once(1));
                assert!(inner.is_ok());
            }
            From::Progress => {}
            From::OtherThread => {
                started.store(true, Ordering::Release);
                std::thread::yield_now();
            }
        }
    };
    let progress = |done, _| {
        if matches!(from, From::Progress) && done > 0 {
            once(0);
        }
    };
    let mut view = array.view_mut();
    std::thread::scope(|scope| {
        if let From::OtherThread = from {
            scope.spawn(|| {
                while !started.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                attack();
            });
        }
        let stream = |part: (usize, usize)| {
            Stream::from(source.slice(s![.., part.0..part.1]))
                .map(function)
                .budget(Budget::chunk_rows(60))
                .transfer(transfer)
                .progress(progress)
        };
        match layout {
            Layout::Whole | Layout::Fortran => stream((0, COLUMNS)).copy_into(&mut view),
            Layout::Columns => stream((0, 15)).copy_into(&mut view.slice_mut(s![.., 5..20])),
            Layout::Inverted => stream((0, COLUMNS)).copy_into(&mut view.slice_mut(s![..;-1, ..])),
        }
    })
}

fn every_case(mut case: impl FnMut(Layout, From, Transfer, u64)) {
    let layouts = [Layout::Whole, Layout::Columns, Layout::Inverted, Layout::Fortran];
    let places = [From::Function(0), From::Function(7), From::InnerStream, From::Progress, From::OtherThread];
    let mut number = 0;
    for layout in layouts {
        for from in places {
            for transfer in [Transfer::Auto, Transfer::Buffered, Transfer::Direct] {
                number += 1;
                case(layout, from, transfer, [0, 4096, 1000][number % 3]);
            }
        }
    }
}

#[test]
fn no_stream_stores_in_bytes_that_were_given_away() {
    if !is_alone("unlocked::no_stream_stores_in_bytes_that_were_given_away") {
        return;
    }
    let folder = folder(false);
    let path = folder.path().join("array");
    let mut stopped = 0;
    every_case(|layout, from, transfer, offset_bytes| {
        let what = format!("{layout:?} {from:?} {transfer:?} from byte {offset_bytes}");
        let options = options(offset_bytes, layout);
        let mut first = options.create::<u64, Ix2>(&path).unwrap();
        let second = Mutex::new(None);
        let attack = || {
            // SAFETY: the attack breaks the contract on purpose. The stream must notice that the array is closed before
            // it stores again.
            assert_eq!(unsafe { close_path_and_unlock(&path) }.unwrap(), 1, "{what}");
            let mut array = options.open_rw::<u64, Ix2>(&path).unwrap();
            array.fill(7);
            *second.lock().unwrap() = Some(array);
        };
        let copied = attacked_stream(&mut first, layout, from, transfer, &attack);
        let second = second.into_inner().unwrap().unwrap();
        assert!(
            second.iter().all(|&value| value == 7),
            "{what}: a stream has stored in bytes of the next owner"
        );
        match copied {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed, "{what}: {error}");
                stopped += 1;
            }
            // Another thread may run the attack too late, when the stream has ended.
            Ok(()) => assert!(matches!(from, From::OtherThread), "{what}: the stream ended well"),
        }
        drop(first);
        assert!(second.iter().all(|&value| value == 7), "{what}: the old owner has stored at its end");
        second.close().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut stored = bytes[offset_bytes as usize..].chunks_exact(8);
        assert!(stored.all(|value| value == 7_u64.to_ne_bytes()), "{what}: the file");
    });
    println!("{stopped} streams were stopped");
    assert!(stopped >= 48);
}

/// Tests that an array keeps its lock if it is closed by path while a stream writes to it. So no other array can lock
/// the same bytes during the stream.
#[test]
fn a_stream_into_an_array_that_is_closed_keeps_its_lock() {
    if !is_alone("unlocked::a_stream_into_an_array_that_is_closed_keeps_its_lock") {
        return;
    }
    let folder = folder(false);
    let path = folder.path().join("array");
    every_case(|layout, from, transfer, offset_bytes| {
        let what = format!("{layout:?} {from:?} {transfer:?} from byte {offset_bytes}");
        let options = options(offset_bytes, layout);
        let mut array = options.create::<u64, Ix2>(&path).unwrap();
        let attack = || {
            assert_eq!(close_path(&path).unwrap(), 1, "{what}");
            for taken in [
                options.open_rw::<u64, Ix2>(&path).map(drop),
                options.open::<u64, Ix2>(&path).map(drop),
                options.clone().close_existing(true).open_cow::<u64, Ix2>(&path).map(drop),
            ] {
                assert_eq!(taken.unwrap_err().kind(), ErrorKind::InUse, "{what}");
            }
        };
        let copied = attacked_stream(&mut array, layout, from, transfer, &attack);
        if let Err(error) = copied {
            assert_eq!(error.kind(), ErrorKind::Closed, "{what}: {error}");
        } else {
            assert!(matches!(from, From::OtherThread), "{what}: the stream ended well");
        }
        array.close().unwrap();
        let array = options.open_rw::<u64, Ix2>(&path).unwrap();
        assert!(array.iter().all(|&value| value < 2), "{what}: each element is an old one or a new one");
    });
}

/// Tests that `close_path_and_unlock` releases only the locks of closed arrays. An array that another thread opens
/// during the call keeps its lock.
#[test]
fn giving_locks_away_takes_none_from_an_array_that_is_open() {
    if !is_alone("unlocked::giving_locks_away_takes_none_from_an_array_that_is_open") {
        return;
    }
    silence_expected_panics();
    let folder = folder(true);
    let path = folder.path().join("a.npy");
    MmapArray::<u64, Ix2>::create(&path, (100, 3)).unwrap().close().unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    let rounds = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < until {
                    let Ok(array) = MmapArray::<u64, Ix2>::open(&path) else { continue };
                    let locking = array.locking();
                    assert!(
                        locking != Locking::Nobody || array.is_closed(),
                        "an open array has lost its lock"
                    );
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while Instant::now() < until {
                // Closing 20 arrays takes some time, during which the other threads open the file.
                let arrays: Vec<_> = (0..20).map(|_| MmapArray::<u64, Ix2>::open(&path).unwrap()).collect();
                // SAFETY: nobody uses a borrow of the elements of these arrays.
                unsafe { close_path_and_unlock(&path) }.unwrap();
                drop(arrays);
            }
        });
    });
    assert!(rounds.into_inner() > 100);
}

/// Tests that `close_path_and_unlock` on a directory neither closes nor unlocks the scratch arrays in that directory.
#[test]
fn giving_locks_away_by_a_directory_takes_none_from_a_scratch_array() {
    let folder = folder(false);
    let array =
        ArrayOptions::new().scratch_directory(folder.path()).shape((10, 3)).scratch::<u64, Ix2>().unwrap();
    let before = array.locking();
    let directory: &Path = array.path();
    // SAFETY: no borrow of any element is alive.
    assert_eq!(unsafe { close_path_and_unlock(directory) }.unwrap(), 0);
    assert_eq!((array.is_closed(), array.locking()), (false, before));
}
