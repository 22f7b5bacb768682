//! Measures the cost of access through an `MmapArray`, compared with an `ArrayView` of the same memory. Also measures
//! the cost of the fault guard.
//!
//! ```text
//! cargo bench --bench access
//! ```
//!
//! Criterion prints the times. The ratios at the end come from pairs of runs, in which the two variants run one
//! directly after the other. Separate benchmarks would not be precise enough: the speed of a machine can change by more
//! than one per cent between two benchmarks, and the ratios must show differences of one per cent.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use ndarray::{ArrayRef, ArrayView2, Ix2};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{ArrayOptions, MmapArray, fault};

const ROWS: usize = 4096;
const COLUMNS: usize = 256;
/// The distance between two elements that are read one after the other. The distance is odd and the number of elements
/// is a power of two, so no element is read twice before all elements were read.
const STEP: usize = 40_503;
const PAIRS: usize = 2000;

fn main() {
    let plain = filled(ArrayOptions::new());
    let guarded = filled(ArrayOptions::new().guarded());
    let mut criterion = Criterion::default().configure_from_args();
    measure_indexing(&mut criterion, &plain);
    measure_row_iteration(&mut criterion, &plain, &guarded);
    measure_sum(&mut criterion, &plain);
    measure_stream(&mut criterion, &plain, &guarded);
    criterion.final_summary();
    if std::env::args().any(|argument| argument == "--bench") {
        print_ratios(&plain, &guarded);
    }
}

/// Makes an array in a file without a name, whose pages are all in memory.
fn filled(options: ArrayOptions) -> MmapArray<f32, Ix2> {
    let options = options.shape((ROWS, COLUMNS));
    let mut array = options.scratch::<f32, Ix2>().expect("the temporary folder takes a few MiB");
    array.indexed_iter_mut().for_each(|((row, column), value)| *value = (row + column % 7) as f32);
    array
}

fn measure_indexing(criterion: &mut Criterion, array: &MmapArray<f32, Ix2>) {
    let view = array.view();
    let mut group = criterion.benchmark_group("indexing");
    group.bench_function("ArrayView", |bencher| bencher.iter(|| index_view(black_box(&view))));
    group.bench_function("MmapArray", |bencher| bencher.iter(|| index_mapped(black_box(array))));
    group.finish();
}

fn measure_row_iteration(
    criterion: &mut Criterion,
    array: &MmapArray<f32, Ix2>,
    guarded: &MmapArray<f32, Ix2>,
) {
    let view = array.view();
    let mut group = criterion.benchmark_group("row iteration");
    group.bench_function("ArrayView", |bencher| bencher.iter(|| iterate_rows(black_box(&view))));
    group.bench_function("MmapArray", |bencher| bencher.iter(|| iterate_rows(black_box(array))));
    group.bench_function("guarded MmapArray", |bencher| bencher.iter(|| iterate_rows(black_box(guarded))));
    group.bench_function("in a guard", |bencher| bencher.iter(|| iterate_rows_in_guard(black_box(array))));
    group.finish();
}

fn measure_sum(criterion: &mut Criterion, array: &MmapArray<f32, Ix2>) {
    let view = array.view();
    let mut group = criterion.benchmark_group("sum");
    group.bench_function("ArrayView", |bencher| bencher.iter(|| black_box(&view).sum()));
    group.bench_function("MmapArray", |bencher| bencher.iter(|| black_box(array).sum()));
    group.finish();
}

fn measure_stream(criterion: &mut Criterion, array: &MmapArray<f32, Ix2>, guarded: &MmapArray<f32, Ix2>) {
    let mut group = criterion.benchmark_group("streaming");
    group.bench_function("MmapArray", |bencher| bencher.iter(|| stream(black_box(array))));
    group.bench_function("guarded MmapArray", |bencher| bencher.iter(|| stream(black_box(guarded))));
    group.bench_function("in a guard", |bencher| bencher.iter(|| stream_in_guard(black_box(array))));
    group.finish();
}

