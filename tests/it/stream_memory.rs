//! Tests that a stream stays within its memory limit. The limit covers the buffers of the stream and the cached pages
//! of its source and output files.

use crate::support::{cached_pages, disk_folder, is_alone};
use ndarray::{Axis, Ix1, Ix2, ShapeBuilder};
use ndarray_mmap::stream::{Budget, Stream, Transfer, concat};
use ndarray_mmap::{ArrayOptions, MmapArray, OnDrop, ReadOnly};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const MIB: usize = 1 << 20;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn cached_bytes(path: &Path) -> usize {
    cached_pages(path).into_iter().filter(|&cached| cached).count() * 4096
}

/// Returns how many bytes of the files in a folder are in the page cache, including the files that this process has
/// created there without a name.
fn cached_bytes_in(folder: &Path) -> usize {
    let paths = |directory: &Path| std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let is_in_folder = |path: &PathBuf| std::fs::read_link(path).is_ok_and(|file| file.starts_with(folder));
    let open = paths(Path::new("/proc/self/fd")).filter(is_in_folder);
    let files: BTreeMap<u64, PathBuf> = paths(folder)
        .chain(open)
        .filter_map(|path| {
            let file = std::fs::metadata(&path).ok().filter(|file| file.is_file() && file.len() > 0)?;
            Some((file.ino(), path))
        })
        .collect();
    files.values().filter(|path| path.exists()).map(|path| cached_bytes(path)).sum()
}

