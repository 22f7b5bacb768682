//! Tests that the bytes of a file can have many readers or one writer, both within a process and between two processes.

use super::Outcome;
use crate::jobs::Job;
use crate::place::Place;
use ndarray::Ix1;
use ndarray_mmap::{ArrayOptions, ErrorKind, Format, Locking, MmapArray};

/// If the kernel refuses locks, arrays exclude each other only within the same process, and `locking` reports this.
fn expected_locking(place: &Place) -> Locking {
    if place.refuses("locks") { Locking::Process } else { Locking::Kernel }
}

pub fn one_writer_or_many_readers(place: &Place) -> Outcome {
    let path = place.path("array.npy");
    let is_in_use = |result: Option<ndarray_mmap::Error>| {
        let error = result.expect("another array holds the bytes");
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    };
    let mut writer = MmapArray::<u8, Ix1>::create(&path, 10_000).unwrap();
    writer.fill(5);
    assert_eq!(writer.locking(), expected_locking(place));
    is_in_use(MmapArray::<u8, Ix1>::open(&path).err());
    is_in_use(MmapArray::<u8, Ix1>::open_rw(&path).err());
    is_in_use(MmapArray::<u8, Ix1>::open_cow(&path).err());
    let is_between_processes = expected_locking(place) == Locking::Kernel;
    let other = |mode: &str| Job::start(&["hold", mode, path.to_str().unwrap(), "0", "10000"]).line();
    if is_between_processes {
        assert!(other("r").starts_with("InUse"), "{}", other("r"));
        assert!(other("r+").starts_with("InUse"), "{}", other("r+"));
    }
    let reader = writer.into_read_only().unwrap();
    let second = MmapArray::<u8, Ix1>::open(&path).unwrap();
    assert!(reader.iter().chain(&second).all(|&value| value == 5));
    assert_eq!(other("r"), "held");
    is_in_use(MmapArray::<u8, Ix1>::open_rw(&path).err());
    drop((reader, second));
    let mut holder = Job::start(&["hold", "r", path.to_str().unwrap(), "0", "10000"]);
    assert_eq!(holder.line(), "held");
    if is_between_processes {
        is_in_use(MmapArray::<u8, Ix1>::open_rw(&path).err());
    }
    assert!(MmapArray::<u8, Ix1>::open(&path).unwrap().iter().all(|&value| value == 5));
    holder.kill();
    MmapArray::<u8, Ix1>::open_rw(&path).unwrap().close().unwrap();
    Outcome::Done
}

pub fn disjoint_ranges_do_not_conflict(place: &Place) -> Outcome {
    let path = place.path("array.bin");
    std::fs::write(&path, vec![1; 30_000]).unwrap();
    let part = |offset_bytes, len| {
        ArrayOptions::new()
            .format(Format::Raw)
            .offset_bytes(offset_bytes)
            .shape(len)
            .open_rw::<u8, Ix1>(&path)
    };
    let (mut low, mut high) = (part(0, 10_001).unwrap(), part(20_000, 10_000).unwrap());
    let mut holder = Job::start(&["hold", "r+", path.to_str().unwrap(), "10001", "9999"]);
    assert_eq!(holder.line(), "held");
    assert_eq!(part(10_000, 1).unwrap_err().kind(), ErrorKind::InUse);
    low.fill(2);
    high.fill(3);
    low.close().unwrap();
    high.close().unwrap();
    holder.kill();
    let bytes = std::fs::read(&path).unwrap();
    let expected = [vec![2; 10_001], vec![1; 9999], vec![3; 10_000]].concat();
    assert!(bytes == expected, "each part has its own bytes");
    Outcome::Done
}
