//! Tests of streams in unusual conditions: concurrent stores to the same file, repeated or scattered rows, and extreme
//! sizes.

use crate::stream::{TRANSFERS, counting, stored};
use crate::support::{Tmpfs, disk_folder, names_in};
use ndarray::{Array2, Array5, ArrayView2, ArrayViewMut3, Axis, Ix2, ShapeBuilder, aview0, s};
use ndarray_mmap::stream::{Budget, Stream, concat};
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, MmapArray};
use std::cmp::Ordering as Order;
use std::fs::OpenOptions;
use std::sync::atomic::{AtomicBool, Ordering};

/// A thread stores to the rows next to the rows that a stream writes. The rows belong to three arrays that share pages
/// of one file. The arrays also share large folios if the kernel caches the file in large folios.
#[test]
fn other_arrays_may_store_to_the_file_while_a_stream_writes() {
    let folder = disk_folder();
    let path = folder.path().join("shared");
    let raw = |rows: usize, first: usize| {
        ArrayOptions::new().format(Format::Raw).offset_bytes((first * 4000) as u64).shape((rows, 1000))
    };
    let (all, values) =
        (6000, Array2::from_shape_fn((2000, 1000), |(row, column)| (row * 1000 + column) as f32));
    raw(all, 0).create::<f32, Ix2>(&path).unwrap().close().unwrap();
    for round in 0..60 {
        let mut low = raw(2003, 0).open_rw::<f32, Ix2>(&path).unwrap();
        let mut middle = raw(2000, 2003).open_rw::<f32, Ix2>(&path).unwrap();
        let mut high = raw(1997, 4003).open_rw::<f32, Ix2>(&path).unwrap();
        assert!(low.row_chunks(Budget::default()).take(3).count() > 0);
        assert!(high.row_chunks(Budget::default()).take(3).count() > 0);
        let _ = low.sum() + middle.sum() + high.sum();
        let done = AtomicBool::new(false);
        let value = std::thread::scope(|scope| {
            let stored = scope.spawn(|| {
                let mut value = 0.0;
                while !done.load(Ordering::Relaxed) {
                    value += 1.0;
                    low.row_mut(2002).fill(value);
                    high.row_mut(0).fill(value);
                }
                value
            });
            let copied = Stream::from(&values).copy_into(&mut middle);
            done.store(true, Ordering::Relaxed);
            copied.unwrap_or_else(|error| panic!("round {round}: {error}"));
            stored.join().unwrap()
        });
        assert!(low.row(2002).iter().chain(high.row(0)).all(|&stored| stored == value));
        assert_eq!(middle, values, "round {round}");
        [low, middle, high].into_iter().for_each(|array| array.close().unwrap());
        let middle = raw(2000, 2003).open::<f32, Ix2>(&path).unwrap();
        assert_eq!(middle, values, "round {round}, on disk");
    }
}

/// Each row of a Fortran file is scattered over the file. A stream of rows must still read each page only a few times.
#[test]
fn scattered_rows_are_read_in_few_passes() {
    let folder = disk_folder();
    let path = folder.path().join("fortran.npy");
    let options = ArrayOptions::new().shape((40, 60_000).f());
    let mut array = options.create::<f32, Ix2>(&path).unwrap();
    array.indexed_iter_mut().for_each(|((row, column), value)| *value = (row * 60_000 + column) as f32);
    array.close().unwrap();
    let list: Vec<usize> = (0..20).rev().chain([39, 3, 3]).collect();
    for transfer in TRANSFERS {
        for private in [false, true] {
            let started = std::time::Instant::now();
            let array = MmapArray::<f32, Ix2>::open(&path).unwrap();
            let copy = MmapArray::<f32, Ix2>::open_cow(&path).unwrap();
            let view = if private { copy.view() } else { array.view() };
            let stream = || Stream::from(view).transfer(transfer);
            let out = folder.path().join("out.npy");
            assert_eq!(stream().select_rows(&list).write_to(&out).unwrap(), view.select(Axis(0), &list));
            assert_eq!(stream().rows(5..25).write_to(&out).unwrap(), view.slice(s![5..25, ..]));
            assert_eq!(stream().rows(s![..;-7]).write_to(&out).unwrap(), view.slice(s![..;-7, ..]));
            let seconds = started.elapsed().as_secs_f64();
            assert!(seconds < 20.0, "{transfer:?} took {seconds} s: it reads the file many times");
        }
    }
}

