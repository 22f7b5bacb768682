//! What a folder must hold after a crash, by what its worker had said. Files are read with `ndarray-npy`, which owes the
//! crate nothing.

use crate::worker::Progress;
use ndarray::Array2;
use ndarray_npy::ReadNpyExt;
use std::fs::File;
use std::io::BufReader;
use std::ops::RangeInclusive;
use std::path::Path;

const COLUMNS: usize = 61;

/// What a generation's arrays hold: every element says its generation and its place. Neighbouring generations differ in
/// shape, so that a header of one over bytes of another shows.
pub fn array_of(generation: u64) -> Array2<u64> {
    content(generation, 150 + (generation % 97) as usize)
}

/// The same for the numbered files, of less than a page to a few.
pub fn small_array_of(generation: u64) -> Array2<u64> {
    content(generation, 1 + (generation % 31) as usize)
}

fn content(generation: u64, rows: usize) -> Array2<u64> {
    let elements = (0..(rows * COLUMNS) as u64).map(|place| generation << 24 | (place + 1));
    Array2::from_shape_vec((rows, COLUMNS), elements.collect()).unwrap()
}

/// What was found in a folder.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many files were looked at.
    pub files: usize,
    /// Files that were durable, and are missing or older than that.
    pub lost: Vec<String>,
    /// Files under a final name that nobody wrote like this.
    pub half_written: Vec<String>,
    /// Of the control files, which nobody had synced: how many were looked at, how many are not whole.
    pub unsynced: (usize, usize),
}

impl Verdict {
    /// Judges a folder. `durable` was said before the crash began, `latest` when it was over.
    pub fn on(folder: &Path, durable: &Progress, latest: &Progress) -> Self {
        let mut verdict = Self::default();
        // In place: it has its name when `create` returns, its elements when `flush` does.
        let generations = durable.created..=latest.started;
        verdict.inspect(folder, "in_place.npy", generations, durable.filled, array_of);
        // Published: never without all of its elements.
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

    /// Looks at one file, which has to be of one of the generations; one of generation 0 need not be there. Generations up
    /// to `whole` have all their elements, later ones may still have zeros.
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

    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.lost.extend(other.lost);
        self.half_written.extend(other.half_written);
        self.unsynced.0 += other.unsynced.0;
        self.unsynced.1 += other.unsynced.1;
    }
}
