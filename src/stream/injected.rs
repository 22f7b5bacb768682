//! Tests that run every kind of stream, and make each system call of the stream fail in turn.
//!
//! Whichever call fails, these conditions must be true: there is no panic; the result is an error or correct; the name
//! of a new file leads to the complete old file or the complete new file; no staged file remains, unless its removal
//! failed; no lock remains. The streams use one thread, because the planned failures affect only the calling thread.

use super::{Budget, Stream, Transfer, concat, copy};
use crate::array::MmapArray;
use crate::array::injected::{Outcome, open_unlocked, run_with_failures};
use crate::error::{ErrorKind, Result};
use crate::file::ArrayOptions;
use crate::sys::inject::Call;
use ndarray::{Array2, Axis, Ix1, Ix2, s};
use std::fs;
use std::path::Path;

const SHAPE: (usize, usize) = (3000, 7);

fn old() -> Array2<u32> {
    Array2::from_elem(SHAPE, 7)
}

fn new() -> Array2<u32> {
    Array2::from_shape_fn(SHAPE, |(row, column)| (row * 10 + column) as u32)
}

fn write(path: &Path, values: &Array2<u32>) {
    let mut array = MmapArray::<u32, Ix2>::create(path, SHAPE).unwrap();
    array.assign(values);
    array.close().unwrap();
}

/// A folder on a disk. It contains a source that is not resident, and an old file under the name of the result.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        // The folder should be on a disk, because a filesystem in memory refuses direct I/O.
        let folder = tempfile::tempdir_in("/var/tmp").or_else(|_| tempfile::tempdir()).unwrap();
        let files = Self { folder };
        write(&files.path("source.npy"), &new());
        files
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self) -> Result<MmapArray<u32, Ix2, crate::ReadOnly>> {
        ArrayOptions::new().open(self.path("source.npy"))
    }

    /// Tests a stream that writes `expected` to "out.npy".
    fn test_writer(&self, operation: impl Fn() -> Result<()>, expected: &Array2<u32>) -> usize {
        let out = self.path("out.npy");
        run_with_failures(
            || write(&out, &old()),
            operation,
            |Outcome { result, failed, case }| {
                let names = fs::read_dir(self.folder.path()).unwrap().count();
                assert!(names == 2 || failed == Call::Remove, "{case}: a staged file is left");
                let left = open_unlocked(&out).unwrap_or_else(|error| panic!("{case}: {error}"));
                // If the name cannot be made durable, the result is an error although the new file is published.
                let expected_rows =
                    if result.is_ok() || failed == Call::SyncDirectory { expected } else { &old() };
                assert_eq!(left, *expected_rows, "{case}");
                open_unlocked(&self.path("source.npy")).expect("no lock is left");
            },
        )
    }
}

#[test]
fn after_a_failed_call_the_name_leads_to_the_whole_old_or_new_file() {
    let files = Files::new();
    let small = Budget::bytes(60_000);
    let list: Vec<usize> = (0..20).map(|index| index * 1007 % SHAPE.0).collect();
    let out = files.path("out.npy");
    for transfer in [Transfer::Auto, Transfer::Clone, Transfer::Direct, Transfer::Buffered] {
        let plain = || {
            let source = files.source()?;
            Stream::from(&source).threads(1).budget(small).transfer(transfer).write_to(&out).map(drop)
        };
        assert!(files.test_writer(plain, &new()) > 30);
        let mapped = || {
            let source = files.source()?;
            let stream = Stream::from(&source).threads(1).budget(small).transfer(transfer);
            stream.map(|chunk, mut out| out.assign(&(&chunk + 1))).write_to(&out).map(drop)
        };
        assert!(files.test_writer(mapped, &(new() + 1)) > 30);
        let gathered = || {
            let source = files.source()?;
            let stream = Stream::from(&source).threads(1).budget(small).transfer(transfer);
            stream.select_rows(&list).write_to(&out).map(drop)
        };
        assert!(files.test_writer(gathered, &new().select(Axis(0), &list)) > 30);
    }
    let stacked = || {
        let source = files.source()?;
        let parts = [Stream::from(&source).rows(2000..), Stream::from(&source).rows(..2000)];
        concat(Axis(0), parts).threads(1).budget(small).write_to(&out).map(drop)
    };
    let rows: Vec<usize> = (2000..3000).chain(0..2000).collect();
    assert!(files.test_writer(stacked, &new().select(Axis(0), &rows)) > 30);
}

