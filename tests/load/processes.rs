//! Processes that read and write overlapping and disjoint ranges of one file. Whoever holds a range for writing writes its
//! own mark over all of it, and reads it back before it lets go; whoever holds one for reading finds every cell of the
//! file uniform. A mixture means that two held what one may hold.

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
/// A cell is no multiple of a page: neighbours share pages, and must not share locks.
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
        let line = text.lines().find_map(|line| line.split_once(MARK)).expect("its figures").1;
        let counts: Vec<u64> = line.split(' ').map(|count| count.parse().unwrap()).collect();
        // Writes and reads: no process is shut out.
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
    assert!(in_use > 0, "processes that never meet prove nothing");
}

fn start(path: &Path, number: usize) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::hammers", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FILE, path)
        .env(NUMBER, number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "runs in the processes that other tests start"]
fn hammers() {
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else { return };
    let number: u64 = std::env::var(NUMBER).unwrap().parse().unwrap();
    let mut dice = Dice::new(number);
    let [mut writes, mut reads, mut in_use, mut mixtures] = [0_u64; 4];
    let end = Instant::now() + load_time();
    while Instant::now() < end {
        // Every second range lies in cells that are this process's own by habit; the others lie anywhere.
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

/// Some cells of the file.
fn range(first: usize, cells: usize, dice: &mut Dice) -> ArrayOptions {
    ArrayOptions::new()
        .format(Format::Raw)
        .offset_bytes((first * CELL_BYTES) as u64)
        .shape(cells * CELL_ELEMENTS)
        .on_drop(if dice.below(8) == 0 { OnDrop::Evict } else { OnDrop::KeepCached })
        .lock_timeout(Duration::from_millis(dice.below(3) as u64))
}

/// Gives the others the time to do what they must not.
fn linger(dice: &mut Dice) {
    match dice.below(3) {
        0 => std::thread::sleep(Duration::from_micros(dice.below(300) as u64)),
        1 => std::thread::yield_now(),
        _ => {}
    }
}

/// Writes a mark over all of the cells; how many elements have another one before they are given free.
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

/// How many of the cells are not uniform, or change while they are held.
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
