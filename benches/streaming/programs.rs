//! Contenders that are programs of the system: `cp` and `dd`.

use std::io;
use std::path::Path;
use std::process::Command;

use super::job::Job;

pub fn cp_sync(source: &Path, target: &Path) -> io::Result<()> {
    run(Command::new("cp").arg("--reflink=never").arg(source).arg(target))?;
    run(Command::new("sync").arg("-d").arg(target))
}

pub fn dd_direct(job: &Job) -> io::Result<()> {
    let named = |key: &str, path: &Path| {
        let mut argument = std::ffi::OsString::from(key);
        argument.push(path);
        argument
    };
    run(Command::new("dd").arg(named("if=", &job.source)).arg(named("of=", &job.target)).args([
        "iflag=direct",
        "oflag=direct",
        "conv=fdatasync",
        "bs=4M",
        "status=none",
    ]))
}

fn run(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}
