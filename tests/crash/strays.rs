//! Tests that no stray file remains when a process is killed while it writes a file. The process writes the file by a
//! stream, or fills a mapped array with the option `publish_on_close`.

use crate::loop_device::{MIB, Mount, Unavailable, make_image, run};
use crate::{Pauses, report, setting};
use ndarray::{Array2, Ix2};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{ArrayOptions, MmapArray, Result};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const FOLDER: &str = "NDARRAY_MMAP_STRAYS_FOLDER";
const REPLACES: &str = "NDARRAY_MMAP_STRAYS_REPLACES";

#[test]
fn a_kill_leaves_no_stray_file() {
    let ext4 = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    kill_on("the build folder's filesystem", ext4.path());
    match tempfile::tempdir_in("/dev/shm") {
        Ok(tmpfs) => kill_on("tmpfs", tmpfs.path()),
        Err(error) => report(&format!("SKIPPED: no tmpfs: {error}")),
    }
    let images = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    match mount_xfs(images.path()) {
        Ok(xfs) => kill_on("XFS", &xfs.0),
        Err(reason) => report(&format!("SKIPPED: XFS needs root, loop devices and mkfs.xfs: {reason}")),
    }
}

fn mount_xfs(images: &Path) -> std::result::Result<Mount, Unavailable> {
    let image = images.join("xfs.img");
    make_image(&image, 512 * MIB, false)?;
    run(Command::new("mkfs.xfs").arg("-q").arg(&image))?;
    Mount::image(&image, &images.join("xfs"))
}

/// Kills workers that write files in this folder. Checks after each kill that every name in the folder is a target and
/// leads to a complete file.
fn kill_on(filesystem: &str, folder: &Path) {
    let kills = setting("NDARRAY_MMAP_STRAY_KILLS", 20);
    let mut pauses = Pauses::new();
    let seed = pauses.seed();
    let (mut between, mut complete) = (0, 0);
    for replaces in [false, true] {
        for _ in 0..kills {
            kill_a_worker(folder, replaces, &mut pauses);
            let (targets, strays) = names_in(folder);
            complete += targets.len();
            for target in &targets {
                let array = MmapArray::<u64, Ix2>::open(target).unwrap();
                assert_eq!(
                    array,
                    values(array[[0, 0]]),
                    "{filesystem}: {target:?} is incomplete; seed {seed}"
                );
            }
            if replaces {
                // A complete file that replaces another one has a temporary name between two system calls. The next
                // creation of a file with the same target removes the file that remained.
                between += strays.len();
                turn(folder, 0, true).unwrap();
                assert_eq!(names_in(folder).1, [""; 0], "{filesystem}; seed {seed}");
            } else {
                assert_eq!(strays, [""; 0], "{filesystem}; seed {seed}");
                targets.iter().for_each(|target| std::fs::remove_file(target).unwrap());
            }
        }
    }
    report(&format!(
        "{filesystem}: {kills} kills while new files were written: no stray file; {kills} kills while files were replaced: \
         {between} stray files, all removed by the next creation; {complete} complete files; seed {seed}"
    ));
}

fn kill_a_worker(folder: &Path, replaces: bool, pauses: &mut Pauses) {
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "strays::works_until_killed", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(REPLACES, if replaces { "1" } else { "0" })
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    let started = lines.any(|line| line.unwrap().ends_with("@started"));
    pauses.sleep(Duration::from_millis(40));
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(started && lines.all(|line| !line.unwrap().contains("@failed")));
}

/// Returns the paths of the targets in a folder, and all other names.
fn names_in(folder: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let (targets, others): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with(".npy"));
    (targets.iter().map(|name| folder.join(name)).collect(), others)
}

#[test]
#[ignore = "runs in the processes that the other test starts"]
fn works_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let replaces = std::env::var(REPLACES).unwrap() == "1";
    turn(&folder, 0, replaces).unwrap();
    println!("\n@started");
    for generation in 1.. {
        if let Err(error) = turn(&folder, generation, replaces) {
            return println!("\n@failed {error}");
        }
    }
}

/// Writes one file in C order and one in Fortran order by streams, and fills one mapped array. With `replaces`, the
/// files have the same names in each turn.
fn turn(folder: &Path, generation: u64, replaces: bool) -> Result<()> {
    let path = |name: &str| match replaces {
        true => folder.join(format!("{name}.npy")),
        false => folder.join(format!("{name}-{generation}.npy")),
    };
    let values = values(generation);
    Stream::from(&values).write_to(path("written"))?.close()?;
    let fortran = ArrayOptions::new().shape(ndarray::ShapeBuilder::f(values.dim()));
    Stream::from(&values).write_with(&fortran, path("columns"))?.close()?;
    let options = ArrayOptions::new().shape(values.dim()).publish_on_close(true);
    let mut filled = options.create::<u64, Ix2>(path("filled"))?;
    filled.assign(&values);
    filled.close()
}

fn values(generation: u64) -> Array2<u64> {
    Array2::from_elem((300 + generation as usize % 50, 100), generation)
}