/// Streams read a broadcast view, which repeats elements of a file.
#[test]
fn broadcast_views_are_read_from_the_file() {
    let folder = disk_folder();
    let values = counting((50, 30));
    let source = stored(&folder.path().join("source.npy"), &values, 0, true);
    let out = folder.path().join("out.npy");
    let rows = values.view().insert_axis(Axis(0));
    let of_file = source.view().insert_axis(Axis(0));
    let (repeated, expected) =
        (of_file.broadcast((7, 50, 30)).unwrap(), rows.broadcast((7, 50, 30)).unwrap());
    assert_eq!(Stream::from(repeated).write_to(&out).unwrap(), expected);
    assert_eq!(
        Stream::from(repeated).rows(2..5).select(Axis(2), &[3, 1]).write_to(&out).unwrap(),
        expected.slice(s![2..5, .., ..]).select(Axis(2), &[3, 1])
    );
    let (inner, expected) = (repeated.permuted_axes([1, 0, 2]), expected.permuted_axes([1, 0, 2]));
    assert_eq!(
        Stream::from(inner).select_rows(&[49, 0, 49]).write_to(&out).unwrap(),
        expected.select(Axis(0), &[49, 0, 49])
    );
    assert_eq!(
        Stream::from(inner).select(Axis(1), &[6, 0]).cast::<f64>().write_to(&out).unwrap(),
        expected.select(Axis(1), &[6, 0]).mapv(f64::from)
    );
    let mean = Stream::from(inner).mean_axis0().unwrap();
    assert_eq!(mean.shape(), [7, 30]);
}

/// A broadcast view may have more rows than a list could hold. A stream must read such a view with little memory.
#[test]
fn broadcast_views_of_any_length_are_read() {
    let folder = disk_folder();
    let values = counting((40, 30)) + 1.0;
    let path = folder.path().join("source.npy");
    let source = stored(&path, &values, 0, true);
    let mut private = MmapArray::<f32, Ix2>::open_cow(&path).unwrap();
    private[[3, 1]] = 5000.0;
    let largest = [values.iter().copied().fold(0.0, f32::max), 5000.0];
    for (view, largest) in [source.view(), private.view()].into_iter().zip(largest) {
        for repeats in [2, (1 << 20) + 1] {
            let rows = view.slice(s![3..4, ..3]);
            let rows = rows.broadcast((repeats, 3)).unwrap();
            let ends = Stream::from(rows).budget(Budget::bytes(1 << 20)).min_max().unwrap().unwrap();
            assert_eq!(ends, (rows[[0, 0]], rows.row(0).iter().copied().fold(0.0, f32::max)));
            let last = Stream::from(rows).rows(repeats - 1..).select(Axis(1), &[2, 1, 0]);
            assert_eq!(last.fold(0.0, |sum, chunk| sum + chunk.sum()).unwrap(), rows.row(0).sum());
            let list = [repeats - 1, 0, 1];
            let listed =
                Stream::from(rows).select_rows(&list).write_to(folder.path().join("out.npy")).unwrap();
            assert_eq!(listed, rows.select(Axis(0), &list));
            let small = view.slice(s![..3, ..1]);
            let inner = small.broadcast((3, repeats)).unwrap();
            let sums = Stream::from(inner).fold(Vec::new(), |mut sums, chunk| {
                assert!(chunk.rows().into_iter().all(|row| row.iter().all(|value| *value == row[0])));
                sums.extend(chunk.rows().into_iter().map(|row| row[0] * row.len() as f32));
                sums
            });
            assert_eq!(sums.unwrap(), small.column(0).mapv(|value| value * repeats as f32).to_vec());
        }
        // The view has more than 2^58 elements of 4 bytes.
        let endless = view.slice(s![.., .., ndarray::NewAxis]);
        let endless = endless.broadcast((40, 30, 1 << 48)).unwrap().permuted_axes([2, 0, 1]);
        let first = Stream::from(endless).rows(1_usize << 47..(1 << 47) + 1000).min_max().unwrap();
        assert_eq!(first, Some((1.0, largest)));
    }
}

