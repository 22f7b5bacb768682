//! Tests that end a worker process by `kill -9` at random moments.

use crate::judge::Verdict;
use crate::refuse::{refusal, refuse};
use crate::worker::{Progress, Worker};
use crate::{Pauses, report, setting};
use ndarray::Ix2;
use ndarray_mmap::{MmapArray, sweep_staged};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_kill_loses_nothing_and_leaves_nothing_half_written() {
    kill_workers(setting("NDARRAY_MMAP_KILLS", 200));
}

/// Where the system refuses `linkat`, new files have a temporary name, so killed workers leave staged files.
#[test]
fn what_a_kill_leaves_under_temporary_names_is_swept() {
    let kills = setting("NDARRAY_MMAP_KILLS", 200).div_ceil(4);
    // The filter applies to the thread, and to the workers that it starts.
    let killer = std::thread::spawn(move || {
        refuse(&[refusal(libc::SYS_linkat, libc::EPERM)]).then(|| kill_workers(kills))
    });
    // At least one kill must have happened while a staged file existed; otherwise the test has not checked sweeping.
    assert!(killer.join().unwrap().is_none_or(|staged| kills < 50 || staged > 0));
}

/// Kills workers at random moments. Returns how many staged files there were.
fn kill_workers(kills: u64) -> usize {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut pauses = Pauses::new();
    let seed = pauses.seed();
    let mut progress = Progress::default();
    let mut verdict = Verdict::default();
    let (mut leftovers, mut living, mut turns) = (0, 0, 0);
    for kill in 0..kills {
        let worker = Worker::start(folder.path(), progress.clone());
        worker.wait_until_at_work(&progress);
        pauses.sleep(Duration::from_millis(40));
        if kill % 2 == 0 {
            worker.halt();
            living += assert_living_is_left_alone(folder.path());
            worker.resume();
            pauses.sleep(Duration::from_millis(10));
        }
        let before = progress.started;
        progress = worker.kill();
        turns += progress.started - before;
        assert_eq!(progress.failure, None, "seed {seed}");
        verdict.add(Verdict::on(folder.path(), &progress, &progress));
        assert_opens(folder.path(), &progress);
        leftovers += assert_dead_are_swept(folder.path());
    }
    report(&format!(
        "kills {kills}, files lost {}, half-written {}; files checked {}, turns begun {turns}, staged files: \
         {leftovers} of the dead all swept, {living} of the living all left; seed {seed}",
        verdict.lost.len(),
        verdict.half_written.len(),
        verdict.files,
    ));
    assert!(verdict.lost.is_empty() && verdict.half_written.is_empty(), "seed {seed}: {verdict:#?}");
    assert_eq!(verdict.unsynced.1, 0, "bytes in the page cache survive a kill");
    leftovers + living
}

/// Returns the names of the staged files and their lengths.
fn staged_in(folder: &Path) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .filter(|(name, _)| name.ends_with(".staged"))
        .collect()
}

/// Sweeps the folder while the worker is stopped, and asserts that the staged files of the worker stay. Returns how
/// many staged files the worker has.
fn assert_living_is_left_alone(folder: &Path) -> usize {
    let before = staged_in(folder);
    sweep_staged(folder).unwrap();
    let after = staged_in(folder);
    for (name, len) in &before {
        // A worker first creates a staged file and then locks the file. A sweep between these two steps may remove the
        // file while the file is still empty. The worker notices that a sweep removed its staged file, and creates
        // another file. A worker that does not notice would report `failure`.
        assert!(*len == 0 || after.contains_key(name), "{name} of {len} bytes was in use, and was swept");
    }
    after.len()
}

fn assert_dead_are_swept(folder: &Path) -> usize {
    let leftovers = staged_in(folder).len();
    assert_eq!(sweep_staged(folder).unwrap(), leftovers);
    assert_eq!(staged_in(folder).len(), 0);
    leftovers
}

/// Asserts that the files of a killed worker can be opened, because the kernel released their locks.
fn assert_opens(folder: &Path, progress: &Progress) {
    for (name, said) in [("in_place.npy", progress.created), ("published.npy", progress.published)] {
        let path = folder.join(name);
        if said > 0 {
            MmapArray::<u64, Ix2>::open_rw(&path).unwrap().close().unwrap();
        }
    }
}
