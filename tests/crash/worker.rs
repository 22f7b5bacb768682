//! The process that is to be killed: it puts arrays under names in every way there is, and says after each step what is
//! durable from then on.

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

/// What the worker's lines start with: libtest prints lines of its own.
const MARK: &str = "@worker ";

/// How many of the numbered files stay.
const KEPT: u64 = 40;

/// What the worker has said: the last generation for which it did; 0 for none.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// A turn has begun.
    pub started: u64,
    /// `create` has returned: the name is durable.
    pub created: u64,
    /// `flush` has returned: its bytes are durable.
    pub filled: u64,
    /// A whole array was put in the place of an older one.
    pub published: u64,
    /// Numbered files up to this one may be gone: they are being removed.
    pub removing: u64,
    /// Both arrays were opened again and compared.
    pub reopened: u64,
    /// All the numbered files that were made by `create_new`, filled and closed.
    pub numbered: BTreeSet<u64>,
    /// All the files that were written without any sync, by way of control.
    pub unsynced: BTreeSet<u64>,
    /// What went wrong in the worker, which nothing should.
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
    /// Starts a worker that goes on where the `progress` of an earlier one ended.
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

    /// What it has said until now.
    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap().clone()
    }

    /// Waits until it has begun a turn that no earlier worker had.
    pub fn wait_until_at_work(&self, before: &Progress) {
        let patience = Instant::now();
        while self.progress().started <= before.started {
            assert!(patience.elapsed() < Duration::from_secs(60), "the worker does not start");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Halts it where it stands, alive.
    pub fn halt(&self) {
        self.signal(libc::SIGSTOP);
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        while !state().rsplit_once(')').unwrap().1.starts_with(" T") {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.process.id()).unwrap();
        // SAFETY: `kill` takes integers; the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Ends it as `kill -9` does, and returns all that it had said.
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

/// Notes what the worker says until it is dead and its pipe is empty.
fn listen(lines: BufReader<ChildStdout>, progress: Arc<Mutex<Progress>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        // A line that the kill has cut short has no newline: it was not said.
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

/// One turn: every way to put an array under a name.
fn turn(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    say("started", generation);
    write_unsynced(folder, generation)?;
    fill_in_place(&folder.join("in_place.npy"), generation)?;
    create_numbered(&folder.join(format!("numbered-{generation}.npy")), generation)?;
    publish(folder, generation)?;
    reopen(folder, generation)?;
    remove_old(folder, generation)
}

/// By way of control: what nobody has synced, a power cut loses.
fn write_unsynced(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    std::fs::write(folder.join(format!("unsynced-{generation}")), vec![1; 4096])?;
    say("unsynced", generation);
    Ok(())
}

/// `create` in the place of the last generation, which had another shape; then fill what has its name already.
fn fill_in_place(path: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    let content = array_of(generation);
    let mut array = MmapArray::<u64, Ix2>::create(path, content.dim())?;
    say("created", generation);
    array.assign(&content);
    array.flush()?;
    say("filled", generation);
    Ok(array.close()?)
}

/// A name that no file had.
fn create_numbered(path: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    let content = small_array_of(generation);
    let mut array = MmapArray::<u64, Ix2>::create_new(path, content.dim())?;
    array.assign(&content);
    array.close()?;
    say("numbered", generation);
    Ok(())
}

/// A whole array in the place of an older one: streamed there, which gives it its name when it is whole.
fn publish(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    let source = MmapArray::<u64, Ix2>::open(folder.join("in_place.npy"))?;
    Stream::from(&source).write_to(folder.join("published.npy"))?;
    say("published", generation);
    Ok(())
}

fn reopen(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    for name in ["in_place.npy", "published.npy"] {
        if MmapArray::<u64, Ix2>::open(folder.join(name))? != array_of(generation) {
            return Err(format!("{name} is not as it was written").into());
        }
    }
    say("reopened", generation);
    Ok(())
}

fn remove_old(folder: &Path, generation: u64) -> Result<(), Box<dyn Error>> {
    let Some(old) = generation.checked_sub(KEPT).filter(|&old| old > 0) else { return Ok(()) };
    say("removing", old);
    for name in [format!("numbered-{old}.npy"), format!("unsynced-{old}")] {
        // A worker that was killed before may not have come to make it.
        match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
