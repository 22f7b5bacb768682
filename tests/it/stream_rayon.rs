//! Tests of streams inside rayon tasks, rayon inside functions of streams, and streams inside streams. Each combination
//! must end with the right result.

use crate::stream::{counting, stored};
use crate::support::disk_folder;
use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Ix2, Zip};
use ndarray_mmap::stream::{Budget, Stream, concat};
use ndarray_mmap::{MmapArray, ReadOnly};
use rayon::iter::ParallelBridge;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const SHAPE: (usize, usize) = (1500, 40);

/// The time limit for one case of a test. A case normally takes less than a second.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs one case of a test on a new thread, and fails if the case does not end within the time limit.
fn ends(case: &str, step: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        step();
        let _ = done.send(());
    });
    match is_done.recv_timeout(LIMIT) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{case}: not finished after {LIMIT:?}"),
        _ => thread.join().unwrap_or_else(|_| panic!("{case}: failed")),
    }
}

/// The data and the thread pool that the streams of a test share.
struct Setting {
    pool: ThreadPool,
    source: MmapArray<f32, Ix2, ReadOnly>,
    values: Array2<f32>,
    folder: tempfile::TempDir,
    files: AtomicUsize,
}

impl Setting {
    fn new(threads: usize) -> Arc<Self> {
        let folder = disk_folder();
        let values = counting(SHAPE);
        let source = stored(&folder.path().join("source.npy"), &values, 0, true);
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        Arc::new(Self { pool, source, values, folder, files: AtomicUsize::new(0) })
    }

    /// Returns a stream of several blocks, on three threads.
    fn stream(&self) -> Stream<'_, ndarray_mmap::stream::Source<'_, f32, Ix2>> {
        Stream::from(&self.source).budget(Budget::bytes(60_000)).threads(3)
    }

    /// Doubles the elements of a chunk on the rayon pool.
    fn double(&self, chunk: ArrayView2<'_, f32>, out: ArrayViewMut2<'_, f32>) {
        self.pool.install(|| Zip::from(out).and(chunk).par_for_each(|out, value| *out = 2.0 * value));
    }

    /// Sums the elements of a chunk on the rayon pool.
    fn sum(&self, chunk: ArrayView2<'_, f32>) -> f64 {
        self.pool.install(|| chunk.axis_iter(Axis(0)).into_par_iter().map(|row| f64::from(row.sum())).sum())
    }

    fn new_path(&self) -> PathBuf {
        self.folder.path().join(format!("{}.npy", self.files.fetch_add(1, Ordering::Relaxed)))
    }
}

