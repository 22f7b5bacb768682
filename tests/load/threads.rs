//! Load test with threads that open, write, evict, close by path and drop a thousand arrays.

use crate::slot::{COLUMNS, ROWS, Slot};
use crate::{Dice, load_time, report};
use ndarray::Ix2;
use ndarray_mmap::{
    ArrayOptions, CopyOnWrite, ErrorKind, MmapArray, ReadOnly, ReadWrite, Result, close_path, close_under,
    open_arrays,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const THREADS: usize = 64;
const ARRAYS: usize = 1000;
const FOLDERS: usize = 8;
const MAX_HELD_PER_THREAD: usize = 20;

/// The test reports a deadlock if a thread makes no progress for this long. Even on a slow disk, a step takes less
/// time.
const DEADLOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// How often each operation was done.
#[derive(Default)]
struct Counts {
    opened: AtomicU64,
    in_use: AtomicU64,
    written: AtomicU64,
    verified: AtomicU64,
    closed_by_path: AtomicU64,
    created: AtomicU64,
}

fn count(counter: &AtomicU64, times: usize) {
    counter.fetch_add(times as u64, Ordering::Relaxed);
}

#[test]
fn a_thousand_arrays_in_64_threads() {
    let on_disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Half of the files are on tmpfs. Operations on tmpfs never wait for a disk, so threads conflict more often.
    let in_memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let roots = [on_disk.path(), in_memory.path()];
    let slots: Vec<_> = (0..ARRAYS).map(|index| Slot::create(path_of(roots, index))).collect();
    let counts = Counts::default();
    let beats: Vec<_> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let end = Instant::now() + load_time();
    std::thread::scope(|scope| {
        for (thread, beat) in beats.iter().enumerate() {
            let mut load =
                Load { slots: &slots, counts: &counts, dice: Dice::new(thread as u64 + 1), held: Vec::new() };
            scope.spawn(move || {
                let _mark_ended = MarkEnded(beat);
                while Instant::now() < end {
                    load.step();
                    beat.fetch_add(1, Ordering::Relaxed);
                }
                drop(load);
            });
        }
        watch(&beats);
    });
    for slot in &slots {
        let array = MmapArray::<u64, Ix2>::open(&slot.path).unwrap();
        assert!(slot.verify_reader(&array));
    }
    let left = left_of(&roots);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    report(&format!(
        "{THREADS} threads, {ARRAYS} arrays, {} s: opened {}, in use {}, written {}, verified {}, closed by path {}, \
         created {}, wrong bytes 0; left: arrays {}, mappings {}, descriptors {}",
        load_time().as_secs(),
        count(&counts.opened),
        count(&counts.in_use),
        count(&counts.written),
        count(&counts.verified),
        count(&counts.closed_by_path),
        count(&counts.created),
        left[0],
        left[1],
        left[2],
    ));
    assert_eq!(left, [0; 3]);
    for counter in [&counts.opened, &counts.in_use, &counts.written, &counts.verified, &counts.closed_by_path]
    {
        assert!(count(counter) > 0, "every operation was done at least once");
    }
}

fn path_of(roots: [&Path; 2], index: usize) -> PathBuf {
    let root = roots[index % 2];
    root.join(format!("{}/{index}.npy", index / 2 % FOLDERS))
}

/// Marks a thread as ended when the value is dropped, even if the thread panics.
struct MarkEnded<'a>(&'a AtomicU64);

impl Drop for MarkEnded<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }
}

/// Watches the progress of all threads. Ends the process if a thread is deadlocked, because the test would never end.
fn watch(beats: &[AtomicU64]) {
    let now = || beats.iter().map(|beat| beat.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let mut seen = now();
    let mut moved = vec![Instant::now(); beats.len()];
    while seen.iter().any(|&beat| beat != u64::MAX) {
        std::thread::sleep(Duration::from_millis(100));
        for (thread, beat) in now().into_iter().enumerate() {
            if beat != seen[thread] {
                (seen[thread], moved[thread]) = (beat, Instant::now());
            } else if beat != u64::MAX && moved[thread].elapsed() > DEADLOCK_TIMEOUT {
                report(&format!("deadlock: thread {thread} has made no progress for {DEADLOCK_TIMEOUT:?}"));
                std::process::abort();
            }
        }
    }
}

/// Counts the arrays, mappings and descriptors that this process holds on files of this test.
fn left_of(roots: &[&Path]) -> [usize; 3] {
    let is_ours = |text: &str| roots.iter().any(|root| text.contains(root.to_str().unwrap()));
    let arrays = open_arrays().iter().filter(|open| is_ours(open.path.to_str().unwrap())).count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mappings = maps.lines().filter(|line| is_ours(line)).count();
    let descriptors = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|file| is_ours(&file.to_string_lossy()))
        .count();
    [arrays, mappings, descriptors]
}

/// An array that a thread keeps open for some steps.
enum Held {
    Reader(MmapArray<u64, Ix2, ReadOnly>),
    Writer(MmapArray<u64, Ix2, ReadWrite>),
    Private(MmapArray<u64, Ix2, CopyOnWrite>),
}

