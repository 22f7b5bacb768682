//! Runs one contender once: prepares the machine, starts the process, gives it the job, and samples its memory.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::cgroup::Group;
use super::files::{self, Files};
use super::job::{Job, Measured, Reply};
use super::plan::{Cache, Contender, Entry, LIMIT_BYTES, MIB, Match, SMALL_BUDGET_RATIO, Work};
use super::sampler::{Sample, Sampler};
use super::{child, cleanup, os};

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

/// Makes the job of a contender in this match.
pub fn job(files: &Files, one: &Match, entry: Entry) -> io::Result<Job> {
    let columns = one.work.columns();
    let row_bytes = columns * size_of::<f32>();
    let rows = one.source_bytes as usize / row_bytes;
    let source = files.source(one.work, one.source_bytes)?;
    let extension = source.extension().unwrap_or_default();
    let target = files.outputs().join("target").with_extension(extension);
    let index = if one.work.is_gather() { Some(files.index(one.work, rows)?) } else { None };
    let budget = if one.work == Work::CopySmallBudget { one.source_bytes / SMALL_BUDGET_RATIO } else { 0 };
    Ok(Job {
        contender: entry.contender,
        work: one.work,
        source,
        target,
        rows,
        columns,
        chunk_rows: entry.chunk_bytes as usize / row_bytes,
        budget_bytes: budget as usize,
        index,
    })
}

/// Runs the contender once. The output stays, so that the caller can verify it.
pub fn run(files: &Files, job: &Job, cache: Cache) -> io::Result<Outcome> {
    let limit = (job.work == Work::CopyLimited).then_some(LIMIT_BYTES);
    let group = Group::create(limit);
    if let (Some(_), Err(error)) = (limit, &group) {
        return Ok(Outcome::Skipped(format!("a control group with a limit cannot be made: {error}")));
    }
    files.clear_outputs()?;
    let process = match Process::start(job.contender)? {
        Ok(process) => process,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let source_bytes = job.source_bytes();
    files.touch_memory(limit.unwrap_or(source_bytes + job.work.target_bytes(source_bytes)) + 128 * MIB)?;
    files::set_cache(&job.source, cache)?;
    watch(files, job, process, group.ok())
}

fn watch(files: &Files, job: &Job, mut process: Process, group: Option<Group>) -> io::Result<Outcome> {
    let pid = process.child.id();
    let anonymous_before = os::status_bytes(pid, "RssAnon")?;
    if let Some(group) = &group {
        group.add(pid)?;
    }
    let sampler = Sampler::new(pid, job, files)?;
    let (reply, samples) = sampler.during(|| process.ask(job));
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
    fn start(contender: Contender) -> io::Result<Result<Self, String>> {
        let mut child = match command(contender)?.spawn() {
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

    fn ask(&mut self, job: &Job) -> io::Result<Reply> {
        writeln!(self.input, "{}", serde_json::to_string(job)?)?;
        self.input.flush()?;
        self.read_reply()
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

fn command(contender: Contender) -> io::Result<Command> {
    let mut command = if contender.is_numpy() {
        let python = env::var_os("NDARRAY_MMAP_PYTHON").unwrap_or_else(|| OsString::from("python3"));
        let mut command = Command::new(python);
        command.arg("-c").arg(include_str!("numpy_contenders.py"));
        command
    } else {
        let mut command = Command::new(env::current_exe()?);
        command.arg(child::ARGUMENT);
        command
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    Ok(command)
}