/// Returns the peak memory during `work`, minus the memory before `work`. The memory is the resident memory of the
/// process plus the cached pages of the folder.
fn peak_bytes(folder: &Path, work: impl FnOnce()) -> usize {
    let before = resident_bytes() + cached_bytes_in(folder);
    let (peak, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // This sample misses a file that is renamed between listing and opening. The next sample counts the
                // file.
                let now = std::panic::catch_unwind(|| resident_bytes() + cached_bytes_in(folder));
                peak.fetch_max(now.unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
    peak.into_inner().saturating_sub(before)
}

fn source(folder: &Path, bytes: usize) -> MmapArray<f32, Ix2, ReadOnly> {
    let path = folder.join("source.npy");
    let mut array = MmapArray::<f32, Ix2>::create(&path, (bytes / 4000, 1000)).unwrap();
    for (_, mut chunk) in array.row_chunks_mut(Budget::default()) {
        chunk.fill(1.0);
    }
    array.close().unwrap();
    ArrayOptions::new().on_drop(OnDrop::KeepCached).open(path).unwrap()
}

#[test]
fn every_pipeline_stays_within_its_budget() {
    if !is_alone("stream_memory::every_pipeline_stays_within_its_budget") {
        return;
    }
    let folder = disk_folder();
    let source = source(folder.path(), 200 * MIB);
    let out = folder.path().join("out.npy");
    let list: Vec<_> = (0..source.nrows()).map(|row| row * 7919 % source.nrows()).collect();
    let half: Vec<_> = (0..500).map(|column| column * 2 + column % 2).collect();
    for transfer in [Transfer::Auto, Transfer::Buffered] {
        for warm in [false, true] {
            for kind in 0..10 {
                source.evict().unwrap();
                let private = MmapArray::<f32, Ix2>::open_cow(source.path()).unwrap();
                if warm {
                    assert!(source.sum() > 0.0);
                }
                let stream = Stream::from(&source).transfer(transfer);
                let peak = peak_bytes(folder.path(), || match kind {
                    0 => drop(stream.write_to(&out).unwrap()),
                    1 => drop(stream.cast::<f64>().write_to(&out).unwrap()),
                    2 => drop(stream.select(Axis(1), &half).write_to(&out).unwrap()),
                    3 => drop(stream.select_rows(&list).write_to(&out).unwrap()),
                    4 => drop(stream.mean_axis0().unwrap()),
                    5 => {
                        drop(Stream::from(&private).transfer(transfer).cast::<f64>().write_to(&out).unwrap())
                    }
                    6 => {
                        let earlier = Stream::from(&source).rows(..source.nrows() - 100);
                        let lagged = stream.rows(100..).zip(earlier);
                        let changes =
                            lagged.map(|(later, earlier), mut out| out.assign(&(&later - &earlier)));
                        drop(changes.write_to(&out).unwrap());
                    }
                    7 => {
                        let copied = stream.map(|chunk, mut out| out.assign(&chunk));
                        drop(copied.select(Axis(1), &half).write_to(&out).unwrap());
                    }
                    8 => {
                        let shuffled: Vec<_> =
                            list.iter().map(|row| row * 2 % (2 * list.len() - 1)).collect();
                        let twice = concat(Axis(0), [stream, Stream::from(&source)]);
                        drop(twice.select_rows(&shuffled).write_to(&out).unwrap());
                    }
                    _ => drop(stream.fold(0.0, |sum, chunk| sum + chunk.sum()).unwrap()),
                });
                println!("{transfer:?}, warm {warm}, {kind}: {} MiB", peak / MIB);
                assert!(peak <= 80 * MIB, "{transfer:?}, warm {warm}, {kind}: {} MiB", peak / MIB);
            }
        }
    }
}

#[test]
fn a_stream_leaves_the_page_cache_as_it_was() {
    if !is_alone("stream_memory::a_stream_leaves_the_page_cache_as_it_was") {
        return;
    }
    let folder = disk_folder();
    let source = source(folder.path(), 64 * MIB);
    for transfer in [Transfer::Auto, Transfer::Direct] {
        source.evict().unwrap();
        drop(Stream::from(&source).transfer(transfer).write_to(folder.path().join("out.npy")).unwrap());
        assert!(cached_bytes(source.path()) <= 64 << 10, "pages that were not cached are still not cached");
        assert!(source.slice(ndarray::s![..8000, ..]).sum() > 0.0);
        let before = cached_pages(source.path());
        drop(Stream::from(&source).transfer(transfer).write_to(folder.path().join("out.npy")).unwrap());
        let after = cached_pages(source.path());
        assert!(
            before.iter().zip(&after).all(|(&before, &after)| after || !before),
            "cached pages are still cached"
        );
        let more =
            after.iter().filter(|&&cached| cached).count() - before.iter().filter(|&&cached| cached).count();
        assert!(more * 4096 <= 32 * MIB, "the stream cached no more pages than the read-ahead of the kernel");
    }
    assert!(cached_bytes(&folder.path().join("out.npy")) <= 64 << 10, "the result is not cached either");
}

/// The budget of a stream also covers its bookkeeping: positions of many small pieces, and sums of wide rows.
#[test]
fn bookkeeping_is_counted_in_the_budget() {
    if !is_alone("stream_memory::bookkeeping_is_counted_in_the_budget") {
        return;
    }
    let folder = disk_folder();
    let file = |name: &str| folder.path().join(name);
    let thin = ArrayOptions::new().shape((50, 1_000_000).f()).create::<f32, Ix2>(file("thin.npy")).unwrap();
    let tall = ArrayOptions::new().shape((2000, 25_000).f()).create::<f32, Ix2>(file("tall.npy")).unwrap();
    let wide = MmapArray::<f32, Ix2>::create(file("wide.npy"), (20, 1_000_000)).unwrap();
    let bytes = MmapArray::<u8, Ix1>::create(file("bytes.bin"), 3_000_000).unwrap();
    [thin.evict(), tall.evict(), wide.evict(), bytes.evict()]
        .into_iter()
        .for_each(|evicted| evicted.unwrap());
    let list: Vec<usize> = (0..3_000_000).map(|row| row * 7919 % 3_000_000).collect();
    let out = file("out.npy");
    for kind in 0..6 {
        let peak = peak_bytes(folder.path(), || match kind {
            0 => drop(Stream::from(&thin).rows(..1).write_to(&out).unwrap()),
            1 => drop(Stream::from(&thin).select_rows(&[49, 3]).write_to(&out).unwrap()),
            2 => drop(Stream::from(&bytes).select_rows(&list).write_to(&out).unwrap()),
            3 => drop(Stream::from(&tall).var_axis0(0.0).unwrap()),
            4 => drop(Stream::from(&wide).mean_axis0().unwrap()),
            _ => drop(Stream::from(&wide).var_axis0(0.0).unwrap()),
        });
        println!("{kind}: {} MiB", peak / MIB);
        assert!(peak <= 80 * MIB, "{kind}: {} MiB", peak / MIB);
    }
}

#[test]
fn a_source_a_hundred_times_the_budget() {
    if !is_alone("stream_memory::a_source_a_hundred_times_the_budget") {
        return;
    }
    let folder = disk_folder();
    let source = source(folder.path(), 200 * MIB);
    let budget = Budget::bytes(2 * MIB);
    let peak = peak_bytes(folder.path(), || {
        drop(
            Stream::from(&source)
                .budget(budget)
                .cast::<f64>()
                .write_to(folder.path().join("out.npy"))
                .unwrap(),
        );
    });
    assert!(peak <= 18 * MIB, "{} MiB", peak / MIB);
}

/// An array of one column is in C order and in Fortran order at the same time. The stream divides this array into
/// blocks of rows, and does not read the whole column as one block.
#[test]
fn a_column_is_copied_in_blocks() {
    if !is_alone("stream_memory::a_column_is_copied_in_blocks") {
        return;
    }
    let folder = disk_folder();
    let mut column = MmapArray::<f32, Ix2>::create(folder.path().join("column.npy"), (50 * MIB, 1)).unwrap();
    column.fill(3.0);
    column.evict().unwrap();
    let mut destination =
        MmapArray::<f64, Ix2>::create(folder.path().join("out.npy"), (50 * MIB, 1)).unwrap();
    let mut blocks = 0;
    let peak = peak_bytes(folder.path(), || {
        let stream = Stream::from(&column).budget(Budget::bytes(2 * MIB)).cast::<f64>();
        stream.progress(|_, _| blocks += 1).copy_into(&mut destination).unwrap();
    });
    assert!(blocks > 100, "{blocks} blocks");
    assert!(peak <= 18 * MIB, "{} MiB", peak / MIB);
    assert!(destination.iter().all(|&value| value == 3.0));
}
