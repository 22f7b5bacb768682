//! Streams on files with holes.

use crate::{allocated_bytes, filesystems, raw};
use ndarray::{Array2, ArrayRef, Axis, Ix1, Ix2, ShapeBuilder, Slice, concatenate, s};
use ndarray_mmap::stream::{Budget, Stream, Transfer, concat};
use ndarray_mmap::{Allocation, ArrayOptions, ErrorKind, Format};
use std::fs::File;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const TRANSFERS: [Transfer; 4] = [Transfer::Auto, Transfer::Direct, Transfer::Buffered, Transfer::Clone];

/// A pseudo-random generator (splitmix64), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ bits >> 31) % end.max(1) as u64) as usize
    }

    /// Returns a random part of `len` elements. Small, medium and large parts are equally frequent.
    fn part(&mut self, len: usize) -> Range<usize> {
        let longest = [50, 3000, 60_000][self.below(3)];
        let start = self.below(len);
        start..len.min(start + 1 + self.below(longest))
    }
}

/// Makes a sparse file with data in random places and with reserved space in others. Returns its elements.
fn make_sparse(path: &Path, shape: (usize, usize), offset: u64, random: &mut Random) -> Array2<f32> {
    let len = shape.0 * shape.1;
    let file = File::create(path).unwrap();
    file.set_len(offset + 4 * len as u64).unwrap();
    let mut values = vec![0_f32; len];
    for index in 0..random.below(12) {
        let part = random.part(len);
        let start = offset + 4 * part.start as u64;
        if index % 4 == 3 {
            let (start, len) = (start.to_string(), (4 * part.len()).to_string());
            // Some filesystems cannot reserve space.
            let _ = Command::new("fallocate").args(["-n", "-o", &start, "-l", &len]).arg(path).output();
        } else {
            part.clone().for_each(|place| values[place] = (place % 100) as f32 - 49.5);
            file.write_all_at(bytemuck::cast_slice(&values[part]), start).unwrap();
        }
    }
    if random.below(2) == 0 {
        file.sync_all().unwrap();
    }
    Array2::from_shape_vec(shape, values).unwrap()
}

/// Compares every kind of stream on a sparse source with the same stream on an array in memory.
fn compare(source: &ArrayRef<f32, Ix2>, expected: &Array2<f32>, folder: &Path, case: &str) {
    let small = Budget::bytes(150_000);
    let from = || Stream::from(source).budget(small);
    let memory = || Stream::from(expected);
    assert_eq!(from().sum().unwrap(), memory().sum().unwrap(), "{case}");
    assert_eq!(from().mean().unwrap(), memory().mean().unwrap(), "{case}");
    assert_eq!(from().var(0.0).unwrap(), memory().var(0.0).unwrap(), "{case}");
    assert_eq!(from().min_max().unwrap(), memory().min_max().unwrap(), "{case}");
    assert_eq!(from().sum_axis0().unwrap(), memory().sum_axis0().unwrap(), "{case}");
    assert_eq!(from().min_max_axis0().unwrap(), memory().min_max_axis0().unwrap(), "{case}");
    let every_other = s![1..;2];
    assert_eq!(from().rows(every_other).sum().unwrap(), memory().rows(every_other).sum().unwrap(), "{case}");
    let columns = [0, 2];
    assert_eq!(
        from().select(Axis(1), &columns).sum_axis0().unwrap(),
        memory().select(Axis(1), &columns).sum_axis0().unwrap(),
        "{case}"
    );
    let rows = from().fold(0, |rows, chunk| rows + chunk.nrows()).unwrap();
    assert_eq!(rows, expected.nrows(), "{case}");

    let out = folder.join("out.npy");
    let cast = from().cast::<f64>().write_to(&out).unwrap();
    assert_eq!(cast, expected.mapv(f64::from), "{case}: cast");
    let mapped = from().map(|rows, mut out| out.assign(&(&rows + 1.0))).write_to(&out).unwrap();
    assert_eq!(mapped, expected + 1.0, "{case}: map");
    let reversed = from().rows(s![..;-1]).write_to(&out).unwrap();
    assert_eq!(reversed, expected.slice(s![..;-1, ..]), "{case}: reversed");
    let twice =
        concat(Axis(0), [Stream::from(source), Stream::from(source)]).budget(small).write_to(&out).unwrap();
    assert_eq!(twice, concatenate![Axis(0), *expected, *expected], "{case}: concat");
    compare_steps(source, expected, small, case);
    let columns = from().select(Axis(1), &columns).write_to(&out).unwrap();
    assert_eq!(columns, expected.select(Axis(1), &[0, 2]), "{case}: columns");

    for (transfer, name) in
        TRANSFERS.into_iter().flat_map(|transfer| [(transfer, "out.npy"), (transfer, "out")])
    {
        let copied = from().transfer(transfer).write_to(folder.join(name)).unwrap();
        assert_eq!(copied, *expected, "{case}: {transfer:?}, {name}");
    }
    // One destination contains ones, and another destination is sparse.
    let shape = expected.dim();
    for (transfer, offset) in TRANSFERS.into_iter().zip([0, 128, 4096, 12_345 & !3]) {
        for ones in [true, false] {
            let path = folder.join("target");
            let len = offset + 4 * expected.len() + 5000;
            if ones {
                std::fs::write(&path, bytemuck::cast_slice(&vec![1_f32; len / 4])).unwrap();
            } else {
                File::create(&path).unwrap().set_len(len as u64 & !3).unwrap();
            }
            let mut target = raw(shape, offset as u64).open_rw::<f32, Ix2>(&path).unwrap();
            from().transfer(transfer).copy_into(&mut target).unwrap();
            assert_eq!(target, *expected, "{case}: {transfer:?} into {ones}");
            target.close().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let around = bytes[..offset].iter().chain(&bytes[offset + 4 * expected.len()..]);
            let neighbour: &[u8; 4] = if ones { bytemuck::cast_ref(&1_f32) } else { &[0; 4] };
            assert!(
                around.enumerate().all(|(at, byte)| *byte == neighbour[at % 4]),
                "{case}: {transfer:?}, neighbours"
            );
        }
    }
}