#[test]
fn a_file_cut_short_under_a_view_that_repeats_it() {
    let folder = disk_folder();
    let (path, out) = (folder.path().join("source.npy"), folder.path().join("out.npy"));
    let cut = || OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    for repeats in [2, 1 << 20, (1 << 20) + 1, 1 << 40] {
        for axis in [Axis(0), Axis(1), Axis(2)] {
            let source = stored(&path, &counting((2000, 10)), 0, true);
            let view = source.view().insert_axis(axis);
            let mut shape = view.raw_dim();
            shape[axis.index()] = repeats;
            let view = view.broadcast(shape).unwrap();
            let stream = || Stream::from(view).budget(Budget::bytes(1 << 20)).progress(|_, _| cut());
            let error = stream().min_max().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LengthMismatch, "{error}");
            if repeats == 2 {
                let error = stream().write_to(&out).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::LengthMismatch, "{error}");
            }
            assert_eq!(names_in(folder.path()), ["source.npy"]);
        }
    }
}

#[test]
fn sizes_that_overflow_are_errors() {
    let folder = disk_folder();
    let scalar = aview0(&1_u8);
    let huge = scalar.broadcast(1_usize << 62).unwrap();
    let error = concat(Axis(0), vec![huge; 4]).write_to(folder.path().join("x.bin")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SizeOverflow, "{error}");
    let list = vec![0; 1 << 16];
    let one = Array5::<u64>::zeros((1, 1, 1, 1, 1));
    let all = (0..5).fold(Stream::from(&one), |stream, axis| stream.select(Axis(axis), &list));
    assert_eq!(all.fold(0, |count, _| count + 1).unwrap_err().kind(), ErrorKind::SizeOverflow);
    let pair = Array2::<u64>::zeros((2, 2));
    let mapped = Stream::from(&pair).map_rows([usize::MAX / 2, 8], |_, _: ArrayViewMut3<'_, u64>| ());
    assert_eq!(mapped.fold(0, |count, _| count + 1).unwrap_err().kind(), ErrorKind::SizeOverflow);
    let error = concat(Axis(2), [pair.view()]).fold((), |(), _| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfBounds, "{error}");
    assert_eq!(names_in(folder.path()), [""; 0]);
}

#[test]
fn a_panic_in_a_comparison_of_elements_is_an_error() {
    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(transparent)]
    struct Touchy(u32);
    impl PartialOrd for Touchy {
        fn partial_cmp(&self, other: &Self) -> Option<Order> {
            assert!(self.0 != 13 && other.0 != 13, "unlucky");
            self.0.partial_cmp(&other.0)
        }
    }
    for threads in [1, 3] {
        let values = Array2::from_shape_fn((3000, 1000), |(row, column)| {
            Touchy((row == 2000 && column == 5) as u32 * 13)
        });
        let error = Stream::from(&values).threads(threads).min_max().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(error.to_string().contains("unlucky"), "{error}");
    }
}

