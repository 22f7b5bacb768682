//! One process writes an array while a second process waits for it. The example starts itself again as the second
//! process.
//!
//! ```text
//! cargo run --example two_processes
//! ```

use ndarray::Ix2;
use ndarray_mmap::{ArrayOptions, ErrorKind, MmapArray};
use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    match env::args_os().nth(1) {
        Some(path) => read(Path::new(&path)),
        None => write(),
    }
}

/// The first process writes the array. The array holds an exclusive lock on the bytes that it maps.
fn write() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shared.npy");
    let mut array = MmapArray::<u32, Ix2>::create(&path, (1000, 10))?;
    let mut reader = Command::new(env::current_exe()?).arg(&path).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(reader.stdout.take().ok_or("no pipe to the reader")?).lines();

    assert_eq!(lines.next().transpose()?.as_deref(), Some("in use"));
    array.fill(7);
    array.close()?; // releases the lock
    assert_eq!(lines.next().transpose()?.as_deref(), Some("sum 70000"));
    assert!(reader.wait()?.success());
    println!("the second process waited for the first process, and read the elements that it wrote");
    Ok(())
}

/// The second process waits until the writer has released its lock, and then reads the array.
fn read(path: &Path) -> Result<()> {
    let refused = MmapArray::<u32, Ix2>::open(path).expect_err("the writer holds the lock");
    assert_eq!(refused.kind(), ErrorKind::InUse);
    println!("in use");
    let array = ArrayOptions::new().lock_timeout(Duration::from_secs(30)).open::<u32, Ix2>(path)?;
    println!("sum {}", array.sum());
    Ok(())
}