/// Compares selections behind other steps, and pairs, on a sparse source with the same steps in memory.
fn compare_steps(source: &ArrayRef<f32, Ix2>, expected: &Array2<f32>, budget: Budget, case: &str) {
    let twice = || concat(Axis(0), [Stream::from(source), Stream::from(source)]).budget(budget).boxed();
    let both = concatenate![Axis(0), *expected, *expected];
    let rows = expected.nrows();
    let (third, end) = ((rows / 3) as isize, Some((rows + rows / 2) as isize));
    for range in [Slice::new(third, end, 1), Slice::new(third, end, 3), Slice::new(third, end, -1)] {
        let part = both.slice_axis(Axis(0), range);
        assert_eq!(twice().rows(range).to_array().unwrap(), part, "{case}: {range:?}");
        let sum = twice().rows(range).cast::<f64>().sum().unwrap();
        assert_eq!(sum, Stream::from(part).sum().unwrap(), "{case}: {range:?}");
    }
    // Rows of the first array, of the second, and again of the first.
    let list: Vec<_> = (rows / 2..rows).chain(rows..rows + third as usize).chain(0..rows / 2).collect();
    let listed = both.select(Axis(0), &list);
    assert_eq!(twice().select_rows(&list).to_array().unwrap(), listed, "{case}: list");
    let extremes = twice().select_rows(&list).min_max().unwrap();
    assert_eq!(extremes, Stream::from(&listed).min_max().unwrap(), "{case}: list");
    let pairs = Stream::from(source).budget(budget).zip(Stream::from(source).rows(s![..;-1]));
    let differences = pairs.map(|(one, other), mut out| out.assign(&(&one - &other - 1.0)));
    let expected = expected - &expected.slice(s![..;-1, ..]) - 1.0;
    assert_eq!(differences.sum().unwrap(), Stream::from(&expected).sum().unwrap(), "{case}: pairs");
}