/// One thread of the load test, with the arrays that it keeps open.
struct Load<'a> {
    slots: &'a [Slot],
    counts: &'a Counts,
    dice: Dice,
    held: Vec<(usize, Held)>,
}

impl Load<'_> {
    fn step(&mut self) {
        match self.dice.below(400) {
            0..140 if self.held.len() < MAX_HELD_PER_THREAD => self.open(),
            0..180 => self.let_go(),
            180..280 => self.write(),
            280..340 => self.verify(),
            340..350 => self.finish_writer(),
            350..390 => self.close_one(),
            390 => self.close_folder(),
            _ => self.create_another(),
        }
    }

    fn open(&mut self) {
        let index = self.dice.below(ARRAYS);
        let slot = &self.slots[index];
        let patience = Duration::from_millis(self.dice.below(3) as u64);
        let options = ArrayOptions::new().lock_timeout(patience);
        let opened = match self.dice.below(5) {
            0..2 => options.open(&slot.path).map(Held::Reader),
            2..4 => options.open_rw(&slot.path).map(Held::Writer),
            _ => options.open_cow(&slot.path).map(Held::Private),
        };
        match opened {
            Ok(held) => {
                count(&self.counts.opened, 1);
                self.held.push((index, held));
                self.verify_held(self.held.len() - 1);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
                count(&self.counts.in_use, 1);
            }
        }
    }

    /// Returns the index of a random held array.
    fn pick(&mut self) -> Option<usize> {
        (!self.held.is_empty()).then(|| self.dice.below(self.held.len()))
    }

    /// Compares an array with its oracle. Drops the array if it was closed by path, because `Slot::write` requires an
    /// array that was verified.
    fn verify_held(&mut self, at: usize) {
        let (index, held) = &self.held[at];
        let slot = &self.slots[*index];
        let compared = match held {
            Held::Reader(array) => slot.verify_reader(array),
            Held::Writer(array) => slot.verify_writer(array),
            Held::Private(_) => self.change_in_private(at),
        };
        if compared {
            count(&self.counts.verified, 1);
        } else {
            self.held.swap_remove(at);
        }
    }

    fn verify(&mut self) {
        if let Some(at) = self.pick() {
            self.verify_held(at);
        }
    }

    /// Changes a private copy and asserts its new content. Returns whether the private copy was open. Later comparisons
    /// of the file show that the change did not reach the file.
    fn change_in_private(&mut self, at: usize) -> bool {
        let value = self.dice.below(1000) as u64;
        let (_, Held::Private(array)) = &mut self.held[at] else { return false };
        let Ok(mut view) = array.try_view_mut() else { return false };
        view.fill(value);
        assert_eq!(view.sum(), value * (ROWS * COLUMNS) as u64);
        true
    }

    fn write(&mut self) {
        let Some(at) = self.pick() else { return };
        let (index, Held::Writer(array)) = &mut self.held[at] else { return };
        if self.slots[*index].write(array, &mut self.dice) {
            count(&self.counts.written, 1);
        } else {
            self.held.swap_remove(at);
        }
    }

    /// Turns a writer into a reader, so that other readers can open the file.
    fn finish_writer(&mut self) {
        let Some(at) = self.pick() else { return };
        let (index, held) = self.held.swap_remove(at);
        let Held::Writer(array) = held else { return };
        match array.into_read_only() {
            Ok(reader) => self.held.push((index, Held::Reader(reader))),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
        }
    }

    fn let_go(&mut self) {
        let Some(at) = self.pick() else { return };
        let (_, held) = self.held.swap_remove(at);
        let closed: Result<()> = match held {
            Held::Reader(array) => array.close(),
            Held::Writer(array) => array.close(),
            Held::Private(array) => {
                drop(array);
                Ok(())
            }
        };
        closed.unwrap();
    }

    fn close_one(&mut self) {
        let slot = &self.slots[self.dice.below(ARRAYS)];
        count(&self.counts.closed_by_path, close_path(&slot.path).unwrap());
    }

    fn close_folder(&mut self) {
        let folder = self.slots[self.dice.below(ARRAYS)].path.parent().unwrap();
        count(&self.counts.closed_by_path, close_under(folder).unwrap());
    }

    /// Creates, fills, closes, reads and removes a file that only this thread uses.
    fn create_another(&mut self) {
        let folder = self.slots[self.dice.below(2)].path.parent().unwrap();
        let name = format!("own-{:?}.npy", std::thread::current().id());
        let path = folder.parent().unwrap().join(name);
        let mut array = MmapArray::<u64, Ix2>::create(&path, (ROWS, COLUMNS)).unwrap();
        array.fill(3);
        drop(array);
        let array = MmapArray::<u64, Ix2>::open(&path).unwrap();
        assert_eq!(array.sum(), (3 * ROWS * COLUMNS) as u64);
        drop(array);
        std::fs::remove_file(&path).unwrap();
        count(&self.counts.created, 1);
    }
}
