//! Runs the same test cases on every filesystem that this machine can create, and again with refused system calls.
//!
//! ```sh
//! cargo test --all-features --test conformance                                # every case
//! cargo test --all-features --test conformance evict                          # cases whose name contains `evict`
//! NDARRAY_MMAP_CONFORMANCE=ext4,xfs,/mnt/data cargo test --all-features --test conformance
//! NDARRAY_MMAP_REFUSALS=none|all|cachestat+EPERM,statx+ENOSYS cargo test --all-features --test conformance
//! ```
//!
//! The cases of one filesystem run in a separate process, which prints the result of each case. A case fails if it ends
//! its process or does not return. The remaining cases then run in a new process.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod cases;
#[path = "../common/filesystems.rs"]
mod filesystems;
mod jobs;
mod judge;
mod known;
#[path = "../common/loop_device.rs"]
mod loop_device;
mod place;
mod refuse;
mod report;
#[path = "../common/seccomp.rs"]
mod seccomp;
mod supervise;

use crate::filesystems::{Filesystem, NAMES};
use crate::refuse::Refusal;
use crate::report::Report;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["cases", ..] => place::run_cases(&words[1..]),
        ["judge"] => judge::serve(),
        ["job", ..] => jobs::run(&words[1..]),
        _ => return run_everywhere(&words),
    }
    ExitCode::SUCCESS
}

/// Runs the cases whose name contains one of the words. Runs all cases if there are no words.
fn run_everywhere(words: &[&str]) -> ExitCode {
    let patterns: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_wanted =
        |name: &&str| patterns.is_empty() || patterns.iter().any(|pattern| name.contains(**pattern));
    let names: Vec<_> = cases::ALL.iter().map(|case| case.name).filter(is_wanted).collect();
    if names.is_empty() || words.contains(&"--list") {
        return ExitCode::SUCCESS;
    }
    filesystems::sweep();
    let report = Report::default();
    let made = make_filesystems(&report);
    let plain = made.iter().map(|filesystem| (filesystem, None));
    let refusals = Refusal::chosen();
    // The runs alternate between filesystems, because only one run at a time can use a filesystem.
    let without = refusals.iter().flat_map(|(refusal, filesystem)| {
        let chosen = made.iter().filter(move |made| made.name == *filesystem);
        chosen.map(move |made| (made, Some(refusal.clone())))
    });
    let runs: Vec<_> = plain.chain(without).collect();
    supervise::run_all(&runs, &names, &report);
    report.print_table()
}

/// Creates the requested filesystems. Reports which filesystems cannot be created, and why.
fn make_filesystems(report: &Report) -> Vec<Filesystem> {
    let chosen = std::env::var("NDARRAY_MMAP_CONFORMANCE").ok();
    let names: Vec<&str> = chosen.as_deref().map_or(NAMES.to_vec(), |names| names.split(',').collect());
    let make = |name: &&str| match Filesystem::make(name) {
        Ok(filesystem) => Some(filesystem),
        Err(reason) => {
            report.skip_filesystem(name, &reason);
            None
        }
    };
    names.iter().filter_map(make).collect()
}
