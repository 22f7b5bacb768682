//! Load test with processes that read and write overlapping and disjoint ranges of one file.
//!
//! A process that holds a write lock on a range fills the range with a mark of its own. The process reads the mark back
//! before it closes the array. A process that holds a read lock asserts that each cell of its range is uniform. A
//! mixture of marks means that two processes held conflicting locks at the same time.

use crate::{Dice, load_time, report};
use ndarray::Ix1;
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, OnDrop};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FILE: &str = "NDARRAY_MMAP_LOAD_FILE";
const NUMBER: &str = "NDARRAY_MMAP_LOAD_NUMBER";
const MARK: &str = "@process ";

const PROCESSES: usize = 8;
const CELLS: usize = 24;
/// The size of a cell is not a multiple of the page size, so neighbouring cells share a page. The locks of neighbouring
/// cells must not conflict.
const CELL_ELEMENTS: usize = 625;
const CELL_BYTES: usize = CELL_ELEMENTS * size_of::<u64>();

#[test]
fn eight_processes_on_the_ranges_of_one_file() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("cells");
    std::fs::write(&path, vec![0; CELLS * CELL_BYTES]).unwrap();
    let running: Vec<_> = (1..=PROCESSES).map(|number| start(&path, number)).collect();
    let mut sum = [0_u64; 4];
    for process in running {
        let output = process.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text
            .lines()
            .find_map(|line| line.split_once(MARK))
            .expect("a line with the counts of the process")
            .1;
        let counts: Vec<u64> = line.split(' ').map(|count| count.parse().unwrap()).collect();
        // At the end, each process must have written at least one range and read at least one range.
        assert!(counts[0] > 0 && counts[1] > 0, "{line}");
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    let [writes, reads, in_use, mixtures] = sum;
    report(&format!(
        "{PROCESSES} processes, one file, {} s: ranges written {writes}, read {reads}, in use {in_use}, mixtures {mixtures}",
        load_time().as_secs()
    ));
    assert_eq!(mixtures, 0);
    assert!(in_use > 0, "no process ever found a range in use, so the locks were not tested");
}

fn start(path: &Path, number: usize) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "processes::locks_ranges_until_the_time_is_over",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FILE, path)
        .env(NUMBER, number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "runs in the processes that other tests start"]
fn locks_ranges_until_the_time_is_over() {
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else { return };
    let number: u64 = std::env::var(NUMBER).unwrap().parse().unwrap();
    let mut dice = Dice::new(number);
    let [mut writes, mut reads, mut in_use, mut mixtures] = [0_u64; 4];
    let end = Instant::now() + load_time();
    while Instant::now() < end {
        // About half of the ranges start at a fixed cell, which is different for each process. The other ranges start
        // at a random cell.
        let (first, cells) = match dice.below(2) {
            0 => (number as usize * CELLS / (PROCESSES + 1), 1 + dice.below(2)),
            _ => {
                let first = dice.below(CELLS);
                (first, 1 + dice.below(CELLS - first).min(6))
            }
        };
        let outcome = if dice.below(2) == 0 {
            write_range(&path, first, cells, (number << 48) | (writes + 1), &mut dice)
                .inspect(|_| writes += 1)
        } else {
            read_range(&path, first, cells, &mut dice).inspect(|_| reads += 1)
        };
        match outcome {
            Ok(found) => mixtures += found,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
                in_use += 1;
            }
        }
    }
    println!("\n{MARK}{writes} {reads} {in_use} {mixtures}");
}

/// Returns options for an array of `cells` cells from cell `first` on.
fn range(first: usize, cells: usize, dice: &mut Dice) -> ArrayOptions {
    ArrayOptions::new()
        .format(Format::Raw)
        .offset_bytes((first * CELL_BYTES) as u64)
        .shape(cells * CELL_ELEMENTS)
        .on_drop(if dice.below(8) == 0 { OnDrop::Evict } else { OnDrop::KeepCached })
        .lock_timeout(Duration::from_millis(dice.below(3) as u64))
}

/// Pauses at random while the process holds its lock, so that a conflicting access by another process can happen.
fn linger(dice: &mut Dice) {
    match dice.below(3) {
        0 => std::thread::sleep(Duration::from_micros(dice.below(300) as u64)),
        1 => std::thread::yield_now(),
        _ => {}
    }
}

/// Fills the cells with `mark`. Returns how many elements of these cells have another value just before the array is
/// closed.
fn write_range(
    path: &Path,
    first: usize,
    cells: usize,
    mark: u64,
    dice: &mut Dice,
) -> ndarray_mmap::Result<u64> {
    let mut array = range(first, cells, dice).open_rw::<u64, Ix1>(path)?;
    array.fill(mark);
    linger(dice);
    let array = std::hint::black_box(array);
    let others = array.iter().filter(|&&element| element != mark).count();
    array.close()?;
    Ok(others as u64)
}

/// Reads the cells twice. Returns how many cells are not uniform, plus one if the array changed between the two reads.
fn read_range(path: &Path, first: usize, cells: usize, dice: &mut Dice) -> ndarray_mmap::Result<u64> {
    let array = range(first, cells, dice).open::<u64, Ix1>(path)?;
    let before = array.to_owned();
    linger(dice);
    let array = std::hint::black_box(array);
    let mixed = |cell: &ndarray::ArrayView1<'_, u64>| cell.iter().any(|element| *element != cell[0]);
    let mixtures = array.exact_chunks(CELL_ELEMENTS).into_iter().filter(mixed).count();
    let changes = usize::from(array != before);
    array.close()?;
    Ok((mixtures + changes) as u64)
}
