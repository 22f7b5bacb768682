//! Tests of faults in loops over chunks, and tests that streams raise no faults.

use crate::fault::{PAGE, assert_success, in_child, sevens, truncate};
use crate::support::{Tmpfs, disk_folder, names_in};
use ndarray::{Array2, Axis, Ix2, s};
use ndarray_mmap::stream::{Budget, Stream, copy};
use ndarray_mmap::{Allocation, ArrayOptions, ErrorKind};

/// A loop over chunks ends at the first fault. If the loop continued on a full disk, each further page would take
/// memory.
#[test]
fn a_full_disk_ends_a_loop_over_chunks() {
    let child = || {
        let Some(disk) = Tmpfs::mount("size=16m") else { return };
        let path = disk.path().join("a.npy");
        let options = ArrayOptions::new().allocation(Allocation::Sparse).shape((32 << 8, PAGE)).guarded();
        let mut array = options.create::<u8, Ix2>(&path).unwrap();
        let mut chunks = 0;
        for (_, mut chunk) in array.row_chunks_mut(Budget::chunk_rows(64)) {
            chunk.fill(1);
            chunks += 1;
        }
        assert!((48..=64).contains(&chunks), "{chunks} chunks of 256 KiB on a disk of 16 MiB");
        let mut steps = array.row_chunks_mut(Budget::chunk_rows(64));
        let error = steps.try_next().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Fault { .. }), "{error}");
        assert_eq!((error.path(), steps.next().is_none()), (Some(&*path), true));
        drop(steps);
        assert_eq!(array.flush().unwrap_err().kind(), error.kind());
        assert_eq!(array.close().unwrap_err().kind(), error.kind());
    };
    let output = in_child("fault_streams::a_full_disk_ends_a_loop_over_chunks", child);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert_success(&output);
}

#[test]
fn a_file_cut_short_ends_a_loop_over_chunks() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let options = sevens(&path, 64).guarded();
        let reader = options.open::<u8, Ix2>(&path).unwrap();
        let copy = options.open_cow::<u8, Ix2>(&path).unwrap();
        let (mut chunks, mut copied) =
            (reader.row_chunks(Budget::chunk_rows(8)), copy.row_chunks(Budget::chunk_rows(8)));
        for _ in 0..2 {
            assert_eq!(chunks.try_next().unwrap().unwrap().1, copied.next().unwrap().1);
        }
        truncate(&path, 20 * PAGE);
        assert_eq!(chunks.try_next().unwrap().unwrap().1[[7, 0]], 0, "a truncated page reads as zeros");
        let at_the_end = ErrorKind::Fault { offset: (23 * PAGE) as u64 };
        assert_eq!(chunks.try_next().unwrap_err().kind(), at_the_end);
        assert!(chunks.next().is_none());
        assert_eq!(copied.next().unwrap().1[[7, 0]], 0);
        assert!(copied.next().is_none());
        assert_eq!(copied.try_next().unwrap_err().kind(), at_the_end);
        assert_eq!(reader.close().unwrap_err().kind(), at_the_end);
    };
    assert_success(&in_child("fault_streams::a_file_cut_short_ends_a_loop_over_chunks", child));
}

/// If a store faults, the file does not contain the stored bytes. A stream reads the file, so it must refuse an array
/// that has faulted.
#[test]
fn streams_refuse_an_array_that_has_faulted() {
    let child = || {
        let folder = disk_folder();
        let (path, out) = (folder.path().join("array"), folder.path().join("out.npy"));
        let mut array = sevens(&path, 64).guarded().open_rw::<u8, Ix2>(&path).unwrap();
        truncate(&path, 20 * PAGE);
        array.row_mut(30).fill(8);
        truncate(&path, 64 * PAGE); // the file has its old length again
        let fault = ErrorKind::Fault { offset: (30 * PAGE) as u64 };
        let errors = [
            Stream::from(&array).write_to(&out).unwrap_err(),
            Stream::from(&array).select_rows(&[3, 1, 30]).write_to(&out).unwrap_err(),
            Stream::from(&array).map(|chunk, mut out| out.assign(&chunk)).write_to(&out).unwrap_err(),
            Stream::from(&array).mean_axis0().unwrap_err(),
            copy(&array, &mut Array2::zeros((64, PAGE))).unwrap_err(),
            copy(&Array2::ones((64, PAGE)), &mut array).unwrap_err(),
            copy(&Array2::ones((64, PAGE / 2)), &mut array.slice_mut(s![.., ..;2])).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.path()), (fault, Some(&*path)), "{error}");
        }
        assert_eq!(names_in(folder.path()), ["array"]);
    };
    assert_success(&in_child("fault_streams::streams_refuse_an_array_that_has_faulted", child));
}

