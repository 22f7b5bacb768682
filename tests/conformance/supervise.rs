//! Runs the cases in child processes, and watches these processes. A case fails if its process is killed by a signal or
//! hangs.

use crate::filesystems::Filesystem;
use crate::known::known;
use crate::refuse::Refusal;
use crate::report::{Report, Verdict};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// The start of each line that reports the result of a case.
pub const MARK: &str = "@case ";

/// A case that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run of the cases: the filesystem, and the refused system calls, if any.
type Run<'a> = (&'a Filesystem, Option<Refusal>);

/// Carries out all runs, with one thread for each core.
pub fn run_all(runs: &[Run<'_>], names: &[&str], report: &Report) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run_one(run, names, report);
                }
            });
        }
    });
}

/// Runs the cases on one filesystem. If a case ends its process, a new process continues with the next case.
fn run_one((filesystem, refusal): &Run<'_>, names: &[&str], report: &Report) {
    let title = refusal
        .as_ref()
        .map_or(filesystem.name.clone(), |refusal| format!("{} without {refusal}", filesystem.name));
    let _alone = filesystem.in_use.lock();
    let mut left = names;
    while !left.is_empty() {
        let done = run_process(filesystem, refusal.as_ref(), left, &mut |case, verdict| {
            let call = refusal.as_ref().map(Refusal::to_string);
            let verdict = match (verdict, known(call.as_deref(), case)) {
                (Verdict::Failed(message), Some(reason)) => Verdict::Known(format!("{reason}: {message}")),
                (verdict, _) => verdict,
            };
            report.add(&title, case, &verdict);
        });
        left = &left[done..];
    }
}

/// Starts a process that runs these cases, and waits until it ends. Returns how many of the cases have a result.
fn run_process(
    filesystem: &Filesystem,
    refusal: Option<&Refusal>,
    names: &[&str],
    tell: &mut dyn FnMut(&str, Verdict),
) -> usize {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .arg("cases")
        .arg(&filesystem.directory)
        .args([&*filesystem.name, if filesystem.is_private { "private" } else { "shared" }])
        .arg(refusal.map_or("none".to_owned(), Refusal::to_string))
        .args(names)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (say, said) = mpsc::channel();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let listener = std::thread::spawn(move || {
        lines.map_while(Result::ok).try_for_each(|line| say.send(line)).ok();
    });
    let mut done = 0;
    let end = loop {
        match said.recv_timeout(PATIENCE) {
            Ok(line) => {
                let Some((case, verdict)) = parse(&line) else { continue };
                assert_eq!(names[done], case);
                done += 1;
                tell(case, verdict);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                process.kill().unwrap();
                break Some(format!("did not return within {PATIENCE:?}"));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break None,
        }
    };
    let status = process.wait().unwrap();
    if done < names.len() {
        let message = end.unwrap_or_else(|| format!("ended its process: {status}"));
        tell(names[done], Verdict::Failed(message));
        done += 1;
    }
    // A killed process may leave child processes that keep the pipe open. These child processes end later, so do not
    // wait for them here.
    if status.success() {
        listener.join().unwrap();
    }
    done
}

/// Parses `@case NAME ok time`, `@case NAME FAILED why` or `@case NAME SKIPPED why`.
fn parse(line: &str) -> Option<(&str, Verdict)> {
    let (name, verdict) = line.strip_prefix(MARK)?.split_once(' ')?;
    let verdict = match verdict.split_once(' ') {
        Some(("FAILED", why)) => Verdict::Failed(why.to_owned()),
        Some(("SKIPPED", why)) => Verdict::Skipped(why.to_owned()),
        Some((_, time)) => Verdict::Passed(time.to_owned()),
        None => return None,
    };
    Some((name, verdict))
}
