//! Tests that kill a process while it publishes arrays. After the kill, the file at the path must be the complete older
//! file or the complete newer file.

use super::Outcome;
use crate::jobs::Job;
use crate::place::Place;
use ndarray::{Array2, Ix2};
use ndarray_mmap::stream::Stream;
use ndarray_mmap::{MmapArray, sweep_staged};
use std::path::Path;
use std::time::Duration;

pub fn killed_while_publishing(place: &Place) -> Outcome {
    let path = place.path("array.npy");
    for pause_millis in [0, 3, 7, 13, 22, 31] {
        let mut job = Job::start(&["publish", path.to_str().unwrap()]);
        let first: u64 = job.line().parse().expect("the job says that it has published");
        std::thread::sleep(Duration::from_millis(pause_millis));
        let last = job.kill().last().map_or(first, |line| line.parse().unwrap());
        let array = MmapArray::<u64, Ix2>::open(&path).unwrap();
        let generation = array[[0, 0]];
        assert!(
            (last..=last + 1).contains(&generation),
            "generation {generation} where {last} was said to be there"
        );
        assert_eq!(array, values_of(generation));
        array.close().unwrap();
        sweep_staged(&place.folder).unwrap();
        assert_eq!(place.names(), ["array.npy"]);
    }
    Outcome::Done
}

/// Returns the array of a generation. Consecutive generations have different shapes.
fn values_of(generation: u64) -> Array2<u64> {
    Array2::from_elem((100 + generation as usize % 50, 300), generation)
}

/// The job of the child process: publishes one generation of the array after another, and prints the number of each
/// generation, until the process is killed.
pub fn run(path: &Path) {
    for generation in 1.. {
        Stream::from(&values_of(generation)).write_to(path).unwrap();
        println!("{generation}");
    }
}