/// Tests comparisons of elements of different blocks, and conversions, on one thread and on several threads.
#[test]
fn a_panic_in_any_code_of_an_element_type_is_an_error() {
    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(transparent)]
    struct Touchy(u32);
    impl PartialOrd for Touchy {
        fn partial_cmp(&self, other: &Self) -> Option<Order> {
            assert_eq!(self.0, other.0, "elements of the first and of the last rows are compared");
            Some(Order::Equal)
        }
    }
    impl num_traits::AsPrimitive<f64> for Touchy {
        fn as_(self) -> f64 {
            assert_eq!(self.0, 0, "an element of the last rows is converted");
            0.0
        }
    }
    // Two blocks of 2 MiB. The elements within a block are equal.
    let values = Array2::from_shape_fn((1024, 1024), |(row, _)| Touchy((row >= 512) as u32));
    let mut target = Array2::<f64>::zeros((1024, 1024));
    for threads in [1, 2, 3] {
        let stream = || Stream::from(&values).threads(threads);
        let results = [
            ("min_max", stream().min_max().map(drop)),
            ("min_max_axis0", stream().skip_nan().min_max_axis0().map(drop)),
            ("sum", stream().sum().map(drop)),
            ("var_axis0", stream().var_axis0(0.0).map(drop)),
            ("fold", stream().cast::<f64>().fold((), |(), _| ())),
            ("copy_into", stream().cast().copy_into(&mut target)),
            ("copy_into", stream().cast().copy_into(&mut target.slice_mut(s![..;-1, ..]))),
            ("write_to", stream().cast::<f64>().write_to(disk_folder().path().join("out")).map(drop)),
        ];
        for (operation, result) in results {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Panicked, "{operation}, {threads} threads: {error}");
            assert!(error.to_string().starts_with(operation), "{error}");
        }
    }
}

#[test]
fn progress_reports_the_end_once() {
    let folder = disk_folder();
    let (values, nothing) = (Array2::<f32>::ones((5000, 300)), Array2::<f32>::ones((0, 3)));
    for values in [&values, &nothing] {
        for kind in 0..4 {
            let mut told = Vec::new();
            let stream = Stream::from(values).progress(|done, total| told.push((done, total)));
            match kind {
                0 => drop(stream.write_to(folder.path().join("out.npy")).unwrap()),
                1 => drop(
                    stream
                        .map(|chunk: ArrayView2<'_, f32>, mut out| out.assign(&chunk))
                        .write_to(folder.path().join("out.npy"))
                        .unwrap(),
                ),
                2 => stream.fold((), |(), _| ()).unwrap(),
                _ => drop(stream.mean_axis0().unwrap()),
            }
            let end = (values.nrows(), values.nrows());
            assert_eq!(told.last(), Some(&end), "{kind}");
            assert_eq!(told.iter().filter(|&&told| told == end).count(), 1, "{kind}: {told:?}");
        }
    }
    let mut told = 0;
    let stream = Stream::from(&values).progress(|_, _| told += 1);
    assert_eq!(stream.var_axis0(-1.0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(told, 0, "an invalid argument is refused before anything is read");
}

#[test]
fn cached_pages_of_the_source_stay_cached() {
    let folder = disk_folder();
    let source = stored(&folder.path().join("source.npy"), &counting((40_000, 100)), 0, true);
    for kind in 0..3 {
        source.evict().unwrap();
        source.prefetch_rows(..15_000).unwrap();
        assert!(source.slice(s![..15_000, ..]).sum() > 0.0);
        let before = source.residency_rows(..15_000).unwrap();
        match kind {
            0 => drop(Stream::from(&source).write_to(folder.path().join("out.npy")).unwrap()),
            1 => _ = Stream::from(&source).cast::<f64>().fold(0.0, |sum, chunk| sum + chunk.sum()).unwrap(),
            _ => _ = Stream::from(&source).mean_axis0().unwrap(),
        }
        assert_eq!(source.residency_rows(..15_000).unwrap(), before, "{kind}");
    }
}

/// A direct write covers whole pages, so a stream writes the last page completely and then truncates the file. If the
/// size limit lies within the last page, the kernel refuses to write this page completely.
#[test]
fn a_file_just_below_the_size_limit() {
    let status = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 2048; exec \"$0\" --exact stream_odd::just_below_a_size_limit --ignored"])
        .arg(std::env::current_exe().unwrap())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "runs in the child of `a_file_just_below_the_size_limit`"]
fn just_below_a_size_limit() {
    let folder = disk_folder();
    // SAFETY: the structure holds integers only, for which zero is valid.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live structure of the type that the call fills in.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) }, 0);
    for transfer in TRANSFERS {
        let odd = limit.rlim_cur as usize - 1;
        let at = libc::rlimit { rlim_cur: odd as u64, rlim_max: limit.rlim_max };
        // SAFETY: the pointer is to a live structure.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const at) }, 0);
        let values = ndarray::Array1::from_elem(odd, 7_u8);
        let stream = || Stream::from(&values).transfer(transfer);
        assert_eq!(stream().write_to(folder.path().join("fits.bin")).unwrap(), values);
        let error = stream().write_to(folder.path().join("does not fit.npy")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SizeOverflow, "{error}");
    }
}

#[test]
fn several_writers_of_one_name_get_what_they_wrote() {
    let Some(disk) = Tmpfs::mount("size=16m") else { return };
    let path = disk.path().join("a.npy");
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let path = &path;
            scope.spawn(move || {
                for round in 0..100 {
                    let values = Array2::from_elem((writer + 1, 5), (writer * 1000 + round) as f32);
                    let written = Stream::from(&values).write_to(path).unwrap();
                    // Another writer closes the array `written` by publishing a file under the same name.
                    match written.try_view() {
                        Ok(view) => assert_eq!(view, values),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
                    }
                }
            });
        }
    });
    assert_eq!(names_in(disk.path()), ["a.npy"]);
}

