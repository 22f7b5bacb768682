//! Real processes: this test binary, started again as somebody who holds an array of bytes.
//!
//! The parent tells a [`Child`] what to do, a line at a time; the child says how it went, a line at a time.

use ndarray::{Array1, Ix1};
use ndarray_mmap::{ArrayOptions, Format, MmapArray, ReadOnly, ReadWrite};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};

const RUNS: &str = "NDARRAY_MMAP_TEST_CHILD";

/// What the child's lines start with: libtest prints lines of its own.
const MARK: &str = "@child ";

/// A process that holds an array, until told otherwise.
pub struct Child {
    process: Process,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Child {
    pub fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::takes_orders", "--ignored", "--nocapture", "--test-threads=1"])
            .env(RUNS, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, orders, answers }
    }

    /// Starts a child and lets it open `path` in this mode.
    pub fn holding(mode: &str, path: &Path, offset_bytes: u64, len: usize) -> Self {
        let mut child = Self::start();
        assert_eq!(child.open(mode, path, offset_bytes, len), "open");
        child
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Gives an order, and waits for its answer.
    pub fn tell(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        loop {
            let line = self.answers.next().expect("the child lives").unwrap();
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.to_owned();
            }
        }
    }

    /// `mode` is `r`, `r+`, `c` or `w+`; the answer is `open`, or the kind of the error and its words.
    pub fn open(&mut self, mode: &str, path: &Path, offset_bytes: u64, len: usize) -> String {
        self.tell(&format!("open {mode} {offset_bytes} {len} {}", path.to_str().unwrap()))
    }

    /// As `kill -9` does it.
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

/// What the child holds.
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

/// Obeys one order.
fn obey(held: &mut Option<Held>, order: &str) -> String {
    let words: Vec<_> = order.splitn(5, ' ').collect();
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
        _ => panic!("order {order:?}"),
    }
}

#[test]
#[ignore = "runs in the processes that other tests start"]
fn takes_orders() {
    if std::env::var_os(RUNS).is_none() {
        return;
    }
    let mut held = None;
    for order in std::io::stdin().lines() {
        println!("\n{MARK}{}", obey(&mut held, &order.unwrap()));
    }
}
