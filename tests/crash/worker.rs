//! The worker process that the crash tests kill. The worker creates files by `create`, by `create_new` and by a stream.
//! After each step, it reports which data is durable.

use crate::judge::{array_of, small_array_of};
use ndarray::Ix2;
use ndarray_mmap::MmapArray;
use ndarray_mmap::stream::Stream;
use std::collections::BTreeSet;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FOLDER: &str = "NDARRAY_MMAP_CRASH_FOLDER";
const FIRST: &str = "NDARRAY_MMAP_CRASH_FIRST";

/// The prefix of the lines that the worker prints, to distinguish them from the lines of libtest.
const MARK: &str = "@worker ";

/// How many numbered files the worker keeps. The worker removes older numbered files.
const KEPT: u64 = 40;

/// The steps that the worker has reported. Each number is the last generation for which the worker reported the step,
/// or 0.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The last generation whose turn has begun.
    pub started: u64,
    /// The last generation for which `create` has returned, so the name of the file is durable.
    pub created: u64,
    /// The last generation for which `flush` has returned, so the elements of the array are durable.
    pub filled: u64,
    /// The last generation for which a stream has published a complete array over an older array.
    pub published: u64,
    /// The worker may have removed the numbered files up to this generation.
    pub removing: u64,
    /// The last generation whose two arrays were opened again and had the expected elements.
    pub reopened: u64,
    /// The generations whose numbered file was created by `create_new`, filled and closed.
    pub numbered: BTreeSet<u64>,
    /// The generations whose control file was written without a sync.
    pub unsynced: BTreeSet<u64>,
    /// The error of the worker, if it failed.
    pub failure: Option<String>,
}

impl Progress {
    fn note(&mut self, line: &str) {
        let (step, value) = line.split_once(' ').expect("a step and its object");
        let Ok(generation) = value.parse() else {
            self.failure = Some(value.to_owned());
            return;
        };
        let each = match step {
            "numbered" => Some(&mut self.numbered),
            "unsynced" => Some(&mut self.unsynced),
            _ => None,
        };
        if let Some(each) = each {
            each.insert(generation);
            return;
        }
        let last = match step {
            "started" => &mut self.started,
            "created" => &mut self.created,
            "filled" => &mut self.filled,
            "published" => &mut self.published,
            "removing" => &mut self.removing,
            "reopened" => &mut self.reopened,
            _ => panic!("{line:?} is no step"),
        };
        *last = generation;
    }
}

/// A running worker.
pub struct Worker {
    process: Child,
    progress: Arc<Mutex<Progress>>,
    listener: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a worker. The worker continues after the last turn that `progress` of an earlier worker contains.
    pub fn start(folder: &Path, progress: Progress) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker::works_until_killed", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .env(FIRST, (progress.started + 1).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        let progress = Arc::new(Mutex::new(progress));
        let listener = listen(lines, Arc::clone(&progress));
        Self { process, progress, listener: Some(listener) }
    }

    /// Returns what the worker has reported until now.
    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap().clone()
    }

    /// Waits until the worker has begun a turn that no earlier worker had begun.
    pub fn wait_until_at_work(&self, before: &Progress) {
        let patience = Instant::now();
        while self.progress().started <= before.started {
            assert!(patience.elapsed() < Duration::from_secs(60), "the worker does not start");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Sends SIGSTOP to the worker, and waits until the worker has stopped. A stopped process keeps its locks.
    pub fn halt(&self) {
        self.signal(libc::SIGSTOP);
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        while !state().rsplit_once(')').unwrap().1.starts_with(" T") {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Continues the stopped worker.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.process.id()).unwrap();
        // SAFETY: `kill` takes integers only. The process is a child that has not been waited for, so its id is valid.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Ends the worker by SIGKILL, and returns all that the worker has reported.
    pub fn kill(mut self) -> Progress {
        self.end();
        self.progress()
    }

    fn end(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        listener.join().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// Records the lines of the worker until the worker has ended and its pipe is empty.
fn listen(lines: BufReader<ChildStdout>, progress: Arc<Mutex<Progress>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        // The kill can cut a line short. Such a line has no newline and is ignored.
        let mut lines = lines;
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            if let (Some((_, said)), true) = (line.split_once(MARK), line.ends_with('\n')) {
                progress.lock().unwrap().note(said.trim_end());
            }
            line.clear();
        }
    })
}

fn say(step: &str, value: impl std::fmt::Display) {
    let line = format!("\n{MARK}{step} {value}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

#[test]
#[ignore = "runs in the processes that other tests start"]
fn works_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    for generation in first.. {
        if let Err(error) = turn(&folder, generation) {
            say("failed", format!("in turn {generation}: {error}"));
            return;
        }
    }
}

/// Runs one turn. A turn creates files by `create`, by `create_new` and by a stream.
fn turn(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    say("started", generation);
    write_unsynced(folder, generation)?;
    fill_in_place(&folder.join("in_place.npy"), generation)?;
    create_numbered(&folder.join(format!("numbered-{generation}.npy")), generation)?;
    publish(folder, generation)?;
    reopen(folder, generation)?;
    remove_old(folder, generation)
}

/// Writes a control file without a sync. A power cut should lose some of the control files, which proves that the power
/// cut has an effect.
fn write_unsynced(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    std::fs::write(folder.join(format!("unsynced-{generation}")), vec![1; 4096])?;
    say("unsynced", generation);
    Ok(())
}

/// Calls `create` to replace the array of the previous generation with an array of another shape, and then fills that
/// array.
fn fill_in_place(path: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    let content = array_of(generation);
    let mut array = MmapArray::<u64, Ix2>::create(path, content.dim())?;
    say("created", generation);
    array.assign(&content);
    array.flush()?;
    say("filled", generation);
    Ok(array.close()?)
}

/// Creates a file under a new name by `create_new`.
fn create_numbered(path: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    let content = small_array_of(generation);
    let mut array = MmapArray::<u64, Ix2>::create_new(path, content.dim())?;
    array.assign(&content);
    array.close()?;
    say("numbered", generation);
    Ok(())
}

/// Replaces an older array with the output of a stream. The output file gets its name only when the output is complete.
fn publish(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    let source = MmapArray::<u64, Ix2>::open(folder.join("in_place.npy"))?;
    Stream::from(&source).write_to(folder.join("published.npy"))?;
    say("published", generation);
    Ok(())
}

fn reopen(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    for name in ["in_place.npy", "published.npy"] {
        if MmapArray::<u64, Ix2>::open(folder.join(name))? != array_of(generation) {
            return Err(format!("{name} does not hold the elements that were written").into());
        }
    }
    say("reopened", generation);
    Ok(())
}

fn remove_old(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    let Some(old) = generation.checked_sub(KEPT).filter(|&old| old > 0) else { return Ok(()) };
    say("removing", old);
    for name in [format!("numbered-{old}.npy"), format!("unsynced-{old}")] {
        // An earlier worker may have been killed before it created this file.
        match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