/// The test changes a private copy at scattered places. The array starts and ends in the middle of a page.
#[test]
fn private_copies_with_edits_under_every_selection() {
    let folder = disk_folder();
    let path = folder.path().join("source.bin");
    let values = counting((1500, 1001));
    for (cold, transfer) in
        [true, false].into_iter().flat_map(|cold| TRANSFERS.map(|transfer| (cold, transfer)))
    {
        drop(stored(&path, &values, 12, cold));
        let options = ArrayOptions::new().format(Format::Raw).offset_bytes(12).shape((1500, 1001));
        let mut private = options.open_cow::<f32, Ix2>(&path).unwrap();
        let mut expected = values.clone();
        for array in [&mut *private, &mut *expected] {
            array[[0, 0]] = -1.0;
            array[[1499, 1000]] = -2.0;
            array.row_mut(700).fill(-3.0);
            array.slice_mut(s![300..310, ..;7]).fill(-4.0);
        }
        let list: Vec<usize> = (0..1500).map(|row| row * 7 % 1500).chain([700, 0, 1499]).collect();
        let out = folder.path().join("out.bin");
        let stream = || Stream::from(&private).transfer(transfer);
        assert_eq!(stream().write_to(&out).unwrap(), expected);
        assert_eq!(stream().rows(s![..;-3]).write_to(&out).unwrap(), expected.slice(s![..;-3, ..]));
        assert_eq!(stream().select_rows(&list).write_to(&out).unwrap(), expected.select(Axis(0), &list));
        let columns = [1000, 0, 7, 7];
        assert_eq!(
            stream().select(Axis(1), &columns).write_to(&out).unwrap(),
            expected.select(Axis(1), &columns)
        );
        let turned = Stream::from(private.t()).transfer(transfer).select_rows(&columns);
        assert_eq!(turned.write_to(&out).unwrap(), expected.t().select(Axis(0), &columns));
        assert_eq!(stream().min_max().unwrap(), Some((-4.0, 1e6 + 1.0)));
    }
}