#[test]
fn after_a_failed_call_a_destination_reports_the_error() {
    let files = Files::new();
    let target = files.path("target.npy");
    let sparse = ArrayOptions::new().allocation(crate::Allocation::Sparse).shape(SHAPE);
    let small = Budget::bytes(60_000);
    let check = |Outcome { result, failed, case }: Outcome| {
        if result.is_ok() {
            let left = MmapArray::<u32, Ix2>::open(&target).unwrap();
            assert_eq!(left, new(), "{case}: Ok, and other bytes");
        }
        let names = fs::read_dir(files.folder.path()).unwrap().count();
        assert!(names <= 2 || failed == Call::Remove, "{case}: a staged file is left");
        open_unlocked(&files.path("source.npy")).expect("no lock is left");
    };
    let forget = || _ = fs::remove_file(&target);
    for transfer in [Transfer::Auto, Transfer::Direct, Transfer::Buffered] {
        let whole = || {
            let source = files.source()?;
            let mut array = sparse.create::<u32, Ix2>(&target)?;
            let stream = Stream::from(&source).threads(1).budget(small).transfer(transfer);
            stream.copy_into(&mut array)?;
            array.close()
        };
        assert!(run_with_failures(forget, whole, check) > 30);
    }
    let in_columns = || {
        let source = files.source()?;
        let mut array = sparse.create::<u32, Ix2>(&target)?;
        let source = Stream::from(&source).threads(1).budget(small);
        source.select(Axis(1), &[0, 2, 4, 6]).copy_into(&mut array.slice_mut(s![.., ..;2]))?;
        copy(&new().slice(s![.., 1..;2]), &mut array.slice_mut(s![.., 1..;2]))?;
        array.close()
    };
    assert!(run_with_failures(forget, in_columns, check) > 30);
    let in_chunks = || {
        let mut array = sparse.create::<u32, Ix2>(&target)?;
        let mut chunks = array.row_chunks_mut(Budget::chunk_rows(1000));
        while let Some((rows, mut chunk)) = chunks.try_next()? {
            chunk.assign(&new().slice(s![rows, ..]));
        }
        drop(chunks);
        array.close()
    };
    assert!(run_with_failures(forget, in_chunks, check) > 20);
}

#[test]
fn after_a_failed_call_holes_are_zeros_or_the_result_is_an_error() {
    let files = Files::new();
    let len = 3 << 19; // 6 MiB, so that whole folios are zeroed without writing
    let raw = ArrayOptions::new().format(crate::Format::Raw).shape(len).allocation(crate::Allocation::Sparse);
    let (source, target) = (files.path("sparse"), files.path("target"));
    let mut array = raw.create::<u32, Ix1>(&source).unwrap();
    array.slice_mut(s![700_000..700_010]).fill(5);
    let expected = array.to_owned();
    array.close().unwrap();
    for transfer in [Transfer::Auto, Transfer::Clone] {
        let fill = || fs::write(&target, vec![1; 4 * len]).unwrap();
        let copied = || {
            let source = raw.open::<u32, Ix1>(&source)?;
            let mut array = raw.open_rw::<u32, Ix1>(&target)?;
            Stream::from(&source).threads(1).transfer(transfer).copy_into(&mut array)?;
            array.close()
        };
        let check = |Outcome { result, case, .. }: Outcome| {
            if result.is_ok() {
                assert_eq!(raw.open::<u32, Ix1>(&target).unwrap(), expected, "{case}: Ok, and other bytes");
            }
        };
        assert!(run_with_failures(fill, copied, check) > 10);
    }
}

#[test]
fn after_a_failed_call_a_fold_is_correct_or_fails() {
    let files = Files::new();
    let small = Budget::bytes(60_000);
    let sum = new().sum();
    for transfer in [Transfer::Auto, Transfer::Direct, Transfer::Buffered] {
        let fold = || {
            let source = files.source()?;
            let stream = || Stream::from(&source).threads(1).budget(small).transfer(transfer);
            assert_eq!(stream().fold(0, |sum, chunk| sum + chunk.sum())?, sum);
            assert_eq!(stream().min_max()?, Some((0, 29_996)));
            Ok(())
        };
        assert!(run_with_failures(|| (), fold, |_| ()) > 10);
    }
}

#[test]
fn a_failed_write_poisons_its_destination() {
    let files = Files::new();
    let mut array = MmapArray::<u32, Ix2>::create(files.path("target.npy"), SHAPE).unwrap();
    crate::sys::inject::fail_nth(Call::Sync, 1, crate::sys::inject::Failure::MEDIUM);
    let error = Stream::from(&new()).threads(1).copy_into(&mut array).unwrap_err();
    assert!(crate::sys::inject::disarm());
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(copy(&new(), &mut array).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(Stream::from(&array).min_max().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(array.row_chunks(Budget::default()).try_next().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(array.close().unwrap_err().kind(), ErrorKind::Poisoned);
    let array = MmapArray::<u32, Ix2>::open(files.path("target.npy")).unwrap();
    assert_eq!(Stream::from(&array).min_max().unwrap(), Some((0, 29_996)));
}
