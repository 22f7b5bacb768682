//! Tests that random streams give the same results as the same operations of ndarray in memory.
//!
//! ```sh
//! cargo test --all-features --test random                                   # 20,000 streams
//! NDARRAY_MMAP_RANDOM_STREAMS=1000000 cargo test --release --all-features --test random
//! NDARRAY_MMAP_RANDOM_SEED=5 NDARRAY_MMAP_RANDOM_ONLY=1234 cargo test --all-features --test random
//! ```
//!
//! The seed and the number of a stream determine everything that the stream does. If a result differs, the test
//! simplifies the stream as long as the result still differs. It then prints the simplified stream, and the command
//! that runs the original stream again.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod dice;
mod ends;
#[allow(dead_code, reason = "the conformance suite uses the rest")]
#[path = "../common/filesystems.rs"]
mod filesystems;
#[path = "../common/loop_device.rs"]
mod loop_device;
mod pool;
mod spec;
mod steps;

use crate::filesystems::Filesystem;
use crate::pool::Pool;
use crate::spec::StreamSpec;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time limit of one stream. The test fails if a stream takes longer.
const PATIENCE: Duration = Duration::from_secs(240);

/// Returns a number from an environment variable, or `None` if the variable is not set.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// The state that all worker threads share.
struct Session {
    seed: u64,
    streams: u64,
    filesystems: Vec<Filesystem>,
    next: AtomicU64,
    failed: AtomicBool,
    done: AtomicBool,
    /// For each worker thread, the number of the stream that it runs, and the time when this stream started.
    running: Mutex<BTreeMap<usize, (u64, Instant)>>,
    counts: Mutex<BTreeMap<String, u64>>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let names_another = words.iter().any(|word| !word.starts_with('-') && !"random".contains(word.as_str()));
    if names_another || words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    filesystems::sweep();
    let names = std::env::var("NDARRAY_MMAP_RANDOM_FILESYSTEMS");
    let names = names.unwrap_or_else(|_| "tmpfs,ext4,ext4-1k,xfs,btrfs,overlay".to_owned());
    let session = Session {
        seed: setting("NDARRAY_MMAP_RANDOM_SEED").unwrap_or(1),
        streams: setting("NDARRAY_MMAP_RANDOM_STREAMS").unwrap_or(20_000),
        filesystems: names.split(',').filter_map(make).collect(),
        next: AtomicU64::new(0),
        failed: AtomicBool::new(false),
        done: AtomicBool::new(false),
        running: Mutex::default(),
        counts: Mutex::default(),
    };
    std::panic::set_hook(Box::new(|_| ())); // the test prints the panic with the description
    let started = Instant::now();
    match setting("NDARRAY_MMAP_RANDOM_ONLY") {
        Some(number) => session.run_one(&mut Pool::new(&session.filesystems, 0), number),
        None => session.run_all(),
    }
    let failed = usize::from(session.failed.load(Ordering::Relaxed));
    for (what, count) in session.counts.lock().unwrap().iter() {
        println!("{count:>9} {what}");
    }
    let streams = session
        .counts
        .lock()
        .unwrap()
        .iter()
        .filter(|(what, _)| what.starts_with("on "))
        .map(|(_, n)| n)
        .sum::<u64>();
    let rate = streams as f64 / started.elapsed().as_secs_f64();
    println!("random: seed {}, {streams} streams, {rate:.0} a second", session.seed);
    println!("random: {} passed, {failed} failed", usize::from(failed == 0));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Makes a filesystem. Prints `SKIPPED` and returns `None` if this machine cannot make it. Without root, only tmpfs and
/// the build folder are available.
fn make(name: &str) -> Option<Filesystem> {
    let made =
        Filesystem::make(name).map_err(|reason| println!("SKIPPED: {name}: {}", reason.replace('\n', " ")));
    made.ok()
}

impl Session {
    fn run_all(&self) {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|worker| scope.spawn(move || self.work(worker))).collect();
            scope.spawn(|| self.watch());
            handles.into_iter().for_each(|handle| handle.join().unwrap());
            self.done.store(true, Ordering::Relaxed);
        });
    }

    fn work(&self, worker: usize) {
        let mut pool = Pool::new(&self.filesystems, worker);
        while !self.failed.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.streams {
                break;
            }
            self.running.lock().unwrap().insert(worker, (number, Instant::now()));
            self.run_one(&mut pool, number);
            self.running.lock().unwrap().remove(&worker);
        }
    }

    /// Ends the process if a stream does not return within the time limit.
    fn watch(&self) {
        while !self.done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
            let running = self.running.lock().unwrap().clone();
            if let Some((number, _)) = running.values().find(|(_, since)| since.elapsed() > PATIENCE) {
                println!("a stream has not returned for {PATIENCE:?}: {:#?}", self.spec(*number));
                println!("{}", self.command(*number));
                std::process::exit(1); // the next test run unmounts the filesystems of this run
            }
        }
    }

    fn spec(&self, number: u64) -> StreamSpec {
        StreamSpec::roll(self.seed, number, &self.filesystems)
    }

    fn command(&self, number: u64) -> String {
        let seed = self.seed;
        format!(
            "again: NDARRAY_MMAP_RANDOM_SEED={seed} NDARRAY_MMAP_RANDOM_ONLY={number} cargo test --all-features --test random"
        )
    }

    fn run_one(&self, pool: &mut Pool<'_>, number: u64) {
        let spec = self.spec(number);
        let mut counts = self.counts.lock().unwrap();
        *counts.entry(format!("on {}", spec.filesystem)).or_default() += 1;
        *counts.entry(format!("ended by {:?}", spec.end)).or_default() += 1;
        drop(counts);
        let Err(difference) = attempt(pool, &spec) else { return };
        self.failed.store(true, Ordering::Relaxed);
        let (smallest, smallest_difference) = shrink(pool, spec, difference.clone());
        println!("{difference}\n\nsmallest: {smallest:#?}\n{smallest_difference}\n{}", self.command(number));
    }
}

/// Runs a stream. The error describes a wrong result or a panic.
fn attempt(pool: &mut Pool<'_>, spec: &StreamSpec) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| pool.run(spec))).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Err(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default())
    })
}

/// Simplifies the description of a failing stream, one part after the other, as long as the stream still fails. Returns
/// the simplest failing description and its error.
fn shrink(pool: &mut Pool<'_>, mut spec: StreamSpec, mut difference: String) -> (StreamSpec, String) {
    let started = Instant::now();
    while started.elapsed() < PATIENCE / 4 {
        let simpler = spec.simpler().into_iter().find_map(|spec| {
            let difference = attempt(pool, &spec).err()?;
            Some((spec, difference))
        });
        match simpler {
            Some(found) => (spec, difference) = found,
            None => break,
        }
    }
    (spec, difference)
}