#[test]
fn random_holes_are_zeros_in_every_stream_and_on_every_filesystem() {
    for filesystem in filesystems(&["plain", "tmpfs", "xfs", "btrfs", "ext4-1k", "overlay"]) {
        let folder = &filesystem.directory;
        for round in 0..5 {
            let random = &mut Random(round);
            let columns = [3, 1024, 250][random.below(3)];
            let shape = (400_000 / columns, columns);
            let offset = [0, 128, 4096, 12_344][random.below(4)] as u64;
            let path = folder.join("source");
            let mut expected = make_sparse(&path, shape, offset, random);
            let case = format!("{}, round {round}, {shape:?} at {offset}", filesystem.name);
            if round % 2 == 0 {
                let source = raw(shape, offset).open::<f32, Ix2>(&path).unwrap();
                compare(&source, &expected, folder, &case);
            } else {
                // Store through the mapping, and do not flush the stores.
                let mut source = raw(shape, offset).open_rw::<f32, Ix2>(&path).unwrap();
                for _ in 0..4 {
                    let row = random.below(shape.0);
                    source.row_mut(row).fill(7.0);
                    expected.row_mut(row).fill(7.0);
                }
                compare(&source, &expected, folder, &case);
            }
            let mut private = raw(shape, offset).open_cow::<f32, Ix2>(&path).unwrap();
            private[(shape.0 / 2, 1)] = 3.5;
            let changed = private.to_owned();
            assert_eq!(
                Stream::from(&private).sum().unwrap(),
                Stream::from(&changed).sum().unwrap(),
                "{case}"
            );
            let copied =
                Stream::from(&private).transfer(Transfer::Clone).write_to(folder.join("out")).unwrap();
            assert_eq!(copied, changed, "{case}: copy on write");
        }
    }
}

/// Makes a sparse file of `len` elements with one MiB of ones from element `at`.
fn make_island(path: &Path, len: usize, at: usize) {
    let file = File::create(path).unwrap();
    file.set_len(4 * len as u64).unwrap();
    file.write_all_at(bytemuck::cast_slice(&[1_f32; 1 << 18]), 4 * at as u64).unwrap();
}

/// The space that a copy of an island may take: its blocks, and what the filesystem needs for itself.
const ISLAND_BYTES: u64 = 7 << 20;

#[test]
fn copies_keep_the_holes() {
    let len = 16 << 20;
    for filesystem in filesystems(&["plain", "tmpfs", "xfs", "btrfs"]) {
        let folder = &filesystem.directory;
        make_island(&folder.join("source"), len, 5 << 20);
        let source = raw((len, 1), 0).open::<f32, Ix2>(folder.join("source")).unwrap();
        for transfer in TRANSFERS {
            let case = format!("{}, {transfer:?}", filesystem.name);
            for name in ["out.npy", "out"] {
                let out = folder.join(name);
                let copied = Stream::from(&source).transfer(transfer).write_to(&out).unwrap();
                assert_eq!(Stream::from(&copied).sum().unwrap(), f64::from(1 << 18), "{case}");
                assert!(allocated_bytes(&out) <= ISLAND_BYTES, "{case}, {name}: {}", allocated_bytes(&out));
                let cast = Stream::from(&source).transfer(transfer).cast::<i16>().write_to(&out).unwrap();
                assert_eq!(Stream::from(&cast).sum().unwrap(), f64::from(1 << 18), "{case}");
                assert!(
                    allocated_bytes(&out) <= ISLAND_BYTES,
                    "{case}, cast {name}: {}",
                    allocated_bytes(&out)
                );
            }
            // Holes of a destination stay holes. Its other blocks stay allocated, unless they share the holes of the
            // source.
            let target = folder.join("target");
            make_island(&target, len, 0);
            let mut array = raw((len, 1), 0).open_rw::<f32, Ix2>(&target).unwrap();
            Stream::from(&source).transfer(transfer).copy_into(&mut array).unwrap();
            assert_eq!((array[(0, 0)], array[(5 << 20, 0)]), (0.0, 1.0), "{case}");
            assert_eq!(Stream::from(&array).sum().unwrap(), f64::from(1 << 18), "{case}");
            let space = allocated_bytes(&target);
            let least = if transfer == Transfer::Clone { 1 << 20 } else { 2 << 20 };
            assert!((least..=ISLAND_BYTES).contains(&space), "{case}: {space}");
        }
    }
}

#[test]
fn the_time_depends_on_the_data_and_not_on_the_length() {
    for filesystem in filesystems(&["plain"]) {
        let folder = &filesystem.directory;
        let len = 1 << 38; // one TiB
        if File::create(folder.join("source")).unwrap().set_len(4 * len as u64).is_err() {
            println!("SKIPPED: this filesystem has no files of one TiB");
            continue;
        }
        make_island(&folder.join("source"), len, len / 3);
        let options = ArrayOptions::new().format(Format::Raw).shape(len);
        let source = options.open::<f32, Ix1>(folder.join("source")).unwrap();
        let start = Instant::now();
        assert_eq!(Stream::from(&source).sum().unwrap(), f64::from(1 << 18));
        assert_eq!(Stream::from(&source).min_max().unwrap(), Some((0.0, 1.0)));
        let copied = Stream::from(&source).write_to(folder.join("out.npy")).unwrap();
        assert_eq!(copied[len / 3], 1.0);
        assert_eq!(Stream::from(&copied).mean().unwrap(), f64::from(1 << 18) / len as f64);
        drop(copied);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(allocated_bytes(&folder.join("out.npy")) <= ISLAND_BYTES);
    }
}

