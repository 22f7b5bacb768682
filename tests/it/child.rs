//! Child processes that open arrays of bytes. Each child process runs this test binary again.
//!
//! The parent sends commands to a [`Child`], one per line. The child answers each command with one line.

use ndarray::{Array1, Ix1};
use ndarray_mmap::{ArrayOptions, Format, MmapArray, ReadOnly, ReadWrite};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};

const RUNS: &str = "NDARRAY_MMAP_TEST_CHILD";

/// The prefix of the answers of the child, to distinguish them from the lines of libtest.
const MARK: &str = "@child ";

/// A child process, which holds an array until a command closes it.
pub struct Child {
    process: Process,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Child {
    pub fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::executes_commands", "--ignored", "--nocapture", "--test-threads=1"])
            .env(RUNS, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, commands, answers }
    }

    /// Starts a child that opens `path` in this mode.
    pub fn holding(mode: &str, path: &Path, offset_bytes: u64, len: usize) -> Self {
        let mut child = Self::start();
        assert_eq!(child.open(mode, path, offset_bytes, len), "open");
        child
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a command and returns the answer.
    pub fn tell(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        loop {
            let line = self.answers.next().expect("the child is running").unwrap();
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.to_owned();
            }
        }
    }

    /// Sends the command to open a file. `mode` is `r`, `r+`, `c` or `w+`. The answer is `open`, or the kind and the
    /// message of the error.
    pub fn open(&mut self, mode: &str, path: &Path, offset_bytes: u64, len: usize) -> String {
        self.tell(&format!("open {mode} {offset_bytes} {len} {}", path.to_str().unwrap()))
    }

    /// Ends the child by SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The array that the child process holds.
enum Held {
    Reader(MmapArray<u8, Ix1, ReadOnly>),
    Writer(MmapArray<u8, Ix1, ReadWrite>),
    Private(MmapArray<u8, Ix1, ndarray_mmap::CopyOnWrite>),
}

impl Held {
    fn open(mode: &str, path: &str, offset_bytes: u64, len: usize) -> ndarray_mmap::Result<Self> {
        let options = ArrayOptions::new().format(Format::Raw).offset_bytes(offset_bytes).shape(len);
        match mode {
            "r" => options.open(path).map(Self::Reader),
            "r+" => options.open_rw(path).map(Self::Writer),
            "c" => options.open_cow(path).map(Self::Private),
            "w+" => options.create(path).map(Self::Writer),
            other => panic!("mode {other}"),
        }
    }

    fn bytes(&self) -> Array1<u8> {
        match self {
            Self::Reader(array) => (**array).to_owned(),
            Self::Writer(array) => (**array).to_owned(),
            Self::Private(array) => (**array).to_owned(),
        }
    }

    fn fill(&mut self, value: u8) {
        match self {
            Self::Reader(_) => panic!("a reader cannot fill"),
            Self::Writer(array) => array.fill(value),
            Self::Private(array) => array.fill(value),
        }
    }

    fn into_read_only(self) -> Self {
        match self {
            Self::Writer(array) => Self::Reader(array.into_read_only().unwrap()),
            other => other,
        }
    }
}

/// Executes one command and returns the answer.
fn execute(held: &mut Option<Held>, command: &str) -> String {
    let words: Vec<_> = command.splitn(5, ' ').collect();
    match words[..] {
        ["open", mode, offset_bytes, len, path] => {
            match Held::open(mode, path, offset_bytes.parse().unwrap(), len.parse().unwrap()) {
                Ok(array) => *held = Some(array),
                Err(error) => return format!("{:?}: {error}", error.kind()),
            }
            "open".to_owned()
        }
        ["fill", value] => {
            held.as_mut().unwrap().fill(value.parse().unwrap());
            "filled".to_owned()
        }
        ["sum"] => {
            let bytes = held.as_ref().unwrap().bytes();
            bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>().to_string()
        }
        ["into_read_only"] => {
            *held = held.take().map(Held::into_read_only);
            "reads".to_owned()
        }
        ["close"] => {
            *held = None;
            "closed".to_owned()
        }
        ["close_in", millis] => {
            let (array, pause) = (held.take(), std::time::Duration::from_millis(millis.parse().unwrap()));
            std::thread::spawn(move || {
                std::thread::sleep(pause);
                drop(array);
            });
            "closing".to_owned()
        }
        _ => panic!("unknown command {command:?}"),
    }
}

#[test]
#[ignore = "runs in the processes that other tests start"]
fn executes_commands() {
    if std::env::var_os(RUNS).is_none() {
        return;
    }
    let mut held = None;
    for command in std::io::stdin().lines() {
        println!("\n{MARK}{}", execute(&mut held, &command.unwrap()));
    }
}