/// A reduction reads resident rows through the mapping. If the file is truncated meanwhile, the reduction fails, as if it
/// had read the rows to a buffer.
#[test]
fn a_file_cut_short_under_a_reduction_in_place_is_an_error() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let rows = 4 << 10; // several blocks
        let options = sevens(&path, rows);
        let lengths = [rows / 2 * PAGE, rows * PAGE - 100, 0];
        for (length, after) in lengths.into_iter().flat_map(|length| [(length, 0), (length, rows / 4)]) {
            truncate(&path, rows * PAGE);
            std::fs::write(&path, vec![7; rows * PAGE]).unwrap(); // resident
            let array = options.open::<u8, Ix2>(&path).unwrap();
            let stream = || Stream::from(&array).threads(1);
            assert_eq!(stream().sum().unwrap(), (7 * rows * PAGE) as f64);
            assert_eq!(stream().min_max().unwrap(), Some((7, 7)));
            let cut = stream().progress(|done, _| {
                if done >= after {
                    truncate(&path, length);
                }
            });
            let error = cut.sum().unwrap_err();
            assert_eq!((error.kind(), error.path()), (ErrorKind::LengthMismatch, Some(&*path)), "{error}");
        }
    };
    assert_success(&in_child(
        "fault_streams::a_file_cut_short_under_a_reduction_in_place_is_an_error",
        child,
    ));
}

/// The pages that a reduction reads in place do not stay in the memory of the process.
#[test]
#[cfg(target_os = "linux")]
fn a_reduction_in_place_leaves_no_page_in_the_process() {
    let child = || {
        let folder = disk_folder();
        let path = folder.path().join("array");
        let options = sevens(&path, 16 << 10);
        std::fs::write(&path, vec![7; 16 << 20 << 2]).unwrap();
        let array = options.open::<u8, Ix2>(&path).unwrap();
        assert_eq!(Stream::from(&array).sum().unwrap(), (7 << 26) as f64);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (_, of_array) = maps.split_once(path.to_str().unwrap()).unwrap();
        let resident = of_array.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 4 << 10, "{kib} KiB of 64 MiB");
    };
    assert_success(&in_child("fault_streams::a_reduction_in_place_leaves_no_page_in_the_process", child));
}

/// Streams need no guard, because their own reads and writes raise no signal.
#[test]
fn streams_raise_no_signal() {
    let child = || {
        let folder = disk_folder();
        let (path, out) = (folder.path().join("array"), folder.path().join("out.npy"));
        let mut private = sevens(&path, 64).open_cow::<u8, Ix2>(&path).unwrap();
        private.row_mut(5).fill(9);
        assert_eq!(Stream::from(&private).write_to(&out).unwrap(), private);
        let stream = || Stream::from(&private).rows(3..).select(Axis(1), &[7, 1]);
        assert_eq!(stream().write_to(&out).unwrap(), private.slice(s![3.., ..]).select(Axis(1), &[7, 1]));
        // The test truncates the file within its last page, and then by whole pages.
        truncate(&path, 64 * PAGE - 100);
        assert_eq!(stream().write_to(&out).unwrap_err().kind(), ErrorKind::LengthMismatch);
        assert_eq!(Stream::from(&private).min_max().unwrap_err().kind(), ErrorKind::LengthMismatch);
        truncate(&path, 20 * PAGE);
        let errors = [
            Stream::from(&private).write_to(&out).unwrap_err(),
            stream().write_to(&out).unwrap_err(),
            Stream::from(&private).select_rows(&[40, 3]).fold((), |(), _| ()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.path()), (ErrorKind::LengthMismatch, Some(&*path)), "{error}");
        }
        let Some(disk) = Tmpfs::mount("size=16m") else { return };
        let options = ArrayOptions::new().allocation(Allocation::Sparse).shape((32 << 8, PAGE));
        let mut array = options.create::<u8, Ix2>(disk.path().join("a.npy")).unwrap();
        let error = copy(&Array2::ones((32 << 8, PAGE / 2)), &mut array.slice_mut(s![.., ..;2])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    };
    let output = in_child("fault_streams::streams_raise_no_signal", child);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert_success(&output);
}
