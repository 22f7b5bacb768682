//! Child processes that test cases start. A child holds arrays, is killed, or accesses arrays that may fault.

use crate::cases;
use ndarray::Ix1;
use ndarray_mmap::{ArrayOptions, Format};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A child process that runs this program with the arguments of a job. The process is killed when this value is
/// dropped.
pub struct Job {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Job {
    pub fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("job")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// Returns the next line that the process prints, without the line break.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Kills the process with `SIGKILL`. Returns the complete lines that the process has printed and `line` has not
    /// read.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let whole = rest.rfind('\n').map_or(0, |end| end + 1);
        rest[..whole].lines().map(str::to_owned).collect()
    }

    /// Waits until the process ends. Panics with its error output if the process has failed.
    pub fn succeed(mut self) {
        let mut errors = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {errors}");
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the job that the arguments name. The process exits when its standard input is closed, so it does not outlive
/// the process that has started it.
pub fn run(arguments: &[&str]) {
    std::thread::spawn(|| {
        std::io::stdin().lines().for_each(drop);
        std::process::exit(1);
    });
    match arguments {
        ["hold", mode, path, offset_bytes, len] => {
            hold(mode, path, offset_bytes.parse().unwrap(), len.parse().unwrap())
        }
        ["truncate", size, layout, folder] => {
            cases::truncate::run(size, layout.parse().unwrap(), Path::new(folder))
        }
        ["publish", path] => cases::publish::run(Path::new(path)),
        _ => panic!("job {arguments:?}"),
    }
}

/// Opens an array of bytes, prints `held`, and keeps the array open until the process ends. If the array cannot be
/// opened, prints the error.
fn hold(mode: &str, path: &str, offset_bytes: u64, len: usize) {
    let options = ArrayOptions::new().shape(len);
    let options =
        if path.ends_with(".npy") { options } else { options.format(Format::Raw).offset_bytes(offset_bytes) };
    let wait = || std::thread::park_timeout(Duration::from_secs(600));
    let error = match mode {
        "r" => options
            .open::<u8, Ix1>(path)
            .map(|_array| {
                println!("held");
                wait()
            })
            .err(),
        _ => options
            .open_rw::<u8, Ix1>(path)
            .map(|_array| {
                println!("held");
                wait()
            })
            .err(),
    };
    if let Some(error) = error {
        println!("{:?}: {error}", error.kind());
    }
}
