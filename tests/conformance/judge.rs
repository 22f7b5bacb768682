//! The judge: a separate process that reports which pages of a file are in the page cache. The judge does not use the
//! crate, and the kernel refuses none of its system calls.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A judge process that waits for questions. The process ends when this value is dropped.
pub struct Judge {
    process: Child,
    questions: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Judge {
    pub fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("judge")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { questions: process.stdin.take(), process, answers }
    }

    /// Returns for each page of the file whether the page is in the page cache.
    pub fn cached_pages(&mut self, path: &Path) -> Vec<bool> {
        writeln!(self.questions.as_mut().unwrap(), "{}", path.display()).unwrap();
        let answer = self.answers.next().unwrap().unwrap();
        answer.bytes().map(|state| state == b'1').collect()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.process.wait();
    }
}

/// Runs the judge process. It reads one path per line, and prints one line for each path, with a digit for each page: 1
/// if the page is in the page cache, else 0.
pub fn serve() {
    for path in std::io::stdin().lines() {
        let file = File::open(path.unwrap()).unwrap();
        let answer: String = if file.metadata().unwrap().len() == 0 { String::new() } else { states(&file) };
        println!("{answer}");
    }
}

fn states(file: &File) -> String {
    let map = memmap2::MmapOptions::new().map_raw_read_only(file).unwrap();
    let mut answer = vec![0_u8; map.len().div_ceil(4096)];
    // SAFETY: the mapping is live, and `answer` has a byte for each of its pages.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), answer.as_mut_ptr()) };
    assert_eq!(result, 0);
    answer.into_iter().map(|state| if state & 1 == 1 { '1' } else { '0' }).collect()
}