type StreamKind = (&'static str, fn(&Setting));

/// Functions that run a stream. Together they cover each terminal operation, with and without functions that use the
/// rayon pool.
const STREAMS: [StreamKind; 12] = [
    ("map, fold", |at| {
        let mapped = at.stream().map(|chunk, out| at.double(chunk, out));
        let sum = mapped.fold(0.0, |sum, chunk| sum + at.sum(chunk)).unwrap();
        assert_eq!(sum, 2.0 * at.values.mapv(f64::from).sum());
    }),
    ("fold", |at| {
        let sum = at.stream().fold(0.0, |sum, chunk| sum + at.sum(chunk)).unwrap();
        assert_eq!(sum, at.values.mapv(f64::from).sum());
    }),
    ("map, write_to", |at| {
        let written = at.stream().map(|chunk, out| at.double(chunk, out)).write_to(at.new_path()).unwrap();
        assert_eq!(written, &at.values * 2.0);
    }),
    ("map, copy_into memory", |at| {
        let mut target = Array2::zeros(SHAPE);
        at.stream().map(|chunk, out| at.double(chunk, out)).copy_into(&mut target).unwrap();
        assert_eq!(target, &at.values * 2.0);
    }),
    ("map, copy_into a mapped array", |at| {
        let mut target = MmapArray::<f32, Ix2>::create(at.new_path(), SHAPE).unwrap();
        at.stream().map(|chunk, out| at.double(chunk, out)).copy_into(&mut target).unwrap();
        assert_eq!(target, &at.values * 2.0);
    }),
    ("map, reductions", |at| {
        let mapped = || at.stream().map(|chunk, out| at.double(chunk, out));
        let largest = at.values.iter().copied().fold(0.0, f32::max);
        assert_eq!(mapped().min_max().unwrap(), Some((0.0, 2.0 * largest)));
        assert_eq!(
            mapped().mean_axis0().unwrap(),
            (&at.values * 2.0).mapv(f64::from).mean_axis(Axis(0)).unwrap()
        );
    }),
    ("concat of boxed streams", |at| {
        let parts = [
            at.stream().map(|chunk, out| at.double(chunk, out)).boxed(),
            at.stream().boxed(),
            at.stream().cast::<f64>().cast::<f32>().boxed(),
        ];
        let all = concat(Axis(0), parts).budget(Budget::bytes(60_000)).threads(3);
        assert_eq!(all.fold(0, |rows, chunk| rows + chunk.nrows()).unwrap(), 3 * SHAPE.0);
    }),
    ("progress", |at| {
        let mut calls = 0;
        let stream = at.stream().progress(|_, _| {
            calls += 1;
            assert!(at.sum(at.values.view()) > 0.0);
        });
        assert_eq!(stream.min_max().unwrap().unwrap().0, 0.0);
        assert!(calls > 1);
    }),
    ("a stream inside a function of a stream", |at| {
        let mapped = at.stream().map(|chunk: ArrayView2<'_, f32>, mut out| {
            let inner = Stream::from(chunk).budget(Budget::chunk_rows(7)).threads(3);
            inner.map(|chunk, out| at.double(chunk, out)).copy_into(&mut out).unwrap();
        });
        let copied = mapped.fold(0, |rows, chunk| {
            let inner = Stream::from(chunk).map(|chunk, out| at.double(chunk, out)).threads(2);
            rows + inner.fold(0, |rows, chunk| rows + chunk.nrows()).unwrap()
        });
        assert_eq!(copied.unwrap(), SHAPE.0);
    }),
    ("row_chunks", |at| {
        let chunks = at.source.row_chunks(Budget::chunk_rows(400));
        let sum: f64 = chunks.par_bridge().map(|(_, chunk)| at.sum(chunk)).sum();
        assert_eq!(sum, at.values.mapv(f64::from).sum());
        for (rows, chunk) in at.source.row_chunks(Budget::chunk_rows(400)) {
            let mut doubled = Array2::zeros(chunk.raw_dim());
            let inner = Stream::from(chunk).threads(3).map(|chunk, out| at.double(chunk, out));
            inner.copy_into(&mut doubled).unwrap();
            assert_eq!(doubled.nrows(), rows.len());
        }
    }),
    ("no function", |at| {
        let columns = [3, 1, 20];
        let written = at.stream().select(Axis(1), &columns).cast::<f64>().write_to(at.new_path()).unwrap();
        assert_eq!(written, at.values.select(Axis(1), &columns).mapv(f64::from));
        assert_eq!(at.stream().write_to(at.new_path()).unwrap(), at.values);
    }),
    ("a panic and a cancelled stream", |at| {
        let panicking =
            at.stream().map(|_, _: ArrayViewMut2<'_, f32>| at.pool.install(|| panic!("on the pool")));
        assert!(panicking.fold((), |(), _| ()).is_err());
        let stop = |done, _| {
            if done > 0 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
        };
        let stopped = at.stream().progress(stop).map(|chunk, out| at.double(chunk, out));
        assert!(stopped.fold((), |(), _| ()).is_err());
    }),
];

type Company = (&'static str, fn(&Setting, fn(&Setting)));

/// Functions that run several streams at the same time, on workers of the rayon pool and on other threads.
const COMPANIES: [Company; 6] = [
    ("into_par_iter", |at, run| at.pool.install(|| (0..4).into_par_iter().for_each(|_| run(at)))),
    ("par_bridge", |at, run| at.pool.install(|| (0..4).par_bridge().for_each(|_| run(at)))),
    ("join", |at, run| _ = at.pool.install(|| rayon::join(|| run(at), || run(at)))),
    ("scope", |at, run| {
        at.pool.scope(|scope| {
            (0..3).for_each(|_| scope.spawn(|_| run(at)));
            run(at);
        });
    }),
    ("ordinary threads", |at, run| {
        std::thread::scope(|scope| {
            (0..3).for_each(|_| _ = scope.spawn(|| run(at)));
            at.pool.install(|| run(at));
        });
    }),
    ("the global pool", |at, run| (0..4).into_par_iter().for_each(|_| run(at))),
];

fn every_combination(threads: usize) {
    let setting = Setting::new(threads);
    for (stream, run) in STREAMS {
        for (company, with) in COMPANIES {
            let at = Arc::clone(&setting);
            ends(&format!("{stream}, {company}, {threads} workers"), move || with(&at, run));
        }
    }
}

#[test]
fn streams_end_on_a_pool_of_one_worker() {
    every_combination(1);
}

#[test]
fn streams_end_on_a_pool_of_two_workers() {
    every_combination(2);
}

#[test]
fn streams_end_on_a_pool_of_four_workers() {
    every_combination(4);
}

/// Outside a rayon pool, a stream calls its function from several threads.
#[test]
fn outside_a_pool_several_threads_call_a_function() {
    let setting = Setting::new(1);
    let callers = std::sync::Mutex::new(std::collections::HashSet::new());
    let mapped = setting.stream().map(|chunk: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>| {
        callers.lock().unwrap().insert(std::thread::current().id());
        std::thread::sleep(Duration::from_millis(5));
        out.assign(&chunk);
    });
    mapped.write_to(setting.new_path()).unwrap();
    assert!(callers.into_inner().unwrap().len() > 1);
}
