//! Compares the content of a folder after a crash with the steps that the worker reported. The tests read the files
//! with `ndarray-npy`, which shares no code with this crate.

use crate::worker::Progress;
use ndarray::Array2;
use ndarray_npy::ReadNpyExt;
use std::fs::File;
use std::io::BufReader;
use std::ops::RangeInclusive;
use std::path::Path;

const COLUMNS: usize = 61;

/// Returns the content of the large arrays of a generation. Each element encodes its generation and its position. Two
/// successive generations have different shapes, so the check detects a header of one generation with the data of
/// another.
pub fn array_of(generation: u64) -> Array2<u64> {
    content(generation, 150 + (generation % 97) as usize)
}

/// Returns the content of the numbered file of a generation. The file takes from less than one page to a few pages.
pub fn small_array_of(generation: u64) -> Array2<u64> {
    content(generation, 1 + (generation % 31) as usize)
}

fn content(generation: u64, rows: usize) -> Array2<u64> {
    let elements = (0..(rows * COLUMNS) as u64).map(|place| generation << 24 | (place + 1));
    Array2::from_shape_vec((rows, COLUMNS), elements.collect()).unwrap()
}

/// The result of checking a folder after a crash.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many files were checked.
    pub files: usize,
    /// Files whose durable generation is missing or was replaced by an older generation.
    pub lost: Vec<String>,
    /// Files that have a final name, but content that the worker never wrote.
    pub half_written: Vec<String>,
    /// The number of unsynced control files that were checked, and the number of those that are missing or incomplete.
    pub unsynced: (usize, usize),
}

impl Verdict {
    /// Checks a folder after a crash. `durable` holds the steps that the worker reported before the crash began.
    /// `latest` holds the last steps that the worker reported before the crash.
    pub fn on(folder: &Path, durable: &Progress, latest: &Progress) -> Self {
        let mut verdict = Self::default();
        // The name is durable when `create` returns, and the elements are durable when `flush` returns.
        let generations = durable.created..=latest.started;
        verdict.inspect(folder, "in_place.npy", generations, durable.filled, array_of);
        // A published file always holds all of its elements.
        let generations = durable.published..=latest.started;
        verdict.inspect(folder, "published.npy", generations, u64::MAX, array_of);
        for generation in latest.removing + 1..=latest.started {
            let (oldest, whole) =
                if durable.numbered.contains(&generation) { (generation, generation) } else { (0, 0) };
            let name = format!("numbered-{generation}.npy");
            verdict.inspect(folder, &name, oldest..=generation, whole, small_array_of);
        }
        for generation in durable.unsynced.range(latest.removing + 1..) {
            let content = std::fs::read(folder.join(format!("unsynced-{generation}")));
            let whole = content.is_ok_and(|bytes| bytes == [1; 4096]);
            verdict.unsynced.0 += 1;
            verdict.unsynced.1 += usize::from(!whole);
        }
        verdict
    }

    /// Checks one file. The content of the file must belong to one of `generations`. The file may be missing if
    /// `generations` starts at 0. A file of a generation up to `whole` must hold all its elements; a file of a later
    /// generation may still hold zeros.
    fn inspect(
        &mut self,
        folder: &Path,
        name: &str,
        generations: RangeInclusive<u64>,
        whole: u64,
        content: fn(u64) -> Array2<u64>,
    ) {
        let Ok(file) = File::open(folder.join(name)) else {
            if *generations.start() > 0 {
                self.lost.push(format!("{name} is missing, of generations {generations:?}"));
            }
            return;
        };
        self.files += 1;
        let found = match Array2::<u64>::read_npy(BufReader::new(file)) {
            Ok(found) => found,
            Err(error) => return self.half_written.push(format!("{name}: {error}")),
        };
        let fits = |generation: &u64| {
            let expected = content(*generation);
            let is_whole = *generation <= whole;
            *generation > 0
                && expected.dim() == found.dim()
                && found
                    .iter()
                    .zip(&expected)
                    .all(|(&found, &expected)| found == expected || (found == 0 && !is_whole))
        };
        if generations.clone().any(|generation| fits(&generation)) {
            return;
        }
        let seen = found.iter().map(|element| element >> 24).max().unwrap_or(0);
        let oldest = *generations.start();
        if seen > 0 && seen < oldest && found == content(seen) {
            self.lost.push(format!("{name} is of generation {seen}, and {oldest} was durable"));
        } else {
            let shape = found.dim();
            self.half_written.push(format!("{name}, {shape:?}, generation {seen} of {generations:?}"));
        }
    }

    /// Adds the result of another folder check.
    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.lost.extend(other.lost);
        self.half_written.extend(other.half_written);
        self.unsynced.0 += other.unsynced.0;
        self.unsynced.1 += other.unsynced.1;
    }
}