#[test]
fn a_copy_in_fortran_order_keeps_the_holes_only_if_it_is_sparse() {
    let (rows, columns) = (1 << 20, 16); // 64 MiB
    for filesystem in filesystems(&["plain", "xfs"]) {
        let folder = &filesystem.directory;
        make_island(&folder.join("source"), rows * columns, 5 << 20);
        let fortran = ArrayOptions::new().format(Format::Raw).shape((rows, columns).f());
        let source = fortran.open::<f32, Ix2>(folder.join("source")).unwrap();
        let copy = |options: &ArrayOptions| {
            let out = folder.join("out");
            let copied = Stream::from(&source).write_with(options, &out).unwrap();
            assert_eq!(copied, source, "{}", filesystem.name);
            allocated_bytes(&out)
        };
        assert!(copy(&fortran) >= 64 << 20, "{}", filesystem.name);
        assert!(copy(&fortran.allocation(Allocation::Sparse)) <= ISLAND_BYTES, "{}", filesystem.name);
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn the_holes_of_a_result_in_memory_need_no_memory() {
    for filesystem in filesystems(&["plain", "tmpfs", "xfs", "btrfs"]) {
        let (path, len) = (filesystem.directory.join("source"), 1 << 29); // 2 GiB
        make_island(&path, len, len / 3);
        let source = raw((len, 1), 0).open::<f32, Ix2>(&path).unwrap();
        let before = resident_bytes();
        let result = Stream::from(&source).rows(1..).to_array().unwrap();
        let needed = resident_bytes().saturating_sub(before);
        assert!(needed < 256 << 20, "{}: {needed} bytes", filesystem.name); // other tests need memory meanwhile
        assert_eq!(
            (result[(len / 3 - 2, 0)], result[(len / 3 - 1, 0)], result[(len - 2, 0)]),
            (0.0, 1.0, 0.0)
        );
        let island = result.slice(s![len / 3 - 1..len / 3 - 1 + (1 << 18), 0]);
        assert_eq!(island.sum(), (1 << 18) as f32);
    }
}

#[test]
fn a_cancelled_copy_of_holes_leaves_no_file() {
    for filesystem in filesystems(&["plain", "xfs"]) {
        let folder = &filesystem.directory;
        let len = 256 << 20;
        make_island(&folder.join("source"), len, 0);
        let source = raw((len, 1), 0).open::<f32, Ix2>(folder.join("source")).unwrap();
        for transfer in TRANSFERS {
            let mut calls = 0;
            let stop = |_, _| {
                calls += 1;
                if calls > 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let stream = Stream::from(&source).threads(1).transfer(transfer).progress(stop);
            let error = stream.write_to(folder.join("out.npy")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{transfer:?}");
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "{transfer:?}");
        }
        let mut reported = (1, 0);
        let report = |done, total| reported = (done, total);
        Stream::from(&source).progress(report).sum().unwrap();
        assert_eq!(reported, (len, len));
    }
}

#[test]
fn holes_need_no_space_and_a_full_disk_is_an_error() {
    for filesystem in filesystems(&["ext4"]) {
        let folder = &filesystem.directory;
        let len = 256 << 20; // 1 GiB, on a disk of 96 MiB
        make_island(&folder.join("source"), len, 5);
        for name in ["one.npy", "two.npy"] {
            let source = raw((len, 1), 0).open::<f32, Ix2>(folder.join("source")).unwrap();
            let copied = Stream::from(&source).write_to(folder.join(name)).unwrap();
            assert_eq!(Stream::from(&copied).sum().unwrap(), f64::from(1 << 18));
        }
        let file = File::options().write(true).open(folder.join("source")).unwrap();
        file.write_all_at(&vec![1; 45 << 20], 100 << 20).unwrap();
        file.sync_all().unwrap();
        let source = raw((len, 1), 0).open::<f32, Ix2>(folder.join("source")).unwrap();
        let error = Stream::from(&source).write_to(folder.join("three.npy")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 3, "no staged file");
    }
}