/// Reads scattered elements, each by its own `[[row, column]]`.
fn index_view(view: &ArrayView2<'_, f32>) -> f32 {
    positions().map(|position| view[position]).sum()
}

fn index_mapped(array: &MmapArray<f32, Ix2>) -> f32 {
    positions().map(|position| array[position]).sum()
}

fn positions() -> impl Iterator<Item = [usize; 2]> {
    (0..10_000_usize).map(|turn| turn * STEP % (ROWS * COLUMNS)).map(|flat| [flat / COLUMNS, flat % COLUMNS])
}

fn iterate_rows(array: &ArrayRef<f32, Ix2>) -> f32 {
    array.rows().into_iter().map(|row| row.iter().fold(0.0, |largest: f32, &value| largest.max(value))).sum()
}

fn iterate_rows_in_guard(array: &MmapArray<f32, Ix2>) -> f32 {
    fault::guard(|| iterate_rows(array)).expect("no page of this file can fault")
}

/// Streams with one thread, because starting more threads would take far longer than the guard.
fn stream(array: &MmapArray<f32, Ix2>) -> f32 {
    let stream = Stream::from(array).threads(1);
    stream.fold(0.0, |sum, rows| sum + rows[[0, 0]]).expect("the file can be read")
}

fn stream_in_guard(array: &MmapArray<f32, Ix2>) -> f32 {
    fault::guard(|| stream(array)).expect("no page of this file can fault")
}

fn print_ratios(plain: &MmapArray<f32, Ix2>, guarded: &MmapArray<f32, Ix2>) {
    let view = plain.view();
    println!("\ntime of MmapArray divided by time of ArrayView, medians of {PAIRS} pairs:");
    print_ratio("indexing", None, || index_view(black_box(&view)), || index_mapped(black_box(plain)));
    let rows_of_view = || iterate_rows(black_box(&view));
    print_ratio("row iteration", Some(1.05), rows_of_view, || iterate_rows(black_box(plain)));
    print_ratio("sum", Some(1.05), || black_box(&view).sum(), || black_box(plain).sum());

    println!("\nrow iteration: time with the fault guard divided by time without:");
    let unguarded = || iterate_rows(black_box(plain));
    print_ratio("guarded array", Some(1.01), unguarded, || iterate_rows(black_box(guarded)));
    print_ratio("in a guard", Some(1.01), unguarded, || iterate_rows_in_guard(black_box(plain)));

    println!("\nstreaming: time with the fault guard divided by time without:");
    let unguarded = || stream(black_box(plain));
    print_ratio("guarded array", Some(1.01), unguarded, || stream(black_box(guarded)));
    print_ratio("in a guard", Some(1.01), unguarded, || stream_in_guard(black_box(plain)));
}

fn print_ratio(what: &str, limit: Option<f64>, base: impl Fn() -> f32, other: impl Fn() -> f32) {
    let (base_time, other_time) = median_times(base, other);
    let ratio = other_time.as_secs_f64() / base_time.as_secs_f64();
    let verdict = match limit {
        Some(limit) if ratio <= limit => format!("met (at most {limit})"),
        Some(limit) => format!("MISSED (at most {limit})"),
        None => String::new(),
    };
    println!("  {what:<16} {base_time:>10.1?} {other_time:>10.1?}  ratio {ratio:.4}  {verdict}");
}

/// Returns the median times of two functions, which run alternately. Every second pair runs in reverse order.
fn median_times(base: impl Fn() -> f32, other: impl Fn() -> f32) -> (Duration, Duration) {
    let (mut base_times, mut other_times) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        if pair % 2 == 0 {
            base_times.push(time(&base));
            other_times.push(time(&other));
        } else {
            other_times.push(time(&other));
            base_times.push(time(&base));
        }
    }
    (median(base_times), median(other_times))
}

fn time(work: impl Fn() -> f32) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
