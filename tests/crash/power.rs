//! Tests that cut the power of a simulated disk at random moments. [`crate::disk`] explains how a power cut is
//! simulated.

use crate::disk::Disk;
use crate::judge::Verdict;
use crate::worker::{Progress, Worker};
use crate::{Pauses, report, setting};
use std::time::Duration;

#[test]
fn a_power_cut_loses_nothing_that_was_durable() {
    let cuts = setting("NDARRAY_MMAP_POWER_CUTS", 40);
    let disk = match Disk::new() {
        Ok(disk) => disk,
        Err(reason) => {
            return report(&format!("SKIPPED: power cuts need root, loop devices and mkfs.xfs: {reason}"));
        }
    };
    let mut pauses = Pauses::new();
    let seed = pauses.seed();
    let mut verdict = Verdict::default();
    let worker = Worker::start(disk.files(), Progress::default());
    worker.wait_until_at_work(&Progress::default());
    for _ in 0..cuts {
        pauses.sleep(Duration::from_millis(200));
        let durable = worker.progress();
        let cut = disk.cut();
        let latest = worker.progress();
        assert_eq!(latest.failure, None, "seed {seed}");
        verdict.add(Verdict::on(cut.files(), &durable, &latest));
    }
    let turns = worker.kill().reopened;
    let (unsynced, unsynced_lost) = verdict.unsynced;
    report(&format!(
        "power cuts {cuts}, files lost {}, half-written {}; files checked {}, turns done {turns}; control: {unsynced_lost} \
         of {unsynced} files that nobody had synced were lost; seed {seed}",
        verdict.lost.len(),
        verdict.half_written.len(),
        verdict.files,
    ));
    assert!(verdict.lost.is_empty() && verdict.half_written.is_empty(), "seed {seed}: {verdict:#?}");
    assert!(unsynced_lost > 0, "no cut lost an unsynced file, so the cuts had no effect");
}
