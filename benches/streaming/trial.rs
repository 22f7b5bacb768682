//! Runs one contender once: prepares the machine, starts the process, gives it the job, and samples its memory.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::cgroup::Group;
use super::files::{self, Files};
use super::job::{Measured, Reply};
use super::plan::{Cache, MIB};
use super::sampler::{Sample, Sampler};
use super::{cleanup, os};

/// The measurements of one run.
pub struct Run {
    pub measured: Measured,
    /// Memory and page cache together, from the control group or from the samples.
    pub peak_bytes: u64,
    pub peak_cache_bytes: u64,
    pub samples: Vec<Sample>,
}

/// How a run ended.
pub enum Outcome {
    Done(Run),
    Skipped(String),
    Failed(String),
}

/// One run of one contender.
pub struct Trial<'a, J> {
    pub job: &'a J,
    /// Starts the process of the contender.
    pub command: Command,
    pub source: &'a Path,
    pub cache: Cache,
    /// The most page cache that the run can need.
    pub touched_bytes: u64,
    pub memory_limit: Option<u64>,
    /// A contender that takes longer is killed.
    pub time_limit: Duration,
}

impl<J: Serialize> Trial<'_, J> {
    /// Runs the contender once. The output stays, so that the caller can verify it.
    pub fn run(self, files: &Files) -> io::Result<Outcome> {
        let group = Group::create(self.memory_limit);
        if let (Some(_), Err(error)) = (self.memory_limit, &group) {
            return Ok(Outcome::Skipped(format!("a control group with a limit cannot be made: {error}")));
        }
        files.clear_outputs()?;
        let process = match Process::start(self.command)? {
            Ok(process) => process,
            Err(reason) => return Ok(Outcome::Skipped(reason)),
        };
        files.touch_memory(self.touched_bytes + 128 * MIB)?;
        files::set_cache(self.source, self.cache)?;
        let sampler = Sampler::new(process.child.id(), self.source, files)?;
        watch(sampler, self.job, self.time_limit, process, group.ok())
    }
}

fn watch<J: Serialize>(
    sampler: Sampler<'_>,
    job: &J,
    time_limit: Duration,
    mut process: Process,
    group: Option<Group>,
) -> io::Result<Outcome> {
    let pid = process.child.id();
    let anonymous_before = os::status_bytes(pid, "RssAnon")?;
    if let Some(group) = &group {
        group.add(pid)?;
    }
    let (reply, samples) = sampler.during(|| process.ask(job, time_limit));
    drop(process);
    let measured = match reply {
        Ok(Reply::Done(measured)) => measured,
        Ok(Reply::Skipped(reason)) => return Ok(Outcome::Skipped(reason)),
        Ok(Reply::Failed(reason)) => return Ok(Outcome::Failed(reason)),
        Ok(Reply::Ready) => return Ok(Outcome::Failed("the process replied before the work".to_owned())),
        Err(error) => return Ok(Outcome::Failed(error.to_string())),
    };
    let peak_bytes = match &group {
        Some(group) => anonymous_before + group.peak_bytes()?,
        None => samples.iter().map(Sample::total_bytes).max().unwrap_or(0),
    };
    let peak_cache_bytes = samples.iter().map(|sample| sample.cache_bytes).max().unwrap_or(0);
    Ok(Outcome::Done(Run { measured, peak_bytes, peak_cache_bytes, samples }))
}

/// The process of a contender that waits for a job. Dropping the value kills this process and all processes that it has
/// started.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the process and waits until it is ready. Returns the reason if the contender cannot run here.
    fn start(mut command: Command) -> io::Result<Result<Self, String>> {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Ok(Err(format!("the process cannot be started: {error}"))),
        };
        cleanup::set_contender(child.id());
        let input = child.stdin.take().ok_or_else(|| io::Error::other("no standard input"))?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let mut process = Self { child, input, output: BufReader::new(output) };
        match process.read_reply()? {
            Reply::Ready => Ok(Ok(process)),
            Reply::Skipped(reason) => Ok(Err(reason)),
            other => Err(io::Error::other(format!("expected a ready contender, found {other:?}"))),
        }
    }

    /// Gives the job to the process, and returns its reply. Kills the process when the time is over.
    fn ask(&mut self, job: &impl Serialize, time_limit: Duration) -> io::Result<Reply> {
        writeln!(self.input, "{}", serde_json::to_string(job)?)?;
        self.input.flush()?;
        let pid = self.child.id();
        thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            let killed = scope.spawn(move || {
                let late = is_done.recv_timeout(time_limit) == Err(RecvTimeoutError::Timeout);
                if late {
                    os::kill_group(pid);
                }
                late
            });
            let reply = self.read_reply();
            drop(done);
            match killed.join() {
                Ok(true) => Err(io::Error::other(format!("took longer than {} s", time_limit.as_secs()))),
                _ => reply,
            }
        })
    }

    fn read_reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(io::Error::other(format!("the process ended: {}", self.child.wait()?)));
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        os::kill_group(self.child.id());
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for the process of a contender: {error}");
        }
        cleanup::set_contender(0);
    }
}

/// Makes the command that starts the process of a contender: numpy's, or this program with the argument.
pub fn command(is_numpy: bool, argument: &str) -> io::Result<Command> {
    let mut command = if is_numpy {
        let python = env::var_os("NDARRAY_MMAP_PYTHON").unwrap_or_else(|| OsString::from("python3"));
        let mut command = Command::new(python);
        command.arg("-c").arg(include_str!("numpy_contenders.py"));
        command
    } else {
        let mut command = Command::new(env::current_exe()?);
        command.arg(argument);
        command
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    Ok(command)
}
