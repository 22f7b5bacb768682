//! Tests of results that several processes want, and of builders that are killed.

use crate::support::{disk_folder, names_in};
use ndarray::{Array2, Axis, Ix2};
use ndarray_mmap::reuse::{content_hash, open_or_build};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{MmapArray, ReadOnly, Result};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const FOLDER: &str = "NDARRAY_MMAP_REUSE_FOLDER";
/// How a child builds: `slow` takes half a second, `stuck` does not end, `loop` builds one result after the other.
const BUILDS: &str = "NDARRAY_MMAP_REUSE_BUILDS";

fn values(number: u64) -> Array2<u64> {
    Array2::from_elem((200, 50), number)
}

/// Opens or builds the result for a number by filling a mapped array or by a stream. `before_end` runs in the middle of a
/// mapped fill, and before a stream.
fn result(folder: &Path, number: u64, before_end: impl FnOnce()) -> Result<MmapArray<u64, Ix2, ReadOnly>> {
    open_or_build(folder.join("a.npy"), &number, |out| {
        let mut builds = fs::File::options().create(true).append(true).open(folder.join("builds")).unwrap();
        writeln!(builds, "{}", std::process::id()).unwrap();
        if number % 2 == 0 {
            before_end();
            return Stream::from(&values(number)).write_to(out)?.close();
        }
        let mut array = MmapArray::<u64, Ix2>::create(out, (200, 50))?;
        array.axis_chunks_iter_mut(Axis(0), 100).next().unwrap().fill(number);
        before_end();
        array.fill(number);
        array.close()
    })
}

#[test]
#[ignore = "runs in the processes that the other tests start"]
fn works() {
    let (Some(folder), Ok(builds)) = (std::env::var_os(FOLDER), std::env::var(BUILDS)) else { return };
    let folder = Path::new(&folder);
    println!("\n@started");
    match builds.as_str() {
        "loop" => {
            for number in 0.. {
                drop(result(folder, number, || ()).unwrap());
            }
        }
        kind => {
            let array = result(folder, 1, || {
                println!("\n@builds");
                std::thread::sleep(Duration::from_millis(if kind == "slow" { 500 } else { 600_000 }));
            });
            println!("\n@hash {}", content_hash(&array.unwrap()).unwrap());
        }
    }
}

/// A child process, which is killed when the value is dropped.
struct Worker(Child);

impl Worker {
    fn start(folder: &Path, builds: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "reuse_processes::works", "--ignored", "--nocapture", "--test-threads=1"]);
        Self(command.env(FOLDER, folder).env(BUILDS, builds).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Reads what the child prints, up to the line that starts with `mark`. Returns the rest of this line.
    fn wait_for(&mut self, mark: &str) -> String {
        let lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        let mut found = lines
            .map_while(std::result::Result::ok)
            .filter_map(|line| Some(line.strip_prefix(mark)?.to_owned()));
        found.next().unwrap_or_else(|| panic!("the child ended without {mark}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn builders(folder: &Path) -> Vec<u32> {
    let lines = fs::read_to_string(folder.join("builds")).unwrap_or_default();
    lines.lines().map(|line| line.parse().unwrap()).collect()
}

fn expected_hash() -> String {
    format!(" {}", content_hash(&values(1)).unwrap())
}

#[test]
fn eight_processes_build_a_result_once() {
    let folder = disk_folder();
    let mut workers: Vec<_> = (0..8).map(|_| Worker::start(folder.path(), "slow")).collect();
    let hashes: Vec<_> = workers.iter_mut().map(|worker| worker.wait_for("@hash")).collect();
    assert_eq!(hashes, vec![expected_hash(); 8]);
    assert_eq!(builders(folder.path()).len(), 1);
    assert_eq!(names_in(folder.path()), ["a.npy", "a.npy.reuse", "builds"]);
}

#[test]
fn a_builder_that_is_killed_is_succeeded_by_one_that_waits() {
    let folder = disk_folder();
    let mut stuck = Worker::start(folder.path(), "stuck");
    stuck.wait_for("@builds");
    let mut waiting: Vec<_> = (0..3).map(|_| Worker::start(folder.path(), "slow")).collect();
    waiting.iter_mut().for_each(|worker| _ = worker.wait_for("@started"));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(builders(folder.path()), [stuck.0.id()]);
    assert!(!folder.path().join("a.npy").exists());
    stuck.0.kill().unwrap();
    let hashes: Vec<_> = waiting.iter_mut().map(|worker| worker.wait_for("@hash")).collect();
    assert_eq!(hashes, vec![expected_hash(); 3]);
    let builders = builders(folder.path());
    assert!(builders.len() == 2 && waiting.iter().any(|worker| worker.0.id() == builders[1]), "{builders:?}");
    assert_eq!(names_in(folder.path()), ["a.npy", "a.npy.reuse", "builds"]);
}

/// Kills a process that builds one result after the other under the same name. After each kill, the name leads to a
/// complete result, and the record tells for which number.
#[test]
fn a_kill_at_any_moment_leaves_a_complete_result() {
    let kills: u64 = std::env::var("NDARRAY_MMAP_REUSE_KILLS").map_or(20, |text| text.parse().unwrap());
    let folder = disk_folder();
    let (mut pause, mut unfinished) = (0x9e37_79b9_u64, 0);
    for kill in 0..kills {
        let mut worker = Worker::start(folder.path(), "loop");
        worker.wait_for("@started");
        pause = pause.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((pause >> 33) % 60_000));
        drop(worker);
        unfinished += usize::from(names_in(folder.path()).iter().any(|name| name.starts_with(".building-")));
        let path = folder.path().join("a.npy");
        if path.exists() {
            let number = MmapArray::<u64, Ix2>::open(&path).unwrap()[[0, 0]];
            let before = builders(folder.path()).len();
            let found = result(folder.path(), number, || ()).unwrap();
            assert_eq!(found, values(number), "kill {kill}");
            assert_eq!(
                builders(folder.path()).len(),
                before,
                "kill {kill}: the result of {number} was not found"
            );
        }
        let next = u64::MAX - kill;
        assert_eq!(result(folder.path(), next, || ()).unwrap(), values(next), "kill {kill}");
        assert_eq!(names_in(folder.path()), ["a.npy", "a.npy.reuse", "builds"], "kill {kill}");
    }
    eprintln!("{kills} kills, {unfinished} unfinished files, all removed by the next build");
}
